"""`ganctl runs`: list, show and compare runs. Reads the store alone; it trains and loads nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator import evidence
from orchestrator.cli import output
from orchestrator.cli.lookup import curve_place, no_runs, place, resolve_run
from orchestrator.cli.options import inherited
from orchestrator.cli.output import STORE, Column, JsonOption, RunName, StoreOption, command

if TYPE_CHECKING:
    from orchestrator.store.objects import Objects

__all__ = ["register", "resolve_run"]

commands = typer.Typer(help="Runs in the store.")

Sweep = Annotated[
    str, typer.Option("--sweep", metavar="ID", callback=inherited, help="Only the runs of this sweep.")
]
Limit = Annotated[
    int,
    typer.Option("--limit", min=0, callback=inherited, help="At most so many, the newest; 0 for all."),
]
FEW = 20
ASKED = ("id", "name", "family", "seed", "sweep", "params", "created")
TOLD = (
    *("step", "ended", "verdict", "evidence", "remedy", "error", "seconds", "images", "attempt", "data"),
    *("progress", "images_per_second", "data_wait", "sync_wait", "cpu_use", "gpu_memory", "doing"),
)
IMPLIED = {"collapsed": "mode collapse", "diverged": "diverged"}


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.add_typer(commands, name="runs")


@commands.callback(invoke_without_command=True)
@command
def runs(
    context: typer.Context,
    sweep: Sweep = "",
    limit: Limit = FEW,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Runs in the store; without a subcommand, list them."""
    if context.invoked_subcommand is None:
        list_runs(sweep, limit, store, as_json)


@commands.command("list")
@command
def list_runs(
    sweep: Sweep = "", limit: Limit = FEW, store: StoreOption = STORE, as_json: JsonOption = False
) -> None:
    """List runs, newest first."""
    from orchestrator.errors import NotFound
    from orchestrator.store.catalogue import Catalogue
    from orchestrator.store.objects import open_objects

    objects = open_objects(store)
    rows = Catalogue(objects).runs()
    if sweep:
        rows = [row for row in rows if row["sweep"] == sweep]
        if not rows:
            raise NotFound(f"no runs of a sweep {sweep!r} in {objects.url}; `ganctl runs` lists all runs")
    total, rows = len(rows), rows[: limit or None]
    if as_json:
        output.show_json({"store": objects.url, "total": total, "runs": rows})
        return
    if not rows:
        typer.echo(no_runs(objects), err=True)
        return
    _print_runs(rows)
    if total > len(rows):
        typer.echo(f"{total - len(rows)} older runs are not shown; --limit 0 shows all", err=True)
    output.next_steps(store, "runs show latest")


def _print_runs(rows: list[dict[str, Any]]) -> None:
    columns: list[Column | str] = [
        Column("run", whole=True),
        Column("name", cut=True),
        Column("family", cut=True),
        "state",
        Column("step", number=True),
        Column("FID", number=True),
        Column("cov", number=True),
        Column("age", number=True),
    ]
    now = time.time()
    table = []
    for row in rows:
        metrics = row["metrics"]
        fid, coverage = (metrics.get(name) for name in ("fid", "coverage"))
        figures = [None if fid is None else f"{fid:.3g}", None if coverage is None else f"{coverage:.2f}"]
        age = None if row["created"] is None else output.span(now - row["created"])
        table.append([row["id"], row["name"], row["family"], _state(row), row["step"], *figures, age])
    output.print_table(columns, table)


def _state(row: dict[str, Any]) -> str:
    """State and verdict in one; a verdict that the state implies is left out."""
    state, verdict = row["state"], row["verdict"]
    return state if verdict in (None, "healthy", IMPLIED.get(state)) else f"{state}, {verdict}"


@commands.command("show")
@command
def show_run(run: RunName, store: StoreOption = STORE, as_json: JsonOption = False) -> None:
    """Show one run: verdict with evidence and remedy, figures beside the real floor, where its files lie."""
    from orchestrator.store.objects import open_objects

    objects = open_objects(store)
    account = _account(objects, resolve_run(objects, run))
    if as_json:
        output.show_json(account)
        return
    _print_account(account)
    run_id = account["id"]
    output.next_steps(
        store, f"sample {run_id} -n 64 -o grid.png", f"evaluate {run_id}", f"runs compare {run_id} RUN"
    )


def _account(objects: Objects, run_id: str) -> dict[str, Any]:
    """Everything `runs show` tells, as plain JSON."""
    from orchestrator.progress import alarm
    from orchestrator.store.layout import checkpoint_folder
    from orchestrator.store.reader import Run

    run = Run(objects, run_id)
    document, sealed, live = run.document(), run.sealed(), run.live()
    told, best = sealed or live or {}, run.best_checkpoint()
    asked = {name: document.get(name) for name in ASKED}
    metrics, query = curve_place(objects, run.id)
    return {
        **asked,
        "state": run.state(),
        **{name: told.get(name) for name in TOLD},
        "stalled": alarm(live) if live and not sealed else None,
        "figures": told.get("figures") or {},
        "floor": told.get("floor") or {},
        "samples": [{"step": step, "path": place(objects, key)} for step, key in run.samples()],
        "checkpoints": [
            {
                "step": step,
                "path": place(objects, checkpoint_folder(run.id, step, attempt)),
                "best": (step, attempt) == best,
            }
            for step, attempt in run.checkpoints()
        ],
        "metrics": metrics,
        "query": query,
        "experiment": document.get("experiment"),
        "code": document.get("code"),
    }


def _print_account(account: dict[str, Any]) -> None:
    ended = f", {account['ended']}" if account["ended"] else ""
    spent = f", {output.span(account['seconds'])} of training" if account["seconds"] is not None else ""
    skipped = (account["data"] or {}).get("skipped", {})
    output.print_lines(
        {
            "run": account["id"],
            "what": f"{account['name']}: {account['family']}, seed {account['seed']}",
            "sweep": account["sweep"],
            "state": f"{account['state']} at step {output.cell(account['step'])}{ended}{spent}",
            "error": account["error"],
            "stalled": account["stalled"] or None,
            "pace": _pace(account),
            "verdict": account["verdict"],
            **{f"  evidence {i}": evidence.sign(e) for i, e in enumerate(account["evidence"] or [], 1)},
            "  remedy": account["remedy"] or None,
            "skipped": f"{skipped['count']} undecodable items" if skipped.get("count") else None,
        }
    )
    typer.echo()
    output.print_figures({"run": account["figures"], "real floor": account["floor"]})
    typer.echo()
    places = {name: _newest(account[name]) for name in ("samples", "checkpoints")}
    best = next((checkpoint["path"] for checkpoint in account["checkpoints"] if checkpoint["best"]), None)
    query = f'duckdb.sql("""{account["query"]}""")'
    output.print_lines({**places, "best": best, "metrics": account["metrics"], "read": query})
    if account["state"] in ("lost", "interrupted", "stopped", "preempted"):
        typer.echo(f"it goes on with: ganctl train --resume {account['id']}", err=True)


def _pace(account: dict[str, Any]) -> str | None:
    """How fast a run that is not sealed goes, and what rank 0 does by itself just now."""
    from orchestrator.progress import pace

    progress, seconds = account["progress"], account["seconds"]
    left = f"{output.span(seconds / progress - seconds)} left" if progress and seconds else ""
    return " · ".join(filter(None, [*pace(account), left, account["doing"]])) or None


def _newest(items: list[dict[str, Any]]) -> str:
    if not items:
        return "none yet"
    return items[-1]["path"] + (f"  (newest of {len(items)})" if len(items) > 1 else "")


@commands.command("stop")
@command
def stop_run(
    run: RunName,
    now: Annotated[bool, typer.Option("--now", help="By force at once, without a checkpoint.")] = False,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Stop a run: with a checkpoint where it heeds it, by force where not, within half a minute."""
    from orchestrator.stop import stop_run as stop
    from orchestrator.store.objects import open_objects
    from orchestrator.store.reader import Run

    objects = open_objects(store)
    run_id = resolve_run(objects, run)
    with output.working("waiting for a checkpoint"):
        state = stop(objects, run_id, now)
    saved = [step for step, _ in Run(objects, run_id).checkpoints()]
    if as_json:
        output.show_json({"id": run_id, "state": state, "checkpoint": saved[-1] if saved else None})
        return
    at = f"its last checkpoint is that of step {saved[-1]}" if saved else "it has no checkpoint yet"
    output.say(f"run {run_id} is {state}; {at}")
    output.next_steps(store, f"train --resume {run_id}")


@commands.command("compare")
@command
def compare_runs(
    runs: Annotated[list[str], typer.Argument(metavar="RUN RUN...", help="Two runs or more.")],
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Put runs side by side: the fields in which their experiments differ, and their figures."""
    from orchestrator.experiment import flatten
    from orchestrator.store.objects import open_objects

    objects = open_objects(store)
    accounts = {run_id: _account(objects, run_id) for run_id in (resolve_run(objects, text) for text in runs)}
    if len(accounts) < 2:
        raise typer.BadParameter("name at least two different runs", param_hint="RUN RUN...")
    fields = {run_id: flatten(account["experiment"] or {}) for run_id, account in accounts.items()}
    names = dict.fromkeys(name for flat in fields.values() for name in flat)
    table = {name: {run_id: flat.get(name) for run_id, flat in fields.items()} for name in names}
    differences = {
        name: row for name, row in table.items() if len({repr(value) for value in row.values()}) > 1
    }
    comparison = {
        "runs": list(accounts),
        "differences": differences,
        **{
            part: {i: a[part] for i, a in accounts.items()}
            for part in ("state", "verdict", "figures", "floor")
        },
    }
    if as_json:
        output.show_json(comparison)
    else:
        _print_comparison(comparison)


def _print_comparison(comparison: dict[str, Any]) -> None:
    """One column a run, headed by the last part of its id."""
    ids = comparison["runs"]
    short = {run_id: run_id.rpartition("-")[2] for run_id in ids}
    told = {part: comparison[part] for part in ("state", "verdict")} | comparison["differences"]
    heads: list[Column | str] = ["field", *(Column(short[i]) for i in ids)]
    output.print_table(heads, [[name, *(row[i] for i in ids)] for name, row in told.items()])
    typer.echo()
    floors = {f"{short[i]} floor": comparison["floor"][i] for i in ids}
    distinct = {repr(floor) for floor in floors.values()}
    shown = {"real floor": comparison["floor"][ids[0]]} if len(distinct) == 1 else floors
    output.print_figures({short[i]: comparison["figures"][i] for i in ids} | shown)
