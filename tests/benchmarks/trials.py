"""What the driver of a sweep costs: 1,000 trials that train nothing, on a cluster of many nodes on this machine.

    python -m tests.benchmarks.trials [--quick] [--seed N] [--nodes N] [--trials N]

Everything but the training is what a sweep has: ledger, sampler, stopping, Tune, desk, results. Prints the driver's
memory and time per trial as 100, 300 and 1,000 have ended; neither may grow faster than the number of trials.
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
HEALTHY = {"kind": "healthy", "evidence": [], "remedy": ""}


@dataclass(frozen=True)
class Mark:
    """How the driver stands when `trials` have ended: seconds, seconds of CPU, bytes."""

    trials: int
    seconds: float
    cpu: float
    memory: int


class Meter:
    """Hears the sweep's progress and takes a mark whenever one of `at` trials have ended."""

    def __init__(self, at: tuple[int, ...]) -> None:
        self.ended = 0
        self.marks: list[Mark] = []
        self._at = at

    def hear(self, beat: dict[str, Any]) -> None:
        if beat["label"] == "sweep" or not beat["end"]:
            return
        self.ended += 1
        if self.ended == 1 or self.ended in self._at:
            memory = psutil.Process().memory_info().rss
            self.marks.append(Mark(self.ended, time.monotonic(), time.process_time(), memory))


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
        if order.do == "stop":
            tell([replace(beat, state="pruned", reason=order.reason)])
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


def measure(trials: int, nodes: int, seed: int, marks: tuple[int, ...], report: Report) -> None:
    """One sweep of so many trials."""
    meter = Meter(marks)
    with tempfile.TemporaryDirectory(prefix="ganctl-trials-") as store, simulated_cluster(nodes):
        begun = time.monotonic()
        with untrained():
            result = run_sweep(searched(seed), store, Plan(trials=trials), on="auto", progress=meter.hear)
        report.add("whole sweep", time.monotonic() - begun, "s")
        report.add("results after the last trial", time.monotonic() - meter.marks[-1].seconds, "s")
        counted = [t for t in trials_of(open_objects(store), result.sweep_id) if account.counts(t)]
        ended = sum(t.state.is_finished() for t in counted)
        report.add("trials that ended once", ended, at_least=trials, at_most=trials)
        report.add("trials left running or waiting", len(counted) - ended, at_most=0)
    _growth(meter.marks, report)


def _growth(marks: list[Mark], report: Report) -> None:
    first = marks[0]
    for before, mark in pairwise(marks):
        num = mark.trials - before.trials
        report.add(f"driver's memory at {mark.trials}", mark.memory / 1e6, "MB")
        report.add(f"time per trial up to {mark.trials}", 1e3 * (mark.seconds - before.seconds) / num, "ms")
        report.add(f"driver's CPU per trial up to {mark.trials}", 1e3 * (mark.cpu - before.cpu) / num, "ms")
    few, many = marks[1], marks[-1]
    ratio = many.trials / few.trials
    grown = (many.memory - first.memory) / max(few.memory - first.memory, 1e6)
    report.add(f"memory grown, {many.trials} : {few.trials} trials", grown, "x", at_most=ratio)
    slower = (many.seconds - first.seconds) / (few.seconds - first.seconds)
    report.add(f"time taken, {many.trials} : {few.trials} trials", slower, "x", at_most=ratio)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100 trials on 5 nodes")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--nodes", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    trials, nodes = (100, 5) if given.quick else (given.trials, given.nodes)
    report = Report()
    marks = tuple(sorted({mark for mark in (30, 100, 300, 1000, trials) if mark <= trials}))
    report.add("nodes", nodes)
    measure(trials, nodes, given.seed, marks if given.quick else marks[1:], report)
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main())
