"""Every run of the store, in memory: what the table of runs shows, kept up to date by looking at little.

`live/` is read at each look, `done/` and the newest snapshot only where they changed. While the store does not answer
what it last said stays, and `down` says why.
"""

from __future__ import annotations

import gzip
import math
import secrets
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import pyarrow as pa

from orchestrator.dashboard.error_rates import RATES, Rates
from orchestrator.dashboard.replies import encoded
from orchestrator.errors import NotFound, StoreError
from orchestrator.progress import alarm
from orchestrator.store import documents, segments, summaries
from orchestrator.store.documents import Document
from orchestrator.store.layout import DONE, LIVE, SNAPSHOTS, live_key, run_key
from orchestrator.store.metrics import from_parquet
from orchestrator.store.objects import Objects
from orchestrator.store.reader import state_of

FIGURES = ("fid", "kid", "precision", "recall", "coverage", "seconds", "images_per_second")
COLUMNS = (
    *("id", "name", "family", "state", "verdict", "since", "step", "created", "time"),
    *("attempt", "sweep", "seed", "sample", *FIGURES, *RATES, "alarm"),
)
STALE = 10.0  # seconds that a look may take
AGAIN = 30.0  # seconds until a lost run is looked at again: it may have been sealed meanwhile


class Place(NamedTuple):
    """Where the curve of a compacted run lies; `columns`: the types of its own columns, as JSON."""

    segment: str
    row_group: int
    columns: str | None


class Library:
    """The runs of `objects`. `look` reads the store; everything else answers from memory, from any thread."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self.down = ""  # why the store did not answer the last look
        self.seen = 0.0  # Unix seconds of the last look that came back
        self.asked = 0.0  # monotonic, when somebody last wanted to know
        self._rows: dict[str, Document] = {}
        self._indexed: dict[str, Document] = {}
        self._sealed: dict[str, Document] = {}
        self._places: dict[str, Place] = {}
        self._rates = Rates(objects)
        self._order: list[str] = []  # ids, the newest first
        self._beating: set[str] = set()
        self._arrived: set[str] = set()  # in the index, not among the rows yet
        self._lost: dict[str, float] = {}
        self._untold: dict[str, Document] = {}
        self._snapshot = ""
        self._looking: float | None = None  # monotonic, since when
        self._lock = threading.Lock()
        self._server, self._version = secrets.token_hex(4), 0
        self._table: tuple[str, bytes, bytes] = ("", b"", b"")

    def rows(self) -> list[Document]:
        """Every run, newest first: COLUMNS, None where a run does not tell."""
        return [row for row in map(self._rows.get, self._order) if row is not None]

    def going(self) -> list[Document]:
        """Of these the ones that have a heartbeat: none else has not ended."""
        found = map(self._rows.get, sorted(self._beating, reverse=True))
        return [row for row in found if row is not None]

    def row(self, run_id: str) -> Document | None:
        """One run, None where there is none."""
        return self._rows.get(run_id)

    def place(self, run_id: str) -> Place | None:
        """Where the curve of a compacted run lies."""
        return self._places.get(run_id)

    @property
    def stale(self) -> str:
        """Why what is shown may be old; empty while the store answers."""
        if self.down:
            return self.down
        since = self._looking
        late = since is not None and time.monotonic() - since > STALE
        return f"store {self.objects.url}: it has not answered for more than {STALE:g} s" if late else ""

    def table(self) -> tuple[str, bytes, bytes]:
        """(ETag, JSON, the same by gzip) of all runs, by column."""
        stale = self.stale
        etag = f"{self._server}-{self._version}{'-stale' if stale else ''}"
        if self._table[0] != etag:
            rows = self.rows()
            columns = {name: [row[name] for row in rows] for name in COLUMNS}
            told = {"etag": etag, "count": len(rows), "columns": columns, "stale": stale, "seen": self.seen}
            body = encoded(told)
            self._table = etag, body, gzip.compress(body, 4, mtime=0)
        return self._table

    def wanted(self) -> None:
        """Somebody wants to know: from now on looks are frequent. The first one is waited for."""
        self.asked = time.monotonic()
        if not self.seen:
            self.look()

    def look(self) -> None:
        """Read what changed. Where the store does not answer, nothing did. Of two at once one looks."""
        if not self._lock.acquire(blocking=not self.seen):  # the first look is waited for
            return
        self._looking = time.monotonic()
        try:
            self._untold |= {row["id"]: row for row in self._look()}
            self.down, self.seen = "", time.time()
        except StoreError as error:
            self.down = str(error)
        finally:
            self._looking = None
            self._lock.release()

    def changed(self) -> list[Document]:
        """Rows that changed since this was last asked, whoever looked: for the feed, which tells them."""
        with self._lock:
            told, self._untold = list(self._untold.values()), {}
        return told

    def _look(self) -> list[Document]:
        live, done = self._ids(LIVE), self._ids(DONE)
        snapshots = self.objects.list(SNAPSHOTS)
        if self._rows and not (live or done or snapshots):
            raise StoreError(f"store {self.objects.url}: all its runs are gone; is it mounted?")
        if snapshots and snapshots[-1] != self._snapshot:
            self._read_index(snapshots[-1])
        beats = self._documents({i: live_key(i) for i in live if i not in self._indexed})
        self._read_sealed(done | self._silent(beats))
        loose = {i: _row(beat, state_of(beat)) for i, beat in beats.items()}
        loose |= {i: row for i, row in self._sealed.items() if i not in self._indexed}
        changed = self._change(loose | {i: self._indexed[i] for i in self._arrived})
        self._arrived = set()
        self._beating = set(beats)
        if len(self._rows) > len(loose) + len(self._indexed):
            self._forget(self._rows.keys() - loose.keys() - self._indexed.keys())
        return changed

    def _change(self, fresh: Mapping[str, Document]) -> list[Document]:
        """Take over the rows of `fresh` that differ, and those of which more was judged."""
        judged = self._rates.look()
        rows = {i: row | self._rates.known.get(i, {}) for i, row in fresh.items()}
        rows |= {i: self._rows[i] | judged[i] for i in judged if i in self._rows and i not in fresh}
        changed = {i: row for i, row in rows.items() if self._rows.get(i) != row}
        more = bool(changed.keys() - self._rows.keys())
        self._rows |= changed
        if more:
            self._arrange()
        if changed:
            self._version += 1
        return list(changed.values())

    def _arrange(self) -> None:
        placed = sorted((i[:15], row["created"] or 0.0, i) for i, row in self._rows.items())
        self._order = [run_id for *_, run_id in reversed(placed)]

    def _read_index(self, key: str) -> None:
        snapshot = segments.read(self.objects.get(key))
        table = from_parquet(self.objects.get(snapshot.index))
        before, self._indexed, self._places = self._indexed, {}, {}
        for row in _flat(table):
            run_id = row["id"]
            self._indexed[run_id] = _plain(row)
            if row.get("segment"):
                columns = row.get("columns")
                self._places[run_id] = Place(
                    sys.intern(row["segment"]), row["row_group"], sys.intern(columns) if columns else None
                )
        self._snapshot = key
        self._arrived = (self._arrived & self._indexed.keys()) | (self._indexed.keys() - before.keys())
        self._sealed = {i: row for i, row in self._sealed.items() if i not in self._indexed}

    def _read_sealed(self, ids: Iterable[str]) -> None:
        missing = [i for i in ids if i not in self._indexed and i not in self._sealed]
        found = self._documents({i: run_key(i, "sealed.json") for i in missing})
        self._sealed |= {i: _row(end, str(end["state"])) for i, end in found.items()}

    def _silent(self, beats: Mapping[str, Document]) -> set[str]:
        """Runs that may have been killed while they were sealed."""
        now = time.monotonic()
        due = {
            i
            for i, beat in beats.items()
            if state_of(beat) == "lost" and now - self._lost.get(i, -AGAIN) >= AGAIN
        }
        self._lost |= dict.fromkeys(due, now)
        return due

    def _forget(self, ids: Iterable[str]) -> None:
        for run_id in list(ids):
            for known in (self._rows, self._lost, self._sealed):
                known.pop(run_id, None)  # type: ignore[attr-defined]
        self._arrange()
        self._version += 1

    def _ids(self, folder: str) -> set[str]:
        return {key.rpartition("/")[2].removesuffix(".json") for key in self.objects.list(folder)}

    def _documents(self, keys: Mapping[str, str]) -> dict[str, Document]:
        found = self.objects.get_many(keys.values()) if keys else {}
        return {i: documents.decode(found[key]) for i, key in keys.items() if key in found}


def require(library: Library, run_id: str) -> Document:
    """The row of a run. Raises NotFound."""
    row = library.row(run_id)
    if row is None:
        raise NotFound(f"no run {run_id!r}; `/api/runs` lists those there are")
    return row


def _row(told: Document, state: str) -> Document:
    """The row of a run that is not compacted, from its heartbeat or sealed.json."""
    summary = summaries.summarise(told, state)
    flat = {name: summary["metrics"].get(name) for name in FIGURES} | summary
    return _plain(flat | {"alarm": alarm(told) if state == "running" else None})


def _plain(flat: Mapping[str, Any]) -> Document:
    return {name: _finite(flat.get(name)) for name in COLUMNS}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _flat(table: pa.Table) -> list[Document]:
    """The rows of an index, of its metrics only FIGURES: the rest of 10,000 runs would take 100 MB."""
    wanted = {*summaries.FIELDS, *summaries.PLACE}
    names = [name for name in table.column_names if name in wanted]
    figures = {f"metrics.{name}": name for name in FIGURES if f"metrics.{name}" in table.column_names}
    chosen = table.select([*names, *figures])
    return list(chosen.rename_columns([*names, *figures.values()]).to_pylist())
