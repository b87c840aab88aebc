"""W&B by Ray's callback, whose two actors a run are replaced by one run in this process: no Ray is needed for it."""

from __future__ import annotations

from typing import Any

import wandb
from ray.air.integrations.wandb import WandbLoggerCallback

from orchestrator.tracking.tools import Document, Trial, ending, numbers


class WandB(WandbLoggerCallback):
    """A run of ours is one of W&B's, under the same id; W&B drops what is told of a step again."""

    def __init__(self, project: str) -> None:
        super().__init__(project=project)
        self._runs: dict[Trial, Any] = {}

    def _start_logging_actor(self, trial: Any, exclude_results: list[str], **init: Any) -> None:
        quiet = wandb.Settings(console="off", silent=True)
        again = {"resume": "allow", "reinit": "create_new", "settings": quiet}
        self._runs[trial] = wandb.init(**init | again)

    def reached(self, trial: Any) -> int:
        """The step before the one that W&B waits for."""
        return int(self._runs[trial].step) - 1

    def log_trial_result(self, iteration: int, trial: Any, result: Document) -> None:
        """Metrics, the verdict, and the picture of the step."""
        told: Document = {**numbers(result), "verdict": result.get("verdict")}
        if (grid := result.get("samples")) is not None:
            told["samples"] = wandb.Image(grid.transpose(1, 2, 0))
        self._runs[trial].log(told, step=iteration)

    def log_trial_end(self, trial: Any, failed: bool = False) -> None:
        """How it ended is in the summary; then all of it is sent."""
        run = self._runs.pop(trial)
        run.summary.update(ending(trial))
        run.finish(exit_code=int(failed))

    def _cleanup_logging_actors(self, timeout: int = 0, kill_on_timeout: bool = False) -> None:
        """There are none."""


def open_tool(where: str, name: str) -> WandB:
    """W&B's project `where`; WANDB_API_KEY, or WANDB_MODE=offline, come from the environment."""
    return WandB(where)
