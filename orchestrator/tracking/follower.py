"""Runs are followed in the store, whatever the distance at which they train, and what is new is passed on to tools.

A thread of whoever waits for the run does it, so neither a slow tool nor one that fails holds training up: it is warned
of once, and told again, from where it was, at the next look.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from orchestrator.errors import StoreError
from orchestrator.experiment import flatten
from orchestrator.store import attempts
from orchestrator.store.layout import run_key
from orchestrator.store.metrics import from_parquet, merge
from orchestrator.store.objects import Objects
from orchestrator.store.reader import Run
from orchestrator.tracking.tools import ITERATION, Document, Tool, Trial

LOOK_SECONDS = 5.0
PATIENCE = 60.0  # seconds that tools have, once the run is over, to take the rest
OURS = ("step", "time")  # columns that are no metrics

Ids = Callable[[], list[str]]
Warn = Callable[[str], None]


@contextmanager
def following(
    objects: Objects, ids: Ids, tools: Mapping[str, Tool], folder: str, warn: Warn
) -> Iterator[None]:
    """Pass on to `tools` what the runs of `ids` (asked again and again) leave in the store meanwhile.

    `folder` is TensorBoard's. `warn` hears, once a tool, that one fails, and in the end what it has not got.
    """
    if not tools:
        yield
        return
    follower = Follower(objects, ids, tools, folder, warn)
    thread = threading.Thread(target=follower.run, name="follower", daemon=True)
    thread.start()
    try:
        yield
    finally:
        follower.over.set()
        thread.join(PATIENCE)
        if thread.is_alive():
            warn(f"{', '.join(tools)}: not all was taken within {PATIENCE:g} s; the store has it")


class Follower:
    """Looks at the store until it is `over`, and once more then."""

    def __init__(
        self, objects: Objects, ids: Ids, tools: Mapping[str, Tool], folder: str, warn: Warn
    ) -> None:
        self._objects, self._ids, self._tools = objects, ids, tools
        self._folder, self._warn = folder, warn
        self._feeds: dict[tuple[str, str], Feed] = {}
        self._warned: set[str] = set()
        self.over = threading.Event()

    def run(self) -> None:
        """Look until it is over; then tell the rest."""
        while not self.over.wait(LOOK_SECONDS):
            self._look()
        self._look(last=True)

    def _look(self, last: bool = False) -> None:
        try:
            ids = self._ids()
        except StoreError:  # the run meets it, too
            ids = []
        for run_id in ids:
            for name, tool in self._tools.items():
                if (name, run_id) not in self._feeds:
                    self._feeds[name, run_id] = Feed(self._objects, run_id, tool, self._folder)
        for (name, run_id), feed in self._feeds.items():
            if feed.ended:
                continue
            try:
                feed.advance()
                if last and not feed.ended:
                    feed.leave()
            except Exception as error:  # whatever the tool raises
                self._failed(name, run_id, error, last)

    def _failed(self, name: str, run_id: str, error: Exception, last: bool) -> None:
        """A store that does not answer is the run's to tell of, but in the end nobody else says what lacks."""
        if isinstance(error, StoreError) and not last:
            return
        said = " ".join(str(error).split())[:200] or type(error).__name__
        if last:
            self._warn(f"{name} has not got all of run {run_id} ({said}); the store has it")
        elif name not in self._warned:
            self._warned.add(name)
            self._warn(f"{name} fails ({said}); training goes on, and it is told again from where it was")


class Feed:
    """What one tool is told of one run."""

    def __init__(self, objects: Objects, run_id: str, tool: Tool, folder: str) -> None:
        self._objects, self._run, self._tool, self._folder = objects, Run(objects, run_id), tool, folder
        self._trial: Trial | None = None
        self._last = -1
        self._parts: set[str] = set()
        self.ended = False

    def advance(self) -> None:
        """Tell what is new. Raises StoreError, and whatever the tool does."""
        if self._trial is None:
            trial = trial_of(self._run.id, self._run.document(), self._folder)
            self._tool.log_trial_start(trial)
            self._trial, self._last = trial, self._tool.reached(trial)
        sealed = self._run.sealed()  # asked first: then all rows are there
        keys = self._objects.list(run_key(self._run.id, "m"))
        if set(keys) - self._parts or (sealed and not self._parts):
            self._tell(keys)
            self._parts.update(keys)
        if sealed is not None:
            self._trial.sealed = sealed
            self._tool.log_trial_end(self._trial, failed=sealed["state"] == "failed")
            self.ended = True

    def leave(self) -> None:
        """Close what the tool has of a run that is not over, and may be resumed."""
        if self._trial is not None:
            self._tool.log_trial_end(self._trial, failed=True)
        self.ended = True

    def _tell(self, keys: list[str]) -> None:
        assert self._trial is not None
        rows = [row for row in self._rows(keys) if row["step"] > self._last]
        grids = dict(self._run.samples()) if rows else {}
        for row in rows:
            step = int(row["step"])
            told = {name: value for name, value in row.items() if value is not None and name not in OURS}
            if step in grids:
                told["samples"] = _pixels(self._objects.get(grids[step]))
            self._tool.log_trial_result(step, self._trial, told | {ITERATION: step})
            self._last = step

    def _rows(self, keys: list[str]) -> list[Document]:
        """The rows of parts that were not read yet; at first, all that count."""
        if not self._parts:
            table = self._run.metrics()
        else:
            parts = self._objects.get_many(key for key in keys if key not in self._parts)
            begun = attempts.starts(self._objects, self._run.id)
            table = merge([from_parquet(data) for data in parts.values()], begun)
        return list(table.to_pylist())


def trial_of(run_id: str, document: Mapping[str, Any], folder: str) -> Trial:
    """A run as Ray's callbacks know a trial: alone in TensorBoard's folder, or below its sweep's."""
    sweep, number = document.get("sweep"), document.get("trial")
    place = Path(folder) / (f"{sweep}/trial-{number}" if sweep else run_id)
    return Trial(
        run_id,
        f"{document['name']} {run_id}",
        flatten(dict(document.get("experiment") or {})),
        dict(document.get("params") or {}),
        str(place),
        sweep,
    )


def _pixels(png: bytes) -> np.ndarray[Any, Any]:
    """(3, height, width), 0 to 255."""
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
