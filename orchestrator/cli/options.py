"""Options that many commands share."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from orchestrator.store.layout import DEFAULT_STORE as STORE

__all__ = ["STORE", "Force", "JsonOption", "RunName", "StoreOption", "inherited"]


def inherited(context: typer.Context, parameter: typer.CallbackParam, value: Any) -> Any:
    """The value given here; else the group's, so that `ganctl runs --json list` is `ganctl runs list --json`."""
    name, group = str(parameter.name), context.parent
    source = context.get_parameter_source(name)
    given = source is not None and source.name == "COMMANDLINE"
    return value if given or group is None else group.params.get(name, value)


StoreOption = Annotated[
    str,
    typer.Option(
        "--store",
        metavar="URL",
        envvar="GANCTL_STORE",
        callback=inherited,
        help="Where results lie: a folder or s3://bucket/prefix.",
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", callback=inherited, help="One JSON document on stdout, nothing else.")
]
RunName = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="A run's id, the beginning or end of one, `latest`, or a model's name: its champion.",
    ),
]
Force = Annotated[bool, typer.Option("--force", "-f", help="Replace what is there already.")]
