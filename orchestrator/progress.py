"""Who is told how a long job goes. Nobody, unless a caller listens; work tells, callers draw."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """`label` is `done` (0 to 1) of its way; `note` is one line about it; `end` closes it."""

    label: str
    done: float
    note: str = ""
    end: bool = False


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


def of_run(label: str) -> Callable[[dict[str, object]], None]:
    """A `Job.wait` callback that tells how a run goes, from its heartbeats."""
    told = _listener.get()  # heartbeats arrive on another thread, whose context is empty

    def tell_beat(beat: dict[str, object]) -> None:
        figures = beat.get("figures")
        said = [f"step {beat.get('step')}", str(beat.get("verdict", ""))]
        if isinstance(changes := beat.get("changes"), list) and changes:
            said.append(f"mended {len(changes)}x")
        if isinstance(figures, dict) and "fid" in figures:
            said.append(f"FID {figures['fid']:.1f}, coverage {figures.get('coverage', 0):.2f}")
        done = beat.get("progress", 0.0)
        if told is not None:
            told(
                Event(
                    label,
                    float(done) if isinstance(done, int | float) else 0.0,
                    " · ".join(filter(None, said)),
                )
            )

    return tell_beat
