"""One attempt of one run, as it is written: append-only, but for the heartbeat. Used by rank 0 alone."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

from orchestrator.errors import AlreadyExists, NotFound
from orchestrator.store import attempts, checkpoints, documents
from orchestrator.store.attempts import Starts, newest_attempt
from orchestrator.store.documents import Document
from orchestrator.store.layout import done_key, live_key, part_key, run_key, sample_key, wish_key
from orchestrator.store.metrics import Rows, Scalar, to_parquet
from orchestrator.store.objects import Objects
from orchestrator.store.outbox import Direct, Write

__all__ = ["RunWriter", "announce", "newest_attempt", "no_run"]

# What live and sealed documents repeat of run.json, so that the catalogue reads one object a run.
HEAD = ("id", "created", "name", "family", "seed", "sweep", "params")


class RunWriter:
    """Writes metrics, samples, checkpoints and the end of a run. Make one with `create` or `attach`.

    Rows wait in memory until `flush_seconds` have passed and the next step is logged, or until `flush`,
    `checkpoint` or `seal`. Of the checkpoints the newest `keep_last` stay, and with `keep_best` the one with the best
    FID. With an `Outbox` nothing but `seal` and `leave` waits for the store, and errors are raised by a later call.
    Before each write it is asked whether a later attempt has begun: then Superseded is raised, and nothing written.
    """

    flush_seconds: float = 10.0
    keep_last: int = 2
    keep_best: bool = False

    def __init__(
        self, objects: Objects, head: Document, begun: Starts, before: Document, outbox: Direct
    ) -> None:
        self.objects = objects
        self.run_id: str = head["id"]
        self.attempt, self.start = len(begun), begun[-1]
        self.wish = ""  # why somebody asks the run to stop, as far as the last heartbeat found out
        self.ranks: list[Document] = []  # how fast each rank goes
        self._begun, self._outbox = begun, outbox
        self._head = head
        self._rows = Rows(self.attempt, after=self.start or -1)
        self._final: dict[str, Scalar] = dict(before.get("metrics", {}))
        self._reached = int(before.get("step", 0))
        self._sample: int | None = before.get("sample")
        self._since: int | None = before.get("since")
        if self._since is not None and self._since > self.start:  # that spell is lived again
            self._since = None
            self._final.pop("verdict", None)
        self._flushed = time.monotonic()
        self._beaten = 0.0
        self._beat: Document = {}
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
        return cls._begin(objects, whole, [0], {}, Direct(), 1)

    @classmethod
    def attach(
        cls, objects: Objects, run_id: str, outbox: Direct | None = None, workers: int = 1
    ) -> RunWriter:
        """The next attempt, of so many `workers`, of a run that was begun and not sealed; it goes on from checkpoint
        `start`.

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
        while True:
            begun = attempts.starts(objects, run_id)
            valid = checkpoints.committed(objects, run_id, begun)
            start = valid[-1][0] if valid else 0
            with contextlib.suppress(AlreadyExists):
                return cls._begin(objects, document, [*begun, start], before, outbox or Direct(), workers)

    @classmethod
    def _begin(
        cls,
        objects: Objects,
        document: Document,
        begun: Starts,
        before: Document,
        outbox: Direct,
        workers: int,
    ) -> RunWriter:
        attempts.begin(objects, document["id"], begun, workers)
        head = {name: document[name] for name in HEAD if name in document}
        writer = cls(objects, head, begun, before, outbox)
        writer.heartbeat(force=True)
        return writer

    def log(self, step: int, row: Mapping[str, Scalar]) -> None:
        """Add `row` to what is known of `step`. Steps only grow, from `start` on; a flushed step is closed.

        Raises ValueError for a step that is closed, a reserved name (`step`, `attempt`, `time`), or a
        metric that changes between number, text and bool.
        """
        due = time.monotonic() - self._flushed >= self.flush_seconds
        if due and step > self._rows.newest:  # rows still open to further metrics are not flushed
            self.flush()
        self._rows.add(step, row)
        if row.get("verdict", self._final.get("verdict")) != self._final.get("verdict"):
            self._since = step
        self._final = self._final | dict(row)

    def flush(self) -> None:
        """Write the rows that wait, if any, as one part."""
        if len(self._rows):
            key, table = part_key(self.run_id, self.attempt, *self._rows.span), self._rows.table()
            self._rows.clear()
            self._put(lambda: self.objects.create(key, to_parquet(table)))
            self._parts += 1
        self._flushed = time.monotonic()

    def sample(self, step: int, png: bytes) -> str:
        """Store a sample grid and return its key. The same image again is no error."""
        key = sample_key(self.run_id, step, hashlib.sha256(png).hexdigest()[:12])

        def write() -> None:
            with contextlib.suppress(AlreadyExists):
                self.objects.create(key, png)
            self._sample = step  # told once it is there

        self._put(write)
        return key

    def put_file(self, name: str, data: bytes) -> str:
        """Store another artefact, once, as `name` in the run's folder; returns its key.

        Raises AlreadyExists.
        """
        key = run_key(self.run_id, name)
        self._put(lambda: self.objects.create(key, data))
        return key

    def checkpoint(
        self, step: int, files: Mapping[str, bytes], keep: Collection[int] = (), fid: float | None = None
    ) -> None:
        """Flush, write the files, commit them, and delete older checkpoints but those at steps in `keep`.

        What was logged up to here survives with the checkpoint, so log a step before its checkpoint. `fid` is the
        figure of its networks, where they were evaluated.
        """
        if step <= self._checkpoint:
            raise ValueError(f"checkpoint {step} came after checkpoint {self._checkpoint}: steps only grow")
        self._checkpoint = step
        self.flush()
        self._outbox.put(partial(self._write_checkpoint, step, files, keep, fid), large=True)

    def _write_checkpoint(
        self, step: int, files: Mapping[str, bytes], keep: Collection[int], fid: float | None
    ) -> None:
        self._require_newest()
        marker = checkpoints.write(self.objects, self.run_id, step, self.attempt, files)
        self._require_newest()
        checkpoints.commit(self.objects, self.run_id, marker | {"fid": fid})
        self._require_newest()
        checkpoints.prune(self.objects, self.run_id, self._begun, self.keep_last, keep, self.keep_best)

    def heartbeat(self, force: bool = False, **fields: Any) -> None:
        """Say that the run is alive, with step, newest metrics and `fields`; at most once a second."""
        now = time.monotonic()
        if force or now - self._beaten >= 1.0:
            self._beaten = now
            self._beat = self._account() | {"state": "running", "parts": self._parts} | fields
            self._outbox.latest(partial(self._write_beat, self._beat))

    def refresh(self, **fields: Any) -> None:
        """Repeat the last heartbeat as of now, with `fields`; from any thread."""
        beat = self._beat | {"time": time.time()} | fields
        with contextlib.suppress(RuntimeError):  # the outbox was closed meanwhile
            self._outbox.latest(partial(self._write_beat, beat))

    def drain(self) -> None:
        """Wait until all of it is in the store."""
        self._outbox.drain()

    def _write_beat(self, beat: Document) -> None:
        self._require_newest()
        self.objects.put(live_key(self.run_id), documents.encode(beat))
        with contextlib.suppress(NotFound):
            self.wish = str(documents.decode(self.objects.get(wish_key(self.run_id)))["why"])

    def seal(self, state: str, document: Mapping[str, Any]) -> None:
        """End the run: flush, write sealed.json once, announce it, and take the heartbeat away.

        `metrics` of the document are laid over the last logged ones. Raises AlreadyExists when the run is
        sealed and Superseded when a later attempt took the run over.
        """
        self.flush()
        self._outbox.drain()
        self._require_newest()
        parts = [key.rpartition("/")[2] for key in self.objects.list(run_key(self.run_id, "m"))]
        metrics = self._final | dict(document.get("metrics", {}))
        end = self._account() | dict(document)
        end |= {"state": state, "parts": parts, "from": self._begun, "metrics": metrics}
        self.objects.create(run_key(self.run_id, "sealed.json"), documents.encode(end))
        self._outbox.close()
        self.objects.put(done_key(self.run_id), documents.encode({"id": self.run_id}))
        self.objects.delete(live_key(self.run_id))

    def leave(self, state: str, **fields: Any) -> None:
        """End this attempt and leave the run to the next one: write what waits, then say so in the heartbeat.

        Raises StoreError, Superseded.
        """
        try:
            self.flush()
            self._outbox.drain()
        finally:
            self._outbox.close()
            self._write_beat(self._account() | {"parts": self._parts} | fields | {"state": state})

    def _put(self, write: Write) -> None:
        def guarded() -> None:
            self._require_newest()
            write()

        self._outbox.put(guarded)

    def _require_newest(self) -> None:
        attempts.require_newest(self.objects, self.run_id, self.attempt)

    def _account(self) -> Document:
        step = self._rows.newest if self._rows.newest >= 0 else self._reached
        progress: Document = {"attempt": self.attempt, "time": time.time(), "step": step}
        progress |= {"sample": self._sample, "since": self._since, "ranks": self.ranks}
        return self._head | progress | {"metrics": self._final}


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
