"""The flows: what happens when, with which retries. Parameters are plain JSON, so that Prefect shows them as a form.

They know nothing of torch. An experiment is a recipe's name or the experiment's own JSON; overrides are dotted
fields.
"""

from __future__ import annotations

import base64
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_image_artifact, create_table_artifact

from orchestrator.experiment import Experiment, parse
from orchestrator.launch import submit
from orchestrator.progress import Event, of_run, tell
from orchestrator.recipes import load
from orchestrator.store.objects import open_objects
from orchestrator.store.reader import Run
from orchestrator.sweep.driver import run_sweep

Document = dict[str, Any]


@flow(name="train", description="Train one experiment and store its metrics, samples and checkpoints.")
def train(
    experiment: str | Document,
    store: str,
    on: str = "local",
    overrides: Document | None = None,
    run_id: str | None = None,
) -> Document:
    """Train, show the sample grid, and return how the run ended."""
    outcome = train_run(resolve(experiment, overrides), store, on, run_id)
    show_grid(store, outcome["run_id"])
    return outcome


@flow(name="sweep", description="Search the experiment's space; collapsed trials are recognised and stopped.")
def sweep(
    experiment: str | Document,
    store: str,
    trials: int = 12,
    sampler: str = "tpe",
    on: str = "local",
    overrides: Document | None = None,
    sweep_id: str | None = None,
) -> Document:
    """Sweep, show the table of trials, and return it with the best one."""
    result = run_trials(resolve(experiment, overrides), store, trials, sampler, on, sweep_id)
    show_trials(result)
    return result


@flow(name="sweep-then-train", description="Sweep, then train the winner data-parallel.")
def sweep_then_train(
    experiment: str | Document,
    store: str,
    trials: int = 12,
    sampler: str = "tpe",
    on: str = "local",
    overrides: Document | None = None,
    winner: Document | None = None,
) -> Document:
    """Sweep, train the winner with the `winner` overrides (its budget, its workers), and return both."""
    chosen = resolve(experiment, overrides)
    swept = run_trials(chosen, store, trials, sampler, on)
    show_trials(swept)
    best = parse(chosen).override({**swept["best"]["params"], "name": "winner", **(winner or {})})
    trained = train_run(
        best.document(), store, on, labels={"sweep": swept["sweep_id"], "trial": swept["best"]["number"]}
    )
    show_grid(store, trained["run_id"])
    return {"sweep": swept, "run": trained}


@task(name="sweep trials")
def run_trials(
    experiment: Document, store: str, trials: int, sampler: str, on: str, sweep_id: str | None = None
) -> Document:
    """The sweep itself, to its last trial."""
    result = run_sweep(
        parse(experiment),
        store,
        trials=trials,
        sampler=sampler,
        on=on,
        sweep_id=sweep_id,
        progress=tell_trial,
    )
    return vars(result)


@task(name="train run")
def train_run(
    experiment: Document, store: str, on: str, run_id: str | None = None, labels: Document | None = None
) -> Document:
    """One run, from its last checkpoint where it has one."""
    chosen = parse(experiment)
    job = submit(chosen, store, on, run_id=run_id, **(labels or {}))
    outcome = job.wait(of_run(chosen.name))
    tell(Event(chosen.name, 1.0, outcome.state, end=True))
    return vars(outcome)


def resolve(experiment: str | Document, overrides: Document | None) -> Document:
    """The experiment as JSON: a recipe's name is looked up, overrides are applied."""
    chosen: Experiment = load(experiment) if isinstance(experiment, str) else parse(experiment)
    return chosen.override(overrides or {}).document()


def show_trials(result: Document) -> None:
    """The trials as a table in Prefect's UI."""
    rows = [
        {
            "trial": t["number"],
            "state": t["state"],
            "verdict": t["verdict"].get("kind"),
            **t["params"],
            **t["figures"],
        }
        for t in result["trials"]
    ]
    create_table_artifact(rows, key="trials", description=f"Trials of sweep {result['sweep_id']}")


def show_grid(store: str, run_id: str) -> None:
    """The last sample grid as a picture in Prefect's UI."""
    objects = open_objects(store)
    samples = Run(objects, run_id).samples()
    if samples:
        step, key = samples[-1]
        picture = base64.b64encode(objects.get(key)).decode()
        create_image_artifact(
            f"data:image/png;base64,{picture}", key="samples", description=f"Run {run_id}, step {step}"
        )


def tell_trial(beat: Document) -> None:
    """Pass a sweep's progress on to whoever listens."""
    tell(Event(**beat))
