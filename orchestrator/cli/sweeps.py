"""`ganctl sweep`: start a sweep, look at it while it runs and afterwards, stop it and go on with it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from orchestrator.cli import output, tracking
from orchestrator.cli.defaults import StartGroup
from orchestrator.cli.lookup import place, resolve_sweep
from orchestrator.cli.output import STORE, Column, JsonOption, StoreOption, command

if TYPE_CHECKING:
    from orchestrator.sweep.folder import Sweep

commands = typer.Typer(cls=StartGroup, help="Sweeps in the store: look at them, stop them, go on with them.")

SweepName = Annotated[
    str, typer.Argument(metavar="SWEEP", help="A sweep's id, the beginning or end of one, or `latest`.")
]
Trials = Annotated[int | None, typer.Option(min=1, help="Trials in all; 12 where no other budget is given.")]
Hours = Annotated[float | None, typer.Option(help="Wall-clock, over all sessions of the sweep.")]
DeviceHours = Annotated[float | None, typer.Option(help="Time that trials hold devices, over all of them.")]
On = Annotated[
    str,
    typer.Option(
        help="Where: local (a Ray of our own), auto (the cluster this process is in), or http://HEAD:8265."
    ),
]
Limit = Annotated[int, typer.Option(min=0, help="At most so many, the newest; 0 for all.")]
FEW = 20


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.add_typer(commands, name="sweep")


@commands.callback()
def sweep(store: StoreOption = STORE, as_json: JsonOption = False) -> None:
    """Sweeps in the store: look at them, stop them, go on with them."""


@commands.command("start")
@command
def start(
    recipe: Annotated[
        str | None, typer.Argument(help="A recipe with a search space, FILE.yaml, or module:function.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Overrides, and distributions: lr_ratio='loguniform(0.1,10)' train.steps=500."),
    ] = None,
    trials: Trials = None,
    hours: Hours = None,
    device_hours: DeviceHours = None,
    sampler: Annotated[
        str | None, typer.Option(help="Optuna's sampler: tpe (unless said), random, cmaes, qmc, gp, nsgaii.")
    ] = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(help="Figure to search by: fid (unless said), coverage, ...; twice for a Pareto front."),
    ] = None,
    stop: Annotated[
        Literal["asha", "median", "none"] | None,
        typer.Option(help="Which trials to stop for their figures: by asha (unless said), median, or none."),
    ] = None,
    pbt: Annotated[
        bool, typer.Option("--pbt", help="Population: bad trials go on from the weights of good ones.")
    ] = False,
    pack: Annotated[
        str | None,
        typer.Option(help="Trials trained as one model: auto (unless said), 1, or at most so many."),
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Seeds a completed configuration; 1.")] = None,
    warm_start: Annotated[
        list[str] | None,
        typer.Option(metavar="SWEEP", help="Learn from an earlier sweep's trials; repeatable."),
    ] = None,
    on_collapse: Annotated[
        Literal["stop", "remedy", "ignore"] | None,
        typer.Option(
            help="What a collapse leads to: stop (unless said), a remedy inside the run, or nothing."
        ),
    ] = None,
    on: On = "local",
    data: Annotated[
        str | None,
        typer.Option(help="Your own data: a folder of pictures or a Parquet file, local or s3://."),
    ] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="SWEEP", help="Go on with this sweep; as `sweep resume`.")
    ] = None,
    tensorboard: tracking.TensorBoard = "",
    mlflow: tracking.MLflow = "",
    wandb: tracking.WandB = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved experiment and plan, and stop.")
    ] = False,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Search learning-rate balance and architecture; collapsed trials are recognised and stopped."""
    given = {
        "trials": trials,
        "hours": hours,
        "device_hours": device_hours,
        "sampler": sampler,
        "objectives": objective or None,
        "stop": stop,
        "population": pbt or None,
        "pack": int(pack) if pack is not None and pack.isdecimal() else pack,
        "seeds": seeds,
        "warm_start": warm_start or None,
        "on_collapse": on_collapse,
    }
    from orchestrator.cli.launching import choose
    from orchestrator.errors import ConfigError
    from orchestrator.store.objects import open_objects
    from orchestrator.sweep.plan import parse_plan

    if (recipe is None) == (resume is None):
        raise ConfigError("name a recipe to start a sweep, or --resume SWEEP to go on with one (not both)")
    objects = open_objects(store)
    if resume is not None:
        sweep_id, experiment, plan = _again(objects, resume, given)
    else:
        assert recipe is not None
        given["warm_start"] = [resolve_sweep(objects, earlier) for earlier in warm_start or ()]
        sweep_id, experiment, plan = None, choose(recipe, overrides or [], data, {}), parse_plan(given)
    if dry_run:
        output.show_json(experiment.document() | {"plan": plan.model_dump(mode="json")})
    else:
        _sweep(experiment, plan, sweep_id, on, store, as_json, (tensorboard, mlflow, wandb))


@commands.command("resume")
@command
def resume_sweep(
    sweep: SweepName,
    trials: Trials = None,
    hours: Hours = None,
    device_hours: DeviceHours = None,
    on: On = "local",
    tensorboard: tracking.TensorBoard = "",
    mlflow: tracking.MLflow = "",
    wandb: tracking.WandB = "",
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Go on with a sweep that was stopped or killed, or that shall have a larger budget."""
    from orchestrator.store.objects import open_objects

    given = {"trials": trials, "hours": hours, "device_hours": device_hours}
    sweep_id, experiment, plan = _again(open_objects(store), sweep, given)
    _sweep(experiment, plan, sweep_id, on, store, as_json, (tensorboard, mlflow, wandb))


def _again(objects: Any, text: str, given: dict[str, Any]) -> tuple[str, Any, Any]:
    """Id, experiment and plan of a sweep in the store, the plan with what is `given` now."""
    from orchestrator.experiment import parse
    from orchestrator.sweep.folder import read_sweep
    from orchestrator.sweep.plan import parse_plan

    sweep_id = resolve_sweep(objects, text)
    begun = read_sweep(objects, sweep_id)
    said = {name: value for name, value in given.items() if value is not None}
    return sweep_id, parse(begun["experiment"]), parse_plan(begun["plan"] | said)


def _sweep(
    experiment: Any,
    plan: Any,
    sweep_id: str | None,
    on: str,
    store: str,
    as_json: bool,
    shown_in: tuple[str, str, str],
) -> None:
    """Run a sweep to its end and show it; `shown_in`: folder, address and project of the tools of `tracking`."""
    from orchestrator.cli.drawing import drawing
    from orchestrator.cli.tables import show_sweep
    from orchestrator.progress import Event, tell
    from orchestrator.store.ids import new_id
    from orchestrator.store.objects import open_objects
    from orchestrator.sweep.driver import run_sweep
    from orchestrator.sweep.folder import run_ids

    sweep_id, objects = sweep_id or new_id(), open_objects(store)
    tools = tracking.opened(experiment.name, *shown_in)
    with (
        drawing(quiet=as_json),
        tracking.shown(objects, lambda: run_ids(objects, sweep_id), tools, shown_in[0]),
    ):
        result = run_sweep(
            experiment, store, plan, on=on, sweep_id=sweep_id, progress=lambda beat: tell(Event(**beat))
        )
    if as_json:
        output.show_json(vars(result))
    else:
        show_sweep(vars(result), store, experiment.name)


@commands.command("ls")
@command
def list_sweeps(limit: Limit = FEW, store: StoreOption = STORE, as_json: JsonOption = False) -> None:
    """List sweeps, newest first: how each stands, its trials, its best."""
    from orchestrator.cli.lookup import no_sweeps
    from orchestrator.store.objects import open_objects
    from orchestrator.sweep.folder import sweep_ids, sweeps

    objects = open_objects(store)
    rows = [_account(sweep) for sweep in sweeps(objects, limit or None)]
    if as_json:
        output.show_json({"store": objects.url, "total": len(sweep_ids(objects)), "sweeps": rows})
        return
    if not rows:
        typer.echo(no_sweeps(objects), err=True)
        return
    columns: list[Column | str] = [
        Column("sweep", whole=True),
        Column("name", cut=True),
        Column("state", whole=True),
        Column("trials", number=True),
        Column("stopped", number=True),
        Column("best", whole=True),
        Column("age", number=True),
    ]
    now = time.time()
    table = []
    for row in rows:
        counts = [f"{row['trials']} of {row['budget'] or '?'}", row["stopped"]]
        best = " ".join(f"{name} {value:.3g}" for name, value in row["best"].items())
        table.append([row["id"], row["name"], row["state"], *counts, best, output.span(now - row["created"])])
    output.print_table(columns, table)
    if limit and (more := len(sweep_ids(objects)) - limit) > 0:
        typer.echo(f"{more} older sweeps are not shown; --limit 0 shows all", err=True)
    output.next_steps(store, "sweep show latest")


def _account(sweep: Sweep) -> dict[str, Any]:
    """What `sweep ls` tells of a sweep: trials that ended, how many of them were stopped, the best one's objectives."""
    ended = [row["state"] for row in sweep.rows if row["state"] not in ("WAITING", "RUNNING")]
    best = sweep.result.best if sweep.result is not None else None
    return {
        "id": sweep.id,
        "name": sweep.begun["experiment"]["name"],
        "state": sweep.state,
        "trials": len(ended),
        "stopped": ended.count("PRUNED"),
        "budget": sweep.begun["plan"]["trials"],
        "best": best["objectives"] if best is not None else {},
        "created": sweep.begun["created"],
    }


@commands.command("show")
@command
def show(sweep: SweepName, store: StoreOption = STORE, as_json: JsonOption = False) -> None:
    """Show a sweep: trials with their ends, the best, what each end cost, what mattered, where its report lies."""
    from orchestrator.cli.tables import show_running, show_sweep
    from orchestrator.store.objects import open_objects
    from orchestrator.sweep.folder import open_sweep

    objects = open_objects(store)
    found = open_sweep(objects, resolve_sweep(objects, sweep))
    if as_json:
        result = None if found.result is None else vars(found.result)
        told = {"state": found.state, "sweep": found.begun, "live": found.live, "result": result}
        output.show_json(_account(found) | told)
    elif found.state == "finished":
        assert found.result is not None
        show_sweep(vars(found.result), store, found.begun["experiment"]["name"])
    else:
        show_running(found, store)


@commands.command("stop")
@command
def stop_sweep(sweep: SweepName, store: StoreOption = STORE, as_json: JsonOption = False) -> None:
    """Ask a running sweep to end: nothing new begins, and what runs is stopped at its next tick."""
    from orchestrator.errors import ConfigError
    from orchestrator.store.documents import encode
    from orchestrator.store.objects import open_objects
    from orchestrator.sweep.folder import open_sweep, sweep_key

    objects = open_objects(store)
    found = open_sweep(objects, resolve_sweep(objects, sweep))
    if found.state == "finished":
        raise ConfigError(f"sweep {found.id} has finished; there is nothing to stop")
    key = sweep_key(found.id, "stop.json")
    objects.put(key, encode({"time": time.time()}))
    if as_json:
        output.show_json({"sweep": found.id, "state": found.state, "wish": place(objects, key)})
        return
    output.say(f"sweep {found.id}, {found.state}, is asked to stop")
    if found.state == "running":
        output.say(
            "nothing new begins, and its trials end when they are next heard of; their results are kept"
        )
    else:
        output.say("its driver has not been heard of lately: if it is gone there is nothing left to stop")
    output.next_steps(store, f"sweep show {found.id}", f"sweep resume {found.id}")
