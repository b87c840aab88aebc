"""How often people took pictures of each run for what they are not, over all that was judged of it.

Judgements are never changed: each file of them is read once.
"""

from __future__ import annotations

import io
import time
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from orchestrator.dashboard.rating import wilson
from orchestrator.store.layout import RATE
from orchestrator.store.objects import Objects

Document = dict[str, Any]
RATES = ("error_rate", "error_low", "error_high")
REST = 5.0  # seconds between two looks


class Rates:
    """Of each run that was judged the share that was wrong (`known`), with Wilson's 95 % interval."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self.known: dict[str, Document] = {}
        self._counts: dict[str, tuple[int, int]] = {}  # wrong, of how many
        self._read: set[str] = set()
        self._due = 0.0  # monotonic

    def look(self) -> dict[str, Document]:
        """Read what is new; returns the rates that changed. Raises StoreError."""
        if time.monotonic() < self._due:
            return {}
        keys = [key for key in self.objects.list(RATE) if key.endswith(".parquet")]
        found = self.objects.get_many(key for key in keys if key not in self._read)
        for key, data in found.items():
            run_id = key.split("/")[1]
            table = pq.read_table(io.BytesIO(data), columns=["real", "said_real"])
            wrong = pc.sum(pc.not_equal(table["real"], table["said_real"])).as_py() or 0
            before = self._counts.get(run_id, (0, 0))
            self._counts[run_id] = before[0] + wrong, before[1] + len(table)
        self._read |= found.keys()
        self._due = time.monotonic() + REST
        changed = {key.split("/")[1] for key in found}
        fresh = {i: _figures(*self._counts[i]) for i in changed if self._counts[i][1]}
        self.known |= fresh
        return fresh


def _figures(wrong: int, num: int) -> Document:
    return dict(zip(RATES, (wrong / num, *wilson(wrong, num)), strict=True))
