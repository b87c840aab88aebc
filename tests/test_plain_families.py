"""What makes a family of plain networks that one: the points of its paper, each against its definition."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gans.draws import Draws
from gans.families.cgan import CGAN
from gans.families.dcgan import DCGAN
from gans.families.vanilla import Vanilla
from gans.families.wgan import WGAN
from gans.families.wgan_gp import WGANGP
from gans.family import Family, Networks, Step
from gans.losses import LOSSES
from gans.networks import LeakyReLU
from gans.nn import SyncBatchNorm
from gans.sync import Alone
from gans.training import Training, build
from tests.support.families import CPU, DIGITS, RING, Case, loaded, training
from tests.support.threads import one_thread as one_thread

SMALL: dict[str, Any] = {"width": 8, "latent_dim": 4}
HIDDEN = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def layers(net: nn.Module, *kinds: type[nn.Module]) -> list[nn.Module]:
    return [m for m in net.modules() if isinstance(m, kinds)]


def nets_of(family: Family, data: Any) -> Networks:
    return build(family, loaded(data), 0)


def step(batch: dict[str, Tensor]) -> Step:
    return Step(batch, Draws(0, len(batch["x"]), CPU), Alone())


def moves(t: Training, steps: int) -> list[str]:
    """The phases in the order in which they updated something."""
    ran: list[str] = []
    inner = t.update

    def update(phase: Any, *rest: Any) -> None:
        ran.append(phase.name)
        inner(phase, *rest)

    t.update = update  # type: ignore[method-assign]
    for _ in range(steps):
        t.run_step()
    return ran


# --- vanilla (Goodfellow et al. 2014)


@pytest.mark.parametrize("data", [RING, DIGITS])
def test_both_players_are_multilayer_perceptrons(data: Any) -> None:
    for net in nets_of(Vanilla(**SMALL, depth=3), data).values():
        assert len(layers(net, nn.Linear)) == 4
        assert not layers(net, nn.Conv2d, nn.ConvTranspose2d, SyncBatchNorm)


def test_the_critic_steps_k_times_a_generator_step_each_with_fresh_rows() -> None:
    t = training(Case(Vanilla(**SMALL, critic_steps=3), RING))
    seen: list[Tensor] = []
    t.nets["discriminator"].register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    assert moves(t, 2) == ["critic"] * 3 + ["generator"] + ["critic"] * 3 + ["generator"]
    real = seen[0::2][:3]
    assert not any(a.equal(b) for a, b in itertools.pairwise(real))


def test_the_critic_is_trained_first() -> None:
    t = training(Case(Vanilla(**SMALL, warmup=3), RING))
    assert moves(t, 5) == ["critic"] * 3 + ["critic", "generator"] * 2


def test_latents_are_normal_or_uniform() -> None:
    normal = Vanilla(**SMALL).latents(Draws(0, 20000, CPU))
    uniform = Vanilla(**SMALL, latent="uniform").latents(Draws(0, 20000, CPU))
    assert normal.shape == uniform.shape == (20000, 4)
    assert normal.std().item() == pytest.approx(1.0, abs=0.02)
    assert normal.abs().max() > 3
    assert uniform.abs().max() <= 1
    assert uniform.std().item() == pytest.approx(3**-0.5, abs=0.01)
    assert abs(uniform.mean().item()) < 0.02


@pytest.mark.parametrize("loss", ["minimax", "non_saturating"])
def test_players_minimise_either_loss_of_2014(loss: Any) -> None:
    family = Vanilla(**SMALL, loss=loss)
    nets, real = nets_of(family, RING), torch.randn(6, 2)
    fake = family.fake(nets, step({"x": real}))
    logits = nets["discriminator"](real), nets["discriminator"](fake)
    for phase, side in (("critic", LOSSES[loss].discriminator), ("generator", LOSSES[loss].generator)):  # type: ignore[index]
        value, _ = family.objective(phase, nets, step({"x": real}))
        torch.testing.assert_close(value, side(*logits).mean())


# --- cgan (Mirza and Osindero 2014)


def test_the_label_reaches_generator_and_discriminator() -> None:
    nets = nets_of(CGAN(width=4, latent_dim=8, norm_g="none"), DIGITS)
    z, x = torch.randn(1, 8).expand(10, -1), torch.randn(1, 1, 8, 8).expand(10, -1, -1, -1)
    label = torch.arange(10)
    for name, given in (("generator", z), ("discriminator", x)):
        out = nets[name].eval()(given, label)
        assert len({row.detach().numpy().tobytes() for row in out}) == 10, name
        assert nets[name](given, torch.zeros_like(label))[3].equal(nets[name](given, label)[0])


def test_training_tells_both_players_the_labels_of_the_batch() -> None:
    t = training(Case(CGAN(width=4, latent_dim=8), DIGITS))
    told: list[Tensor] = []
    for net in t.nets.values():
        net.register_forward_hook(lambda _, inputs, __: told.append(inputs[1]))
    t.run_step()
    assert len(told) == 4  # the generator's forward pass is shared by both phases
    assert all(labels.equal(t.batch["label"]) for labels in told)


# --- dcgan (Radford et al. 2016)


def test_strided_convolutions_take_the_place_of_pooling_and_hidden_dense_layers() -> None:
    for net in nets_of(DCGAN(width=4), DIGITS.model_copy(update={"size": 32})).values():
        assert not layers(net, nn.Linear, nn.MaxPool2d, nn.AvgPool2d, nn.Upsample)
        strides = [m.stride for m in layers(net, nn.Conv2d, nn.ConvTranspose2d)]
        assert sorted(strides) == [(1, 1)] + [(2, 2)] * 3  # 4 px ↔ 1 px, then 32 ↔ 16 ↔ 8 ↔ 4 px


def test_batch_norm_is_everywhere_but_at_the_generators_output_and_the_discriminators_input() -> None:
    nets = nets_of(DCGAN(width=4), DIGITS.model_copy(update={"size": 32}))
    for name, bare in (
        ("generator", [False, False, False, True]),
        ("discriminator", [True, False, False, True]),
    ):
        order = layers(nets[name], nn.Conv2d, nn.ConvTranspose2d, SyncBatchNorm)
        convolutions = [i for i, m in enumerate(order) if not isinstance(m, SyncBatchNorm)]
        normed = [i + 1 < len(order) and isinstance(order[i + 1], SyncBatchNorm) for i in convolutions]
        assert [not n for n in normed] == bare, name  # the discriminator's last layer gives the logit


def test_activations_are_relu_up_tanh_out_and_leaky_relu_down() -> None:
    nets = nets_of(DCGAN(width=4), DIGITS)
    assert len(layers(nets["generator"], nn.ReLU)) == 1
    assert len(layers(nets["generator"], nn.Tanh)) == 1
    leaky = layers(nets["discriminator"], nn.LeakyReLU)
    assert len(leaky) == 1
    assert all(isinstance(m, LeakyReLU) and m.negative_slope == 0.2 for m in leaky)
    assert not layers(nets["discriminator"], nn.ReLU, nn.Sigmoid, nn.Tanh)


def test_adam_has_the_papers_constants_and_weights_begin_at_two_hundredths() -> None:
    critic, generator = DCGAN().phases()
    assert critic.optimiser == generator.optimiser
    assert (generator.optimiser.lr, generator.optimiser.betas[0]) == (2e-4, 0.5)
    assert DCGAN().latent_dim == 100
    weights = [m.weight for m in layers(nets_of(DCGAN(), DIGITS)["generator"], nn.ConvTranspose2d)]
    assert torch.cat([w.flatten() for w in weights]).std().item() == pytest.approx(0.02, rel=0.05)  # type: ignore[union-attr]


# --- wgan (Arjovsky et al. 2017)


def test_weights_are_clipped_after_each_of_five_critic_steps() -> None:
    t = training(Case(WGAN(**SMALL, clip=0.03, lr_g=1e-2), RING))
    family, largest = t.family, []
    inner = type(family).after

    def after(self: Any, phase: str, nets: Networks, step: Step) -> None:
        inner(self, phase, nets, step)
        largest.append((phase, max(p.abs().max().item() for p in nets["discriminator"].parameters())))

    t.family = type("Watched", (WGAN,), {"after": after})(**family.model_dump())
    t.run_step()
    assert [phase for phase, _ in largest] == ["critic"] * 5 + ["generator"]
    assert all(most == pytest.approx(0.03) for _, most in largest)


def test_the_critic_has_no_sigmoid_and_its_optimiser_no_momentum() -> None:
    assert not layers(nets_of(WGAN(**SMALL), RING)["discriminator"], nn.Sigmoid)
    assert {p.optimiser.kind for p in WGAN().phases()} == {"rmsprop"}
    assert WGAN().lr_g == 5e-5
    assert WGAN().clip == 0.01


@pytest.mark.parametrize("family", [WGAN(**SMALL), WGANGP(**SMALL)])
def test_the_wasserstein_estimate_is_reported(family: Any) -> None:
    nets, real = nets_of(family, RING), torch.randn(6, 2)
    fake = family.fake(nets, step({"x": real})).detach()
    _, report = family.objective("critic", nets, step({"x": real}))
    estimate = nets["discriminator"](real).mean() - nets["discriminator"](fake).mean()
    torch.testing.assert_close(report["wasserstein"].mean(), estimate.detach())
    assert "wasserstein" not in Vanilla(**SMALL).objective("critic", nets, step({"x": real}))[1]


def test_the_estimate_of_two_points_grows_with_their_distance() -> None:
    """E D(real) - E D(fake) of a clipped linear critic is the distance times its steepest slope."""
    critic = nn.Linear(2, 1)
    with torch.no_grad():
        critic.weight.fill_(0.01)
    nets: Networks = {"generator": nn.Identity(), "discriminator": nn.Sequential(critic, nn.Flatten(0))}
    family = WGAN(latent_dim=2)
    reports = []
    for distance in (1.0, 3.0):
        rows = step({"x": torch.zeros(4, 2) + distance})
        nets["generator"] = nn.Threshold(9e9, 0.0)  # always 0
        _, report = family.objective("critic", nets, rows)
        reports.append(report["wasserstein"].mean().item())
    assert reports == [pytest.approx(0.01 * 2 * 1.0), pytest.approx(0.01 * 2 * 3.0)]


# --- wgan_gp (Gulrajani et al. 2017)


def test_the_penalty_is_that_of_the_gradient_which_autograd_finds_on_a_toy_critic() -> None:
    family = WGANGP(latent_dim=2, gp=10.0)
    critic = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 1), nn.Flatten(0))
    nets: Networks = {"generator": nn.Identity(), "discriminator": critic}
    real = torch.randn(6, 2)
    loss, report = family.objective("critic", nets, step({"x": real}))
    draws = Draws(0, 6, CPU)
    fake, mix = draws.normal(2), draws.uniform(1)
    between = mix * real + (1 - mix) * fake
    rows = [torch.autograd.functional.jacobian(lambda x: critic(x[None])[0], row) for row in between]
    expected = 10 * (torch.stack(rows).norm(dim=1) - 1).square()
    torch.testing.assert_close(report["penalty"], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(loss.detach(), (critic(fake) - critic(real) + expected).mean().detach())


def test_the_critic_has_no_batch_norm_and_the_papers_constants() -> None:
    assert not layers(nets_of(WGANGP(width=4), DIGITS)["discriminator"], SyncBatchNorm)
    critic, generator = WGANGP().phases()
    assert critic.repeats == 5
    assert (generator.optimiser.lr, generator.optimiser.betas) == (1e-4, (0.0, 0.9))
    assert WGANGP().gp == 10
    with pytest.raises(ValueError, match="norm_d"):
        WGANGP(norm_d="batch")  # type: ignore[arg-type]
