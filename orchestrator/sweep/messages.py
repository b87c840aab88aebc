"""What trials tell the driver of a sweep, and what it answers: plain values, without PyTorch, Ray or Optuna."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Do = Literal["go on", "stop", "pause", "exploit"]


@dataclass(frozen=True)
class Assignment:
    """A trial to run, perhaps one that paused: values of experiment fields, its run, to be begun or taken up where it
    was left, and perhaps another seed."""

    number: int
    params: dict[str, Any]
    run_id: str | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Beat:
    """What a trial tells of itself.

    `state` is "running" until its last beat, which says "complete", "failed", "interrupted" (to be taken up again),
    "pruned" or "paused" (an order was followed), or how its health ended it ("collapsed", "diverged", "unhealthy").
    `seconds` is how long this process has trained it, on `devices` on average (a packed member holds a share of one).
    `figures` where it was evaluated at `step`, a rung; `verdict` is `gans.health.Verdict.document()`; `checkpoint` is
    the step of the newest weights of the run that are kept for others.
    """

    number: int
    state: str = "running"
    step: int = 0
    progress: float = 0.0
    seconds: float = 0.0
    devices: float = 1.0
    figures: Mapping[str, float] = field(default_factory=dict)
    verdict: Mapping[str, Any] = field(default_factory=dict)
    run_id: str | None = None
    reason: str = ""
    checkpoint: int | None = None


@dataclass(frozen=True)
class Order:
    """What a running trial does next.

    Only a beat with figures is answered with more than "go on", save a "stop" or "pause", which is repeated until it is
    followed. "pause": leave the run with a checkpoint of this step, perhaps to be taken up later by another host.
    "exploit": take the weights of `run_id` at `step`, set the experiment fields `changes`, go on at the own step.
    """

    do: Do = "go on"
    reason: str = ""
    run_id: str | None = None
    step: int | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)


Answers = list[tuple[int, Order] | Assignment]
"""Orders by the trial's number, and new trials where there is room."""
