"""What the catalogue says of a run: a mapping here, a row of plain columns in the index."""

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from orchestrator.store.documents import Document

FIELDS = {
    "id": pa.string(),
    "name": pa.string(),
    "family": pa.string(),
    "sweep": pa.string(),
    "seed": pa.int64(),
    "state": pa.string(),
    "verdict": pa.string(),
    "attempt": pa.int64(),
    "step": pa.int64(),
    "since": pa.int64(),
    "sample": pa.int64(),
    "created": pa.float64(),
    "time": pa.float64(),
}
# Of a compacted run: where its curve lies, which columns of the segment are its own (a JSON object of their types), and
# since when (Unix s).
PLACE = {"segment": pa.string(), "row_group": pa.int64(), "columns": pa.string(), "merged": pa.float64()}
NESTED = ("params", "metrics", "best")


def summarise(document: Mapping[str, Any], state: str) -> Document:
    """The summary of a sealed document or a heartbeat: every name of FIELDS, and the mappings of NESTED."""
    fields = {name: document.get(name) for name in FIELDS}
    nested = {name: document.get(name) or {} for name in NESTED}
    told = {name: {k: v for k, v in group.items() if v is not None} for name, group in nested.items()}
    return fields | {"state": state} | told


def to_table(summaries: Iterable[Document]) -> pa.Table:
    """The index: a row a run. `metrics.fid`, `params.lr_d`, … are columns; what is no scalar is left out."""
    rows = [_flatten(summary) for summary in summaries]
    known = FIELDS | PLACE
    names = known | dict.fromkeys(name for row in rows for name in row if name not in known)
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        columns[name] = pa.array(values, known[name]) if name in known else _column(values)
    return pa.table(columns)


def from_table(table: pa.Table) -> list[Document]:
    """The summaries in an index, each with the `segment` and `row_group` that hold its curve."""
    return [_nest(row) for row in table.to_pylist()]


def _flatten(summary: Document) -> Document:
    flat = {name: value for name, value in summary.items() if name not in NESTED}
    for group in NESTED:
        flat |= {f"{group}.{k}": v for k, v in summary[group].items() if not isinstance(v, list | dict)}
    return flat


def _nest(row: Document) -> Document:
    summary: Document = {name: row.get(name) for name in (*FIELDS, *PLACE)} | {name: {} for name in NESTED}
    for name, value in row.items():
        group, _, inner = name.partition(".")
        if inner and value is not None:
            summary[group][inner] = value
    return summary


def _column(values: list[Any]) -> pa.Array:
    """Runs need not agree on a type: all bool, else all numbers, else text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool}:
        return pa.array(values, pa.bool_())
    if kinds <= {int, float, bool}:
        return pa.array([None if v is None else float(v) for v in values], pa.float64())
    return pa.array([None if v is None else str(v) for v in values], pa.string())
