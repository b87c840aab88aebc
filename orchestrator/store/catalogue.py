"""All runs of a store, without ever listing `runs/`; and the compaction that keeps this cheap.

Three places together name every run: `live/` (not sealed), `done/` (sealed, not compacted yet), and the
index of the newest snapshot. A run is written to the next before it is taken from the last, and they are
read in that order, so none is missed; where two name a run, the later one holds.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from orchestrator.errors import AlreadyExists
from orchestrator.store import documents, segments, summaries
from orchestrator.store.documents import Document
from orchestrator.store.layout import DONE, INDEXES, LIVE, SEGMENTS, SNAPSHOTS, done_key, live_key, run_key
from orchestrator.store.metrics import from_parquet, to_parquet, unite
from orchestrator.store.objects import Objects
from orchestrator.store.reader import Run, state_of
from orchestrator.store.segments import Segment, Snapshot

RUNS_PER_GROUP = 100


@dataclass(frozen=True)
class Found:
    """What the three places say: heartbeats, documents of sealed runs, summaries of compacted ones."""

    beats: dict[str, Document]
    done: set[str]
    sealed: dict[str, Document]
    snapshot: Snapshot
    indexed: dict[str, Document]


class Catalogue:
    """The runs of `objects`."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects

    def runs(self) -> list[Document]:
        """A summary of every run, newest first: the names of `summaries.FIELDS` (None where a run does not
        tell), and the mappings `params`, `metrics` (the last ones) and `best`.
        """
        found = self._find()
        rows = {i: summaries.summarise(beat, state_of(beat)) for i, beat in found.beats.items()}
        rows |= {i: summaries.summarise(end, str(end["state"])) for i, end in found.sealed.items()}
        rows |= {
            i: {k: v for k, v in row.items() if k not in summaries.PLACE} for i, row in found.indexed.items()
        }
        # An id tells the second; `created` tells apart runs that were begun within one.
        return sorted(rows.values(), key=lambda row: (row["id"][:15], row["created"] or 0.0), reverse=True)

    def compact(self) -> Snapshot:
        """Move sealed runs into the next snapshot; returns the newest one.

        Any number of compactors may run at once: the number of a snapshot is taken create-once, and who
        loses starts again from the winner's.
        """
        for attempt in Retrying(
            retry=retry_if_exception_type(AlreadyExists),
            wait=wait_random_exponential(0.05, max=2),
            stop=stop_after_attempt(20),
            reraise=True,
        ):
            with attempt:
                snapshot = self._compact_once()
        return snapshot

    def snapshot(self) -> Snapshot:
        """The newest snapshot."""
        return segments.newest(self.objects)

    def _find(self) -> Found:
        live = self._ids(LIVE)
        beats = self._documents({i: live_key(i) for i in live})
        done = self._ids(DONE)
        snapshot = self.snapshot()
        table = from_parquet(self.objects.get(snapshot.index)) if snapshot.number else None
        indexed = {} if table is None else {row["id"]: row for row in summaries.from_table(table)}
        silent = {i for i in live if state_of(beats.get(i)) == "lost"}  # perhaps killed while sealing
        loose = (done | silent) - indexed.keys()
        sealed = self._documents({i: run_key(i, "sealed.json") for i in sorted(loose)})
        return Found(beats, done, sealed, snapshot, indexed)

    def _ids(self, folder: str) -> set[str]:
        return {key.rpartition("/")[2].removesuffix(".json") for key in self.objects.list(folder)}

    def _documents(self, keys: dict[str, str]) -> dict[str, Document]:
        found = self.objects.get_many(keys.values())
        return {i: documents.decode(found[key]) for i, key in keys.items() if key in found}

    def _compact_once(self) -> Snapshot:
        found = self._find()
        snapshot = found.snapshot
        if found.sealed:
            snapshot = self._commit(found)
        finished = found.indexed.keys() | found.sealed.keys()
        for run_id in found.done & finished:
            self.objects.delete(done_key(run_id))
        for run_id in found.beats.keys() & finished:
            self.objects.delete(live_key(run_id))
        return snapshot

    def _commit(self, found: Found) -> Snapshot:
        """Write segment and index, then the snapshot that names them.

        Small segments are merged into the new one.
        """
        old = found.snapshot
        small = [segment for segment in old.segments if segment.runs < RUNS_PER_GROUP]
        merged = {segment.key for segment in small}
        rows = found.indexed | {i: summaries.summarise(end, end["state"]) for i, end in found.sealed.items()}
        moved = sorted(i for i, row in rows.items() if row.get("segment") in {None, *merged})
        segment = Segment(f"{SEGMENTS}/{uuid.uuid4().hex}.parquet", len(moved))
        kept = tuple(s for s in old.segments if s.key not in merged)
        snapshot = Snapshot(old.number + 1, f"{INDEXES}/{uuid.uuid4().hex}.parquet", (*kept, segment))
        for place, run_id in enumerate(moved):
            rows[run_id] |= {"segment": segment.key, "row_group": place // RUNS_PER_GROUP}
        curves = [from_parquet(self.objects.get(s.key)) for s in small]
        for run_id in sorted(found.sealed):
            curve = Run(self.objects, run_id).metrics()
            rows[run_id] |= {"columns": segments.columns_of(curve), "merged": time.time()}
            curves.append(curve.add_column(0, "run", pa.array([run_id] * len(curve), pa.string())))
        self.objects.create(segment.key, segment_bytes(unite(curves), moved))
        self.objects.create(snapshot.index, to_parquet(summaries.to_table(rows[i] for i in sorted(rows))))
        try:
            self.objects.create(f"{SNAPSHOTS}/{snapshot.number:08d}.json", documents.encode(asdict(snapshot)))
        except AlreadyExists:
            self.objects.delete(segment.key)
            self.objects.delete(snapshot.index)
            raise
        return snapshot


def segment_bytes(curves: pa.Table, runs: list[str]) -> bytes:
    """The rows of `runs` as Parquet: one row group for every RUNS_PER_GROUP of them, even an empty one."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, curves.schema, compression="zstd") as writer:
        for start in range(0, len(runs), RUNS_PER_GROUP):
            group = pa.array(runs[start : start + RUNS_PER_GROUP])
            rows = curves.filter(pc.is_in(curves["run"], group)).sort_by(
                [("run", "ascending"), ("step", "ascending")]
            )
            writer.write_table(rows, row_group_size=max(len(rows), 1))
    return bytes(sink.getvalue())
