"""The commands that start work: demo, train, serve. They draw progress and print what to do next."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

import typer

from orchestrator.cli import tracking
from orchestrator.cli.output import STORE, JsonOption, StoreOption, command, say, show_json

Words = Annotated[
    list[str] | None, typer.Argument(help="Overrides, field=value: train.steps=500 gan.lr_ratio=2.")
]
On = Annotated[
    str, typer.Option(help="Where: inline (this process), local (a Ray of our own), or http://HEAD:8265.")
]
Data = Annotated[
    str | None, typer.Option(help="Your own data: a folder of pictures or a Parquet file, local or s3://.")
]
Collapse = Literal["remedy", "stop", "ignore"]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the resolved experiment and stop.")]


def register(app: typer.Typer) -> None:
    """Add these commands to `ganctl`."""
    for function in (demo, train, serve):
        app.command()(command(function))


def train(
    recipe: Annotated[
        str | None, typer.Argument(help="A recipe, FILE.yaml, or package.module:function.")
    ] = None,
    overrides: Words = None,
    on: On = "",
    workers: Annotated[
        str | None, typer.Option(metavar="N|N..M", help="Data-parallel ranks; 2..8 for as many as fit.")
    ] = None,
    nodes: Annotated[int | None, typer.Option(help="Machines, with as many ranks on each.")] = None,
    gpus_per_worker: Annotated[float | None, typer.Option(help="GPUs a rank.")] = None,
    cpus_per_worker: Annotated[float | None, typer.Option(help="CPUs a rank, and threads.")] = None,
    on_collapse: Annotated[
        Collapse | None,
        typer.Option(help="On a verdict: remedy (go back and mend it; unless said), stop, or ignore."),
    ] = None,
    data: Data = None,
    resume: Annotated[str | None, typer.Option(help="Go on with this run from its last checkpoint.")] = None,
    tensorboard: tracking.TensorBoard = "",
    mlflow: tracking.MLflow = "",
    wandb: tracking.WandB = "",
    dry_run: DryRun = False,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Train one GAN; metrics, sample grids and checkpoints go to the store."""
    from orchestrator.cli.drawing import drawing
    from orchestrator.cli.lookup import resolve_run
    from orchestrator.errors import ConfigError
    from orchestrator.launch import submit
    from orchestrator.progress import Event, of_run, tell
    from orchestrator.store.objects import open_objects

    if (recipe is None) == (resume is None):
        raise ConfigError("name a recipe to start a run, or --resume RUN to go on with one (not both)")
    run_id, objects = None, open_objects(store)
    if resume is not None:
        run_id = resolve_run(objects, resume)
        experiment = stored_experiment(objects, run_id)
    else:
        assert recipe is not None
        asked = {
            "scale.nodes": nodes,
            "scale.gpus_per_worker": gpus_per_worker,
            "scale.cpus_per_worker": cpus_per_worker,
            "train.on_collapse": on_collapse,
        }
        extra = {name: value for name, value in asked.items() if value is not None} | workers_of(workers)
        experiment = choose(recipe, overrides or [], data, extra)
    if dry_run:
        show_json(experiment.document())
        return
    on = on or ("local" if experiment.scale.most > 1 else "inline")
    tools = tracking.opened(experiment.name, tensorboard, mlflow, wandb)
    with drawing(quiet=as_json):
        job = submit(experiment, store, on, run_id=run_id)
        say(f"run {job.run_id} · {experiment.name} · {on}", quiet=as_json)
        with tracking.shown(objects, lambda: [job.run_id], tools, tensorboard):
            outcome = job.wait(of_run(experiment.name))
        tell(Event(experiment.name, 1.0, outcome.state, end=True))
    if as_json:
        show_json(vars(outcome))
    else:
        from orchestrator.cli.tables import show_outcome

        show_outcome(outcome, store)
    exit_unless_healthy(outcome.state)


def demo(
    trials: Annotated[int, typer.Option(min=2, help="Trials of the sweep.")] = 14,
    steps: Annotated[int, typer.Option(min=50, help="Steps of the winner's training.")] = 2000,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """The whole job on handwritten digits: sweep, recognise collapse, train the winner on two workers."""
    from orchestrator.cli.drawing import drawing

    with drawing(quiet=as_json):
        say("Starting: Prefect, Ray and PyTorch take a few seconds.", quiet=as_json)
        quiet_prefect()
        from flows.jobs import sweep_then_train
        from flows.local import start_temporary_server

        start_temporary_server()
        winner = {
            "train.steps": steps,
            "train.batch": 128,
            "train.evaluate_every": 500,
            "train.sample_every": 500,
            "train.checkpoint_every": 500,
            "train.on_collapse": "remedy",
            "scale.workers": 2,
        }
        result: Any = sweep_then_train("demo", store, trials=trials, winner=winner)
    if as_json:
        show_json(result)
    else:
        from orchestrator.cli.tables import show_outcome, show_sweep
        from orchestrator.outcome import Outcome

        show_sweep(result["sweep"], store, "demo", next_step=False)
        show_outcome(Outcome(**result["run"]), store)
    exit_unless_healthy(result["run"]["state"])


def serve(
    recipe: Annotated[str, typer.Argument(help="A recipe, FILE.yaml, or package.module:function.")],
    overrides: Words = None,
    cron: Annotated[str | None, typer.Option(help="When to run, as cron: '0 3 * * *'.")] = None,
    timezone: Annotated[str, typer.Option(help="Time zone of --cron, e.g. Europe/Berlin.")] = "UTC",
    flow: Annotated[str, typer.Option(help="train, sweep, or sweep-then-train.")] = "train",
    on: On = "local",
    store: StoreOption = STORE,
) -> None:
    """Serve a flow to the Prefect server of PREFECT_API_URL: on a cron, and on demand from its UI."""
    from orchestrator.store.objects import open_objects

    experiment = choose(recipe, overrides or [], None, {})
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    from flows.deploy import deployment_of, require_server
    from flows.deploy import serve as serve_deployment

    parameters = {"experiment": experiment.document(), "store": open_objects(store).url, "on": on}
    deployment = deployment_of(flow, parameters, experiment.name, cron, timezone)
    require_server()
    when = f"at {cron!r} ({timezone}) and on demand" if cron else "on demand"
    say(f"serving {flow}/{experiment.name} {when}; Ctrl-C ends it")
    serve_deployment(deployment)


def choose(recipe: str, words: list[str], data: str | None, extra: dict[str, Any]) -> Any:
    """The experiment of a recipe with overrides, distributions and own data; every mistake in one error."""
    from orchestrator.experiment import flatten, read_assignments
    from orchestrator.recipes import load
    from orchestrator.sweep.space import Space, parse_space, resolve_field

    experiment = load(recipe)
    if data is not None:
        kind = "parquet" if data.endswith(".parquet") else experiment.gan.folder
        experiment = experiment.override(
            {"data.kind": kind, "data.path": data, "name": f"{experiment.name}+data"}
        )
    fields = list(flatten(experiment.document()))
    space, plain = parse_space(words, fields)
    changes = {
        (name if "." in name else resolve_field(name, fields)): value
        for name, value in read_assignments(plain).items()
    }
    experiment = experiment.override({**changes, **extra})
    merged = {k: v for k, v in experiment.search.root.items() if k not in changes} | space.root
    return experiment.model_copy(update={"search": Space(merged)}) if space.root else experiment


def workers_of(text: str | None) -> dict[str, Any]:
    """The fields that `--workers 4` or `--workers 2..8` sets. Raises ConfigError."""
    from orchestrator.errors import ConfigError

    if text is None:
        return {}
    least, dots, most = text.partition("..")
    if not least.isdecimal() or (dots and not most.isdecimal()):
        raise ConfigError(f"--workers {text!r}: write a number, 4, or the least and the most, 2..8")
    return {"scale.workers": int(least), "scale.max_workers": int(most) if dots else None}


def stored_experiment(objects: Any, run_id: str) -> Any:
    """The experiment of a run in the store."""
    from orchestrator.experiment import parse
    from orchestrator.store.reader import Run

    return parse(Run(objects, run_id).document()["experiment"])


def quiet_prefect() -> None:
    """Prefect without a server: offline, silent, and patient on a slow machine. Set before it is imported."""
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")


def exit_unless_healthy(state: str) -> None:
    """A run that ended collapsed, diverged or failed ends `ganctl` with 7."""
    if state != "completed":
        raise typer.Exit(7)
