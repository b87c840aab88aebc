"""MLflow by Ray's callback: a run of ours is one of MLflow's, found again by its tag; a row is one request."""

from __future__ import annotations

import logging
import os
import time
from typing import Any

from ray.air.integrations.mlflow import MLflowLoggerCallback

from orchestrator.tracking.tools import Document, Trial, ending, numbers

TAG = "ganctl.run"
IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""What is not taken now is told again at the next look."""


class MLflow(MLflowLoggerCallback):
    """Runs go into the experiment of MLFLOW_EXPERIMENT_NAME, else into one called as what is trained."""

    def __init__(self, uri: str, name: str) -> None:
        for variable, value in IMPATIENT.items():
            os.environ.setdefault(variable, value)
        for logger in ("mlflow", "alembic"):
            logging.getLogger(logger).setLevel(logging.WARNING)
        super().__init__(tracking_uri=uri, experiment_name=os.environ.get("MLFLOW_EXPERIMENT_NAME") or name)
        self._reached: dict[Trial, int] = {}
        self._verdict: dict[Trial, str] = {}

    def log_trial_start(self, trial: Any) -> None:
        """Begin a run, or go on with the one that has our tag, which keeps its parameters and its metrics."""
        found = self._client().search_runs(
            [self.mlflow_util.experiment_id], f"tags.`{TAG}` = '{trial.trial_id}'", max_results=1
        )
        self._reached[trial] = -1
        if found:
            self._trial_runs[trial] = found[0].info.run_id
            self._reached[trial] = int(found[0].data.metrics.get("step", -1))
            self._client().update_run(found[0].info.run_id, status="RUNNING")
            return
        self.tags = {TAG: trial.trial_id}
        if trial.experiment_dir_name:
            self.tags["ganctl.sweep"] = trial.experiment_dir_name
        super().log_trial_start(trial)

    def reached(self, trial: Any) -> int:
        """The step of the last row that MLflow has."""
        return self._reached[trial]

    def log_trial_result(self, iteration: int, trial: Any, result: Document) -> None:
        """All metrics of the row at once: Ray's callback asks and tells for each of them."""
        from mlflow.entities import Metric, RunTag

        now = int(time.time() * 1000)
        told = {**numbers(result), "step": float(iteration)}
        verdict = str(result.get("verdict") or "")
        changed = verdict and self._verdict.get(trial) != verdict
        self._client().log_batch(
            self._trial_runs[trial],
            metrics=[Metric(name, value, now, iteration) for name, value in told.items()],
            tags=[RunTag("verdict", verdict)] if changed else [],
        )
        self._verdict[trial] = verdict

    def log_trial_end(self, trial: Any, failed: bool = False) -> None:
        """How it ended are tags."""
        for name, value in ending(trial).items():
            self._client().set_tag(self._trial_runs[trial], name, value[:5000])
        super().log_trial_end(trial, failed)

    def _client(self) -> Any:
        return self.mlflow_util._get_client()


def open_tool(where: str, name: str) -> MLflow:
    """MLflow at the address `where`: of a server, or sqlite:///FILE."""
    return MLflow(where, name)
