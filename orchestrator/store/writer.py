"""One attempt of one run, as it is written: append-only, but for the heartbeat. Used by rank 0 alone."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import time
from collections.abc import Collection, Mapping
from typing import Any

from orchestrator.errors import AlreadyExists, NotFound, StoreError
from orchestrator.store import checkpoints, documents
from orchestrator.store.documents import Document
from orchestrator.store.layout import attempt_key, done_key, live_key, part_key, run_key, sample_key
from orchestrator.store.metrics import Rows, Scalar, to_parquet
from orchestrator.store.objects import Objects

# What live and sealed documents repeat of run.json, so that the catalogue reads one object a run.
HEAD = ("id", "created", "name", "family", "sweep", "params")


class RunWriter:
    """Writes metrics, samples, checkpoints and the end of a run. Make one with `create` or `attach`.

    Rows wait in memory until `flush_seconds` have passed and the next step is logged, or until `flush`,
    `checkpoint` or `seal`. Of the checkpoints the newest `keep_last` stay.
    """

    flush_seconds: float = 10.0
    keep_last: int = 2

    def __init__(self, objects: Objects, head: Document, attempt: int, before: Document) -> None:
        self.objects = objects
        self.run_id: str = head["id"]
        self.attempt = attempt
        self._head = head
        self._rows = Rows(attempt)
        self._final: dict[str, Scalar] = dict(before.get("metrics", {}))
        self._reached = int(before.get("step", 0))
        self._flushed = time.monotonic()
        self._beaten = 0.0
        self._parts = 0
        self._checkpoint = -1

    @classmethod
    def create(cls, objects: Objects, run_id: str, document: Mapping[str, Any]) -> RunWriter:
        """Begin run `run_id`: `document` becomes run.json, with `id` and `created` added.

        `name`, `family`, `sweep` and `params` (a flat mapping) of the document are what the catalogue shows.
        Raises AlreadyExists when there is such a run.
        """
        whole = {"id": run_id, "created": time.time()} | dict(document) | {"id": run_id}
        objects.create(run_key(run_id, "run.json"), documents.encode(whole))
        return cls._begin(objects, whole, 1, {})

    @classmethod
    def attach(cls, objects: Objects, run_id: str) -> RunWriter:
        """The next attempt of a run that was begun and not sealed; its number is taken create-once.

        Raises NotFound where there is no such run, AlreadyExists where it is sealed.
        """
        try:
            document = documents.decode(objects.get(run_key(run_id, "run.json")))
        except NotFound:
            raise no_run(objects, run_id) from None
        if objects.exists(run_key(run_id, "sealed.json")):
            raise AlreadyExists(
                f"run {run_id} in {objects.url} has ended and cannot be resumed; start a new one"
            )
        beats = objects.get_many([live_key(run_id)]).values()
        before = next(map(documents.decode, beats), {})
        attempt = newest_attempt(objects, run_id) + 1
        while True:
            try:
                return cls._begin(objects, document, attempt, before)
            except AlreadyExists:
                attempt += 1

    @classmethod
    def _begin(cls, objects: Objects, document: Document, attempt: int, before: Document) -> RunWriter:
        who = {"attempt": attempt, "time": time.time(), "host": socket.gethostname(), "pid": os.getpid()}
        objects.create(attempt_key(document["id"], attempt), documents.encode(who))
        writer = cls(objects, {name: document[name] for name in HEAD if name in document}, attempt, before)
        writer.heartbeat(force=True)
        return writer

    def log(self, step: int, row: Mapping[str, Scalar]) -> None:
        """Add `row` to what is known of `step`. Steps only grow; a flushed step is closed.

        Raises ValueError for a step that is closed, a reserved name (`step`, `attempt`, `time`), or a
        metric that changes between number, text and bool.
        """
        due = time.monotonic() - self._flushed >= self.flush_seconds
        if due and step > self._rows.newest:  # rows still open to further metrics are not flushed
            self.flush()
        self._rows.add(step, row)
        self._final.update(row)

    def flush(self) -> None:
        """Write the rows that wait, if any, as one part."""
        if len(self._rows):
            key = part_key(self.run_id, self.attempt, *self._rows.span)
            self.objects.create(key, to_parquet(self._rows.table()))
            self._rows.clear()
            self._parts += 1
        self._flushed = time.monotonic()

    def sample(self, step: int, png: bytes) -> str:
        """Store a sample grid and return its key. The same image again is no error."""
        key = sample_key(self.run_id, step, hashlib.sha256(png).hexdigest()[:12])
        with contextlib.suppress(AlreadyExists):
            self.objects.create(key, png)
        return key

    def put_file(self, name: str, data: bytes) -> str:
        """Store another artefact, once, as `name` in the run's folder; returns its key.

        Raises AlreadyExists.
        """
        key = run_key(self.run_id, name)
        self.objects.create(key, data)
        return key

    def checkpoint(self, step: int, files: Mapping[str, bytes], keep: Collection[int] = ()) -> None:
        """Flush, write the files, commit them, and delete older checkpoints but those at steps in `keep`.

        What was logged up to here survives with the checkpoint, so log a step before its checkpoint.
        """
        if step <= self._checkpoint:
            raise ValueError(f"checkpoint {step} came after checkpoint {self._checkpoint}: steps only grow")
        self.flush()
        checkpoints.write(self.objects, self.run_id, step, self.attempt, files)
        self._checkpoint = step
        checkpoints.prune(self.objects, self.run_id, self.attempt, self.keep_last, keep)

    def heartbeat(self, force: bool = False, **fields: Any) -> None:
        """Say that the run is alive, with step, newest metrics and `fields`; at most once a second."""
        now = time.monotonic()
        if force or now - self._beaten >= 1.0:
            self._beaten = now
            beat = self._account() | {"state": "running", "parts": self._parts} | fields
            self.objects.put(live_key(self.run_id), documents.encode(beat))

    def seal(self, state: str, document: Mapping[str, Any]) -> None:
        """End the run: flush, write sealed.json once, announce it, and take the heartbeat away.

        `metrics` of the document are laid over the last logged ones. Raises AlreadyExists when the run is
        sealed and StoreError when a later attempt took the run over.
        """
        self.flush()
        newest = newest_attempt(self.objects, self.run_id)
        if newest > self.attempt:
            raise StoreError(
                f"run {self.run_id}: attempt {newest} has taken over; attempt {self.attempt} may not end it"
            )
        parts = [key.rpartition("/")[2] for key in self.objects.list(run_key(self.run_id, "m"))]
        metrics = self._final | dict(document.get("metrics", {}))
        end = self._account() | dict(document) | {"state": state, "parts": parts, "metrics": metrics}
        self.objects.create(run_key(self.run_id, "sealed.json"), documents.encode(end))
        self.objects.put(done_key(self.run_id), documents.encode({"id": self.run_id}))
        self.objects.delete(live_key(self.run_id))

    def _account(self) -> Document:
        step = self._rows.newest if self._rows.newest >= 0 else self._reached
        progress = {"attempt": self.attempt, "time": time.time(), "step": step}
        return self._head | progress | {"metrics": self._final}


def newest_attempt(objects: Objects, run_id: str) -> int:
    """The highest attempt number taken, 0 where there is none."""
    keys = objects.list(run_key(run_id, "attempts"))
    return max((int(key.rpartition("/")[2].removesuffix(".json")) for key in keys), default=0)


def no_run(objects: Objects, run_id: str) -> NotFound:
    """The error for an id that nothing was begun under."""
    return NotFound(f"no run {run_id!r} in {objects.url}; `ganctl runs` lists those there are")


def announce(objects: Objects, run_id: str, document: Mapping[str, Any]) -> None:
    """Write run.json of a run that will be begun elsewhere (`RunWriter.attach`), and show it as `queued`.

    Raises AlreadyExists when there is such a run.
    """
    whole = {"id": run_id, "created": time.time()} | dict(document) | {"id": run_id}
    objects.create(run_key(run_id, "run.json"), documents.encode(whole))
    head = {name: whole[name] for name in HEAD if name in whole}
    beat = head | {"state": "queued", "time": time.time(), "step": 0, "attempt": 0, "metrics": {}}
    objects.put(live_key(run_id), documents.encode(beat))
