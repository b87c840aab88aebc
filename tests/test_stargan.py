"""What makes it StarGAN: one generator for all domains, told the domain; a domain classifier; the way back; masks."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gans.data.base import Batch, DataSpec, Field
from gans.data.shapes import Shapes
from gans.draws import Draws
from gans.errors import ConfigError
from gans.families.stargan import Discriminator, Generator, StarGAN
from gans.family import Step
from gans.sync import Alone
from gans.training import build
from tests.support.families import CASES, CPU, SETS, loaded
from tests.support.threads import one_thread as one_thread

ONE = StarGAN(width=4, width_d=4, blocks=1)
TWO = StarGAN(width=4, width_d=4, blocks=1, sets=SETS)
CLASSES = {"colour": 5, "fill": 2, "rotation": 2}


def spec(**labels: int) -> DataSpec:
    fields = {name: Field("label", (), num) for name, num in labels.items()}
    return DataSpec({"x": Field("image", (3, 16, 16)), **fields})


def rows(num: int = 8) -> Batch:
    """Rows of which every other knows the colour, the others fill and rotation."""
    return {
        "x": torch.rand(num, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1,
        "set": torch.arange(num) % 2,
        "colour": torch.tensor([3, 0] * (num // 2)),
        "fill": torch.tensor([0, 1] * (num // 2)),
        "rotation": torch.tensor([0, 1] * (num // 2)),
    }


def step(batch: Batch) -> Step:
    return Step(batch, Draws(0, len(batch["x"]), CPU), Alone())


class Copy(nn.Module):
    """A generator that leads back by doing nothing; it remembers the codes it was given."""

    code = 9

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(()))
        self.codes: list[Tensor] = []

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        self.codes.append(code)
        return x + self.shift


def nets(generator: nn.Module | None = None, classes: dict[str, int] = CLASSES) -> dict[str, Any]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return {"generator": generator or Copy(), "discriminator": Discriminator(3, classes, 16, 4)}


def test_one_generator_and_one_discriminator_serve_all_domains() -> None:
    assert set(build(ONE, loaded(CASES["stargan"].data), seed=0)) == {"generator", "discriminator"}


def test_the_code_is_the_labels_of_the_rows_set_with_its_mask_and_zero_elsewhere() -> None:
    code = TWO.code(rows(), CLASSES)
    known_colour, known_rest = [0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 1]
    assert code[0].tolist() == known_colour
    assert code[1].tolist() == known_rest


def test_without_several_sets_there_is_no_mask() -> None:
    assert ONE.code({"label": torch.tensor([2, 0])}, {"label": 3}).tolist() == [[0, 0, 1], [1, 0, 0]]


def test_the_generator_is_told_the_code_at_every_pixel() -> None:
    generator = Generator(3, 5, 16, 4, 0)
    seen: list[Tensor] = []
    generator.body.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    code = torch.eye(5)[:2]
    generator(torch.zeros(2, 3, 16, 16), code)
    assert seen[0].shape == (2, 8, 16, 16)
    assert seen[0][:, 3:].equal(code[:, :, None, None].expand(-1, -1, 16, 16))


def test_leading_back_costs_nothing_where_the_generator_changes_nothing() -> None:
    copy = Copy()
    batch = rows()
    _, report = TWO.objective("generator", nets(copy), step(batch))
    assert report["reconstruction"].abs().max() == 0
    assert copy.codes[1].equal(TWO.code(batch, CLASSES)), "the way back asks for what the row was"


def test_the_reconstruction_is_the_mean_absolute_difference() -> None:
    copy = Copy()
    with torch.no_grad():
        copy.shift.fill_(0.25)
    _, report = TWO.objective("generator", nets(copy), step(rows()))
    assert report["reconstruction"].allclose(
        torch.tensor(0.5)
    )  # shifted on the way there and on the way back


def test_the_identity_option_is_the_distance_to_the_row_asked_for_as_it_is() -> None:
    copy, batch = Copy(), rows()
    with torch.no_grad():
        copy.shift.fill_(0.25)
    told = StarGAN(width=4, width_d=4, sets=SETS, identity=2.0)
    loss, report = told.objective("generator", nets(copy), step(batch))
    assert copy.codes[2].equal(TWO.code(batch, CLASSES))
    assert report["identity"].allclose(torch.tensor(0.25))
    without, _ = TWO.objective("generator", nets(copy), step(batch))
    assert float((loss - without).detach()) == pytest.approx(2 * 0.25, abs=1e-5)


def test_only_known_labels_are_classified() -> None:
    with torch.no_grad():
        (both := nets())["discriminator"].named.weight.zero_()
    _, report = TWO.objective("critic", both, step(rows()))
    colour, rest = math.log(5), 2 * math.log(2)  # of uniform guesses
    assert report["cls_real"].tolist() == pytest.approx([colour, rest] * 4)


def test_the_losses_are_weighed_as_in_equations_5_and_6() -> None:
    for phase, parts in (
        ("critic", {"loss_d": 1.0, "cls_real": 2.0, "penalty": 5.0}),
        ("generator", {"loss_adversarial": 1.0, "cls_fake": 2.0, "reconstruction": 3.0}),
    ):
        gan = StarGAN(width=4, width_d=4, sets=SETS, classification=2.0, reconstruction=3.0, gp=5.0)
        generator = build(CASES["stargan-joint"].family, loaded(CASES["stargan-joint"].data), seed=0)
        loss, report = gan.objective(phase, nets(generator["generator"]), step(rows()))
        weighed = sum(weight * report[name].mean() for name, weight in parts.items())
        assert float(loss.detach()) == pytest.approx(float(weighed), rel=1e-5)


def test_the_penalty_is_that_of_the_critics_mean_patch_between_real_and_generated() -> None:
    both, batch = nets(), rows()
    s = step(batch)
    _, report = TWO.objective("critic", both, s)
    draws = Draws(0, 8, CPU)
    for num in CLASSES.values():
        draws.integers(num)
    mix = draws.uniform(1, 1, 1)
    x = batch["x"]
    between = (mix * x + (1 - mix) * x).requires_grad_(True)  # the generator copies
    patches = both["discriminator"].source(both["discriminator"].body(between)).mean((1, 2, 3))
    (gradient,) = torch.autograd.grad(patches.sum(), between)
    expected = (gradient.flatten(1).norm(dim=1) - 1).square()
    assert report["penalty"].allclose(expected, atol=1e-5)


def test_targets_are_uniform_over_the_classes() -> None:
    drawn = TWO.targets({"set": torch.zeros(6000, dtype=torch.int64)}, Draws(0, 6000, CPU), CLASSES)
    counts = drawn["colour"].bincount(minlength=5)
    assert (counts - 1200).abs().max() < 150
    assert drawn["set"].sum() == 0, "the mask stays that of the row"


def test_samples_go_through_every_class_and_say_which_was_asked() -> None:
    batch = rows()
    with torch.no_grad():
        samples = TWO.sample(nets(), batch, Draws(0, 8, CPU))
    assert samples["every"].shape == (8, 5 + 2 + 2, 3, 16, 16)
    turns = torch.stack([samples[f"to_{name}"] >= 0 for name in CLASSES])
    assert (turns.sum(0) == 1).all()
    assert len(TWO.pictures(batch, samples)) == 1 + 9


@pytest.mark.parametrize(
    ("gan", "data", "told"),
    [
        (ONE, spec(), r"lacks label \(labels: none\)"),
        (StarGAN(sets=(("hair",),)), spec(label=4), r"lacks hair \(labels: label\).*set gan.sets"),
        (TWO, spec(**CLASSES), "lacks set"),
        (TWO, spec(**CLASSES, set=3), "names 2 label sets and the data has 3"),
        (ONE, DataSpec({"x": Field("image", (3, 4, 4)), "label": Field("label", (), 2)}), "larger than 4 px"),
        (ONE, DataSpec({"x": Field("vector", (2,)), "label": Field("label", (), 2)}), "makes pictures"),
    ],
)
def test_unsuitable_data_is_told_of(gan: StarGAN, data: DataSpec, told: str) -> None:
    (problem,) = gan.check(data)

    assert re.search(told, problem), problem


@pytest.mark.parametrize("sets", [(), ((),), (("a",), ("a",)), (("label", "a"),)])
def test_sets_that_cannot_be_are_refused(sets: Any) -> None:
    with pytest.raises(ConfigError, match="sets"):
        StarGAN().with_changes({"sets": sets})


def test_data_with_two_label_sets_suits_it() -> None:
    assert TWO.check(Shapes(size=16, num=8, sets=SETS).load("train").spec) == []
