"""How many images are trained until the first configuration that captures everything: ours, random, and stock.

Three searches over the same space, one trial at a time, replay the same recorded runs (curves.py): `ours` is the
conductor of `ganctl sweep` over its ledger, with the health rules as they are; `random` trains every draw to its end;
`stock` is Ray Tune's OptunaSearch with its AsyncHyperBandScheduler, called as Tune's controller calls them. Stock is
given the same figure, space and evaluations, whence rungs at 1/27, 1/9 and 1/3, and the better of two reductions: its
own default, and that of ours. A search's cost is all images trained when the first trial that captures everything has
completed. What a search draws is the nearest configuration that it has not trained yet: the same one again would tell
nothing.

    python -m tests.benchmarks.sweep [--quick]
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, median
from types import SimpleNamespace
from typing import Any

import optuna
import torch

from orchestrator.outcome import STATES
from orchestrator.sweep.conductor import Conductor
from orchestrator.sweep.ledger import open_ledger
from orchestrator.sweep.messages import Beat
from orchestrator.sweep.plan import Plan
from tests.benchmarks.arenas import ARENAS, EVALUATIONS, SPACE, Arena
from tests.benchmarks.curves import Curve, Signals, curves
from tests.benchmarks.report import Report

DRAWS = 1000  # for the share of draws that capture everything
FIGURE, MODE = "fid", "min"

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


class Search:
    """Draws trials, and says of each what it hears whether another one is next."""

    health = False

    def draw(self) -> tuple[int, Mapping[str, Any]]:
        """The next trial's number and parameters; one that was left may come again."""
        raise NotImplementedError

    def hear(self, number: int, heard: Heard) -> bool:
        """Whether the trial is left here."""
        return bool(heard.ended)

    def close(self) -> None:
        """Let go of what is open."""


class Ours(Search):
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
        if order.do == "go on":
            return False
        told = {"stop": "pruned", "pause": "paused"}[order.do]
        self._conductor.hear(beat(told, progress=1.0, reason=order.reason))
        return True

    def close(self) -> None:
        self._ledger.close()


class Random(Search):
    """Independent draws, each trained to its end."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))

    def draw(self) -> tuple[int, Mapping[str, Any]]:
        trial = self._study.ask()
        return trial.number, SPACE.suggest(trial)


class Stock(Search):
    """OptunaSearch and AsyncHyperBandScheduler, as `TuneController._process_trial_result` calls them (Ray 2.60)."""

    def __init__(self, folder: Path, seed: int, reduction: float) -> None:
        from ray.tune.schedulers import AsyncHyperBandScheduler
        from ray.tune.search.optuna import OptunaSearch

        self._search = OptunaSearch(space=SPACE.suggest, metric=FIGURE, mode=MODE, seed=seed)
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


def said(curve: Curve, health: bool) -> Iterator[Heard]:
    """What a run says until it ends."""
    healthy = {"kind": "healthy"}
    illness = curve.illness if health else None
    for index, (step, progress, figures) in enumerate(curve.figures, 1):
        if illness is not None and illness[1] <= progress:
            fallen, at, verdict = illness
            last = [seen for _, evaluated, seen in curve.figures if evaluated <= at]
            state = STATES.get(verdict.kind, "unhealthy")
            yield Heard(index, fallen, at, last[-1] if last else {}, verdict.document(), state)
            return
        yield Heard(index, step, progress, figures, healthy, "complete" if progress >= 1.0 else "")


def spent(arena: Arena, table: Table, search: Search) -> float:
    """Full budgets trained until a trial that captures everything completes."""
    left = dict.fromkeys(table)
    begun: dict[int, tuple[Curve, Iterator[Heard]]] = {}
    trained: dict[int, float] = {}
    while left:
        number, params = search.draw()
        if number not in begun:
            curve = table[chosen := arena.nearest(params, left)]
            del left[chosen]
            begun[number] = curve, said(curve, search.health)
        curve, ticks = begun[number]
        heard = next(heard for heard in ticks if search.hear(number, heard))
        trained[number] = heard.progress
        if heard.ended == "complete" and curve.captures >= arena.share:
            break
    return sum(trained.values())


def costs(arena: Arena, table: Table, seeds: range, make: Callable[[Path, int], Search]) -> list[float]:
    """What a search spends, seed by seed."""
    found = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder, closing(make(Path(folder), seed)) as search:
            found.append(spent(arena, table, search))
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
    parser.add_argument("--quick", action="store_true", help="7 seeds instead of 61, on coarser spaces")
    parser.add_argument("--seeds", type=int, help="seeds of the searches")
    parser.add_argument("--on", nargs="*", default=[arena.name for arena in ARENAS], help="data sets")
    args = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    seeds = range(args.seeds or (7 if args.quick else 61))
    plan, report = Plan(trials=10**6, objectives=(FIGURE,)), Report()
    together: dict[str, list[float]] = {}
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
