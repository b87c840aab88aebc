"""The loop: cadence, budgets, warm-up, averages, divergence, plateau. Families are as small as they go."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gans.ema import Average, half_life_images
from gans.families.dcgan import DCGAN
from gans.families.vanilla import Vanilla
from gans.family import Family, Networks, Step, Terms
from gans.health import Monitor
from gans.loop import Tick, train
from gans.options import Train
from gans.sync import Alone
from tests.support.families import CPU, DIGITS, RING, Case, loaded, training
from tests.support.threads import one_thread as one_thread

TINY = Vanilla(width=8, depth=1, latent_dim=4)


def ticks(
    family: Family = TINY, evaluate: Any = None, monitor: Monitor | None = None, **options: Any
) -> list[Tick]:
    """All ticks of a run on the ring."""
    train_options = Train(**{"batch": 8, "log_every": 1, **options})
    return list(train(family, loaded(RING), train_options, device=CPU, evaluate=evaluate, monitor=monitor))


class Scores:
    """An evaluator that gives the FIDs it is told, one after the other, and remembers what it was shown."""

    num_samples = 5

    def __init__(self, *fids: float) -> None:
        self.fids = list(fids)
        self.shown: list[Tensor] = []

    def __call__(self, x: Tensor, labels: Tensor | None = None) -> dict[str, float]:
        self.shown.append(x)
        return {"fid": self.fids[len(self.shown) - 1]}


class Gradients(Alone):
    """Remembers the gradients of every phase."""

    def __init__(self) -> None:
        self.seen: list[list[Tensor]] = []

    def gradients(self, loss: Tensor, params: Sequence[Tensor], add: Any = None) -> Any:
        found = super().gradients(loss, params, add)
        self.seen.append([g.clone() for g in found if g is not None])
        return found


class Poisoned(Vanilla):
    """A family whose loss is not a number from step 3 on."""

    def objective(self, phase: str, nets: Networks, step: Step) -> Terms:
        loss, report = super().objective(phase, nets, step)
        factor = math.nan if step.step >= 3 else 1.0
        return loss * factor, {k: v * factor for k, v in report.items()}


def moved(family: Vanilla, steps: int) -> dict[str, bool]:
    """Which networks changed within `steps`."""
    t = training(Case(family, RING))
    before = {name: [p.clone() for p in net.parameters()] for name, net in t.nets.items()}
    for _ in range(steps):
        t.run_step()
    return {
        name: not all(p.equal(q) for p, q in zip(net.parameters(), before[name], strict=True))
        for name, net in t.nets.items()
    }


def test_ticks_come_every_log_every_steps_and_at_the_end() -> None:
    seen = ticks(steps=7, log_every=3)
    assert [(t.step, t.images) for t in seen] == [(3, 24), (6, 48), (7, 56)]
    assert [t.ended for t in seen] == [None, None, "budget"]
    assert [t.progress for t in seen] == [pytest.approx(3 / 7), pytest.approx(6 / 7), 1.0]
    assert all(t.metrics["images_per_second"] > 0 for t in seen)


def test_other_cadences_are_rounded_up_to_ticks_and_always_due_at_the_end() -> None:
    seen = ticks(
        evaluate=Scores(*[1.0] * 9),
        steps=11,
        log_every=2,
        evaluate_every=4,
        sample_every=3,
        checkpoint_every=0,
    )
    assert [t.step for t in seen] == [2, 4, 6, 8, 10, 11]
    assert [t.step for t in seen if t.evaluation] == [4, 8, 11]
    assert [t.step for t in seen if t.samples] == [4, 6, 10, 11]
    assert [t.step for t in seen if t.checkpoint] == [11]


def test_sample_grids_show_the_same_latents_at_every_tick() -> None:
    family = Vanilla(width=8, latent_dim=4, lr_g=0.0)
    first, second = ticks(family, steps=2, sample_every=1, sample_grid=6)
    assert first.samples is not None
    assert second.samples is not None
    assert first.samples[1]["x"].shape == (6, 2)
    assert first.samples[1]["x"].equal(second.samples[1]["x"])


@pytest.mark.parametrize(
    ("budget", "steps"),
    [
        ({"steps": 5}, 5),
        ({"steps": None, "images": 47}, 5),
        ({"steps": 3, "images": 800}, 3),
        ({"steps": 30, "images": 16}, 2),
    ],
)
def test_the_first_budget_reached_ends_the_run(budget: dict[str, Any], steps: int) -> None:
    last = ticks(**budget)[-1]
    assert (last.step, last.ended, last.progress) == (steps, "budget", 1.0)


def test_a_budget_of_seconds_ends_the_run_at_the_tick_that_exceeds_it() -> None:
    seen = ticks(steps=None, seconds=0.2, log_every=5)
    assert seen[-1].ended == "budget"
    assert seen[-1].seconds >= 0.2
    assert all(t.seconds < 0.2 for t in seen[:-1])
    assert [t.progress for t in seen] == sorted(t.progress for t in seen)


def test_a_run_without_any_budget_is_refused() -> None:
    with pytest.raises(ValueError, match=r"set train\.steps, train\.images or train\.seconds"):
        Train(steps=None)


def test_a_plateau_ends_the_run_after_that_many_evaluations_without_a_better_fid() -> None:
    scores = Scores(5.0, 4.0, 4.5, 3.0, 3.0, 3.5, 9.9)
    last = ticks(evaluate=scores, steps=50, evaluate_every=1, plateau=2)[-1]
    assert (last.step, last.ended) == (6, "plateau")


def test_a_plateau_is_counted_across_a_resume(tmp_path: Path) -> None:
    options = Train(steps=50, batch=8, log_every=1, evaluate_every=1, plateau=3)
    begun = train(TINY, loaded(RING), options, device=CPU, evaluate=Scores(2.0, 4.0))
    next(begun)
    torch.save(next(begun).state(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    *_, last = train(TINY, loaded(RING), options, device=CPU, evaluate=Scores(*[3.0] * 48), resume=state)
    assert (last.step, last.ended) == (4, "plateau")


def test_warm_up_leaves_the_generator_untouched() -> None:
    family = Vanilla(width=8, latent_dim=4, warmup=3)
    assert moved(family, 3) == {"generator": False, "discriminator": True}
    assert moved(family, 4) == {"generator": True, "discriminator": True}


def test_the_critic_takes_k_steps_each_on_a_fresh_batch_for_one_of_the_generator() -> None:
    family = Vanilla(width=8, latent_dim=4, critic_steps=3)
    t = training(Case(family, RING), sync=(sync := Gradients()))
    t.run_step()
    shapes = {k: [p.shape for p in net.parameters()] for k, net in t.nets.items()}
    assert [[g.shape for g in gs] for gs in sync.seen] == [shapes["discriminator"]] * 3 + [
        shapes["generator"]
    ]
    assert t.loader.cursor == 3 * 8


def test_a_lazy_penalty_runs_in_every_nth_step() -> None:
    family = Vanilla(width=8, latent_dim=4, r1=1.0, penalty_every=4)
    t = training(Case(family, RING), sync=(sync := Gradients()))
    exchanges = []
    for _ in range(9):
        before = len(sync.seen)
        t.run_step()
        exchanges.append(len(sync.seen) - before)
    assert exchanges == [3, 2, 2, 2, 3, 2, 2, 2, 3]
    assert t.loader.cursor == 9 * 8


def test_reuse_of_the_generators_forward_changes_no_critic_gradient_and_keeps_its_own_latents() -> None:
    """With reuse the generator learns from the rows the critic was shown: one draw fewer, not another game."""
    first = {}
    for reuse in (True, False):
        t = training(Case(DCGAN(width=4, latent_dim=4), DIGITS), sync=(sync := Gradients()), reuse=reuse)
        t.run_step()
        first[reuse] = sync.seen
    assert all(a.equal(b) for a, b in zip(first[True][0], first[False][0], strict=True))
    assert not all(a.equal(b) for a, b in zip(first[True][1], first[False][1], strict=True))


def test_a_reused_forward_gives_the_gradient_of_a_repeated_one() -> None:
    class Repeating(Vanilla):
        """Makes the generator's rows of the same latents in both phases."""

        def latents(self, draws: Any) -> Tensor:
            draws.restart(7)
            return super().latents(draws)

    gradients = {}
    for reuse in (True, False):
        family = Repeating(width=8, latent_dim=4)
        t = training(Case(family, RING), sync=(sync := Gradients()), reuse=reuse)
        t.run_step()
        gradients[reuse] = sync.seen
    for with_reuse, without in zip(gradients[True], gradients[False], strict=True):
        for a, b in zip(with_reuse, without, strict=True):
            torch.testing.assert_close(a, b)


def test_phases_that_train_the_same_network_share_an_optimiser() -> None:
    t = training(Case(Vanilla(width=8, r1=1.0, penalty_every=2), RING))
    assert set(t.optimisers) == {("discriminator",), ("generator",)}


def test_numbers_that_are_not_finite_end_the_run_as_diverged_with_the_evidence() -> None:
    seen = ticks(Poisoned(width=8, latent_dim=4), monitor=Monitor(), steps=20, on_collapse="stop")
    assert [t.verdict.kind for t in seen] == ["healthy"] * 3 + ["diverged"]
    last = seen[-1]
    assert (last.step, last.ended) == (4, "diverged")
    assert last.verdict.evidence[0].step == 4
    assert math.isnan(last.verdict.evidence[0].value)


def test_an_unhealthy_run_goes_on_unless_it_is_to_be_stopped() -> None:
    class Alarmed(Monitor):
        def observe(self, step: int, *rest: Any) -> Any:
            return self._verdict("mode collapse" if step >= 2 else "healthy", [], {})

    assert [t.ended for t in ticks(monitor=Alarmed(), steps=4)] == [None, None, None, "budget"]
    stopped = ticks(monitor=Alarmed(), steps=4, on_collapse="stop")
    assert [t.ended for t in stopped] == [None, "mode collapse"]


def test_the_average_halves_the_weight_of_the_past_every_half_life() -> None:
    """batch 10, long run: 10 / 32 of 1,000 batches are 3,125 images, 312.5 steps."""
    assert half_life_images(10, images_seen=10**9) == 3125
    net = nn.Linear(1, 1)
    nn.init.zeros_(net.weight)
    average = Average(net)
    nn.init.ones_(net.weight)
    for steps, expected in ((312, 0.5 ** (312 / 312.5)), (313, 0.25)):
        for _ in range(steps):
            average.update(10, images_seen=10**9)
        assert 1 - average.network.get_parameter("weight").item() == pytest.approx(expected, rel=1e-3)


def test_the_half_life_starts_at_a_twentieth_of_what_was_seen() -> None:
    assert half_life_images(64, images_seen=2000) == 100


def test_the_average_follows_buffers_and_copies_counters() -> None:
    net = nn.BatchNorm1d(2)
    average = Average(net)
    net.running_mean.fill_(1.0)  # type: ignore[union-attr]
    net.num_batches_tracked.fill_(7)  # type: ignore[union-attr]
    average.update(5, images_seen=100)  # half-life 5 images: one step halves
    assert average.network.get_buffer("running_mean").tolist() == [0.5, 0.5]
    assert average.network.get_buffer("num_batches_tracked").item() == 7
    assert not average.network.training


def test_evaluation_looks_at_the_average_if_there_is_one() -> None:
    shown = {}
    for ema in (True, False):
        scores = Scores(1.0)
        state = ticks(evaluate=scores, steps=3, log_every=3, ema=ema)[-1].state()
        shown[ema] = scores.shown[0]
        assert bool(state["averages"]) == ema
    assert shown[True].shape == shown[False].shape == (5, 2)
    assert not shown[True].equal(shown[False])
