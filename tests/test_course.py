"""A run changes course: by its own remedies, or as it is told. The step never goes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from gans.checkpoint import pack, unpack
from gans.course import Change
from gans.errors import ConfigError
from gans.families.vanilla import Vanilla
from gans.family import Family
from gans.health import Monitor
from gans.loop import Tick, train
from gans.options import Train
from gans.remedies import Remedy
from gans.sync import Group
from gans.training import State
from tests.support.families import CPU, RING, Case, loaded, training
from tests.support.threads import one_thread as one_thread


class Advised(Vanilla):
    """Advises to double the balance up to 8, then another loss, then nothing."""

    def remedies(self, kind: str) -> tuple[Remedy, ...]:
        if kind == "healthy":
            return ()
        if self.lr_ratio < 8:
            return (Remedy({"lr_ratio": 2 * self.lr_ratio}),)
        return () if self.loss == "hinge" else (Remedy({"loss": "hinge"}),)


class Alarm(Monitor):
    """Passes the verdict `kind` at the given steps, and holds the others to be sound, or not."""

    def __init__(self, *steps: int, kind: Any = "mode collapse", unsound: tuple[int, ...] = ()) -> None:
        self.restarts: list[float] = []
        super().__init__()
        self.steps, self.kind, self.unsound = steps, kind, unsound

    def observe(self, step: int, *rest: Any) -> Any:
        self.sound = step not in (*self.steps, *self.unsound)
        return self._verdict(self.kind if step in self.steps else "healthy", [], {})

    def restart(self, progress: float) -> None:
        self.restarts.append(progress)
        super().restart(progress)


FAMILY = Advised(width=8, depth=1, latent_dim=4, lr_ratio=2.0)


def run(
    monitor: Monitor, told: Mapping[int, Change] | None = None, resume: State | None = None, **options: Any
) -> list[tuple[Tick, State]]:
    """Every tick with the state at it; `told` by step is sent."""
    chosen = Train(**{"steps": 12, "batch": 8, "log_every": 2, "checkpoint_every": 4, **options})
    ticks = train(FAMILY, loaded(RING), chosen, device=CPU, monitor=monitor, resume=resume)
    seen: list[tuple[Tick, State]] = []
    change = None
    try:
        while True:
            tick = ticks.send(change)
            seen.append((tick, copied(tick.state())))
            change = (told or {}).get(tick.step)
    except StopIteration:
        return seen


def copied(state: State) -> State:
    """The state as a checkpoint keeps it."""
    return unpack(pack(state))


def weights(state: State) -> Tensor:
    """The generator's and critic's weights as one vector."""
    nets = state["networks"]
    return torch.cat([nets[name][key].flatten() for name in sorted(nets) for key in sorted(nets[name])])


def test_a_remedy_goes_back_to_the_last_sound_weights_and_never_back_in_steps() -> None:
    monitor = Alarm(8, unsound=(6,))
    seen = run(monitor)
    assert [tick.step for tick, _ in seen] == [2, 4, 6, 8, 10, 12]
    remedy = seen[3][0].remedy
    assert remedy is not None
    assert remedy.fields == {"lr_ratio": 4.0}
    assert remedy.why == "mode collapse: back to the weights of step 4, raise gan.lr_ratio from 2 to 4"
    assert remedy.weights is not None
    assert weights(remedy.weights).equal(weights(seen[1][1]))
    assert [tick.remedy is not None for tick, _ in seen] == [False] * 3 + [True] + [False] * 2
    assert monitor.restarts[-1] == pytest.approx(8 / 12)
    assert seen[-1][0].ended == "budget"


def test_without_a_sound_checkpoint_a_remedy_begins_anew_with_the_initial_weights() -> None:
    seen = run(Alarm(2))
    remedy = seen[0][0].remedy
    assert remedy is not None
    assert remedy.weights is not None
    fresh = training(Case(FAMILY, RING)).state()
    assert weights(remedy.weights).equal(weights(fresh))
    assert "back to the initial weights" in remedy.why


def test_the_weights_after_a_remedy_are_those_of_a_run_that_began_so_at_that_step() -> None:
    seen = run(Alarm(4), steps=6)
    t = training(Case(FAMILY, RING))
    for _ in range(4):
        t.run_step()
    t.turn(FAMILY.with_changes({"lr_ratio": 4.0}), training(Case(FAMILY, RING)).state())
    for _ in range(2):
        t.run_step()
    assert weights(seen[-1][1]).equal(weights(copied(t.state() | {"x": 0})))


def test_remedies_are_taken_in_the_order_of_effort_and_come_to_an_end() -> None:
    seen = run(Alarm(2, 4, 6, 8, 10), max_remedies=4)
    taken = [dict(tick.remedy.fields) for tick, _ in seen if tick.remedy is not None]
    assert taken == [{"lr_ratio": 4.0}, {"lr_ratio": 8.0}, {"loss": "hinge"}]
    assert seen[-1][0].ended == "budget"
    limited = run(Alarm(2, 4, 6, 8, 10), max_remedies=1)
    assert sum(tick.remedy is not None for tick, _ in limited) == 1


def test_a_diverged_run_is_mended_too_and_ends_once_nothing_is_left_to_try() -> None:
    seen = run(Alarm(4, 6, kind="diverged"), max_remedies=1)
    assert [tick.step for tick, _ in seen] == [2, 4, 6]
    assert [tick.remedy is not None for tick, _ in seen] == [False, True, False]
    assert seen[-1][0].ended == "diverged"


@pytest.mark.parametrize(("on_collapse", "end"), [("stop", "mode collapse"), ("ignore", "budget")])
def test_no_remedy_is_taken_where_none_is_wanted(on_collapse: str, end: str) -> None:
    seen = run(Alarm(4), on_collapse=on_collapse)
    assert all(tick.remedy is None for tick, _ in seen)
    assert seen[-1][0].ended == end


@pytest.mark.parametrize("cut", [4, 6, 8])
def test_a_run_resumed_before_at_or_after_a_remedy_ends_as_if_it_had_not_been_cut(cut: int) -> None:
    whole = run(Alarm(6), checkpoint_every=2)
    state = next(state for tick, state in whole if tick.step == cut)
    rest = run(Alarm(6), resume=state, checkpoint_every=2)
    assert weights(rest[-1][1]).equal(weights(whole[-1][1]))
    assert rest[-1][1]["course"]["changes"] == whole[-1][1]["course"]["changes"]


def test_whoever_consumes_the_ticks_may_end_the_run_and_then_everything_is_due() -> None:
    seen = run(Alarm(), {6: Change(end="pruned")}, sample_every=0)
    assert [(tick.step, tick.ended) for tick, _ in seen[2:]] == [(6, None), (6, "pruned")]
    last = seen[-1][0]
    assert last.samples is not None
    assert last.checkpoint


def test_whoever_consumes_the_ticks_may_give_it_other_weights_and_hyperparameters() -> None:
    donor = run(Alarm(), steps=4)[-1][1]
    change = Change({"lr_g": 0.0}, donor, why="exploits another trial")
    seen = run(Alarm(), {6: change}, steps=8, ema=False)
    generator = weights({"networks": {"g": seen[-1][1]["networks"]["generator"]}})
    assert generator.equal(weights({"networks": {"g": donor["networks"]["generator"]}}))
    assert seen[-1][1]["position"]["step"] == 8
    assert seen[-1][1]["course"]["changes"] == [
        {"step": 6, "remedy": False, "why": "exploits another trial", "fields": {"lr_g": 0.0}}
    ]


def test_a_change_that_the_family_does_not_take_is_refused() -> None:
    with pytest.raises(ConfigError, match="lr_ratio"):
        run(Alarm(), {4: Change({"lr_ratio": -1.0})})


def test_the_weights_a_run_may_go_back_to_do_not_change_while_it_trains() -> None:
    seen = run(Alarm(10), steps=12)
    remedy = seen[4][0].remedy
    assert remedy is not None
    assert remedy.weights is not None
    then = seen[3][1]
    assert weights(remedy.weights).equal(weights(then))
    for name, optimiser in remedy.weights["optimisers"].items():
        for key, moments in optimiser["state"].items():
            assert all(v.equal(then["optimisers"][name]["state"][key][k]) for k, v in moments.items())


def _rank(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    options = Train(steps=8, batch=8, log_every=2, checkpoint_every=2)
    monitor = Alarm(4) if rank == 0 else None
    ticks = list(train(FAMILY, loaded(RING), options, device=CPU, sync=Group(), monitor=monitor))
    told = [dict(tick.remedy.fields) if tick.remedy else None for tick in ticks]
    torch.save((told, weights(ticks[-1].state()), Group().share({"of": rank})), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_all_ranks_take_the_remedy_that_rank_0_decides(tmp_path: Path) -> None:
    spawn: Callable[..., Any] = torch.multiprocessing.spawn  # type: ignore[attr-defined]
    spawn(_rank, (str(tmp_path),), nprocs=2)
    (told, mine, shared), (others, theirs, heard) = (torch.load(tmp_path / f"{r}.pt") for r in (0, 1))
    assert told == others == [None, {"lr_ratio": 4.0}, None, None]
    assert mine.equal(theirs)
    assert shared == heard == {"of": 0}


def test_a_family_without_advice_goes_on_with_its_verdict() -> None:
    class Silent(Vanilla):
        def remedies(self, kind: str) -> tuple[Remedy, ...]:
            return ()

    family: Family = Silent(width=8, depth=1, latent_dim=4)
    options = Train(steps=4, batch=8, log_every=2)
    ticks = list(train(family, loaded(RING), options, device=CPU, monitor=Alarm(2)))
    assert [tick.ended for tick in ticks] == [None, "budget"]
