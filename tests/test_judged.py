"""Options of families of more networks or a condition: what each discriminator is shown, and what regularises it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from gans.augment import Adaptive, DiffAugment, Part, Policy
from gans.draws import Draws
from gans.families.cyclegan import CycleGAN
from gans.families.lapgan import LAPGAN, coefficients
from gans.families.pix2pix import Pix2Pix
from gans.families.stargan import StarGAN
from gans.family import Networks, Step
from gans.judged import Judged, LeCam, remember
from gans.losses import LOSSES
from gans.sync import Alone
from tests.support.families import ADAPTIVE, CASES, CPU, Case, training, with_fields
from tests.support.threads import one_thread as one_thread

PARTS: tuple[Part, ...] = ("blit", "geometry", "colour")
POLICY: tuple[Policy, ...] = ("colour", "translation", "cutout")
NAMES = ("cyclegan", "pix2pix", "lapgan", "stargan", "srgan")


def step(index: int = 0, **batch: Tensor) -> Step:
    return Step(batch, Draws(0, len(next(iter(batch.values()))), CPU), Alone(), step=index)


def family_of(name: str) -> Judged:
    family = CASES[name].family
    assert isinstance(family, Judged)
    return family


# --- what a discriminator is shown


@pytest.mark.parametrize("kind", ["ada", "diff"])
@pytest.mark.parametrize("channels", [(3, 3), (1, 3)])
def test_the_pictures_of_a_pair_are_transformed_alike_each_by_its_own_colours(
    kind: str, channels: tuple[int, int]
) -> None:
    """As each would be by itself with the same draws."""
    a, b = (torch.rand(40, c, 8, 8, generator=torch.Generator().manual_seed(c)) * 2 - 1 for c in channels)

    def pipeline(of: tuple[int, ...]) -> nn.Module:
        return Adaptive(PARTS, 1.0, of) if kind == "ada" else DiffAugment(POLICY, of)

    both = pipeline(channels)(torch.cat([a, b], 1), Draws(0, 40, CPU))
    apart = [pipeline((x.shape[1],))(x, Draws(0, 40, CPU)) for x in (a, b)]
    torch.testing.assert_close(both, torch.cat(apart, 1))
    assert not both.allclose(torch.cat([a, b], 1))


@pytest.mark.parametrize("name", NAMES)
def test_every_discriminator_sees_augmented_rows_alone(name: str) -> None:
    """But for StarGAN's, which names the classes of rows as they are."""
    t = training(with_fields(CASES[name], augment="diff"), batch=8)
    shown: dict[str, list[Tensor]] = {}
    seen: dict[str, list[Tensor]] = {}
    critics = family_of(name).seen
    for critic in critics:
        helper = "augment" if critic == "discriminator" else f"augment_{critic}"
        shown[critic], seen[critic] = [], []
        t.nets[helper].register_forward_hook(lambda _, args, out, to=shown[critic]: to.append(out))
        t.nets[critic].register_forward_pre_hook(lambda _, args, to=seen[critic]: to.append(args[0]))
    t.run_step()
    t.run_step()  # SRGAN's first is of its generator alone
    for critic in critics:
        augmented = [x for x in seen[critic] if any(x is rows for rows in shown[critic])]
        assert len(augmented) == len(shown[critic]) > 0
        assert (len(augmented) == len(seen[critic])) == (name != "stargan")


def test_the_domain_classifier_sees_rows_as_they_are() -> None:
    """A hue that ADA turns would change the class. The critic's patches see the augmented rows."""
    family = StarGAN(width=4, width_d=4, blocks=0, augment="ada", augment_p=1.0, gp=0.0)
    t = training(Case(family, CASES["stargan"].data))
    critic, x = t.nets["discriminator"], torch.rand(8, 3, 16, 16) * 2 - 1
    labels = torch.arange(8) % 5
    _, report = family.objective("critic", t.nets, step(x=x, label=labels))
    plain, classes = critic(x)
    expected = nn.functional.cross_entropy(classes["label"], labels, reduction="none")
    torch.testing.assert_close(report["cls_real"], expected.detach())
    with torch.no_grad():
        fake = t.nets["generator"](x, family.code({"label": labels}, {"label": 5}))
    assert not report["d_gap"].allclose((plain - critic(fake)[0]).detach())


def test_a_level_of_lapgan_is_shown_its_picture_and_not_its_coefficients() -> None:
    family = LAPGAN(levels=1, latent_dim=3, hidden=8, hidden_d=8, width=4, kernel=3, augment="diff")
    t = training(Case(family, CASES["lapgan"].data))
    inputs: list[Tensor] = []
    t.nets["augment_d_0"].register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    x = torch.rand(8, 1, 8, 8) * 2 - 1
    family.objective("critic_0", t.nets, step(x=x))
    torch.testing.assert_close(inputs[0], x)
    h, low = coefficients(x, 0, 1)
    assert low is not None
    torch.testing.assert_close(inputs[0], h + low)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_off_adds_neither_networks_nor_memory(name: str) -> None:
    plain, on = training(CASES[name]), training(CASES[f"{name}-judged"])
    assert not [n for n in plain.nets if n.startswith(("augment", "lecam"))]
    assert not [n for n in plain.memory if n.startswith(("ada", "lecam"))]
    critics = len(family_of(name).seen)
    for names, prefixes in ((on.nets, ("augment", "lecam")), (on.memory, ("ada", "lecam"))):
        assert [sum(n.startswith(p) for n in names) for p in prefixes] == [critics, critics]


# --- ADA's probability


@pytest.mark.parametrize("loss", LOSSES)
def test_a_real_row_is_taken_for_real_by_what_the_loss_looks_at(loss: Any) -> None:
    """Logits .8, .3 and -.1 of real rows beside .4, .6 and -.2 of generated ones."""
    memory = {"ada": torch.zeros(3, 2)}
    remember(memory, torch.tensor([0.8, 0.3, -0.1]), torch.tensor([0.4, 0.6, -0.2]), LOSSES[loss].centre)
    signs = {"least_squares": [1, -1, -1], "wasserstein": [1, -1, 1], "relativistic": [1, -1, 1]}
    assert memory["ada"].tolist() == [[sign, 1] for sign in signs.get(loss, [1, 1, -1])]
    centre = LOSSES[loss].centre
    if centre is not None:  # the loss of a row that is real as often as not is smallest there
        logits = torch.linspace(-2, 2, 4001).double()
        loss_d = LOSSES[loss].discriminator(logits, logits)
        assert loss_d[(logits - centre).abs().argmin()] <= loss_d.min() + 1e-9


def test_each_domain_has_a_probability_of_its_own() -> None:
    """d_a always takes real rows for real, d_b never does."""
    t = training(Case(CycleGAN(width=4, width_d=4, blocks=1, pool=0, **ADAPTIVE), CASES["cyclegan"].data))
    with torch.no_grad():
        for critic, value in (("d_a", 5.0), ("d_b", -5.0)):
            last = [m for m in t.nets[critic].modules() if isinstance(m, nn.Conv2d)][-1]
            last.weight.zero_()
            assert last.bias is not None
            last.bias.fill_(value)
    for name in ("augment_d_a", "augment_d_b"):
        t.nets[name].get_buffer("p").fill_(0.5)
    t.phases = tuple(p for p in t.phases if p.name == "critic")
    t.run_step()
    t.run_step()
    assert t.reports["augment_p_d_a"] == t.reports["augment_p_d_b"] == 0.5
    assert t.nets["augment_d_a"].get_buffer("p").item() == pytest.approx(0.5 + 16 / 40)
    assert t.nets["augment_d_b"].get_buffer("p").item() == pytest.approx(0.5 - 16 / 40)


# --- LeCam and consistency of patches


class Patches(nn.Module):
    """The pixels of the last channel as patches."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, -1:]


def judging(**fields: Any) -> tuple[Pix2Pix, Networks]:
    """pix2pix whose generator is the data's and whose discriminator hands out what it is to judge."""
    family = Pix2Pix(width=4, width_d=4, dropout=0.0, **fields)
    t = training(Case(family, CASES["pix2pix"].data))
    return family, {**t.nets, "discriminator": Patches()}


def test_lecam_goes_by_the_mean_of_the_patches_and_is_halved_with_the_loss() -> None:
    family, nets = judging(lecam=0.3, lecam_start=0)
    means = nets["lecam"]
    assert isinstance(means, LeCam)
    means.real.fill_(1.0)
    means.fake.fill_(-2.0)
    a, b = (torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    rows = step(a=a, b=b)
    rows.memory["lecam"] = torch.zeros(8, 3)
    loss, report = family.objective("critic", nets, rows)
    fake = nets["generator"](a).detach()[:, -1]
    real = b[:, -1]
    expected = 0.3 * ((real.mean((1, 2)) + 2).square() + (fake.mean((1, 2)) - 1).square())
    torch.testing.assert_close(report["lecam"], expected)
    plain = softplus(-real).mean() + softplus(fake).mean()
    torch.testing.assert_close(loss.detach(), 0.5 * (plain + expected.mean()))
    torch.testing.assert_close(rows.memory["lecam"][:, 0], real.mean((1, 2)))


def test_consistency_compares_what_is_judged_of_a_pair_moved_as_one() -> None:
    class Product(nn.Module):
        """High where both pictures of a pair are."""

        def forward(self, x: Tensor) -> Tensor:
            return x[:, :1] * x[:, 3:4]

    family, nets = judging(consistency=10.0, consistency_fake=0.0)
    nets["discriminator"] = Product()
    spot = torch.zeros(8, 3, 16, 16)
    spot[:, :, 8, 8] = 1.0  # within the picture, however it is moved: a pair moved as one is judged as before
    _, report = family.objective("critic", nets, step(a=spot, b=spot))
    assert report["consistency"].abs().max() == 0
    assert "consistency_fake" not in report
    corner = torch.zeros(8, 3, 16, 16)
    corner[:, :, 0, 0] = 1.0  # which a move takes out, or mirrors
    _, report = family.objective("critic", nets, step(a=corner, b=corner))
    assert report["consistency"].sum() > 0


@pytest.mark.parametrize("name", NAMES)
def test_what_is_added_joins_the_critics_loss(name: str) -> None:
    def critic(weight: float) -> tuple[Tensor, float]:
        """The loss of the first critic's first step and what was added to it."""
        t = training(with_fields(CASES[name], consistency=weight))
        phase = next(p for p in t.phases if p.name.startswith("critic"))
        rows = Step(t.batch_for(phase), t.draws, Alone(), memory=t.memory)
        loss, report = t.family.objective(phase.name, t.nets, rows)
        return loss.detach(), sum(float(v.mean()) for k, v in report.items() if k.startswith("consistency"))

    (without, nothing), (on, added) = critic(0.0), critic(100.0)
    assert nothing == 0
    assert added > 0
    share = 0.5 if name == "pix2pix" else 1.0  # whose loss is halved
    assert float(on - without) == pytest.approx(share * added, rel=1e-4, abs=1e-6)
