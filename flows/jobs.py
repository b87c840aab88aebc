"""The flows: what happens when, with which retries. Parameters are plain JSON, so that Prefect shows them as a form,
with what the docstrings say of each.

A flow whose run did not end `completed` ends as Failed, with the reason as its message.
"""

from __future__ import annotations

from textwrap import shorten
from typing import Annotated, Any, Literal

from prefect import State, flow, runtime
from prefect.states import Failed
from pydantic import Field

from flows.artifacts import show_samples, show_trials
from flows.steps import begin_run, begin_sweep, run_trials, train_run
from orchestrator.errors import RunFailed
from orchestrator.evidence import line
from orchestrator.experiment import Experiment, parse
from orchestrator.recipes import load
from orchestrator.store.objects import open_objects
from orchestrator.store.reader import Run

Document = dict[str, Any]
Trials = Annotated[int, Field(ge=1)]
Sampler = Literal["tpe", "random", "cmaes", "qmc", "gp", "nsgaii"]


def title() -> str:
    """`train vanilla.ring train.steps=30`: what the flow run at hand does."""
    asked = runtime.flow_run.parameters
    experiment = asked["experiment"]
    name = experiment if isinstance(experiment, str) else experiment.get("name", "")
    changes = [f"{field}={value}" for field, value in (asked.get("overrides") or {}).items()]
    return shorten(" ".join([runtime.flow_run.flow_name, name, *changes]), 100, placeholder=" …")


@flow(name="train", flow_run_name=title, description="Train one experiment and store everything it gives.")
def train(
    experiment: str | Document,
    store: str,
    on: str = "local",
    overrides: Document | None = None,
    run_id: str | None = None,
) -> Document | State[Any]:
    """Train one experiment; metrics, samples and checkpoints go to the store. Returns how the run ended.

    Args:
        experiment: A recipe, FILE.yaml, module:function, or an experiment as JSON.
        store: Where results go: a folder or s3://bucket/prefix.
        on: inline, local, or the address of a cluster, http://HEAD:8265.
        overrides: Fields to replace, dotted: {"train.steps": 500, "gan.lr_ratio": 2}.
        run_id: Go on with this run instead of starting one.
    """
    run_id = run_id or begin_run(resolve(experiment, overrides), store, on)
    trained = train_run(run_id, store, on)
    show_samples(store, trained)
    return failed(store, trained) or trained


@flow(
    name="sweep",
    flow_run_name=title,
    description="Search an experiment's space; collapsed trials are stopped.",
)
def sweep(
    experiment: str | Document,
    store: str,
    trials: Trials = 12,
    sampler: Sampler = "tpe",
    on: str = "local",
    overrides: Document | None = None,
    plan: Document | None = None,
    sweep_id: str | None = None,
) -> Document:
    """Search the experiment's space; fails only where no trial completes. Returns the trials and the best of them.

    Args:
        experiment: A recipe with a search space, FILE.yaml, module:function, or an experiment as JSON.
        store: Where results go: a folder or s3://bucket/prefix.
        trials: Trials in all.
        sampler: Optuna's sampler.
        on: local, or the address of a cluster, http://HEAD:8265.
        overrides: Fields to replace, dotted: {"train.steps": 500}.
        plan: What else the sweep is asked for: {"hours": 2, "objectives": ["fid", "coverage"], "stop": "median"}.
        sweep_id: Go on with this sweep until its plan is spent.
    """
    chosen = resolve(experiment, overrides)
    asked = {"trials": trials, "sampler": sampler, **(plan or {})}
    swept = run_trials(sweep_id or begin_sweep(), chosen, store, asked, on)
    show_trials(chosen["name"], swept)
    return swept


@flow(name="sweep-then-train", flow_run_name=title, description="Sweep, then train the winner data-parallel.")
def sweep_then_train(
    experiment: str | Document,
    store: str,
    trials: Trials = 12,
    sampler: Sampler = "tpe",
    on: str = "local",
    overrides: Document | None = None,
    plan: Document | None = None,
    winner: Document | None = None,
) -> Document | State[Any]:
    """Sweep, then train the winner with a budget and workers of its own. Returns the sweep and how the run ended.

    Args:
        experiment: A recipe with a search space, FILE.yaml, module:function, or an experiment as JSON.
        store: Where results go: a folder or s3://bucket/prefix.
        trials: Trials in all.
        sampler: Optuna's sampler.
        on: local, or the address of a cluster, http://HEAD:8265.
        overrides: Fields to replace in every trial, dotted: {"train.steps": 500}.
        plan: What else the sweep is asked for: {"hours": 2, "objectives": ["fid", "coverage"], "stop": "median"}.
        winner: Fields to replace in the winner: {"train.steps": 5000, "scale.workers": 2}.
    """
    chosen = resolve(experiment, overrides)
    asked = {"trials": trials, "sampler": sampler, **(plan or {})}
    swept = run_trials(begin_sweep(), chosen, store, asked, on)
    show_trials(chosen["name"], swept)
    best = swept["best"]
    final = parse(chosen).override({**best["params"], "name": "winner", **(winner or {})}).document()
    labels = {"sweep": swept["sweep_id"], "trial": best["number"]}
    trained = train_run(begin_run(final, store, on, labels), store, on)
    show_samples(store, trained)
    return failed(store, trained) or {"sweep": swept, "run": trained}


def resolve(experiment: str | Document, overrides: Document | None) -> Document:
    """The experiment as JSON: a recipe's name is looked up, overrides are applied."""
    chosen: Experiment = load(experiment) if isinstance(experiment, str) else parse(experiment)
    return chosen.override(overrides or {}).document()


def failed(store: str, outcome: Document) -> State[Any] | None:
    """The state of a flow whose run collapsed, diverged or failed, with the reason; None for one that completed."""
    if outcome["state"] == "completed":
        return None
    sealed = Run(open_objects(store), outcome["run_id"]).sealed() or {}
    said = [sealed.get("verdict"), line(sealed), sealed.get("remedy")]
    why = sealed.get("error") or " · ".join(filter(None, said))
    reason = f"run {outcome['run_id']} ended {outcome['state']} at step {outcome['step']}: {why}"
    return Failed(message=reason, data=RunFailed(reason))
