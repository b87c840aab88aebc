"""Who is told how a long job goes. Nobody, unless a caller listens; work tells, callers draw."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

SILENCE = 20.0  # seconds: a live worker beats every few
WORTH_TELLING = 0.05


@dataclass(frozen=True)
class Event:
    """`label` is `done` (0 to 1) of its way; `note` is a line about it, `alarm` what is wrong; `end` closes it."""

    label: str
    done: float
    note: str = ""
    end: bool = False
    alarm: str = ""


Listener = Callable[[Event], None]
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


def tell(event: Event) -> None:
    """Pass `event` to whoever listens in this context."""
    listener = _listener.get()
    if listener is not None:
        listener(event)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Listen to everything told below."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def of_run(label: str) -> Callable[[Mapping[str, Any]], None]:
    """A `Job.wait` callback that tells how a run goes, from its heartbeats."""
    told = _listener.get()  # heartbeats arrive on another thread, whose context is empty

    def tell_beat(beat: Mapping[str, Any]) -> None:
        if told is not None:
            done = float(beat.get("progress") or 0.0)
            told(Event(label, done, " · ".join(standing(beat)), alarm=alarm(beat)))

    return tell_beat


def alarm(beat: Mapping[str, Any]) -> str:
    """What is wrong with a run that is under way, empty where nothing is: which rank it waits for, or that the ranks
    have gone silent."""
    silent = time.time() - float(beat.get("time") or time.time())
    if beat.get("state") == "running" and silent > SILENCE:
        return (
            f"no word from its workers for {silent:.0f} s: lost, they start again once there is room for them"
        )
    return str(beat.get("stalled") or "")


def standing(beat: Mapping[str, Any]) -> list[str]:
    """What a heartbeat says, in few words."""
    figures, changes = beat.get("figures") or {}, beat.get("changes") or []
    said = [f"step {beat.get('step')}", str(beat.get("verdict") or ""), *pace(beat)]
    if changes:
        said.append(f"mended {len(changes)}x")
    if "fid" in figures:
        said.append(f"FID {figures['fid']:.1f}, coverage {figures.get('coverage', 0):.2f}")
    return [*filter(None, said), *filter(None, [str(beat.get("doing") or "")])]


def pace(beat: Mapping[str, Any]) -> list[str]:
    """Images a second, and what share of the time goes into waiting for data or for other ranks, where that counts."""
    speed = beat.get("images_per_second")
    said = [] if not speed else [f"{speed:.3g} images/s" if speed < 1000 else f"{speed:,.0f} images/s"]
    for name, share in (("data", beat.get("data_wait")), ("sync", beat.get("sync_wait"))):
        if share is not None and share > WORTH_TELLING:
            said.append(f"{name} wait {share:.0%}")
    return said
