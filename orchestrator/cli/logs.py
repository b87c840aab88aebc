"""`ganctl logs`: what the processes of a run printed, from the store."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.lookup import resolve_run
from orchestrator.cli.output import STORE, JsonOption, RunName, StoreOption, command, say, show_json

if TYPE_CHECKING:
    from orchestrator.runlog import Kept
    from orchestrator.store.objects import Objects

LOOK_SECONDS = 2.0
UNDER_WAY = ("queued", "running", "paused")


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("logs")(command(logs))


def logs(
    run: RunName,
    tail: Annotated[
        int, typer.Option("--tail", "-n", min=0, help="At most so many lines of each process; 0 for all.")
    ] = 200,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what is printed from now on, to the run's end.")
    ] = False,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """What the processes of a run or trial printed, each one's last MiB; also once machine and cluster are gone."""
    from orchestrator.errors import ConfigError
    from orchestrator.runlog import logs_of
    from orchestrator.store.objects import open_objects

    if follow and as_json:
        raise ConfigError("--json prints one document; --follow goes on printing: give one of them")
    objects = open_objects(store)
    run_id = resolve_run(objects, run)
    found = logs_of(objects, run_id)
    if as_json:
        told = {name: {"who": kept.who, "lines": _last(kept, tail)} for name, kept in found.items()}
        show_json({"run": run_id, "logs": told})
        return
    if not found:
        typer.echo(f"no process of run {run_id} has said anything yet", err=True)
    for kept in found.values():
        _show(kept, _last(kept, tail))
    if follow:
        _follow(objects, run_id, found)


def _follow(objects: Objects, run_id: str, seen: dict[str, Kept]) -> None:
    """Print what is new until the run is over."""
    from orchestrator.runlog import logs_of
    from orchestrator.store.reader import Run

    over = False
    while not over:
        over = Run(objects, run_id).state() not in UNDER_WAY  # asked first: then the last words are read
        if not over:
            time.sleep(LOOK_SECONDS)
        found = logs_of(objects, run_id)
        for name, kept in found.items():
            new = kept.total - (seen[name].total if name in seen else 0)
            if new > 0:
                _show(kept, kept.lines[-new:])
        seen = found


def _show(kept: Kept, lines: list[str]) -> None:
    say(f"{kept.who}:")
    for line in lines:
        say(line)


def _last(kept: Kept, tail: int) -> list[str]:
    return kept.lines[-tail:] if tail else kept.lines
