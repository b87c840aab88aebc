"""One trial of a sweep: a run of its own in the store, whose end is told to Tune as plain fields."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

REPORT_SECONDS = 0.5  # a report is a round trip to the driver


def trial_of(
    experiment: dict[str, Any], store: str, sweep_id: str, objective: str
) -> Callable[[dict[str, Any]], None]:
    """The function trainable of a sweep. Its config is `{"trial": number, "params": {field: value}}`."""

    def run_trial(config: dict[str, Any]) -> None:
        from ray import tune

        from gans.loop import Tick
        from orchestrator.errors import ConfigError, DataError
        from orchestrator.experiment import parse
        from orchestrator.launch import announce_run
        from orchestrator.store.objects import open_objects
        from orchestrator.worker import work

        number, params = config["trial"], config["params"]
        try:
            chosen = parse(experiment).override({**params, "name": f"trial {number}", "scale.workers": 1})
        except ConfigError as error:
            tune.report({"state": "failed", "reason": str(error)})
            return
        run_id = announce_run(open_objects(store), chosen, sweep=sweep_id, trial=number, params=params)
        told = 0.0

        def report(tick: Tick) -> None:
            nonlocal told
            scored = (tick.evaluation or {}).get(objective)
            if tick.ended is None and (scored is not None or time.monotonic() - told > REPORT_SECONDS):
                told = time.monotonic()
                beat = {"step": tick.step, "progress": tick.progress, "state": "running", "run_id": run_id}
                tune.report(beat | ({"objective": scored} if scored is not None else {}))

        try:
            outcome = work(store, run_id, on_tick=report)
        except (ConfigError, DataError) as error:
            tune.report({"state": "failed", "reason": str(error), "run_id": run_id})
            return
        figures = outcome.figures
        tune.report(
            {
                "state": "complete" if outcome.healthy else outcome.state,
                "objective": figures.get(objective, math.nan),
                "figures": figures,
                "verdict": outcome.verdict,
                "step": outcome.step,
                "progress": 1.0,
                "run_id": run_id,
            }
        )

    return run_trial
