"""LAPGAN's own parts: the pyramid, its conditional pairs, and sampling from coarse to fine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gans.data.base import Batch, DataSpec, Field
from gans.draws import Draws
from gans.errors import ConfigError
from gans.families.lapgan import LAPGAN, Cascade, Refiner, coefficients, enlarged, reduced
from gans.family import Networks, Step
from gans.sync import Alone
from gans.training import build
from tests.support.families import CPU, DIGITS, RING, loaded
from tests.support.threads import one_thread as one_thread

SMALL: dict[str, Any] = {"latent_dim": 3, "hidden": 8, "hidden_d": 8, "width": 4, "kernel": 3}
FAMILY = LAPGAN(**SMALL)  # K = 2


def spec(size: int = 16, channels: int = 2, labels: int | None = None) -> DataSpec:
    fields = {"x": Field("image", (channels, size, size))}
    return DataSpec(fields | ({"label": Field("label", (), labels)} if labels else {}))


def networks(family: LAPGAN = FAMILY, labels: int | None = None) -> Networks:
    torch.manual_seed(0)
    return family.networks(spec(labels=labels))


def rows(num: int = 4, labels: int | None = None) -> Batch:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(num, 2, 16, 16, generator=generator).tanh()
    return {"x": x, **({"label": torch.arange(num) % labels} if labels else {})}


def step(batch: Batch) -> Step:
    return Step(batch, Draws(0, len(batch["x"]), CPU), Alone())


def test_the_pyramid_holds_the_picture() -> None:
    """Section 2.2: I_k = u(I_k+1) + h_k from h_K on gives I_0 back."""
    x = rows()["x"]
    (h0, l0), (h1, l1), (top, none) = (coefficients(x, k, 2) for k in range(3))
    assert [h0.shape[2], h1.shape[2], top.shape[2]] == [16, 8, 4]
    assert none is None
    assert l0 is not None
    assert l1 is not None
    torch.testing.assert_close(enlarged(enlarged(top) + h1) + h0, x)
    torch.testing.assert_close(l0, enlarged(reduced(x)))
    torch.testing.assert_close(l1, enlarged(reduced(reduced(x))))


def test_what_has_no_detail_has_no_coefficients() -> None:
    h, low = coefficients(torch.full((1, 1, 8, 8), 0.3), 0, 1)
    torch.testing.assert_close(h, torch.zeros_like(h))
    assert low is not None
    torch.testing.assert_close(low, torch.full_like(low, 0.3))


class Constant(nn.Module):
    """G_k that adds `value`, and notes what it was given."""

    def __init__(self, value: float, size: int) -> None:
        super().__init__()
        self.value, self.size = value, size
        self.seen: list[Sequence[Tensor]] = []

    def forward(self, *given: Tensor) -> Tensor:
        self.seen.append(given)
        return torch.full((len(given[0]), 1, self.size, self.size), self.value)


def test_sampling_goes_from_coarse_to_fine() -> None:
    """Section 2.3: each generator sees noise of its own and the enlarged sum of what those before it made."""
    coarse, middle, fine = Constant(1.0, 2), Constant(0.2, 4), Constant(0.03, 8)
    noise = torch.rand(5, 3 + 16 + 64)
    x = Cascade([coarse, middle, fine], latent=3)(noise)
    torch.testing.assert_close(x, torch.full((5, 1, 8, 8), 1.23))
    assert coarse.seen[0][0].equal(noise[:, :3])
    plane, low = middle.seen[0]
    assert plane.flatten(1).equal(noise[:, 3:19])
    torch.testing.assert_close(low, torch.full((5, 1, 4, 4), 1.0))
    plane, low = fine.seen[0]
    assert plane.flatten(1).equal(noise[:, 19:])
    torch.testing.assert_close(low, torch.full((5, 1, 8, 8), 1.2))


def test_samples_are_those_of_the_cascade_that_is_exported() -> None:
    nets = networks()
    module, example = FAMILY.exported(nets, spec())
    assert list(example) == ["noise"]
    x = FAMILY.sample(nets, {}, Draws(0, 2, CPU))["x"]
    assert x.shape == (2, 2, 16, 16)
    torch.testing.assert_close(module(example["noise"]), x)
    assert example["noise"].abs().max() <= 1
    assert example["noise"].min() < -0.5


def test_each_phase_gives_a_gradient_to_the_network_of_its_level_alone() -> None:
    for phase in FAMILY.phases():
        nets = networks()
        loss, _ = FAMILY.objective(phase.name, nets, step(rows()))
        side = phase.trains[0].partition("_")[0]
        trained = {name: list(net.parameters()) for name, net in nets.items() if name.startswith(f"{side}_")}
        every = [p for ps in trained.values() for p in ps]
        gradients = dict(zip(every, torch.autograd.grad(loss, every, allow_unused=True), strict=True))
        reached = {name for name, ps in trained.items() if any(gradients[p] is not None for p in ps)}
        assert reached == set(phase.trains)


def test_phases_go_from_coarse_to_fine_on_one_batch() -> None:
    phases = FAMILY.phases()
    names = ["critic_2", "generator_2", "critic_1", "generator_1", "critic_0", "generator_0"]
    assert [p.name for p in phases] == names
    assert [p.data for p in phases] == ["fresh"] + 5 * ["same"]
    assert set(FAMILY.averaged) == {"g_0", "g_1", "g_2"}


def test_a_level_learns_from_real_coarse_pictures() -> None:
    """Whatever the coarser generators make, the loss of a finer level is the same."""
    batch = rows()
    losses = []
    for seed in (0, 1):
        nets = networks()
        torch.manual_seed(seed)
        nets["g_2"] = FAMILY.networks(spec())["g_2"]
        losses.append(FAMILY.objective("critic_1", nets, step(batch))[0])
    assert losses[0].equal(losses[1])


def test_the_generator_is_shown_noise_and_the_low_pass() -> None:
    refiner = Refiner(2, 8, 4, 3, num_classes=0)
    noise, low, other = torch.randn(3, 1, 8, 8), torch.randn(3, 2, 8, 8), torch.randn(3, 2, 8, 8)
    made = refiner(noise, low)
    assert made.shape == low.shape
    assert not torch.allclose(refiner(noise, other), made)
    assert not torch.allclose(refiner(-noise, low), made)


def test_the_discriminator_is_shown_real_and_generated_coefficients_with_the_same_low_pass_added() -> None:
    nets = networks()
    seen: list[Tensor] = []
    made: list[Tensor] = []
    nets["d_0"].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    nets["g_0"].register_forward_hook(lambda _, inputs, out: made.append(out))
    batch = rows()
    FAMILY.objective("critic_0", nets, step(batch))
    h, low = coefficients(batch["x"], 0, 2)
    assert low is not None
    real, fake = seen
    assert real.equal(h + low)
    assert fake.equal(made[0] + low)
    assert not torch.allclose(fake, real)


def test_layers_are_the_papers() -> None:
    """Section 3.1: two hidden layers in the coarsest pair, three convolutions in G_k, two and a linear layer in D_k."""
    nets = build(LAPGAN(levels=1), loaded(DIGITS), seed=0)

    def layers(name: str, kind: type[nn.Module]) -> list[Any]:
        return [m for m in nets[name].modules() if isinstance(m, kind)]

    assert [m.out_features for m in layers("g_1", nn.Linear)] == [1200, 1200, 16]
    assert [m.out_features for m in layers("d_1", nn.Linear)] == [600, 600, 1]
    assert layers("g_1", nn.Linear)[0].in_features == 100
    assert [m.kernel_size[0] for m in layers("g_0", nn.Conv2d)] == [7, 7, 5]
    assert layers("g_0", nn.Conv2d)[0].in_channels == 1 + 1
    assert [(m.kernel_size[0], m.stride[0]) for m in layers("d_0", nn.Conv2d)] == [(5, 1), (5, 2)]
    assert len(layers("d_0", nn.Linear)) == 1


def test_by_class_every_network_sees_the_label() -> None:
    family = LAPGAN(**SMALL, by_class=True)
    assert family.inputs == ("label",)
    nets, batch = networks(family, labels=3), rows(labels=3)
    turned = {**batch, "label": (batch["label"] + 1) % 3}
    for phase in family.phases():
        losses = [family.objective(phase.name, nets, step(b))[0] for b in (batch, turned)]
        assert not losses[0].equal(losses[1]), phase.name
    drawn = [family.sample(nets, b, Draws(0, 4, CPU)) for b in (batch, turned)]
    assert drawn[0]["label"].equal(batch["label"])
    assert not torch.allclose(drawn[0]["x"], drawn[1]["x"])


def test_the_coarsest_pair_is_reported_under_the_plain_names_and_the_others_by_number() -> None:
    nets, batch = networks(), rows()
    for k, end in ((2, ""), (1, "_1"), (0, "_0")):
        _, critic = FAMILY.objective(f"critic_{k}", nets, step(batch))
        _, generator = FAMILY.objective(f"generator_{k}", nets, step(batch))
        assert set(critic) == {f"loss_d{end}", f"d_accuracy{end}", f"d_gap{end}"}
        assert set(generator) == {f"loss_g{end}"}


@pytest.mark.parametrize("k", [0, 2])
def test_r1_is_the_squared_gradient_by_the_real_coefficients(k: int) -> None:
    nets, batch = networks(), rows()
    family = LAPGAN(**SMALL, r1=2.0)
    _, report = family.objective(f"critic_{k}", nets, step(batch))
    h, low = coefficients(batch["x"], k, 2)
    h.requires_grad_()
    logits = nets[f"d_{k}"](h if low is None else h + low)
    (gradient,) = torch.autograd.grad(logits.sum(), h)
    expected = gradient.square().flatten(1).sum(1)  # 2.0 / 2
    torch.testing.assert_close(next(v for name, v in report.items() if "penalty" in name), expected)


@pytest.mark.parametrize(
    ("family", "data", "told"),
    [
        (LAPGAN(), RING, r"makes pictures \(C, H, W\)"),
        (LAPGAN(levels=2), DIGITS, "pictures of 8 px cannot be halved gan.levels=2 times down to 4 px"),
    ],
)
def test_unsuitable_data_is_refused_with_the_way_out(family: LAPGAN, data: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        build(family, loaded(data), seed=0)


def test_missing_labels_and_odd_sizes_are_told() -> None:
    (problem,) = LAPGAN(levels=1, by_class=True).check(spec())
    assert "gan.by_class needs labels, this data has the fields x" in problem
    (problem,) = LAPGAN(levels=2).check(spec(18))
    assert "a multiple of 4 from 16 up" in problem
    wide = DataSpec({"x": Field("image", (1, 16, 32))})
    assert LAPGAN().check(wide) == ["pictures must be square, these are 16 x 32: set data.size"]
