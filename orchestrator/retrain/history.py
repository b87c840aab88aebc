"""Everything that happened to a model, in the order in which it did: settings, rounds, decisions, promotions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from orchestrator.registry.records import Promotion
from orchestrator.registry.registry import Registry
from orchestrator.retrain import settings
from orchestrator.store import documents
from orchestrator.store.documents import Document
from orchestrator.store.layout import key_number, retrain_folder
from orchestrator.store.objects import Objects


@dataclass(frozen=True)
class Event:
    """Something that happened at `time` (Unix seconds): `what`, in a word or two, and `reason`, why or with what.

    `figures`: what it was decided by, by name. The rest is None or empty where it does not apply.
    """

    time: float
    what: str
    reason: str = ""
    by: str = ""
    version: int | None = None
    round: int | None = None
    run: str = ""
    step: int | None = None
    figures: dict[str, Any] = field(default_factory=dict)


def history(objects: Objects, name: str) -> list[Event]:
    """All of it, the oldest first; what is of one instant in the order of a round. None where there is nothing.

    Raises ConfigError for what cannot be a name.
    """
    events = [*_settings(objects, name), *_rounds(objects, name)]
    events += [_promotion(promotion) for promotion in Registry(objects).history(name)]
    return sorted(events, key=lambda event: event.time)  # stable


def _settings(objects: Objects, name: str) -> Iterator[Event]:
    for record in settings.every(objects, name):
        yield Event(record.time, record.kind, f"settings {record.number}", record.by)


def _rounds(objects: Objects, name: str) -> Iterator[Event]:
    """One listing, and every small document of every round at once."""
    files = [key for key in objects.list(retrain_folder(name, "rounds")) if key.endswith(".json")]
    wanted = [key for key in files if not key.endswith("/beat.json")]
    for key, data in objects.get_many(sorted(wanted, key=_order)).items():
        folder, _, file = key.rpartition("/")
        event = _in_round(file.removesuffix(".json"), documents.decode(data), key_number(folder))
        if event is not None:
            yield event


def _in_round(file: str, told: Document, number: int | None) -> Event | None:
    time, by = float(told.get("time", 0.0)), str(told.get("by", ""))
    if file == "begun":
        why = f"{told['trigger']}; data {told['fingerprint']}, {told['items']} items"
        return Event(time, "round begun", why, by, round=number)
    if file.startswith("driver-"):
        return Event(time, "taken over", "its driver was not heard of any more", by, round=number)
    if file.startswith("attempt-"):
        start = f"from {told['start']}" if told["start"] else "anew"
        why = f"{start}; remedy: {told['remedy']}" if told["remedy"] else start
        return Event(time, f"attempt {told['number']}", why, by, round=number, run=told["run_id"])
    if file.startswith("decision-"):
        return _decision(time, told, number)
    if file == "end":
        return _end(time, told, number)
    return None


def _end(time: float, told: Document, number: int | None) -> Event:
    return Event(
        time,
        f"round ended: {told['outcome']}",
        str(told.get("reason", "")),
        str(told.get("by", "")),
        version=told.get("version"),
        round=number,
        run=str(told.get("run", "")),
        figures=told.get("figures") or {},
    )


def _decision(time: float, told: Document, number: int | None) -> Event:
    """A decision as orchestrator/judging/document.py writes it; figures of both contestants, by contestant."""
    contestants = told["contestants"]
    figures = {
        who: {name: value["value"] for name, value in (contestant["figures"] or {}).items()}
        for who, contestant in contestants.items()
    }
    challenger = contestants["challenger"]
    return Event(
        time,
        f"decision: {told['verdict']}",
        told["reason"],
        round=number,
        run=challenger["run_id"],
        step=challenger["step"],
        figures=figures,
    )


def _promotion(promotion: Promotion) -> Event:
    return Event(
        promotion.time,
        promotion.kind,
        promotion.reason,
        promotion.by,
        version=promotion.version,
        run=promotion.run_id,
        step=promotion.step,
    )


def _order(key: str) -> tuple[str, int, int]:
    """Rounds by number, and in a round the order of its steps."""
    folder, _, file = key.rpartition("/")
    kinds = ("begun", "driver", "attempt", "decision", "end")
    kind, _, number = file.removesuffix(".json").partition("-")
    place = kinds.index(kind) if kind in kinds else len(kinds)
    return folder, place, int(number) if re.fullmatch(r"\d+", number) else 0
