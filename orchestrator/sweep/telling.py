"""How a sweep goes, told from Tune's events: one line for the sweep, one for each running trial."""

from __future__ import annotations

from typing import Any

from ray.tune import Callback

from orchestrator.launch import Progress


class Telling(Callback):
    """Passes `{"label", "done", "note", "end"}` to `progress` for the sweep and for every trial."""

    def __init__(self, total: int, finished: int, progress: Progress | None) -> None:
        self._total, self._finished, self._progress = total, finished, progress
        self._stopped = 0

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._tell(_label(trial), 0.0, "starting")
        self._sweep()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        note = f"step {result.get('step', 0)}"
        if "objective" in result:
            note += f" · FID {result['objective']:.1f}"
        self._tell(_label(trial), float(result.get("progress", 0.0)), note)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        state = (trial.last_result or {}).get("state", "ended")
        self._stopped += state != "complete"
        self._over(trial, state)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._stopped += 1
        self._over(trial, "crashed")

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_progress"} | {
            "_progress": None
        }

    def _over(self, trial: Any, state: str) -> None:
        self._finished += 1
        self._tell(_label(trial), 1.0, state, end=True)
        self._sweep()

    def _sweep(self) -> None:
        done = self._finished / self._total
        note = f"{self._finished} of {self._total} trials, {self._stopped} stopped as unhealthy"
        self._tell("sweep", done, note, end=self._finished >= self._total)

    def _tell(self, label: str, done: float, note: str, end: bool = False) -> None:
        if self._progress is not None:
            self._progress({"label": label, "done": done, "note": note, "end": end})


def _label(trial: Any) -> str:
    return f"trial {trial.config['trial']}"
