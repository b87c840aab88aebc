"""Which tools a run or a sweep is shown in, as Ray Tune's own logger callbacks, each an optional extra."""

from __future__ import annotations

from dataclasses import dataclass, fields
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

from orchestrator.errors import ConfigError, MissingExtra
from orchestrator.masking import masked

Document = dict[str, Any]
ITERATION = "training_iteration"  # as Ray calls the step
PACKAGES = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}
"""By tool, which is also its extra and our module: the package that it needs."""


@dataclass(frozen=True)
class Tools:
    """What to show it in, empty for not there: TensorBoard's folder, MLflow's address, W&B's project."""

    tensorboard: str = ""
    mlflow: str = ""
    wandb: str = ""


@dataclass(eq=False)
class Trial:
    """A run as Ray's callbacks know a trial.

    `config` is its experiment, flat, `evaluated_params` what was searched over, `local_path` where TensorBoard's files
    of it go, `sealed` how it ended, once it has.
    """

    trial_id: str
    name: str
    config: Document
    evaluated_params: Document
    local_path: str
    experiment_dir_name: str | None = None
    sealed: Document | None = None

    def __str__(self) -> str:
        return self.name

    def init_local_path(self) -> None:
        """Nothing: whoever writes there makes the folder."""


class Tool(Protocol):
    """A logger callback of Ray Tune's, and up to which step it has a trial that was begun; -1 for nothing."""

    def setup(self) -> None: ...

    def log_trial_start(self, trial: Trial) -> None: ...

    def reached(self, trial: Trial) -> int: ...

    def log_trial_result(self, iteration: int, trial: Trial, result: Document) -> None: ...

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None: ...


def open_tools(tools: Tools, name: str) -> dict[str, Tool]:
    """The tools by name, set up; `name` is what is trained. Nothing has begun yet.

    Raises MissingExtra, naming all that are not installed, and ConfigError where one refuses us.
    """
    wanted = {field.name: getattr(tools, field.name) for field in fields(tools)}
    wanted = {tool: where for tool, where in wanted.items() if where}
    if missing := [tool for tool in wanted if find_spec(PACKAGES[tool]) is None]:
        raise MissingExtra(
            f"{', '.join(f'--{tool}' for tool in missing)}: not installed; "
            f"`pip install 'ganctl[{','.join(missing)}]'`"
        )
    found: dict[str, Tool] = {}
    for tool, where in wanted.items():
        try:
            found[tool] = import_module(f"orchestrator.tracking.{tool}").open_tool(where, name)
            found[tool].setup()
        except Exception as error:  # whatever the tool raises
            said = " ".join(str(error).split())[:300]
            raise ConfigError(masked(f"--{tool} {where}: {said or type(error).__name__}")) from error
    return found


def numbers(result: Document) -> dict[str, float]:
    """The metrics of a row that are numbers."""
    wanted = {name: value for name, value in result.items() if name != ITERATION}
    return {name: float(value) for name, value in wanted.items() if isinstance(value, int | float)}


def ending(trial: Trial) -> dict[str, str]:
    """How a run ended, in words; empty where it has not."""
    if trial.sealed is None:
        return {}
    told = {name: trial.sealed.get(name) for name in ("state", "verdict", "reason", "remedy", "error")}
    return {name: str(value) for name, value in told.items() if value}
