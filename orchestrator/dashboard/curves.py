"""Curves for screens: the least and the greatest of each pixel's steps, and several runs over one common axis."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from orchestrator.dashboard.library import Library, Place
from orchestrator.errors import NotFound
from orchestrator.store import segments
from orchestrator.store.metrics import RESERVED
from orchestrator.store.objects import Objects
from orchestrator.store.reader import Run

Document = dict[str, Any]
Floats = np.ndarray[Any, np.dtype[np.float64]]
MOST = 4000  # points of a curve
TEXT = ("verdict", "change")
KEPT = 48 * 2**20  # bytes of curves that are kept
SIGNALS = ("probe_reach", "probe_pairwise", "d_accuracy", "grad_generator", "grad_critic", "loss_d", "loss_g")


class Curves:
    """Curves of runs, the last ones read kept: of a run that has ended for good, of others until a part is added."""

    def __init__(self, objects: Objects, library: Library) -> None:
        self.objects, self.library = objects, library
        self._kept: OrderedDict[str, tuple[tuple[str, ...] | None, pa.Table]] = OrderedDict()
        self._lock = threading.Lock()

    def table(self, run_id: str) -> pa.Table:
        """The whole curve. Raises NotFound, StoreError."""
        place = self.library.place(run_id)
        stamp = None if place else self._stamp(run_id)
        with self._lock:
            kept = self._kept.get(run_id)
            if kept is not None and kept[0] == stamp:
                self._kept.move_to_end(run_id)
                return kept[1]
        table = self._read(run_id, place)
        with self._lock:
            self._kept[run_id] = stamp, table
            while len(self._kept) > 1 and sum(t.nbytes for _, t in self._kept.values()) > KEPT:
                self._kept.popitem(last=False)
        return table

    def kept(self, run_id: str) -> pa.Table | None:
        """The curve as it was last read, while the store does not answer; None where it was not."""
        with self._lock:
            return self._kept[run_id][1] if run_id in self._kept else None

    def columns(self, run_ids: Sequence[str], name: str) -> dict[str, tuple[Floats, Floats]]:
        """(steps, values) of one metric of many runs. Of compacted runs only that column is read, by row group."""
        groups: dict[tuple[str, int], list[str]] = {}
        others = []
        for run_id in run_ids:
            place = self.library.place(run_id)
            if place is None:
                others.append(run_id)
            else:
                groups.setdefault((place.segment, place.row_group), []).append(run_id)
        found: dict[str, tuple[Floats, Floats]] = {}
        with ThreadPoolExecutor(8) as pool:
            for part in pool.map(lambda at: self._group(at[0], at[1], groups[at], name), groups):
                found |= part
            rest = [*others, *(i for ids in groups.values() for i in ids if i not in found)]
            for run_id, table in zip(rest, pool.map(self.table, rest), strict=True):
                found[run_id] = _steps(table), _values(table, name)
        return found

    def _group(
        self, segment: str, number: int, ids: Sequence[str], name: str
    ) -> dict[str, tuple[Floats, Floats]]:
        try:
            with self.objects.open(segment) as source:
                file = pq.ParquetFile(source)
                if name not in file.schema_arrow.names:
                    return {i: (np.empty(0), np.empty(0)) for i in ids}
                table = file.read_row_group(number, columns=["run", "step", name])
        except NotFound:  # replaced meanwhile: each run is read by itself
            return {}
        steps, values, spans = _steps(table), _values(table, name), _spans(table["run"])
        nothing = slice(0, 0)
        return {i: (steps[spans.get(i, nothing)], values[spans.get(i, nothing)]) for i in ids}

    def _stamp(self, run_id: str) -> tuple[str, ...]:
        """What changes with the curve of a run that is not compacted: its parts and attempts."""
        keys = [f"runs/{run_id}/{folder}" for folder in ("m", "attempts")]
        return tuple(key for folder in keys for key in self.objects.list(folder))

    def _read(self, run_id: str, place: Place | None) -> pa.Table:
        run = Run(self.objects, run_id)
        if place is None:
            return run.metrics().combine_chunks()
        try:
            with self.objects.open(place.segment) as source:
                file = pq.ParquetFile(source)
                own = [*json.loads(place.columns), "run"] if place.columns else None
                group = file.read_row_group(place.row_group, columns=own)
            return segments.own_columns(group, {"id": run_id, "columns": place.columns})
        except NotFound:
            return run.metrics().combine_chunks()


def numeric(table: pa.Table) -> list[str]:
    """Names of the metrics that can be drawn."""
    return [
        f.name for f in table.schema if f.name not in (*RESERVED, *TEXT) and not pa.types.is_string(f.type)
    ]


def drawn(table: pa.Table, names: Sequence[str], width: int) -> Document:
    """`names` of a curve in at most `width` buckets of equal length: min, max, last and where each bucket ends."""
    steps = _steps(table)
    starts = _buckets(steps, width)
    ends = np.append(starts[1:], len(steps)) - 1 if len(steps) else starts
    series = {
        name: _bucketed(_values(table, name), starts, ends) for name in names if name in table.column_names
    }
    return {"step": steps[ends].astype(np.int64) if len(steps) else [], "series": series}


def verdicts(table: pa.Table, told: Mapping[str, Any]) -> list[Document]:
    """Spells of one verdict: from which step to which, and what it rests on.

    `told` is sealed.json or the heartbeat; of earlier spells the signals at their first step are shown.
    """
    if "verdict" not in table.column_names or not len(table):
        return []
    kinds, steps = table["verdict"].to_pylist(), table["step"].to_pylist()
    spells: list[Document] = []
    for place, (step, kind) in enumerate(zip(steps, kinds, strict=True)):
        if kind is None:
            continue
        if spells and spells[-1]["kind"] == kind:
            spells[-1]["to"] = step
        else:
            evidence = [] if kind == "healthy" else _signals(table, place)
            spells.append({"from": step, "to": step, "kind": kind, "evidence": evidence})
    if spells and told.get("evidence") and told.get("verdict") == spells[-1]["kind"]:
        spells[-1]["evidence"] = told["evidence"]
    return spells


def changes(table: pa.Table) -> list[Document]:
    """What changed the run's course, and at which step."""
    if "change" not in table.column_names:
        return []
    rows = table.filter(pc.is_valid(table["change"])).select(["step", "change"]).to_pylist()
    return [{"step": row["step"], "why": row["change"]} for row in rows]


def compared(found: Mapping[str, tuple[Floats, Floats]], width: int) -> Document:
    """Curves over one axis: every step that any has, or, where these are too many, the ends of `width` buckets.

    A bucket holds a run's last value in it; null where it has none.
    """
    told = {i: (s[np.isfinite(v)], v[np.isfinite(v)]) for i, (s, v) in found.items()}
    every = [steps for steps, _ in told.values() if len(steps)]
    axis = np.unique(np.concatenate(every)) if every else np.empty(0)
    ends = axis
    if len(axis) > width:
        starts = _buckets(axis, width)
        ends = axis[np.append(starts[1:], len(axis)) - 1]
    series = {}
    for run_id, (steps, values) in told.items():
        row = np.full(len(ends), np.nan)
        row[np.searchsorted(ends, steps)] = values  # of equal places the last one stays
        series[run_id] = row
    return {"step": ends.astype(np.int64), "series": series}


def _signals(table: pa.Table, place: int) -> list[Document]:
    found = [(name, table[name][place].as_py()) for name in SIGNALS if name in table.column_names]
    step = table["step"][place].as_py()
    return [{"signal": name, "value": value, "step": step} for name, value in found if value is not None]


def _buckets(steps: Floats, width: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The first row of each bucket."""
    if len(steps) <= width:
        return np.arange(len(steps))
    span = steps[-1] - steps[0]
    bucket = np.floor((steps - steps[0]) / span * width).clip(max=width - 1) if span else np.zeros(len(steps))
    return np.flatnonzero(np.diff(bucket, prepend=-1))


def _bucketed(values: Floats, starts: Any, ends: Any) -> Document:
    if not len(values):
        return {"min": [], "max": [], "last": []}
    known = np.where(np.isfinite(values), np.arange(len(values)), -1)
    newest = np.maximum.reduceat(known, starts)
    last = np.where(newest >= 0, values[newest], np.nan)
    return {"min": np.fmin.reduceat(values, starts), "max": np.fmax.reduceat(values, starts), "last": last}


def _spans(runs: pa.ChunkedArray) -> dict[str, slice]:
    """Which rows of a row group each run has: it is sorted by run."""
    encoded = pc.run_end_encode(runs.combine_chunks())
    ends = encoded.run_ends.to_pylist()
    return dict(zip(encoded.values.to_pylist(), map(slice, [0, *ends], ends), strict=False))


def _steps(table: pa.Table) -> Floats:
    return np.asarray(table["step"].to_numpy(), np.float64)


def _values(table: pa.Table, name: str) -> Floats:
    """A metric as numbers, NaN where there is none or it is not finite; empty text is none, too."""
    if name not in table.column_names:
        return np.full(len(table), np.nan)
    column = table[name]
    if pa.types.is_string(column.type):  # runs of the segment disagree on the type
        number = pc.match_substring_regex(column, r"^[+-]?[0-9.]+([eE][+-]?[0-9]+)?$")
        column = pc.if_else(number, column, pa.scalar(None, pa.string()))
    try:
        values = np.asarray(pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False), np.float64)
    except pa.ArrowInvalid:
        return np.full(len(table), np.nan)
    return np.where(np.isfinite(values), values, np.nan)
