"""What is wrong with runs, as alarms: rule, evidence, first step, what was done about it, who has seen it.

Nothing is stored but the acknowledgement: an alarm follows from what the run itself says.
"""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from orchestrator import evidence
from orchestrator.errors import NotFound
from orchestrator.store import documents
from orchestrator.store.ids import ID_PATTERN
from orchestrator.store.layout import ALARMS, acknowledgement_key, live_key, run_key
from orchestrator.store.objects import Objects

Document = dict[str, Any]

MOST = 200
TOLD = ("evidence", "error", "remedy", "changes")  # of what a run says
HEALTHY = ("healthy", "unknown", "", None)
#: States that are an alarm by themselves, and what they mean.
STATES = {
    "lost": "no heartbeat for a minute: its process or machine is gone",
    "failed": "it ended with an error",
    "interrupted": "it was cut off by an error and can be resumed",
}
ID = re.compile(rf"({ID_PATTERN.pattern})\.([a-z][a-z-]{{0,40}})")


def parse_id(text: str) -> tuple[str, str]:
    """(run, rule) of an alarm's id, `20261122-014500-k3v9qa.mode-collapse`. Raises NotFound."""
    match = ID.fullmatch(text)
    if match is None:
        raise NotFound(f"no alarm {text!r}; `/api/alarms` lists those there are")
    return match[1], match[2]


def rules_of(row: Mapping[str, Any]) -> list[str]:
    """The rules that a run breaks, from its row in the catalogue."""
    found = [] if row.get("verdict") in HEALTHY else [str(row["verdict"]).replace(" ", "-")]
    found += [row["state"]] if row.get("state") in STATES else []
    return found + (["stalled"] if row.get("alarm") else [])


class Alarms:
    """The alarms of the runs of `objects`. What a run said when it ended is read once."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self._ended: OrderedDict[str, Document] = OrderedDict()
        self._lock = threading.Lock()

    def listed(self, rows: Iterable[Mapping[str, Any]], most: int = MOST) -> list[Document]:
        """The newest alarms of the runs in `rows` (as `Library.rows`), the newest run first. Raises StoreError."""
        wrong = list(islice(((row, rule) for row in rows for rule in rules_of(row)), most))
        told = self._told([row["id"] for row, _ in wrong])
        seen = acknowledgements(self.objects)
        return [_alarm(row, rule, told.get(row["id"], {}), seen.get(_id(row, rule))) for row, rule in wrong]

    def _told(self, ids: Sequence[str]) -> dict[str, Document]:
        """What each run says of itself: sealed.json, else its heartbeat."""
        with self._lock:
            ended = {i: self._ended[i] for i in ids if i in self._ended}
        places = {run_key(i, "sealed.json"): i for i in ids if i not in ended}
        sealed = self._read(places)
        beats = self._read({live_key(i): i for i in places.values() if i not in sealed})
        with self._lock:
            for run_id, told in sealed.items():
                self._ended[run_id] = {name: told[name] for name in TOLD if name in told}
            while len(self._ended) > 4 * MOST:
                self._ended.popitem(last=False)
        return beats | ended | sealed

    def _read(self, places: Mapping[str, str]) -> dict[str, Document]:
        found = self.objects.get_many(places) if places else {}
        return {places[key]: documents.decode(data) for key, data in found.items()}


def acknowledgements(objects: Objects) -> dict[str, Document]:
    """Every acknowledgement, by alarm."""
    found = objects.get_many(objects.list(ALARMS))
    return {told["alarm"]: told for told in map(documents.decode, found.values()) if "alarm" in told}


def acknowledge(
    objects: Objects, row: Mapping[str, Any] | None, alarm_id: str, by: str, note: str = ""
) -> Document:
    """Say that somebody has seen an alarm of the run in `row`.

    Raises AlreadyExists where somebody has, NotFound where the run has raised no such alarm.
    """
    run_id, rule = parse_id(alarm_id)
    if row is None or rule not in rules_of(row):
        raise NotFound(f"run {run_id} raises no alarm {rule!r}; `/api/alarms` lists those there are")
    told = {"alarm": alarm_id, "by": by, "time": time.time(), "note": note}
    objects.create(acknowledgement_key(run_id, rule), documents.encode(told))
    return told


def _id(row: Mapping[str, Any], rule: str) -> str:
    return f"{row['id']}.{rule}"


def _alarm(row: Mapping[str, Any], rule: str, told: Document, seen: Document | None) -> Document:
    signs = told.get("evidence") or []
    why = row.get("alarm") if rule == "stalled" else STATES.get(rule)
    error = str(told.get("error") or "") if rule in STATES else ""
    handled = bool(row.get("sweep")) and not why
    return {
        "id": _id(row, rule),
        "run": row["id"],
        "name": row.get("name"),
        "sweep": row.get("sweep"),
        "rule": rule,
        "evidence": ": ".join(filter(None, (why, error))) if why else evidence.line({"evidence": signs}),
        "step": row.get("step") if why else _first(row, signs),
        "action": _action(row, told),
        "remedy": told.get("remedy") or "",
        "state": row["state"],
        "time": row.get("time"),
        "acknowledged": seen,
        # A sweep has dealt with its trial: it was stopped and told to the sampler.
        "open": seen is None and not handled,
    }


def _first(row: Mapping[str, Any], signs: Sequence[Mapping[str, Any]]) -> int | None:
    """The step from which on the verdict has held. Runs of before 2026-11-25 tell but when it was last found."""
    steps = [int(sign["step"]) for sign in signs if sign.get("step") is not None]
    known = (row.get("since"), min(steps, default=None), row.get("step"))
    return next((step for step in known if step is not None), None)


def _action(row: Mapping[str, Any], told: Mapping[str, Any]) -> str:
    """What was done about it: remedies, and how the run ended or that it goes on."""
    done = [f"{change.get('why')} at step {change.get('step')}" for change in told.get("changes") or ()]
    state = row["state"]
    if row.get("sweep") and state not in ("running", "queued"):
        ended = f"its sweep was told, run {state}"
    else:
        ended = "goes on" if state in ("running", "queued") else f"run {state}"
    return "; ".join([*done, ended])
