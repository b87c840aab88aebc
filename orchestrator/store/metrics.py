"""Metric rows as Parquet parts: one row a logged step, one column a metric, plain types. Knows no store.

Columns: `step` int64, `attempt` int64, `time` float64 (Unix seconds, UTC), then the metrics by name:
numbers as float64, truth values as bool, text as string; null where a step did not report the metric.
"""

import io
import time
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any, SupportsFloat

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

Scalar = SupportsFloat | str | bool | None  # numbers of numpy and torch, too
RESERVED = ("step", "attempt", "time")
KEYS = pa.schema([("step", pa.int64()), ("attempt", pa.int64()), ("time", pa.float64())])
TYPES: dict[type, pa.DataType] = {float: pa.float64(), bool: pa.bool_(), str: pa.string()}


class Rows:
    """The rows of one attempt that are not written yet. Steps only grow, from `after` on; a metric keeps its type."""

    def __init__(self, attempt: int, after: int = -1) -> None:
        self.attempt = attempt
        self._rows: list[dict[str, Any]] = []
        self._types: dict[str, type] = {}
        self._written = after  # the last step that is in a part

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def span(self) -> tuple[int, int]:
        """First and last step of the rows."""
        return self._rows[0]["step"], self._rows[-1]["step"]

    @property
    def newest(self) -> int:
        """The last step logged, `after` before the first."""
        return int(self._rows[-1]["step"]) if self._rows else self._written

    def add(self, step: int, row: Mapping[str, Scalar]) -> None:
        """Append a row, or complete the newest one when `step` is the same. Raises ValueError."""
        plain = {name: self._checked(name, value) for name, value in row.items()}
        if self._rows and step == self.newest:
            self._rows[-1].update(plain)
        elif step > self.newest:
            self._rows.append({"step": int(step), "attempt": self.attempt, "time": time.time(), **plain})
        else:
            raise ValueError(
                f"step {step} came after step {self.newest} was written: within an attempt steps only grow"
            )

    def table(self) -> pa.Table:
        """All rows as a table. A column that is null throughout is left out."""
        names = dict.fromkeys(name for row in self._rows for name in row if name not in RESERVED)
        filled = [name for name in names if any(row.get(name) is not None for row in self._rows)]
        fields = [*KEYS, *(pa.field(name, TYPES[self._types[name]]) for name in filled)]
        return pa.Table.from_pylist(self._rows, schema=pa.schema(fields))

    def clear(self) -> None:
        """Forget the rows: they are in a part now."""
        self._written, self._rows = self.newest, []

    def _checked(self, name: str, value: Any) -> Scalar:
        if name in RESERVED:
            raise ValueError(f"metric {name!r}: the store writes that column itself")
        if hasattr(value, "item"):
            value = value.item()
        if isinstance(value, Real) and not isinstance(value, bool):
            value = float(value)
        if value is None:
            return None
        kind = type(value)
        if kind not in TYPES or self._types.setdefault(name, kind) is not kind:
            raise ValueError(
                f"metric {name!r} = {value!r}: a metric is always a number, always text, or always a bool"
            )
        return kind(value)


def to_parquet(table: pa.Table, row_group_size: int | None = None) -> bytes:
    """One Parquet file."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=row_group_size)
    return sink.getvalue()


def from_parquet(data: bytes) -> pa.Table:
    """The table in one Parquet file."""
    return pq.read_table(io.BytesIO(data))


def merge(parts: Sequence[pa.Table], begun: Sequence[int]) -> pa.Table:
    """The parts of one run as one curve by step. `begun` is where each attempt started (`attempts.starts`).

    A resumed attempt repeats the steps since its checkpoint, and one that was cut off may go on writing for a
    while: what an earlier attempt says of steps beyond the start of a later one is left out.
    """
    table = unite([KEYS.empty_table(), *parts])
    keep = pa.array([True] * len(table), pa.bool_())
    for attempt, start in enumerate(begun, 1):
        void = pc.and_(pc.less(table["attempt"], attempt), pc.greater(table["step"], start))
        keep = pc.and_(keep, pc.invert(void))
    return table.filter(keep).sort_by("step")


def unite(tables: Iterable[pa.Table]) -> pa.Table:
    """The rows of all tables under the union of their columns: null where a table lacks one, text where they
    disagree on the type."""
    tables = list(tables)
    kinds: dict[str, set[pa.DataType]] = {}
    for field in (field for table in tables for field in table.schema):
        kinds.setdefault(field.name, set()).add(field.type)
    schema = pa.schema(
        [(name, found.pop() if len(found) == 1 else pa.string()) for name, found in kinds.items()]
    )
    cast = [table.cast(pa.schema([schema.field(name) for name in table.column_names])) for table in tables]
    return pa.concat_tables(cast, promote_options="default")


def same(one: pa.Table, other: pa.Table) -> bool:
    """Whether the tables have the same columns, in order, and the same rows, bit by bit but for the payload of NaNs."""
    return bool(one.schema.equals(other.schema)) and all(
        _bits(one[name]).equals(_bits(other[name])) for name in one.column_names
    )


def _bits(column: pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks()
    if not pa.types.is_float64(whole.type):
        return whole
    return pc.if_else(pc.is_nan(whole), pa.scalar(float("nan")), whole).view(pa.int64())
