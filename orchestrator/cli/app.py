"""What `ganctl` consists of: one module a noun, each adding its commands."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli import (
    benchmark,
    dashboard,
    doctor,
    evaluate,
    export,
    families,
    housekeeping,
    launching,
    logs,
    models,
    recipes,
    retrain,
    runs,
    sample,
    sweeps,
    up,
)
from orchestrator.cli.terminal import Ganctl

app = typer.Typer(
    name="ganctl",
    cls=Ganctl,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    traceback: Annotated[
        bool,
        typer.Option(
            "--traceback", help="Show where an error came from; anywhere on the line, or GANCTL_TRACEBACK=1."
        ),
    ] = False,
) -> None:
    """Sweeps, data-parallel training and scheduled retraining of GANs that recognise mode collapse.

    Results lie in a store (--store or GANCTL_STORE): plain Parquet, PNG and JSON in a folder or a bucket.
    """
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"ganctl {installed('ganctl')}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


for noun in (
    launching,
    sweeps,
    recipes,
    families,
    runs,
    logs,
    models,
    retrain,
    sample,
    evaluate,
    benchmark,
    export,
    housekeeping,
    doctor,
    dashboard,
    up,
):
    noun.register(app)
