"""`ganctl retrain promote` and `rollback`: which model is in use, decided by a person. The store is enough."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import output
from orchestrator.cli.output import STORE, JsonOption, RunName, StoreOption, command

if TYPE_CHECKING:
    from orchestrator.registry.records import Promotion

ModelName = Annotated[str, typer.Argument(metavar="NAME", help="A model's name.")]


def register(commands: typer.Typer) -> None:
    """Add the commands to the group `retrain`."""
    for function in (promote, rollback):
        commands.command()(command(function))


def promote(
    name: ModelName,
    run: RunName,
    step: Annotated[
        int | None,
        typer.Option(help="The checkpoint; the one with the best FID, else the newest, unless said."),
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for the history.")] = "by hand",
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Put a run's model in use under a name, without a gate. Anybody may promote, and everybody sees who did."""
    from orchestrator.cli.lookup import resolve_model
    from orchestrator.registry.candidates import Candidate
    from orchestrator.registry.registry import Registry
    from orchestrator.store.objects import open_objects

    objects = open_objects(store)
    registry = Registry(objects)
    after = registry.newest(name)
    chosen = resolve_model(objects, run)
    if step is None and chosen.promotion is not None:
        step = chosen.promotion.step
    _tell(registry.promote(name, Candidate(chosen.run_id, step), after, reason), store, as_json)


def rollback(
    name: ModelName,
    to: Annotated[
        int | None,
        typer.Option(metavar="VERSION", help="The version; the one before the champion unless said."),
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for the history.")] = "",
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Put an earlier version in use again, at once. It needs neither Ray nor Prefect."""
    from orchestrator.registry.registry import Registry
    from orchestrator.store.objects import open_objects

    _tell(Registry(open_objects(store)).rollback(name, to, reason), store, as_json)


def _tell(made: Promotion, store: str, as_json: bool) -> None:
    if as_json:
        told = asdict(made)
        output.show_json({"run" if field == "run_id" else field: value for field, value in told.items()})
        return
    output.say(
        f"model {made.name}: version {made.version} is in use (promotion {made.number}), run {made.run_id} at step "
        f"{made.step}: {made.reason}"
    )
    output.next_steps(store, f"models show {made.name}", f"sample {made.name} -n 64 -o grid.png")
