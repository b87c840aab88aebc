"""TensorBoard: event files in a folder a run, by Ray's callback; and what that leaves out, text and a fresh start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray.tune.logger import TBXLoggerCallback

from orchestrator.tracking.tools import Document, Trial, ending

TEXTS = ("verdict", "change")


class TensorBoard(TBXLoggerCallback):
    """`root` is the folder that TensorBoard is started on."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root
        self._said: dict[Trial, Document] = {}

    def setup(self, *args: object, **info: object) -> None:
        """Make the folder. Raises OSError."""
        self.root.mkdir(parents=True, exist_ok=True)

    def log_trial_start(self, trial: Any) -> None:
        """Begin the files anew: the store has the whole curve, and no step is told twice."""
        self._said[trial] = {}
        for old in Path(trial.local_path).glob("events.out.tfevents.*"):
            old.unlink()
        super().log_trial_start(trial)

    def reached(self, trial: Any) -> int:
        """Nothing is there."""
        return -1

    def log_trial_result(self, iteration: int, trial: Any, result: Document) -> None:
        """Numbers and pictures by Ray's callback; the verdict and changes of course as text."""
        super().log_trial_result(iteration, trial, result)
        for name in TEXTS:
            if (text := result.get(name)) and self._said[trial].get(name) != text:
                self._trial_writer[trial].add_text(name, text, iteration)
                self._said[trial][name] = text

    def log_trial_end(self, trial: Any, failed: bool = False) -> None:
        """How it ended is text, and a column of the table of hyperparameters."""
        told = ending(trial)
        if told and trial in self._trial_writer:
            lines = [f"{name}: {value}" for name, value in told.items()]
            self._trial_writer[trial].add_text("end", "  \n".join(lines))
            trial.evaluated_params = trial.evaluated_params | {"ended": told["state"]}
        super().log_trial_end(trial, failed)


def open_tool(where: str, name: str) -> TensorBoard:
    """TensorBoard on folder `where`."""
    return TensorBoard(Path(where))
