"""A retraining as it is set now: numbered records, each created once, of which the highest holds.

Every record is whole, so that one read is enough: what was applied, and whether it is paused.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from orchestrator.errors import AlreadyExists, NotFound
from orchestrator.registry.records import identity
from orchestrator.retrain.retraining import Retraining, parse
from orchestrator.store import documents
from orchestrator.store.documents import Document
from orchestrator.store.ids import NAME_PATTERN
from orchestrator.store.layout import RETRAIN, key_number, retrain_folder, settings_key
from orchestrator.store.objects import Objects

Kind = Literal["applied", "paused", "resumed", "deleted"]
TRIES = 20


@dataclass(frozen=True)
class Settings:
    """Record `number` (1, 2, …) of retraining `name`: what was done, by whom, when (Unix seconds), and what holds
    since: the retraining as a document, and whether its triggers are silent.
    """

    name: str
    number: int
    kind: Kind
    time: float
    by: str
    paused: bool
    document: Document

    @property
    def deleted(self) -> bool:
        return self.kind == "deleted"

    @property
    def retraining(self) -> Retraining:
        """The value. Raises ConfigError where this version of ganctl cannot read it."""
        return parse(self.document)


def apply(objects: Objects, retraining: Retraining, by: str = "") -> Settings:
    """Have `retraining` hold from now on, resolved; a paused one stays paused.

    Nothing is written where it holds already. Raises ConfigError for what is wrong with it.
    """
    document = documents.decode(documents.encode(retraining.resolved().document()))

    def change(now: Settings | None) -> Document | None:
        if now is not None and not now.deleted and now.document == document:
            return None
        paused = now is not None and now.paused and not now.deleted
        return {"kind": "applied", "paused": paused, "retraining": document}

    return _append(objects, retraining.name, change, by)


def pause(objects: Objects, name: str, by: str = "") -> Settings:
    """Silence the triggers. Nothing is written where they are silent. Raises NotFound."""
    return _turn(objects, name, "paused", by)


def resume(objects: Objects, name: str, by: str = "") -> Settings:
    """Heed the triggers again. Raises NotFound."""
    return _turn(objects, name, "resumed", by)


def delete(objects: Objects, name: str, by: str = "") -> Settings:
    """End the retraining: its triggers and settings, not its history, nor any model. Raises NotFound."""

    def change(now: Settings | None) -> Document:
        now = _there(objects, name, now)
        return {"kind": "deleted", "paused": now.paused, "retraining": now.document}

    return _append(objects, name, change, by)


def read(objects: Objects, name: str) -> Settings | None:
    """What holds now; None where it was never applied, or was deleted. One listing and one read."""
    newest = latest(objects, name)
    return None if newest is None or newest.deleted else newest


def require(objects: Objects, name: str) -> Settings:
    """What holds now. Raises NotFound naming the retrainings there are."""
    return _there(objects, name, latest(objects, name))


def latest(objects: Objects, name: str) -> Settings | None:
    """The newest record, also where that says `deleted`; None where there is none."""
    numbers = _numbers(objects, name)
    return record(objects, name, numbers[-1]) if numbers else None


def record(objects: Objects, name: str, number: int) -> Settings:
    """Record `number`. Raises NotFound."""
    return _settings(documents.decode(objects.get(settings_key(name, number))))


def every(objects: Objects, name: str) -> list[Settings]:
    """All records, the oldest first."""
    found = objects.get_many(settings_key(name, number) for number in _numbers(objects, name))
    return [_settings(documents.decode(data)) for data in found.values()]


def names(objects: Objects) -> list[str]:
    """The retrainings there are, those that were deleted left out, sorted."""
    folders = [name for name in objects.folders(RETRAIN) if NAME_PATTERN.fullmatch(name)]
    return [name for name in folders if read(objects, name) is not None]


def _turn(objects: Objects, name: str, kind: Literal["paused", "resumed"], by: str) -> Settings:
    def change(now: Settings | None) -> Document | None:
        now = _there(objects, name, now)
        paused = kind == "paused"
        return None if now.paused == paused else {"kind": kind, "paused": paused, "retraining": now.document}

    return _append(objects, name, change, by)


def _append(
    objects: Objects, name: str, change: Callable[[Settings | None], Document | None], by: str
) -> Settings:
    """Create the next record with what `change` makes of the newest one; who loses the number looks again.

    Where `change` returns None the newest one is returned.
    """
    for attempt in Retrying(
        retry=retry_if_exception_type(AlreadyExists),
        wait=wait_random_exponential(0.05, max=2),
        stop=stop_after_attempt(TRIES),
        reraise=True,
    ):
        with attempt:
            now = latest(objects, name)
            changed = change(now)
            if changed is None:
                assert now is not None
                return now
            number = 1 if now is None else now.number + 1
            made = {"name": name, "number": number, "time": time.time(), "by": by or identity(), **changed}
            objects.create(settings_key(name, number), documents.encode(made))
    return _settings(made)


def _there(objects: Objects, name: str, now: Settings | None) -> Settings:
    if now is not None and not now.deleted:
        return now
    known = ", ".join(names(objects)) or "none; `ganctl retrain apply FILE` adds one"
    was = " (it was deleted)" if now is not None else ""
    raise NotFound(f"no retraining {name!r} in {objects.url}{was}; there are: {known}")


def _numbers(objects: Objects, name: str) -> list[int]:
    keys = objects.list(retrain_folder(name, "settings"))
    return sorted(number for key in keys if (number := key_number(key)) is not None)


def _settings(document: dict[str, Any]) -> Settings:
    rest = dict(document)
    return Settings(document=rest.pop("retraining"), **rest)
