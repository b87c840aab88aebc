"""Progress bars for long jobs, on stderr: one line a job, drawn from the events that work tells."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from orchestrator.cli.output import errors
from orchestrator.progress import Event, listening

KEPT = 4  # finished lines that stay in view
SPEED_SECONDS = 300.0  # that the time remaining is judged by: steps, and evaluations between them


@contextmanager
def drawing(quiet: bool = False) -> Iterator[None]:
    """Draw every event told inside; nothing when `quiet`. Without a terminal each job is told once, at its end."""
    if quiet:
        yield
        return
    columns = (
        TextColumn("{task.fields[label]:<12}"),
        BarColumn(24),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.description}", style="dim"),
        TextColumn("{task.fields[alarm]}", style="red"),
    )
    progress = Progress(*columns, console=errors, speed_estimate_period=SPEED_SECONDS)
    try:
        with listening(Lines(progress, errors.is_terminal)):
            yield
    finally:
        if progress.tasks:  # else it was never started
            progress.stop()


class Lines:
    """A listener that keeps one progress line a label; of the finished ones only the last few stay."""

    def __init__(self, progress: Progress, live: bool) -> None:
        self._progress, self._live = progress, live
        self._tasks: dict[str, TaskID] = {}
        self._ended: list[str] = []
        self._lock = Lock()

    def __call__(self, event: Event) -> None:
        with self._lock:
            self._draw(event)

    def _draw(self, event: Event) -> None:
        if not self._tasks:
            self._progress.start()
        if event.label not in self._tasks:
            self._tasks[event.label] = self._progress.add_task(
                "", total=1.0, label=event.label, alarm="", visible=self._live
            )
        self._progress.update(
            self._tasks[event.label], completed=event.done, description=event.note, alarm=event.alarm
        )
        if event.end and event.label not in self._ended:
            self._ended.append(event.label)
            if not self._live:
                self._progress.console.print(f"{event.label}: {event.note}", highlight=False)
            for label in self._ended[:-KEPT]:
                self._progress.update(self._tasks[label], visible=False)
