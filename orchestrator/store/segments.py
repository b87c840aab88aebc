"""The newest snapshot, and a run's curve in the segments that it names.

A curve is read as its parts were: the index says which of the segment's columns are the run's own, in their order
and with their types. (In a segment all runs share columns: null where a run lacks one, text where they disagree.)
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from orchestrator.errors import NotFound
from orchestrator.store import documents
from orchestrator.store.documents import Document
from orchestrator.store.layout import SNAPSHOTS
from orchestrator.store.metrics import RESERVED, from_parquet
from orchestrator.store.objects import Objects

COLUMNS = ("id", "segment", "row_group", "columns", "merged")
TRIES = 5  # a snapshot may be replaced, and what it named deleted, while it is read


@dataclass(frozen=True)
class Segment:
    """One file of `seg/`: curves of sealed runs, sorted by columns `run` and `step`, 100 runs a row group."""

    key: str
    runs: int


@dataclass(frozen=True)
class Snapshot:
    """What `snap/<number>.json` names: the index and the segments that are current together.

    Number 0 is none.
    """

    number: int = 0
    index: str = ""
    segments: tuple[Segment, ...] = ()


def newest(objects: Objects) -> Snapshot:
    """The newest snapshot."""
    keys = objects.list(SNAPSHOTS)
    return read(objects.get(keys[-1])) if keys else Snapshot()


def read(data: bytes) -> Snapshot:
    """The snapshot in a document of `snap/`."""
    document = documents.decode(data)
    segments = tuple(Segment(**segment) for segment in document["segments"])
    return Snapshot(document["number"], document["index"], segments)


def curve(objects: Objects, run_id: str) -> pa.Table:
    """The curve of a compacted run, equal to that of its parts. Raises NotFound where no snapshot has it."""
    return Curves(objects).curve(run_id)


def place(objects: Objects, run_id: str) -> str:
    """The key of the segment that holds the curve of a compacted run. Raises NotFound."""
    return str(Curves(objects).row(run_id)["segment"])


class Curves:
    """Curves of compacted runs, one after the other: the index is kept, and the row group that was read last.

    A snapshot that was replaced meanwhile, with its files gone, is left for the newest one.
    """

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self._rows: dict[str, Document] | None = None
        self._group: tuple[str, int] = ("", 0)
        self._table = pa.table({})

    def curve(self, run_id: str) -> pa.Table:
        """See `curve`."""
        for left in reversed(range(TRIES)):
            try:
                row = self.row(run_id)
                return own_columns(self._row_group(row["segment"], row["row_group"]), row)
            except NotFound:
                self._rows = None
                if not left:
                    raise
        raise AssertionError

    def row(self, run_id: str) -> Document:
        """The run's row of the index. Raises NotFound."""
        if self._rows is None:
            snapshot = newest(self.objects)
            index = from_parquet(self.objects.get(snapshot.index)) if snapshot.number else None
            self._rows = {} if index is None else {row["id"]: row for row in _places(index)}
        if run_id not in self._rows:
            raise NotFound(f"run {run_id} is in no snapshot of {self.objects.url}")
        return self._rows[run_id]

    def _row_group(self, key: str, number: int) -> pa.Table:
        if self._group != (key, number):
            with self.objects.open(key) as file:
                self._table = pq.ParquetFile(file).read_row_group(number)
            self._group = key, number
        return self._table


def _places(index: pa.Table) -> list[Document]:
    return list(index.select([name for name in COLUMNS if name in index.column_names]).to_pylist())


def own_columns(group: pa.Table, row: Document) -> pa.Table:
    """The curve of the run of the index's `row` from the row group that holds it.

    Indexes of before 2026-11-25 do not tell its columns: then those are left out that are null throughout.
    """
    rows = group.filter(pc.equal(group["run"], row["id"])).drop_columns(["run"])
    if row.get("columns"):
        own = json.loads(row["columns"])
        schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in own.items()])
        return rows.select(list(own)).cast(schema).combine_chunks()
    filled = [c for c in rows.column_names if c in RESERVED or rows[c].null_count < len(rows)]
    return rows.select(filled).combine_chunks()


def columns_of(table: pa.Table) -> str:
    """Names and types of a curve's columns, as the index keeps them."""
    return json.dumps({field.name: str(field.type) for field in table.schema})
