"""`ganctl retrain`: retrainings in the store: apply them, look at them, silence them, end them.

All of it reads and writes the store alone; Prefect is told of a change where there is one (`tell_prefect`).
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli import output, promoting, rounds
from orchestrator.cli.output import STORE, Column, JsonOption, StoreOption, command

if TYPE_CHECKING:
    from orchestrator.retrain.settings import Settings
    from orchestrator.store.objects import Objects

commands = typer.Typer(help="Retrainings: models that are trained again on a schedule or when data arrives.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="A retraining's name, which is its model's.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    promoting.register(commands)
    rounds.register(commands)
    app.add_typer(commands, name="retrain")


@commands.callback(invoke_without_command=True)
@command
def retrain(context: typer.Context, store: StoreOption = STORE, as_json: JsonOption = False) -> None:
    """Retrainings in the store; without a subcommand, list them."""
    if context.invoked_subcommand is None:
        list_retrainings(store, as_json)


@commands.command("apply")
@command
def apply(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="FILE.yaml, FILE.json, or package.module:function.")
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved retraining and stop.")
    ] = False,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Have a retraining hold as FILE says: its experiment is resolved, and stored whole."""
    from orchestrator.retrain import settings
    from orchestrator.retrain.retraining import load

    retraining = load(file)
    if dry_run:
        output.show_json(retraining.resolved().document())
        return
    objects = _objects(store)
    before = settings.read(objects, retraining.name)
    now = settings.apply(objects, retraining)
    changed = before is None or before.number != now.number
    done = ("applied" if before is None else "changed") if changed else "unchanged"
    _changed(objects, now, done, store, as_json)


@commands.command("pause")
@command
def pause(name: Name, store: StoreOption = STORE, as_json: JsonOption = False) -> None:
    """Silence a retraining's triggers; by hand it can still be run."""
    from orchestrator.retrain import settings

    objects = _objects(store)
    _changed(objects, settings.pause(objects, name), "paused", store, as_json)


@commands.command("resume")
@command
def resume(name: Name, store: StoreOption = STORE, as_json: JsonOption = False) -> None:
    """Heed a paused retraining's triggers again."""
    from orchestrator.retrain import settings

    objects = _objects(store)
    _changed(objects, settings.resume(objects, name), "resumed", store, as_json)


@commands.command("delete")
@command
def delete(name: Name, store: StoreOption = STORE, as_json: JsonOption = False) -> None:
    """End a retraining. Its history stays, and so does the model, which can be sampled and rolled back."""
    from orchestrator.retrain import settings

    objects = _objects(store)
    _changed(objects, settings.delete(objects, name), "deleted", store, as_json)


@commands.command("list")
@command
def list_retrainings(store: StoreOption = STORE, as_json: JsonOption = False) -> None:
    """List retrainings: what fires them, how the last round of each went, which version is in use."""
    from orchestrator.retrain import settings

    objects = _objects(store)
    rows = [_row(objects, settings.require(objects, name)) for name in settings.names(objects)]
    if as_json:
        output.show_json({"store": objects.url, "retrainings": rows})
        return
    if not rows:
        typer.echo(f"there are no retrainings in {objects.url}; add one: ganctl retrain apply FILE", err=True)
        return
    columns: list[Column | str] = [
        Column("retraining", whole=True),
        Column("state", whole=True),
        "triggers",
        Column("round", number=True),
        Column("which", whole=True),
        Column("begun", number=True),
        Column("version", number=True),
    ]
    now, table = time.time(), []
    for row in rows:
        last, champion = row["round"] or {}, row["champion"] or {}
        begun = output.span(now - last["begun"]) if last else None
        told = [row["triggers"], last.get("number"), last.get("state"), begun, champion.get("version")]
        table.append([row["name"], row["state"], *told])
    output.print_table(columns, table)
    output.next_steps(store, f"retrain show {rows[0]['name']}", f"retrain history {rows[0]['name']}")


@commands.command("show")
@command
def show(name: Name, store: StoreOption = STORE, as_json: JsonOption = False) -> None:
    """Show a retraining: what it trains on what, when, what a challenger must do, its last round, its champion."""
    from orchestrator.retrain import settings
    from orchestrator.retrain.words import budget, starts

    objects = _objects(store)
    now = settings.require(objects, name)
    row = _row(objects, now)
    if as_json:
        output.show_json(row | {"settings": asdict(now)})
        return
    retraining = now.retraining
    experiment = now.document["experiment"]
    last, champion = row["round"], row["champion"]
    output.print_lines(
        {
            "retraining": f"{name}, {row['state']}",
            "settings": f"{now.number}, {now.kind} {_when(now.time)} by {now.by}",
            "triggers": row["triggers"] or "none: it is run by hand",
            "trains": f"{experiment['name']} ({experiment['gan']['family']}), {starts(retraining)}",
            "data": " ".join(f"{field} {value}" for field, value in experiment["data"].items() if value),
            "gate": f"{retraining.gate.primary} better by {retraining.gate.margin:.0%}",
            "budget": budget(retraining),
            "on": f"{retraining.on}; another round meanwhile: {retraining.overlap}",
            "notify": ", ".join(retraining.notify) or None,
            "last round": last
            and f"{last['number']}, {last['state']}, begun {_when(last['begun'])}: {last['why']}",
            "champion": champion
            and f"version {champion['version']}, run {champion['run']} at step {champion['step']}",
        }
    )
    output.next_steps(
        store, f"retrain history {name}", f"retrain {'resume' if now.paused else 'pause'} {name}"
    )


@commands.command("history")
@command
def history(name: Name, store: StoreOption = STORE, as_json: JsonOption = False) -> None:
    """Everything that happened to a model, the oldest first: settings, rounds, decisions, promotions, rollbacks."""
    from orchestrator.retrain import settings
    from orchestrator.retrain.history import history as read_history

    objects = _objects(store)
    events = read_history(objects, name)
    if not events:
        settings.require(objects, name)
    if as_json:
        output.show_json({"store": objects.url, "name": name, "events": [asdict(event) for event in events]})
        return
    columns: list[Column | str] = [
        Column("time (UTC)", whole=True),
        Column("round", number=True),
        Column("what", whole=True),
        Column("version", number=True),
        "why",
    ]
    output.print_table(
        columns, [[_when(e.time, "")[5:], e.round, e.what, e.version, e.reason] for e in events]
    )
    output.next_steps(store, f"models show {name}", f"retrain rollback {name}")


def tell_prefect(objects: Objects, now: Settings) -> bool:
    """Have Prefect's deployments of a retraining be what its settings say; False where no server is known.

    The one place where these commands touch Prefect. Raises NotFound or ConfigError where it could not be told.
    """
    from orchestrator.background import join
    from orchestrator.errors import ConfigError, NotFound

    background = join()
    if not os.environ.get("PREFECT_API_URL"):
        return False
    from orchestrator.cli.launching import quiet_prefect

    quiet_prefect()
    from flows.deploy import require_server
    from flows.retrain_deploy import deploy

    try:
        require_server()
        deploy(objects, now, background.ray if background else "")
    except (NotFound, ConfigError) as error:
        again = (
            f"settings {now.number} of {now.name} hold in the store; give the command again to tell Prefect"
        )
        raise type(error)(f"{error} ({again})") from error
    return True


def _changed(objects: Objects, now: Settings, done: str, store: str, as_json: bool) -> None:
    """Tell Prefect and the person what has become of a retraining."""
    from orchestrator.retrain.words import triggers

    told = tell_prefect(objects, now)
    if as_json:
        output.show_json({"store": objects.url, "done": done, "prefect": told, "settings": asdict(now)})
        return
    silent = ", paused" if now.paused and not now.deleted and done != "paused" else ""
    output.say(f"retraining {now.name}: {done}{silent} (settings {now.number})")
    if now.deleted:
        output.next_steps(store, f"retrain history {now.name}", f"models show {now.name}")
        return
    if not told and triggers(now.retraining):
        output.say(
            "its triggers fire once a Prefect server runs: `ganctl up`, or PREFECT_API_URL and apply again"
        )
    output.next_steps(store, f"retrain show {now.name}", f"retrain history {now.name}")


def _row(objects: Objects, now: Settings) -> dict[str, Any]:
    """A retraining for `list` and `show`: with its last round and its champion, None where there is none."""
    from orchestrator.registry.registry import Registry
    from orchestrator.retrain.rounds import latest
    from orchestrator.retrain.words import triggers

    last, champion = latest(objects, now.name), Registry(objects).champion(now.name)
    begun = {} if last is None else last.document
    return {
        "name": now.name,
        "state": "paused" if now.paused else "active",
        "triggers": "; ".join(triggers(now.retraining)),
        "round": last
        and {
            "number": last.number,
            "state": last.state(),
            "begun": begun["time"],
            "trigger": begun["trigger"],
            "items": begun["items"],
            "why": (last.end_document() or {}).get("reason") or f"{begun['trigger']}, {begun['items']} items",
        },
        "champion": champion
        and {
            "version": champion.version,
            "number": champion.number,
            "run": champion.run_id,
            "step": champion.step,
            "time": champion.time,
        },
    }


def _objects(store: str) -> Objects:
    from orchestrator.store.objects import open_objects

    return open_objects(store)


def _when(seconds: float, zone: str = " UTC") -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S") + zone
