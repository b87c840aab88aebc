"""Rounds of a retraining: each is one execution, numbered, and the next cannot begin before the last has ended.

`begun.json` of round n + 1 is created once, so that of any number that want to begin one does. A round whose driver has
not been heard of for a minute is taken over, not begun anew: who creates the next `driver-<k>.json` drives it on, and
the one before notices at its next beat. It knows neither Prefect nor Ray.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Literal

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from orchestrator.errors import AlreadyExists, Busy, NothingNew, OverBudget
from orchestrator.retrain import source
from orchestrator.retrain.retraining import DataTrigger
from orchestrator.retrain.round import Round, stamp
from orchestrator.retrain.settings import record
from orchestrator.retrain.source import DataVersion
from orchestrator.store import documents
from orchestrator.store.layout import key_number, retrain_folder, round_key, seen_key
from orchestrator.store.objects import Objects

Trigger = Literal["cron", "data", "event", "hand"]
TRIES = 20
DAY = 86_400.0


def begin(
    objects: Objects,
    name: str,
    trigger: Trigger,
    version: DataVersion,
    settings_number: int,
    force: bool = False,
    flow_run: str = "",
) -> Round:
    """Begin the next round of `name` on the data `version`, or take over one whose driver is gone (`Round.attached`).

    `settings_number` is the record of settings that it follows. `flow_run` is who drives it: one that asks again takes
    its own round over at once. `force` begins a round whether or not data and budget allow it.
    Raises Busy where a round is under way; for the trigger `data` NothingNew where a round has used this very data, or
    too few items changed since the last round; OverBudget.
    """
    for attempt in Retrying(
        retry=retry_if_exception(
            lambda error: isinstance(error, AlreadyExists) and not isinstance(error, Busy)
        ),
        wait=wait_random_exponential(0.05, max=2),
        stop=stop_after_attempt(TRIES),
        reraise=True,
    ):
        with attempt:
            last = latest(objects, name)
            if last is not None and last.end_document() is None:
                begun = last.take_over(flow_run)
            else:
                if not force:
                    _allowed(objects, name, trigger, version, settings_number, last)
                begun = _create(objects, name, trigger, version, settings_number, last, flow_run)
    # Last, and again by who takes over: a round that was begun is never begun again for the same data.
    fingerprint = str(begun.document["fingerprint"])
    with suppress(AlreadyExists):
        objects.create(
            seen_key(name, fingerprint),
            documents.encode({"fingerprint": fingerprint, "round": begun.number, "time": time.time()}),
        )
    return begun


def latest(objects: Objects, name: str) -> Round | None:
    """The last round; None where there was none. One listing of folders."""
    numbers = _numbers(objects, name)
    return Round(objects, name, numbers[-1]) if numbers else None


def rounds(objects: Objects, name: str) -> list[Round]:
    """Every round, the oldest first."""
    return [Round(objects, name, number) for number in _numbers(objects, name)]


def _numbers(objects: Objects, name: str) -> list[int]:
    folders = objects.folders(retrain_folder(name, "rounds"))
    return sorted(number for folder in folders if (number := key_number(folder)) is not None)


def _allowed(
    objects: Objects,
    name: str,
    trigger: Trigger,
    version: DataVersion,
    settings_number: int,
    last: Round | None,
) -> None:
    """Raise NothingNew or OverBudget."""
    retraining = record(objects, name, settings_number).retraining
    most = retraining.budget.rounds_a_day
    if most is not None and last is not None and last.number >= most:
        first = Round(objects, name, last.number - most + 1).document["time"]
        if (left := first + DAY - time.time()) > 0:
            raise OverBudget(
                f"retraining {name}: {most} rounds have begun within 24 hours (`budget.rounds_a_day`); "
                f"the next may in {left / 3600:.1f} h"
            )
    if trigger == "data" and (lacking := nothing_new(objects, name, version, retraining.triggers.data)):
        raise NothingNew(lacking)


def nothing_new(objects: Objects, name: str, version: DataVersion, trigger: DataTrigger | None) -> str:
    """Why the data `version` begins no round by the trigger `data`; empty where it does."""
    if objects.exists(seen_key(name, version.fingerprint)):
        return f"retraining {name}: a round has used this data ({version.fingerprint}) already"
    last, wanted = latest(objects, name), 1 if trigger is None else trigger.at_least
    before = None if last is None else source.load(objects, name, str(last.document["fingerprint"]))
    found = source.changed(before, version)
    if found >= wanted:
        return ""
    since = "" if last is None else f" since round {last.number}"
    few = f"{found} items were added or removed{since}"
    return f"retraining {name}: {few}, fewer than `triggers.data.at_least` = {wanted}"


def _create(
    objects: Objects,
    name: str,
    trigger: Trigger,
    version: DataVersion,
    settings_number: int,
    last: Round | None,
    flow_run: str,
) -> Round:
    number = 1 if last is None else last.number + 1
    document = stamp(flow_run) | {
        "name": name,
        "number": number,
        "trigger": trigger,
        "fingerprint": version.fingerprint,
        "items": version.items,
        "settings": settings_number,
    }
    source.save(objects, name, version)  # first, so that every round's data is known to the next
    objects.create(round_key(name, number, "begun.json"), documents.encode(document))
    return Round(objects, name, number, driver=1)
