"""Where a run's sample grids lie, remembered: a picture is one request of the store, not two."""

from __future__ import annotations

import threading
from collections import OrderedDict

from orchestrator.errors import NotFound
from orchestrator.store.layout import run_key, sample_step
from orchestrator.store.objects import Objects

RUNS = 512  # whose listings are kept


class Pictures:
    """Sample grids of the runs of `objects`."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self._keys: OrderedDict[str, dict[int, str]] = OrderedDict()
        self._lock = threading.Lock()

    def key(self, run_id: str, step: int) -> str:
        """The key of the grid at `step`. A step that is not known has the run listed anew. Raises NotFound."""
        with self._lock:
            known = self._keys.get(run_id, {}).get(step)
            if known is not None:
                self._keys.move_to_end(run_id)
                return known
        found = {sample_step(key): key for key in self.objects.list(run_key(run_id, "samples"))}
        if step not in found:
            raise NotFound(f"run {run_id} has no samples of step {step}")
        with self._lock:
            self._keys[run_id] = found
            if len(self._keys) > RUNS:
                self._keys.popitem(last=False)
        return found[step]

    def forget(self, run_id: str) -> None:
        """Its listing is old."""
        with self._lock:
            self._keys.pop(run_id, None)
