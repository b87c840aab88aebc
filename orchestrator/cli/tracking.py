"""The options that show a run or a sweep in other people's tools, too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from orchestrator.store.objects import Objects

TensorBoard = Annotated[
    str, typer.Option("--tensorboard", metavar="DIR", help="Also write TensorBoard's event files, into DIR.")
]
MLflow = Annotated[
    str,
    typer.Option("--mlflow", metavar="URI", help="Also log to MLflow: http://HOST:5000 or sqlite:///FILE."),
]
WandB = Annotated[
    str, typer.Option("--wandb", metavar="PROJECT", help="Also log to this project of W&B (WANDB_API_KEY).")
]


def opened(name: str, tensorboard: str, mlflow: str, wandb: str) -> Mapping[str, Any]:
    """The tools that were asked for, set up; `name` is what is trained. Raises MissingExtra, ConfigError."""
    if not (tensorboard or mlflow or wandb):
        return {}
    from orchestrator.tracking.tools import Tools, open_tools

    return open_tools(Tools(tensorboard, mlflow, wandb), name)


def shown(
    objects: Objects, ids: Callable[[], list[str]], tools: Mapping[str, Any], folder: str
) -> AbstractContextManager[None]:
    """Show the runs of `ids` in the tools meanwhile; `folder` is TensorBoard's."""
    from orchestrator.tracking.follower import following

    def warn(line: str) -> None:
        typer.echo(f"warning: {line}", err=True)

    return following(objects, ids, tools, folder, warn)
