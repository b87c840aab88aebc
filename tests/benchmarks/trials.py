"""What the driver of a sweep costs: 1,000 trials that train nothing, on a cluster of many nodes on this machine.

    python -m tests.benchmarks.trials [--quick] [--seed N] [--nodes N] [--trials N]

Everything but the training is what a sweep has: ledger, sampler, stopping, Tune, desk, results. Prints the driver's
memory and time per trial as 100, 300 and 1,000 have ended: each trial may take the memory that those before took, and
the time per trial may grow with the number of trials, since samplers and stopping look at all of them. A node takes
about 130 MB and an actor 110 MB. Before that it prints how many trials a minute one machine ends.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import psutil

from orchestrator.experiment import Experiment
from orchestrator.recipes import load
from orchestrator.store.objects import open_objects
from orchestrator.sweep import account, trial
from orchestrator.sweep.driver import run_sweep
from orchestrator.sweep.messages import Assignment, Beat
from orchestrator.sweep.plan import Plan
from orchestrator.sweep.space import Choice, LogUniform, Space
from orchestrator.sweep.trial import Trainable, through
from tests.benchmarks.report import Report
from tests.support.clusters import simulated_cluster
from tests.support.exactness import trials_of

SPACE = Space({"gan.lr_g": LogUniform(low=1e-4, high=1e-2), "gan.width": Choice(options=(8, 16, 32))})
RUNGS, STEPS = (10, 30, 90), 100
ENDS = {"stop": "pruned", "pause": "paused"}
HEALTHY = {"kind": "healthy", "evidence": [], "remedy": ""}


@dataclass(frozen=True)
class Mark:
    """How the driver stands when `trials` have ended or paused: seconds, seconds of CPU, bytes."""

    trials: int
    seconds: float
    cpu: float
    memory: int


class Meter:
    """Hears the sweep's progress and takes a mark whenever one of `at` trials have ended or paused."""

    def __init__(self, at: tuple[int, ...]) -> None:
        self.ended: set[str] = set()
        self.marks: list[Mark] = []
        self._at = at

    def hear(self, beat: dict[str, Any]) -> None:
        if beat["label"] == "sweep" or not beat["end"] or beat["label"] in self.ended:
            return
        self.ended.add(beat["label"])
        if (ended := len(self.ended)) == 1 or ended in self._at:
            memory = psutil.Process().memory_info().rss
            self.marks.append(Mark(ended, time.monotonic(), time.process_time(), memory))


def made_up(experiment: dict[str, Any], store: str, sweep_id: str, desk: Any, packed: bool) -> Trainable:
    """In place of `orchestrator.sweep.trial.trainable_of`: trials that tell what a formula says."""

    def run_trials(config: dict[str, Any]) -> None:
        tell = through(desk)
        for given in config["trials"]:
            _live(tell, Assignment(**given))

    return run_trials


def _live(tell: Any, given: Assignment) -> None:
    beat = Beat(given.number, run_id=given.run_id, verdict=HEALTHY)
    for step in RUNGS:
        fid = (
            1 + abs(math.log10(given.params["gan.lr_g"]) + 3) * 10 + 100 / (step + given.params["gan.width"])
        )
        beat = replace(beat, step=step, progress=step / STEPS, seconds=step / 10, figures={"fid": fid})
        [(_, order)] = tell([beat])
        if order.do in ENDS:
            tell([replace(beat, state=ENDS[order.do], reason=order.reason, figures={})])
            return
    tell([replace(beat, state="complete", step=STEPS, progress=1.0)])


@contextmanager
def untrained() -> Iterator[None]:
    """Trials are made up, meanwhile."""
    real, trial.trainable_of = trial.trainable_of, made_up
    try:
        yield
    finally:
        trial.trainable_of = real


def searched(seed: int) -> Experiment:
    """The cheapest experiment that there is; nothing of it is trained."""
    changes = {"train.steps": STEPS, "seed": seed}
    return load("vanilla.ring").override(changes).model_copy(update={"search": SPACE})


def measure(trials: int, nodes: int, seed: int, marks: tuple[int, ...], report: Report) -> list[Mark]:
    """One sweep of so many trials; reports whether its ledger is exact."""
    meter = Meter(marks)
    with tempfile.TemporaryDirectory(prefix="ganctl-trials-") as store, simulated_cluster(nodes), untrained():
        result = run_sweep(searched(seed), store, Plan(trials=trials), on="auto", progress=meter.hear)
        report.add("results after the last trial", time.monotonic() - meter.marks[-1].seconds, "s")
        counted = [t for t in trials_of(open_objects(store), result.sweep_id) if account.counts(t)]
    ended = sum(t.state.is_finished() for t in counted)
    report.add("trials that ended once", ended, at_least=trials, at_most=trials)
    report.add("trials left running or waiting", len(counted) - ended, at_most=0)
    return meter.marks


def growth(marks: list[Mark], report: Report) -> None:
    """What a trial costs the driver between one mark and the next, and whether the last ones cost too much more."""
    costs = []
    for before, mark in pairwise(marks):
        num = mark.trials - before.trials
        spent = (mark.memory - before.memory, mark.seconds - before.seconds, mark.cpu - before.cpu)
        costs.append([cost / num for cost in spent])
        memory, seconds, cpu = costs[-1]
        report.add(f"driver's memory at {mark.trials} trials", mark.memory / 1e6, "MB")
        report.add(f"time per trial up to {mark.trials}", 1e3 * seconds, "ms")
        report.add(f"driver's CPU per trial up to {mark.trials}", 1e3 * cpu, "ms")
        report.add(f"driver's memory per trial up to {mark.trials}", memory / 1e3, "kB")
    (early_memory, early_seconds, early_cpu), (memory, seconds, cpu) = costs[-2:]
    ratio = marks[-1].trials / marks[-2].trials
    report.add("memory per trial, last against before", memory / max(early_memory, 1.0), "x", at_most=2)
    report.add("time per trial, last against before", seconds / early_seconds, "x", at_most=ratio)
    report.add("CPU per trial, last against before", cpu / early_cpu, "x", at_most=ratio)


def pace(workers: int, trials: int, seed: int, report: Report) -> None:
    """Trials a minute on a Ray of this machine, each trained for twenty steps, from the first one's end on."""
    meter, alone = Meter((trials,)), Plan(trials=trials, pack=1, stop="none", on_collapse="ignore")
    changes = {"train.steps": 20, "train.log_every": 10, "train.evaluate_every": 10, "scale.workers": workers}
    changes |= {"train.sample_every": 0, "train.checkpoint_every": 0}
    with tempfile.TemporaryDirectory(prefix="ganctl-pace-") as store:
        run_sweep(searched(seed).override(changes), store, alone, progress=meter.hear)
    first, last = meter.marks
    how = "in reused actors" if workers == 1 else f"in groups of {workers}"
    report.add(f"trials a minute {how}", 60 * (trials - 1) / (last.seconds - first.seconds))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="200 trials on 5 nodes")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--nodes", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    trials, nodes = (200, 5) if given.quick else (given.trials, given.nodes)
    report = Report()
    pace(1, 40, given.seed, report)
    pace(2, 4, given.seed, report)
    report.add("nodes", nodes)
    marks = tuple(sorted({mark for mark in (20, 100, 300, trials) if mark <= trials}))
    growth(measure(trials, nodes, given.seed, marks, report), report)
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main())
