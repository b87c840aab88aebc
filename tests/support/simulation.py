"""A sweep without Ray, PyTorch or a store: a plain loop over a conductor, with made-up learning curves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from orchestrator.sweep.conductor import Conductor
from orchestrator.sweep.ledger import Ledger, open_ledger
from orchestrator.sweep.messages import Assignment, Beat, Order
from orchestrator.sweep.plan import Plan
from orchestrator.sweep.space import Choice, LogUniform, Space

LR_SPACE = Space({"gan.lr_g": LogUniform(low=1e-3, high=1.0), "gan.loss": Choice(options=("hinge", "wgan"))})

HEALTHY: dict[str, Any] = {"kind": "healthy", "evidence": [], "remedy": ""}
COLLAPSE: dict[str, Any] = {
    "kind": "mode collapse",
    "evidence": [{"signal": "coverage", "value": 0.1, "threshold": 0.15, "window": 3, "step": 40}],
    "remedy": "raise gan.lr_ratio",
}

Curve = Callable[[Mapping[str, Any], int], tuple[dict[str, float], str]]


def bowl(params: Mapping[str, Any], step: int) -> tuple[dict[str, float], str]:
    """Figures and state at `step`: best at gan.lr_g = 0.03, better with time; wgan collapses at step 40."""
    distance = abs(params["gan.lr_g"] - 0.03)
    fid = 1.0 + 20.0 * distance + 10.0 / step
    state = "collapsed" if params["gan.loss"] == "wgan" and step >= 40 else "running"
    return {"fid": fid, "coverage": 1.0 / fid}, state


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Run:
    """A run as a store keeps it: how far its last checkpoint is, its parameters now, the steps at which it paused, and
    its last beat once sealed."""

    params: dict[str, Any]
    seed: int | None
    step: int = 0
    pauses: list[int] = field(default_factory=list)
    sealed: Beat | None = None


@dataclass
class World:
    """What outlives a driver: the runs. A beat comes every `every` steps and takes a second."""

    curve: Curve = bowl
    steps: int = 90
    every: int = 10
    slots: int = 3
    clock: Clock = field(default_factory=Clock)
    runs: dict[str, Run] = field(default_factory=dict)
    figures: dict[str, dict[str, float]] = field(default_factory=dict)
    told: dict[str, Order] = field(default_factory=dict)

    def drive(self, conductor: Conductor, beats: int = 10**6) -> None:
        """Run trials, `slots` at once, until the sweep is over, or after so many beats."""
        begun: dict[str, float] = {}
        self.told.clear()
        running: list[tuple[Assignment, str]] = []
        while beats > 0:
            while len(running) < self.slots and (given := conductor.next()) is not None:
                run_id = given.run_id or f"run-{len(self.runs)}"
                self.runs.setdefault(run_id, Run(dict(given.params), given.seed))
                begun[run_id] = self.clock()
                running.append((given, run_id))
            if not running:
                assert conductor.over
                return
            for given, run_id in list(running):
                self.clock.now += 1.0 / len(running)
                beats -= 1
                if self.beat(conductor, given.number, run_id, self.clock() - begun[run_id]):
                    running.remove((given, run_id))

    def beat(self, conductor: Conductor, number: int, run_id: str, seconds: float) -> bool:
        """The run goes on to its next evaluation. Returns whether it has ended or pauses."""
        run = self.runs[run_id]
        if run.sealed is None:
            if (told := self.told.pop(run_id, None)) is not None:
                self.exploit(run_id, told)
            run.step += self.every
            beat = self._said(number, run_id, run, seconds)
            if beat.state == "running":
                order = conductor.hear(beat)
                if order.do == "exploit":
                    self.told[run_id] = order
                if order.do == "pause":
                    run.pauses.append(run.step)
                    conductor.hear(self._said(number, run_id, run, seconds, "paused"))
                    return True
                if order.do != "stop":
                    return False
                beat = self._said(number, run_id, run, seconds, "pruned", order.reason)
            run.sealed = beat
        conductor.hear(Beat(**(vars(run.sealed) | {"number": number})))
        return True

    def train(self, run_id: str) -> tuple[dict[str, float], str]:
        """Figures and state of a run that has just gone on to its step."""
        return self.curve(self.runs[run_id].params, self.runs[run_id].step)

    def exploit(self, run_id: str, order: Order) -> None:
        """The run goes on as it is told."""
        self.runs[run_id].params |= order.changes

    def _said(
        self, number: int, run_id: str, run: Run, seconds: float, state: str = "", reason: str = ""
    ) -> Beat:
        figures, now = self.train(run_id) if not state else (self.figures[run_id], state)
        self.figures[run_id] = figures
        state = state or ("complete" if run.step >= self.steps and now == "running" else now)
        return Beat(
            number,
            state,
            step=run.step,
            progress=run.step / self.steps if state == "running" else 1.0,
            seconds=seconds,
            figures=figures,
            verdict=COLLAPSE if state == "collapsed" else HEALTHY,
            run_id=run_id,
            reason=reason,
            checkpoint=run.step,
        )


def opened(path: Path, plan: Plan, seed: int = 1) -> Ledger:
    """The ledger of a simulated sweep."""
    return open_ledger(path / "ledger.journal", "s", plan.directions, plan.sampler, seed, plan.objectives)


def sweep(path: Path, plan: Plan, world: World | None = None, **options: Any) -> list[dict[str, Any]]:
    """A whole sweep in one session; the rows of its table."""
    world = world or World()
    with opened(path, plan) as ledger:
        world.drive(Conductor(ledger, LR_SPACE, plan, clock=world.clock, **options))
        return ledger.table()


@pytest.fixture
def quick_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal that neither waits for the disk nor locks out other writers: both take most of a test's time."""
    monkeypatch.setattr("optuna.storages.journal._file.os.fsync", lambda fd: None)
    monkeypatch.setattr(JournalFileSymlinkLock, "acquire", lambda lock: True)
    monkeypatch.setattr(JournalFileSymlinkLock, "release", lambda lock: None)


class Killed(BaseException):
    """Stands in for SIGKILL: nothing that is written afterwards reaches the journal."""


@contextmanager
def killed_after(writes: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The driver dies where it has written to its journal so often, if it lives that long."""
    append, left = JournalFileBackend.append_logs, [writes]

    def dying(backend: JournalFileBackend, logs: list[dict[str, Any]]) -> None:
        if left[0] <= 0:
            raise Killed
        left[0] -= 1
        append(backend, logs)

    with monkeypatch.context() as patched:
        patched.setattr(JournalFileBackend, "append_logs", dying)
        with suppress(Killed):
            yield


def counted(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["counts"]]


def abandon(ledger: Ledger) -> None:
    """Let go of a ledger as a killed driver does: the kernel frees its lock, and nothing is written."""
    assert ledger._lock is not None
    ledger._lock.close()


def carried_on(path: Path, plan: Plan, world: World) -> list[dict[str, Any]]:
    """The rows of a sweep that is opened again and driven to its end."""
    with opened(path, plan) as ledger:
        world.drive(Conductor(ledger, LR_SPACE, plan, clock=world.clock))
        return ledger.table()


def exact(rows: list[dict[str, Any]], world: World, total: int) -> None:
    """Assert that nothing was lost, doubled or left behind. The run of a trial that paused for good is sealed by the
    driver, which is not simulated."""
    assert len(counted(rows)) == total
    assert {row["state"] for row in counted(rows)} <= {"COMPLETE", "PRUNED"}
    assert {row["reason"] for row in rows if not row["counts"]} <= {"interrupted"}
    assert {row["state"] for row in rows if not row["counts"]} <= {"FAIL"}
    told = [row["run_id"] for row in counted(rows)]
    assert len(set(told)) == total
    for row in counted(rows):
        run = world.runs[row["run_id"]]
        if run.sealed is None:
            assert row["state"] == "PRUNED"
            assert run.step in run.pauses
            assert row["rung"] is not None
        else:
            assert (run.sealed.state == "complete") == (row["state"] == "COMPLETE")
