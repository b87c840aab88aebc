"""What lies in a store, listed once: its runs by id, and the objects that belong to no run. It decides nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from orchestrator.store import documents, segments, summaries
from orchestrator.store.checkpoints import MARKER, Span
from orchestrator.store.documents import Document
from orchestrator.store.ids import ID_PATTERN
from orchestrator.store.layout import (
    ALARMS,
    DONE,
    INDEXES,
    LIVE,
    RATE,
    RETRAIN,
    RUNS,
    SEGMENTS,
    SNAPSHOTS,
    checkpoint_folder,
    checkpoint_span,
    run_key,
)
from orchestrator.store.metrics import from_parquet
from orchestrator.store.objects import PROBES, Entry, Objects

OF_RUNS = (RUNS, LIVE, DONE, ALARMS, RATE)  # folders of objects by a run's id
EXPIRED = "expired.json"  # a checkpoint's marker while it is being deleted: see `work`

Named = dict[str, Entry]
"""Objects by key."""


@dataclass(frozen=True)
class Folder:
    """A checkpoint's folder: its objects by name, and the marker where it has one, or had until housekeeping came."""

    span: Span
    files: dict[str, Entry]
    marker: Document | None

    @property
    def hidden(self) -> bool:
        """Whether an earlier housekeeping was killed while it deleted it."""
        return EXPIRED in self.files and MARKER not in self.files

    @property
    def written(self) -> float:
        """When anything but `expired.json` was last written there."""
        own = (entry.modified for name, entry in self.files.items() if name != EXPIRED)
        return max(own, default=0.0)


@dataclass(frozen=True)
class Stored:
    """A run as it lies there: `entries` are all of its objects, those of `OF_RUNS` included."""

    id: str
    entries: Named
    sealed: Document | None = None
    folders: tuple[Folder, ...] = ()
    row: Document | None = None  # of the index, with PLACE

    @property
    def announced(self) -> bool:
        """Whether there is, or was, a run of this id."""
        known = (run_key(self.id, name) in self.entries for name in ("run.json", "sealed.json"))
        return any(known) or self.row is not None

    @property
    def parts(self) -> list[Entry]:
        """Its metric parts."""
        folder = run_key(self.id, "m/")
        return [entry for key, entry in self.entries.items() if key.startswith(folder)]

    @property
    def ended(self) -> float:
        """When it was sealed (Unix s)."""
        assert self.sealed is not None
        return float(self.sealed.get("time") or self.entries[run_key(self.id, "sealed.json")].modified)


@dataclass(frozen=True)
class Inventory:
    """`snapshots` are all of them by key, and which is the newest stands in `newest`."""

    runs: dict[str, Stored]
    loose: Named = field(default_factory=dict)  # segments, indexes, probes, digests
    snapshots: dict[str, tuple[Entry, segments.Snapshot]] = field(default_factory=dict)
    newest: segments.Snapshot = field(default_factory=segments.Snapshot)


def take(objects: Objects) -> Inventory:
    """List the store. It reads the documents of sealed runs that have parts or checkpoints, and their markers."""
    snapshots = _snapshots(objects)
    newest = max(
        (shot for _, shot in snapshots.values()), key=lambda s: s.number, default=segments.Snapshot()
    )
    index = from_parquet(objects.get(newest.index)) if newest.number else None
    rows = {row["id"]: row for row in summaries.from_table(index)} if index is not None else {}
    by_run: dict[str, Named] = {}
    for entry in [e for folder in OF_RUNS for e in objects.entries(folder)]:
        run_id = entry.key.split("/")[1].removesuffix(".json")
        if ID_PATTERN.fullmatch(run_id):
            by_run.setdefault(run_id, {})[entry.key] = entry
    loose = [e for folder in (SEGMENTS, INDEXES, PROBES) for e in objects.entries(folder)]
    loose += [e for e in objects.entries(RETRAIN) if e.key.endswith(".npy") and "/seen/" in e.key]
    return Inventory(_stored(objects, by_run, rows), {e.key: e for e in loose}, snapshots, newest)


def _snapshots(objects: Objects) -> dict[str, tuple[Entry, segments.Snapshot]]:
    listed = {entry.key: entry for entry in objects.entries(SNAPSHOTS)}
    return {key: (listed[key], segments.read(data)) for key, data in objects.get_many(sorted(listed)).items()}


def _stored(objects: Objects, by_run: dict[str, Named], rows: dict[str, Document]) -> dict[str, Stored]:
    """The runs, each with what its documents say as far as that matters."""
    found = {}
    for run_id, entries in by_run.items():
        stored = Stored(run_id, entries, row=rows.get(run_id))
        files = _files(stored)
        if run_key(run_id, "sealed.json") in entries and (files or stored.parts):
            found[run_id] = files
    sealed = _read(objects, {i: run_key(i, "sealed.json") for i in found})
    told = _folders(objects, found)
    return {
        i: Stored(i, entries, sealed.get(i), told.get(i, ()) if i in sealed else (), rows.get(i))
        for i, entries in by_run.items()
    }


def _folders(
    objects: Objects, found: dict[str, dict[Span, dict[str, Entry]]]
) -> dict[str, tuple[Folder, ...]]:
    """The checkpoints' folders by run, but those whose marker went since they were listed: somebody is at them.

    Another housekeeping may have renamed the marker, or have made it what it was, between the listing and now.
    """
    marked = {
        (i, span): checkpoint_folder(i, *span)
        for i, folders in found.items()
        for span, files in folders.items()
        if {MARKER, EXPIRED} & files.keys()
    }
    markers: dict[tuple[str, Span], Document] = {}
    for name in (MARKER, EXPIRED, MARKER):
        markers |= _read(objects, {at: f"{root}/{name}" for at, root in marked.items() if at not in markers})
    return {
        i: tuple(
            Folder(span, files, markers.get((i, span)))
            for span, files in sorted(folders.items())
            if (i, span) in markers or (i, span) not in marked
        )
        for i, folders in found.items()
    }


def _files(stored: Stored) -> dict[Span, dict[str, Entry]]:
    """The objects of each checkpoint's folder, by name."""
    root = run_key(stored.id, "checkpoints/")
    found: dict[Span, dict[str, Entry]] = {}
    for key, entry in stored.entries.items():
        folder, _, name = key.removeprefix(root).partition("/")
        if key.startswith(root) and name and re.fullmatch(r"\d+-a\d+", folder):
            found.setdefault(checkpoint_span(folder), {})[name] = entry
    return found


K = TypeVar("K")


def _read(objects: Objects, keys: dict[K, str]) -> dict[K, Document]:
    """Documents by name, of those that are there."""
    data = objects.get_many(_sorted(keys.values()))
    return {name: documents.decode(data[key]) for name, key in keys.items() if key in data}


def _sorted(keys: Iterable[str]) -> list[str]:
    return sorted(set(keys))
