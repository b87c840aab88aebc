"""Jobs of a cluster by who answers for them: a flow run. What its owner cannot stop any more is stopped here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from orchestrator.errors import GanctlError
from orchestrator.outcome import LEFT
from orchestrator.stop import stop_run
from orchestrator.store import documents
from orchestrator.store.layout import LIVE, driver_key
from orchestrator.store.objects import Objects

Document = dict[str, Any]


def owned(objects: Objects) -> Iterator[tuple[str, Document]]:
    """Every run at work, or lost at it, that is driven by a job with an owner: its id, and what drives it."""
    beats = map(documents.decode, objects.get_many(objects.list(LIVE)).values())
    keys = {driver_key(beat["id"]): beat["id"] for beat in beats if beat.get("state") not in LEFT}
    for key, data in objects.get_many(keys).items():
        driver = documents.decode(data)
        if driver.get("owner"):
            yield keys[key], driver


def free(objects: Objects, owner: str) -> list[str]:
    """Stop the jobs of `owner`, each with a checkpoint where there is time for one. Returns the runs they drove.

    What cannot be stopped now, its cluster being away, is left for the next time.
    """
    stopped = []
    for run_id in [run_id for run_id, driver in owned(objects) if driver["owner"] == owner]:
        with suppress(GanctlError):
            stop_run(objects, run_id)
            stopped.append(run_id)
    return stopped
