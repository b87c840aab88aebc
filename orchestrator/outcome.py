"""How a run ended, and what a run that goes on may be told: plain values, without PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.errors import Preempted, RunFailed, Stopped, Superseded
from orchestrator.store.reader import Run

LEFT = {"stopped": Stopped, "preempted": Preempted, "paused": Stopped}
"""Why an attempt left its run, to be resumed."""

STATES = {
    "budget": "completed",
    "plateau": "completed",
    "pruned": "pruned",
    "mode collapse": "collapsed",
    "partial collapse": "collapsed",
    "diverged": "diverged",
}
"""The state a run is sealed with, by why it ended; other verdicts end it as `unhealthy`."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its sealed state, the verdict, the last evaluation and that of held-out real data.

    `changes` are the remedies it was given and whatever else changed its course; `reason` is why it was pruned.
    """

    run_id: str
    state: str
    step: int
    verdict: dict[str, Any]
    figures: dict[str, float]
    floor: dict[str, float]
    changes: list[dict[str, Any]] = field(default_factory=list)
    reason: str = ""

    @property
    def healthy(self) -> bool:
        return self.state == "completed"


@dataclass(frozen=True)
class Turn:
    """What a run is told to do next: end as pruned, for a `reason`; or be left here with a checkpoint, in the state
    `leave` of `LEFT`; or go on with the weights that run `run_id` had at `step` and with `fields` (`gan.*`) changed."""

    reason: str = ""
    leave: str = ""
    run_id: str = ""
    step: int = 0
    fields: Mapping[str, Any] = field(default_factory=dict)


def outcome_of(run: Run) -> Outcome:
    """The outcome of a sealed run."""
    sealed = run.sealed()
    assert sealed is not None, f"run {run.id} has not ended"
    verdict = {"kind": sealed.get("verdict", "unknown")} | {k: sealed.get(k) for k in ("evidence", "remedy")}
    return Outcome(
        run.id,
        sealed["state"],
        sealed["step"],
        verdict,
        sealed.get("figures", {}),
        sealed.get("floor", {}),
        sealed.get("changes", []),
        sealed.get("reason", ""),
    )


def left(run_id: str, why: str, step: int) -> RunFailed:
    """The error for a run that was `stopped` or `preempted`."""
    return LEFT[why](f"run {run_id} was {why} at step {step}; `ganctl train --resume {run_id}` goes on")


def ended(run: Run) -> Outcome:
    """How a run ended. Raises RunFailed with what a worker said where it failed; Stopped, Preempted or Superseded
    where it has not ended."""
    sealed = run.sealed()
    if sealed is None:
        raise left_by(run) or Superseded(
            f"another attempt has taken run {run.id} over; `ganctl runs show {run.id}`"
        )
    if sealed["state"] == "failed":
        raise RunFailed(f"run {run.id} failed: {sealed.get('error')}")
    return outcome_of(run)


def left_by(run: Run) -> RunFailed | None:
    """The error for a run whose last attempt left it, to be resumed."""
    live = run.live() or {}
    return left(run.id, live["state"], live["step"]) if live.get("state") in LEFT else None
