"""The folder of a sweep in the store, as it is read: what was asked for, how it stands, what it came to.

sweeps/<id>/sweep.json      once: id, created, experiment, plan, on
            plan.json       the plan it was last carried on with, where that is another
            live.json       rows, state, time: put by the driver every few seconds, gone at the end
            stop.json       the wish to stop
            trials.parquet  study.parquet  report.html  result.json     at the end, result.json last
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from orchestrator.errors import NotFound
from orchestrator.store.documents import decode
from orchestrator.store.ids import ID_PATTERN, check_id
from orchestrator.store.objects import Objects

Document = dict[str, Any]

LOST_AFTER = 120.0  # seconds without a word from the driver, which hears from its trials at their ticks


@dataclass(frozen=True)
class SweepResult:
    """A finished sweep.

    `trials`: a row each, `number, state, end` (in a word or two)`, params, objectives` (by name)`, objective` (the
    first)`, figures, floor, verdict, rung, step, run_id, reason, seconds, device_seconds, seed, retry_of,
    replicate_of, lineage, changes`. `best`: the best completed row, None where there is none; `front`: numbers of the
    completed trials that no other one beats in every objective; `configurations` and `costs`: see `account`;
    `importance`: by objective, see `importance`.
    """

    sweep_id: str
    trials: list[Document]
    best: Document | None = None
    floor: dict[str, float] = field(default_factory=dict)
    front: list[int] = field(default_factory=list)
    configurations: list[Document] = field(default_factory=list)
    costs: Document = field(default_factory=dict)
    importance: Document = field(default_factory=dict)


@dataclass(frozen=True)
class Sweep:
    """A sweep as its folder tells: `begun` is sweep.json with the plan that holds now."""

    id: str
    begun: Document
    live: Document | None
    result: SweepResult | None

    @property
    def state(self) -> str:
        """`running`; `interrupted`, where its driver has not been heard of; `finished`; or `begun`, before all that."""
        if self.live is not None:
            return "running" if time.time() - self.live["time"] < LOST_AFTER else "interrupted"
        return "finished" if self.result is not None else "begun"

    @property
    def rows(self) -> list[Document]:
        """The trials as far as they are known: those of the result, or while it runs those of the ledger."""
        if self.live is not None:
            return list(self.live["rows"])
        return self.result.trials if self.result is not None else []


def sweep_key(sweep_id: str, name: str) -> str:
    """`name` inside the sweep's folder."""
    return f"sweeps/{check_id(sweep_id, 'sweep')}/{name}"


def read_sweep(objects: Objects, sweep_id: str) -> Document:
    """sweep.json, with the plan that it was last carried on with. Raises NotFound."""
    return open_sweep(objects, sweep_id).begun


def open_sweep(objects: Objects, sweep_id: str) -> Sweep:
    """Sweep `sweep_id` as it is now. Raises NotFound."""
    found = _sweeps(objects, [sweep_id])
    if not found:
        raise NotFound(f"no sweep {sweep_id!r} in {objects.url}; `ganctl sweep ls` lists those there are")
    return found[0]


def run_ids(objects: Objects, sweep_id: str) -> list[str]:
    """The runs of its trials as far as they are known: none before it has begun."""
    return list(
        dict.fromkeys(
            row["run_id"] for sweep in _sweeps(objects, [sweep_id]) for row in sweep.rows if row["run_id"]
        )
    )


def sweep_ids(objects: Objects) -> list[str]:
    """Every sweep's id, newest first."""
    return [name for name in reversed(objects.folders("sweeps")) if ID_PATTERN.fullmatch(name)]


def sweeps(objects: Objects, limit: int | None = None) -> list[Sweep]:
    """The newest `limit` sweeps, newest first."""
    return _sweeps(objects, sweep_ids(objects)[:limit])


def _sweeps(objects: Objects, ids: list[str]) -> list[Sweep]:
    """Those of them that were begun."""
    names = ("sweep.json", "plan.json", "live.json", "result.json")
    keys = {(i, name): sweep_key(i, name) for i in ids for name in names}
    data = objects.get_many(keys.values())
    read = {at: decode(data[key]) for at, key in keys.items() if key in data}
    found = []
    for i in ids:
        begun, plan, live, result = (read.get((i, name)) for name in names)
        if begun is not None and "plan" in begun:  # older ones had none
            begun |= {} if plan is None else {"plan": plan}
            found.append(Sweep(i, begun, live, SweepResult(**result) if result is not None else None))
    return found
