"""How many images are trained until the first configuration that captures everything: ours, random, and stock.

Three searches over the same space, two trials at a time, replay the same recorded runs (curves.py): `ours` is the
conductor of `ganctl sweep` over its ledger, with the health rules as they are; `random` trains every draw to its end;
`stock` is Ray Tune's OptunaSearch with its AsyncHyperBandScheduler, called as Tune's controller calls them. Stock is
given the same figure, the same evaluations and the same space, and the better of two reductions: its own default, and
that of ours. A search's cost is all images trained, those of the trial that runs beside included, when the first trial
that captures everything has completed.

    python -m tests.benchmarks.sweep [--quick]
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, median
from types import SimpleNamespace
from typing import Any, Protocol

import optuna
import torch

from orchestrator.outcome import STATES
from orchestrator.sweep.conductor import Conductor
from orchestrator.sweep.ledger import open_ledger
from orchestrator.sweep.messages import Beat
from orchestrator.sweep.plan import Plan
from tests.benchmarks.curves import ARENAS, SPACE, Arena, Curve, Signals, curves
from tests.benchmarks.report import Report

WORKERS = 1
DRAWS = 1000  # for the share of draws that capture everything
FIGURE, MODE = "coverage", "max"
EVALUATIONS = 9  # of a run, in every search: rungs at 1/9, 1/3 and 1

Table = Mapping[str, Curve]


@dataclass(frozen=True)
class Heard:
    """What a trial says after an evaluation, at its end, or when its health ends it."""

    index: int
    step: int
    progress: float
    figures: Signals
    verdict: Mapping[str, Any]
    ended: str = ""


class Search(Protocol):
    """Draws trials, and says after each evaluation whether one is to stop."""

    health: bool

    def draw(self) -> tuple[int, Mapping[str, Any]]: ...

    def hear(self, number: int, heard: Heard) -> bool: ...


class Ours:
    """The conductor of a sweep."""

    def __init__(self, folder: Path, seed: int, plan: Plan) -> None:
        self.health = plan.on_collapse == "stop"
        ledger = open_ledger(folder / "ledger", "sweep", plan.directions, plan.sampler, seed, plan.objectives)
        self._ledger, self._conductor = ledger, Conductor(ledger, SPACE, plan, seed=seed)

    def draw(self) -> tuple[int, Mapping[str, Any]]:
        given = self._conductor.next()
        assert given is not None
        return given.number, given.params

    def hear(self, number: int, heard: Heard) -> bool:
        beat = partial(Beat, number, step=heard.step, figures=heard.figures, verdict=heard.verdict)
        if heard.ended:
            self._conductor.hear(beat(heard.ended, progress=1.0))
            return True
        order = self._conductor.hear(beat(progress=heard.progress))
        if order.do == "stop":
            self._conductor.hear(beat("pruned", progress=1.0, reason=order.reason))
        return order.do == "stop"


class Random:
    """Independent draws, each trained to its end."""

    health = False

    def __init__(self, folder: Path, seed: int) -> None:
        self._study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))

    def draw(self) -> tuple[int, Mapping[str, Any]]:
        trial = self._study.ask()
        return trial.number, SPACE.suggest(trial)

    def hear(self, number: int, heard: Heard) -> bool:
        return bool(heard.ended)


class Stock:
    """OptunaSearch and AsyncHyperBandScheduler, as `TuneController._process_trial_result` calls them (Ray 2.60)."""

    health = False

    def __init__(self, folder: Path, seed: int, reduction: float) -> None:
        from ray.tune.schedulers import AsyncHyperBandScheduler
        from ray.tune.search.optuna import OptunaSearch

        self._search = OptunaSearch(space=SPACE.suggest, metric=FIGURE, mode=MODE, seed=seed)
        self._search._setup_study(MODE)
        self._scheduler = AsyncHyperBandScheduler(
            metric=FIGURE, mode=MODE, max_t=EVALUATIONS, reduction_factor=reduction
        )
        self._numbers = itertools.count()

    def draw(self) -> tuple[int, Mapping[str, Any]]:
        number = next(self._numbers)
        params = self._search.suggest(str(number))
        assert params is not None
        self._scheduler.on_trial_add(None, self._trial(number))  # type: ignore[arg-type]
        return number, params

    def hear(self, number: int, heard: Heard) -> bool:
        trial: Any = self._trial(number)
        result = {"training_iteration": heard.index, FIGURE: heard.figures[FIGURE]}
        if self._scheduler.on_trial_result(None, trial, result) == "CONTINUE":  # type: ignore[arg-type]
            self._search.on_trial_result(str(number), result)
            return False
        self._search.on_trial_complete(str(number), result)
        self._scheduler.on_trial_complete(None, trial, result)  # type: ignore[arg-type]
        return True

    @staticmethod
    def _trial(number: int) -> SimpleNamespace:
        return SimpleNamespace(trial_id=str(number))


def said(curve: Curve, health: bool, evaluations: int = EVALUATIONS) -> Iterator[Heard]:
    """What a run says until it ends."""
    every = len(curve.figures) // evaluations
    healthy = {"kind": "healthy"}
    illness = curve.illness if health else None
    for index, (step, progress, figures) in enumerate(curve.figures[every - 1 :: every], 1):
        if illness is not None and illness[1] <= progress:
            fallen, at, verdict = illness
            last = [seen for _, evaluated, seen in curve.figures if evaluated <= at]
            state = STATES.get(verdict.kind, "unhealthy")
            yield Heard(index, fallen, at, last[-1] if last else {}, verdict.document(), state)
            return
        yield Heard(index, step, progress, figures, healthy, "complete" if progress >= 1.0 else "")


def spent(arena: Arena, table: Table, search: Search) -> float:
    """Full budgets trained by the workers together until a trial that captures everything completes.

    Workers train equally fast and are never idle, so that it is their number times the time.
    """
    runs: dict[int, tuple[Curve, Iterator[Heard], float]] = {}
    due: list[tuple[float, int, int, Heard]] = []
    order, left = itertools.count(), set(table)

    def begin(now: float) -> None:
        number, params = search.draw()
        chosen = arena.nearest(params, left)
        left.discard(chosen)
        curve = table[chosen]
        runs[number] = curve, said(curve, search.health), now
        wait(number)

    def wait(number: int) -> None:
        _, saying, begun = runs[number]
        heard = next(saying)
        heapq.heappush(due, (begun + heard.progress, next(order), number, heard))

    for _ in range(WORKERS):
        begin(0.0)
    while True:
        now, _, number, heard = heapq.heappop(due)
        over = search.hear(number, heard)
        captured = heard.ended == "complete" and runs[number][0].captures >= arena.share
        if captured or not left:
            return now * WORKERS
        if over:
            del runs[number]
            begin(now)
        else:
            wait(number)


def costs(arena: Arena, table: Table, seeds: range, make: Callable[[Path, int], Search]) -> list[float]:
    """What a search spends, seed by seed."""
    found = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            found.append(spent(arena, table, make(Path(folder), seed)))
    return found


def drawn_share(arena: Arena, table: Table) -> float:
    """The share of random draws that capture everything."""
    draws = Random(Path(), 0)
    return fmean(table[arena.nearest(draws.draw()[1], table)].captures >= arena.share for _ in range(DRAWS))


def searches(plan: Plan) -> dict[str, Callable[[Path, int], Search]]:
    """Ours by `plan`, and what it is compared with."""
    return {
        "ours": lambda folder, seed: Ours(folder, seed, plan),
        "random": Random,
        "stock (its reduction 4)": lambda folder, seed: Stock(folder, seed, 4),
        f"stock (reduction {plan.reduction})": lambda folder, seed: Stock(folder, seed, plan.reduction),
    }


def compare(name: str, found: Mapping[str, list[float]], unit: float, report: Report) -> None:
    """Medians, and what ours is of the others."""
    medians = {search: median(spent) for search, spent in found.items()}
    for search, value in medians.items():
        report.add(f"{name}/{search}", value * unit, "images" if unit > 1 else "budgets")
    stock = min(value for search, value in medians.items() if search.startswith("stock"))
    report.add(f"{name}/ours against random", medians["ours"] / medians["random"], at_most=1 / 3)
    report.add(f"{name}/ours against stock", medians["ours"] / stock, at_most=0.7)


def main() -> int:
    """Print every figure; 1 if one with a target falls short of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="7 seeds instead of 31, on coarser spaces")
    parser.add_argument("--seeds", type=int, help="seeds of the searches")
    parser.add_argument("--on", nargs="*", default=[arena.name for arena in ARENAS], help="data sets")
    args = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    seeds = range(args.seeds or (7 if args.quick else 31))
    plan, report, together = Plan(trials=10**6, objectives=(FIGURE,)), Report(), {}
    for arena in (a.quick() if args.quick else a for a in ARENAS if a.name in args.on):
        table = curves(arena)
        report.add(f"{arena.name}/draws that capture everything", drawn_share(arena, table))
        found = {name: costs(arena, table, seeds, make) for name, make in searches(plan).items()}
        compare(arena.name, found, arena.images, report)
        for name, values in found.items():
            together[name] = together.get(name, []) + values
    compare("all", together, 1, report)
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main())
