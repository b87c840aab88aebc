"""Members of a pack train exactly as they would alone, come and go, and say why where they cannot be packed."""

from __future__ import annotations

import copy
import math
from collections.abc import Generator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from gans.course import Change
from gans.data.base import Dataset, DataSpec, Field, Resident
from gans.families.cgan import CGAN
from gans.families.cyclegan import CycleGAN
from gans.families.dcgan import DCGAN
from gans.families.r3gan import R3GAN
from gans.families.vanilla import Vanilla
from gans.families.wgan import WGAN
from gans.families.wgan_gp import WGANGP
from gans.family import Family, Networks, Step, Terms
from gans.loop import Tick, train
from gans.nn import SyncBatchNorm
from gans.options import Train
from gans.packed_layers import obstacle, stacked
from gans.packing import Pack
from gans.schedule import Cosine
from gans.training import PACE, State
from tests.support.families import CPU, DIGITS, DOMAINS, RING, loaded
from tests.support.threads import one_thread as one_thread

TOLERANCE = 1e-4  # the issue's, relative, over the first 50 steps
OPTIONS = Train(steps=50, batch=32, log_every=10)  # of 32 rows on it is the same to the bit, on a CPU
SMALL: dict[str, Any] = {"width": 16, "latent_dim": 8}

Seen = list[tuple[Tick, State]]
Run = Generator[Tick, Change | None, None]


def labelled() -> Resident:
    """Points with the quadrant that they lie in."""
    x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    label = (x[:, 0] > 0) * 2 + (x[:, 1] > 0)
    spec = DataSpec({"x": Field("vector", (2,)), "label": Field("label", (), 4)})
    return Resident({"x": x, "label": label.long()}, spec)


def losses() -> list[Family]:
    """Losses that look at fake logits alone, learning rates and betas."""
    return [
        Vanilla(**SMALL, loss="hinge", lr_g=1e-3, betas=(0.0, 0.9)),
        Vanilla(**SMALL, loss="non_saturating", lr_g=2e-3, lr_ratio=0.5, betas=(0.5, 0.9)),
        Vanilla(**SMALL, loss="least_squares", lr_g=Cosine(start=1e-3, end=1e-4)),
    ]


def penalties() -> list[Family]:
    """Penalties of different weights, on a schedule, and none on one side."""
    return [
        Vanilla(**SMALL, loss="relativistic", r1=0.5, r2=0.5, lr_g=1e-3),
        Vanilla(**SMALL, loss="relativistic", r1=Cosine(start=1.0, end=0.1), r2=0.0, lr_g=2e-3),
        Vanilla(**SMALL, loss="relativistic", r1=0.0, r2=0.1, gp=0.2),
    ]


SUBJECTS: dict[str, tuple[list[Family], Dataset]] = {
    "losses": (losses(), loaded(DIGITS)),
    "penalties": (penalties(), loaded(DIGITS)),
    "lazy": (
        [Vanilla(**SMALL, r1=r1, penalty_every=4, warmup=3, lr_g=1e-3) for r1 in (1.0, 0.3)],
        loaded(RING),
    ),
    "wgan": ([WGAN(**SMALL, norm_g="none", lr_g=lr) for lr in (1e-4, 5e-4)], loaded(RING)),
    "wgan_gp": ([WGANGP(**SMALL, norm_g="none", gp=gp) for gp in (10.0, 0.1)], loaded(RING)),
    "cgan": ([CGAN(**SMALL, norm_g="none", lr_g=lr) for lr in (1e-3, 2e-3)], labelled()),
    "batch norm": (
        [Vanilla(**SMALL, norm_g="batch", lr_g=lr) for lr in (5e-4, 1e-3)],
        loaded(DIGITS),
    ),
    "spectral norm": (
        [Vanilla(**SMALL, norm_d="spectral", latent="uniform", lr_g=lr) for lr in (1e-3, 2e-3)],
        loaded(DIGITS),
    ),
}


def begun(family: Family, data: Dataset, seed: int, pack: Pack | None = None, **more: Any) -> Run:
    """A training of `family`, alone or in a pack."""
    return train(family, data, more.pop("options", OPTIONS), seed=seed, device=CPU, pack=pack, **more)


def alone(family: Family, data: Dataset, seed: int, **more: Any) -> Seen:
    """Every tick of a training and its state."""
    return [(tick, copy.deepcopy(tick.state())) for tick in begun(family, data, seed, **more)]


def in_turns(runs: dict[int, Run]) -> dict[int, Seen]:
    """Every tick of several trainings, consumed one after another, round by round."""
    seen: dict[int, Seen] = {key: [] for key in runs}
    while runs:
        for key in list(runs):
            tick = next(runs[key], None)
            if tick is None:
                del runs[key]
            else:
                seen[key].append((tick, copy.deepcopy(tick.state())))
    return seen


def tensors(state: State) -> dict[str, Tensor]:
    """Weights and averages by path.

    A bias in front of a batch norm has no gradient but rounding errors, which Adam makes steps of; it and the mean
    that takes it away again are left out.
    """
    found = {
        f"{part}.{net}.{key}": value.double()
        for part in ("networks", "averages")
        for net, weights in state[part].items()
        for key, value in weights.items()
    }
    normed = {key.removesuffix("running_mean") for key in found if key.endswith("running_mean")}
    before = {f"{stem[:-2]}{int(stem[-2]) - 1}.bias" for stem in normed}
    return {k: v for k, v in found.items() if k not in before and not k.endswith("running_mean")}


def assert_equal(packed: Seen, single: Seen) -> None:
    """The same ticks, to the tolerance."""
    assert [tick.step for tick, _ in packed] == [tick.step for tick, _ in single]
    for (a, mine), (b, expected) in zip(packed, single, strict=True):
        assert a.metrics.keys() - set(PACE) == b.metrics.keys() - set(PACE)
        for name in a.metrics.keys() - set(PACE):
            close = math.isclose(a.metrics[name], b.metrics[name], rel_tol=TOLERANCE, abs_tol=1e-6)
            assert close, f"step {a.step}, {name}: {a.metrics[name]} instead of {b.metrics[name]}"
        left, right = tensors(mine), tensors(expected)
        for key, value in right.items():
            error = (left[key] - value).norm() / value.norm().clamp(min=1e-9)
            assert error < TOLERANCE, f"step {a.step}, {key}: {error:.1e}"


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_packed_member_equals_the_same_training_alone(name: str) -> None:
    families, data = SUBJECTS[name]
    pack = Pack()
    runs = {seed: begun(family, data, seed, pack) for seed, family in enumerate(families)}
    for run in (*runs.values(), *runs.values()):
        next(run)
    assert pack.sizes == (len(families),)
    assert not pack.reasons
    runs = {seed: begun(family, data, seed, pack) for seed, family in enumerate(families)}
    for seed, seen in in_turns(runs).items():
        assert_equal(seen, alone(families[seed], data, seed))
    assert pack.sizes == ()


def test_a_member_that_ends_frees_its_place_for_another() -> None:
    data, pack = loaded(RING), Pack()
    family = Vanilla(**SMALL)
    short, long = Train(steps=20, batch=32, log_every=10), Train(steps=40, batch=32, log_every=10)
    plan = {0: short, 1: long, 2: short, 3: short}
    running = {seed: begun(family, data, seed, pack, options=plan[seed]) for seed in (0, 1)}
    seen: dict[int, Seen] = {seed: [] for seed in plan}
    sizes = []
    waiting = [2, 3]
    while running:
        for seed in list(running):
            tick = next(running[seed], None)
            if tick is not None:
                seen[seed].append((tick, copy.deepcopy(tick.state())))
                sizes.append(pack.sizes)
                continue
            del running[seed]
            if waiting:
                running[waiting[0]] = begun(family, data, waiting[0], pack, options=plan[waiting[0]])
                waiting.pop(0)
    assert max(sizes) == (2,)
    for seed, options in plan.items():
        assert_equal(seen[seed], alone(family, data, seed, options=options))


def test_a_closed_member_leaves_the_others_as_they_are() -> None:
    data, pack, family = loaded(RING), Pack(), Vanilla(**SMALL)
    first, second = begun(family, data, 0, pack), begun(family, data, 1, pack)
    seen: Seen = []
    for _ in range(2):
        next(first)
        tick = next(second)
        seen.append((tick, copy.deepcopy(tick.state())))
    first.close()
    seen += [(tick, copy.deepcopy(tick.state())) for tick in second]
    assert_equal(seen, alone(family, data, 1))


def test_a_packed_member_resumes_as_if_it_had_never_stopped() -> None:
    families, data = SUBJECTS["penalties"]
    whole = alone(families[0], data, 0)
    pack = Pack()
    runs = [begun(family, data, seed, pack) for seed, family in enumerate(families[:2])]
    next(runs[0])
    tick, _ = next(runs[0]), next(runs[1])
    assert tick.step == 20
    state = copy.deepcopy(tick.state())  # taken after another one took this member along
    assert state["position"]["step"] == 20
    other = Pack()
    resumed = begun(families[0], data, 0, other, resume=state)
    seen = in_turns({0: resumed, 1: begun(families[1], data, 1, other)})
    assert_equal(seen[0], whole[2:])


def test_a_state_holds_the_members_own_tensors_alone() -> None:
    data, pack = loaded(RING), Pack()
    runs = [begun(Vanilla(**SMALL), data, seed, pack) for seed in range(3)]
    for _ in range(2):
        ticks = [next(run) for run in runs]
    for part in ("networks", "averages"):
        for weights in ticks[0].state()[part].values():
            assert all(t.untyped_storage().nbytes() == t.nbytes for t in weights.values())


def steered(run: Run, change: Change) -> Seen:
    """The ticks of a run whose course is changed at step 20."""
    seen: Seen = []
    sent: Change | None = None
    while True:
        try:
            tick = run.send(sent)
        except StopIteration:
            return seen
        seen.append((tick, copy.deepcopy(tick.state())))
        sent = change if tick.step == 20 else None


@pytest.mark.parametrize("fields", [{"r1": 0.2}, {"lr_g": 5e-3, "loss": "hinge"}], ids=str)
def test_a_member_that_changes_course_does_so_at_the_tick_it_gave(fields: dict[str, Any]) -> None:
    data, pack, family = loaded(RING), Pack(), Vanilla(**SMALL, lr_g=1e-3)
    weights = next(begun(family, data, 7)).state()
    change = Change(fields, weights)
    runs = [begun(family, data, seed, pack) for seed in range(2)]
    seen: list[Seen] = [[], []]
    for step in (10, 20, 30, 40, 50):
        for run, mine in zip(runs, seen, strict=True):
            tick = run.send(change if run is runs[1] and step == 30 else None)
            mine.append((tick, copy.deepcopy(tick.state())))
    assert_equal(seen[0], alone(family, data, 0))
    assert_equal(seen[1], steered(begun(family, data, 1), change))


def test_a_member_that_is_told_to_end_does_so_at_the_tick_it_gave() -> None:
    data, pack, family = loaded(RING), Pack(), Vanilla(**SMALL)
    runs = [begun(family, data, seed, pack) for seed in range(2)]
    for _ in range(2):
        ticks = [next(run) for run in runs]
    kept = copy.deepcopy(ticks[1].state())
    next(runs[0])  # takes the other one along
    last = runs[1].send(Change(end="pruned"))
    assert (last.step, last.ended) == (20, "pruned")
    assert_equal([(last, copy.deepcopy(last.state()))], [(ticks[1], kept)])


def test_only_trainings_of_one_structure_are_packed_together() -> None:
    data, pack = loaded(DIGITS), Pack()
    families = [
        *(Vanilla(**SMALL, lr_g=lr) for lr in (1e-3, 2e-3, 3e-3)),
        *(Vanilla(width=24, latent_dim=8, loss=loss) for loss in ("hinge", "least_squares")),
        Vanilla(**SMALL, loss="relativistic"),
        Vanilla(**SMALL, depth=3),
    ]
    runs = {seed: begun(family, data, seed, pack) for seed, family in enumerate(families)}
    for _ in range(3):
        for run in runs.values():
            next(run)
    assert sorted(pack.sizes) == [2, 3]
    assert not pack.reasons


def test_a_pack_of_one_is_the_ordinary_training_to_the_bit() -> None:
    data, family = loaded(DIGITS), Vanilla(**SMALL)
    packed = in_turns({0: begun(family, data, 0, Pack())})[0]
    for (_, mine), (_, expected) in zip(packed, alone(family, data, 0), strict=True):
        for key, value in tensors(expected).items():
            assert tensors(mine)[key].equal(value), key


@pytest.mark.parametrize(
    ("family", "data", "why"),
    [
        (CycleGAN(width=4, width_d=4, blocks=1, pool=9), DOMAINS, "CycleGAN keeps a memory of rows"),
        (
            R3GAN(width=4, latent_dim=8),
            DIGITS,
            "the generator of R3GAN is not packed: Generator is not known",
        ),
        (DCGAN(width=4, latent_dim=8), DIGITS, "convolutions"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_packed_says_why_and_trains_alone(family: Family, data: Any, why: str) -> None:
    pack, options = Pack(), Train(steps=4, batch=4, log_every=2)
    runs = {seed: begun(family, loaded(data), seed, pack, options=options) for seed in range(2)}
    first = [next(run) for run in runs.values()]
    assert len(pack.reasons) == 1
    assert why in pack.reasons[0]
    assert pack.sizes == ()
    seen = in_turns(runs)
    for seed in runs | {0: None, 1: None}:
        single = alone(family, loaded(data), seed, options=options)
        assert first[seed].metrics["loss_d"] == single[0][0].metrics["loss_d"]
        for key, value in tensors(single[1][1]).items():
            assert tensors(seen[seed][-1][1])[key].equal(value), key


class Joining(Vanilla):
    """Shows its discriminator real and generated rows at once, which mixes the members of a pack."""

    def _critic(self, nets: Networks, step: Step) -> Terms:
        rows = torch.cat([step.batch["x"], self.fake(nets, step).detach()])
        loss = self.judge(nets, rows, step.batch).square()
        return loss.mean(), {"loss_d": loss.detach()}


def test_an_objective_that_joins_rows_is_refused_rather_than_trained_wrongly() -> None:
    pack, family, data = Pack(), Joining(**SMALL), loaded(RING)
    runs = [begun(family, data, seed, pack) for seed in range(2)]
    seen = [(tick, copy.deepcopy(tick.state())) for tick in [next(runs[0])]]
    with pytest.raises(RuntimeError, match=r"given 128 rows instead of 2 x 32.*row_wise = False"):
        next(runs[1])
    seen += [(tick, copy.deepcopy(tick.state())) for tick in runs[0]]
    assert_equal(seen, alone(family, data, 0))  # the other one is as it was


ROWS = 6
LAYERS = {
    "linear": lambda: nn.Linear(3, 4),
    "linear without bias": lambda: nn.Linear(3, 4, bias=False),
    "spectral": lambda: spectral_norm(nn.Linear(3, 4)),
    "batch norm": lambda: SyncBatchNorm(3),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_packed_layer_computes_each_layers_rows_and_gradients_twice_over(name: str) -> None:
    torch.manual_seed(0)
    layers = [LAYERS[name]().double() for _ in range(3)]
    own = copy.deepcopy(layers)
    assert not obstacle(layers[0])
    x = torch.randn(3 * ROWS, 3, dtype=torch.double, requires_grad=True)
    packed = stacked(layers, ROWS)
    for _ in range(2):  # running statistics and power iterations go on
        out = packed(x)
        single = [layer(rows) for layer, rows in zip(own, x.split(ROWS), strict=True)]
        torch.testing.assert_close(out, torch.cat(single))
    for layer, expected in zip(layers, own, strict=True):
        for key, value in expected.state_dict().items():
            torch.testing.assert_close(layer.state_dict()[key], value)
    together = penalised(out, x, list(packed.parameters()))
    each = [penalised(torch.cat(single), x, list(layer.parameters())) for layer in own]
    for gradient, *singles in zip(together, *each, strict=True):
        torch.testing.assert_close(gradient, torch.stack(singles))


def penalised(out: Tensor, x: Tensor, params: list[nn.Parameter]) -> tuple[Tensor, ...]:
    """The gradient of a loss with a gradient penalty."""
    (by_rows,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
    loss = out.sin().sum() + by_rows.square().sum()
    return torch.autograd.grad(loss, params, retain_graph=True)
