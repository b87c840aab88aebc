"""Ray Tune's view of a sweep: what Tune asks and hears, passed to the conductor, and its orders left at the desk.

Tune's own snapshot of a searcher is disposable, so nothing is written to it: a sweep carries on by opening its ledger
again under a new Tuner. A Tune trial is a host (`host.py`) that is given one trial of the ledger, or a pack of them, as
`{"trials": [Assignment, ...]}`, and reports `{"beats": [Beat as dict, ...]}`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from ray.tune.search import Searcher

from orchestrator.sweep.conductor import Conductor
from orchestrator.sweep.messages import Answers, Assignment, Beat


class LedgerSearch(Searcher):
    """Hands out the conductor's trials, `size` to a Tune trial. `leave(trial_id, orders)` is where orders go."""

    def __init__(self, conductor: Conductor, leave: Callable[[str, Answers], None], size: int = 1) -> None:
        super().__init__()
        self._conductor, self._leave, self._size = conductor, leave, size
        self._open: dict[str, set[int]] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its searcher into `tuner.pkl` beside the results, where no connection may go.
        return {"_size": self._size}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override] # FINISHED is one
        given = self._next(self._size)
        if not given:
            return Searcher.FINISHED if self._conductor.over else None
        self._open[trial_id] = {assignment.number for assignment in given}
        return {"trials": [asdict(assignment) for assignment in given]}

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        if "beats" not in result:
            return
        orders: Answers = []
        for said in result["beats"]:
            beat = Beat(**said)
            order = self._conductor.hear(beat)
            if beat.state == "running":
                orders.append((beat.number, order))
            else:
                self._open[trial_id].discard(beat.number)
        self._leave(trial_id, [*orders, *self._refilled(trial_id)])

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        for number in self._open.pop(trial_id, ()):
            self._conductor.lost(number, "its process died")

    def _refilled(self, trial_id: str) -> list[Assignment]:
        """The next trials for a pack with room; alone, a trial makes room by ending its Tune trial."""
        if self._size == 1:
            return []
        given = self._next(self._size - len(self._open[trial_id]))
        self._open[trial_id] |= {assignment.number for assignment in given}
        return given

    def _next(self, most: int) -> list[Assignment]:
        given: list[Assignment] = []
        while len(given) < most and (assignment := self._conductor.next()) is not None:
            given.append(assignment)
        return given

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: open the ledger again instead."""
