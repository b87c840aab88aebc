"""Ray Tune's view of a ledger: what Tune asks and tells, passed to the study that is the truth of the sweep.

Tune's own snapshot of a searcher is disposable, so nothing is written to it: a sweep carries on by opening its ledger
again under a new Tuner. A trial is a function that reports the fields below.

    state      "running" until its last report, then "complete", "failed", or why it was stopped ("collapsed", …)
    objective  a float, or a list with one for each direction; `step`: where it was measured
    verdict    `gans.health.Verdict.document()`;  `reason`: for "failed";  `run_id`: its run in the store
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.tune.search import Searcher

from orchestrator.sweep.ledger import Ledger
from orchestrator.sweep.space import Space


class LedgerSearch(Searcher):
    """Hands out trials until the ledger holds `total`, as `{"trial": number, "params": {field: value}}`."""

    def __init__(self, ledger: Ledger, space: Space, total: int) -> None:
        super().__init__()
        self._ledger = ledger
        self._space = space
        self._total = total
        self._numbers: dict[str, int] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its searcher into `tuner.pkl` beside the results, where no connection may go.
        return {name: value for name, value in self.__dict__.items() if name != "_ledger"}

    def suggest(self, trial_id: str) -> dict[str, Any] | str:  # type: ignore[override] # FINISHED is one
        if self._ledger.remaining(self._total) == 0:
            return Searcher.FINISHED
        number, params = self._ledger.ask(self._space)
        self._numbers[trial_id] = number
        return {"trial": number, "params": params}

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        number = self._numbers[trial_id]
        if run_id := result.get("run_id"):
            self._ledger.note(number, run_id=run_id)
        self._ledger.report(
            number, int(result.get("step", result["training_iteration"])), result.get("objective")
        )

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        number = self._numbers[trial_id]
        if error:
            self._ledger.fail(number, "the trial raised, or its process died; see its error file")
        elif result is not None:
            # Without a result Tune dropped a trial that never started: closing the ledger puts it back.
            self._tell(number, result)

    def _tell(self, number: int, result: Mapping[str, Any]) -> None:
        state, objective = result.get("state"), result.get("objective")
        if state is None:
            self._ledger.fail(number, "the trial ended without saying how: it reported no `state`")
        elif state == "complete":
            self._ledger.complete(number, objective)
        elif state == "failed":
            self._ledger.fail(number, result.get("reason") or "the trial reported `failed`")
        else:
            reason = "stopped by Tune's scheduler" if state == "running" else state
            # Tune hands a result over flattened, with "/" between the levels.
            verdict = {k.removeprefix("verdict/"): v for k, v in result.items() if k.startswith("verdict/")}
            self._ledger.prune(number, verdict, reason)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: open the ledger again instead."""
