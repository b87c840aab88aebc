"""`ganctl models`: which model is in use under each name, its history, and whether that history is whole.

Reads the store alone; it loads no weights. Models are promoted and rolled back by `ganctl retrain`.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli import output
from orchestrator.cli.output import STORE, Column, JsonOption, StoreOption, command

if TYPE_CHECKING:
    from orchestrator.registry.records import Promotion
    from orchestrator.registry.registry import Registry

commands = typer.Typer(help="Promoted models: which is in use, since when, by whom and why.")

ModelName = Annotated[str, typer.Argument(metavar="NAME", help="A model's name; `ganctl models` lists them.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.add_typer(commands, name="models")


@commands.callback(invoke_without_command=True)
@command
def models(context: typer.Context, store: StoreOption = STORE, as_json: JsonOption = False) -> None:
    """Promoted models; without a subcommand, list them."""
    if context.invoked_subcommand is None:
        list_models(store, as_json)


@commands.command("list")
@command
def list_models(store: StoreOption = STORE, as_json: JsonOption = False) -> None:
    """List models: the champion of each, since when, by whom."""
    registry = _registry(store)
    rows = [_row(registry, name) for name in registry.names() if registry.newest(name)]
    if as_json:
        output.show_json({"store": registry.objects.url, "models": rows})
        return
    if not rows:
        url = registry.objects.url
        typer.echo(f"there are no models in {url}; promote a run: ganctl retrain promote NAME RUN", err=True)
        return
    now = time.time()
    table = []
    for row in rows:
        since = None if row["time"] is None else output.span(now - row["time"])
        place = [row["name"], row["version"], row["number"], row["run"], row["step"]]
        table.append([*place, since, row["by"] or row["problem"]])
    output.print_table(
        [
            Column("model", whole=True),
            Column("version", number=True),
            Column("number", number=True),
            Column("run", whole=True),
            Column("step", number=True),
            Column("since", number=True),
            Column("by", cut=True),
        ],
        table,
    )
    output.next_steps(store, f"models show {rows[0]['name']}", f"sample {rows[0]['name']} -n 64 -o grid.png")


def _row(registry: Registry, name: str) -> dict[str, Any]:
    """A champion for `models list`; a damaged one with its problem and nothing else."""
    from orchestrator.errors import StoreError

    fields = ("version", "number", "run", "step", "time", "by")
    try:
        told = _told(registry.require(name))
    except StoreError as error:
        return {"name": name} | dict.fromkeys(fields) | {"problem": str(error)}
    return {"name": name} | {field: told[field] for field in fields} | {"problem": None}


@commands.command("show")
@command
def show(name: ModelName, store: StoreOption = STORE, as_json: JsonOption = False) -> None:
    """Show a model's champion and every promotion and rollback, the newest first."""
    registry = _registry(store)
    readable, damaged = registry.readable(name)
    whole = readable and readable[-1].number > max(damaged, default=0)
    champion = readable[-1] if whole else None
    if as_json:
        told = {"store": registry.objects.url, "model": name, "damaged": damaged}
        history = [_told(promotion) for promotion in reversed(readable)]
        output.show_json(told | {"champion": champion and _told(champion), "history": history})
        return
    if champion is not None:
        _print_champion(champion)
        typer.echo("")
    columns: list[Column | str] = [
        Column("number", number=True),
        Column("version", number=True),
        Column("kind", whole=True),
        Column("run", whole=True),
        Column("step", number=True),
        "why",
    ]
    rows = [
        [p.number, p.version, p.kind, p.run_id, p.step, f"{_when(p)}, {p.by}: {p.reason or 'no reason'}"]
        for p in reversed(readable)
    ]
    output.print_table(columns, rows)
    if damaged:
        typer.echo(f"damaged, and not shown: promotion {', '.join(map(str, damaged))}", err=True)
    output.next_steps(store, f"sample {name} -n 64 -o grid.png", f"models verify {name}")


def _print_champion(champion: Promotion) -> None:
    code = champion.code.get("commit") or champion.code.get("ganctl")
    output.print_lines(
        {
            "model": f"{champion.name} version {champion.version}",
            "run": f"{champion.run_id} at step {champion.step}",
            "since": f"{_when(champion)}, by {champion.by}",
            "reason": champion.reason or None,
            "decision": champion.decision or None,
            "data": champion.data or None,
            "weights": champion.weights,
            "code": code,
            "digest": champion.digest,
        }
    )


@commands.command("verify")
@command
def verify(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A model; without, all.")] = None,
    digest: Annotated[
        str, typer.Option("--digest", help="A promotion's digest, noted earlier: it must be in the history.")
    ] = "",
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Check that no promotion was changed or taken away, and that promoted checkpoints are there."""
    from orchestrator.errors import ConfigError, StoreError

    if digest and name is None:
        raise ConfigError(f"--digest {digest}: name the model that it was noted of")
    registry = _registry(store)
    found: list[str] = []
    rows: list[dict[str, Any]] = []
    names = [each for each in registry.names() if registry.newest(each)]
    for each in names if name is None else [name]:
        problems = registry.problems(each, digest)
        readable, damaged = registry.readable(each)
        newest = readable[-1].digest if readable else None
        count = {"model": each, "promotions": len(readable) + len(damaged)}
        rows.append(count | {"digest": newest, "problems": problems})
        found += problems
    if as_json:
        output.show_json({"store": registry.objects.url, "models": rows})
    for row in rows:
        state = "whole" if not row["problems"] else f"{len(row['problems'])} found wrong"
        told = f"{row['model']}: {row['promotions']} promotions, {state}; newest digest {row['digest']}"
        output.say(told, quiet=as_json)
    if found:
        raise StoreError("\n".join(found))


def _registry(store: str) -> Registry:
    from orchestrator.registry.registry import Registry
    from orchestrator.store.objects import open_objects

    return Registry(open_objects(store))


def _told(promotion: Promotion) -> dict[str, Any]:
    """A promotion for `--json`: its fields, with `run` for the run's id as everywhere."""
    told = asdict(promotion)
    return {"run" if field == "run_id" else field: value for field, value in told.items()}


def _when(promotion: Promotion) -> str:
    return datetime.fromtimestamp(promotion.time, UTC).strftime("%Y-%m-%d %H:%M UTC")
