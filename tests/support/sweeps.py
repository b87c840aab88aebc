"""A finished sweep in a store without Ray or training: made-up runs, a real conductor, a real ledger, real results."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from orchestrator.experiment import Experiment
from orchestrator.recipes import load
from orchestrator.store.documents import encode
from orchestrator.store.ids import new_id
from orchestrator.store.layout import run_key, sample_key
from orchestrator.store.objects import Objects, open_objects
from orchestrator.sweep.conductor import Conductor
from orchestrator.sweep.folder import SweepResult, sweep_key
from orchestrator.sweep.ledger import Ledger, open_ledger
from orchestrator.sweep.messages import Assignment, Beat
from orchestrator.sweep.plan import Plan, parse_plan
from orchestrator.sweep.results import finish
from orchestrator.sweep.space import Choice, LogUniform, Space

STEPS, EVERY = 100, 20
FLOOR = {"fid": 0.3, "coverage": 0.98}
SPACE = Space(
    {
        "gan.lr_ratio": LogUniform(low=0.1, high=10.0),
        "gan.loss": Choice(options=("hinge", "relativistic")),
        "gan.r1": LogUniform(low=0.03, high=3.0, sets=("gan.r2",), when={"gan.loss": ("relativistic",)}),
    }
)


@dataclass(frozen=True)
class Made:
    """A sweep that was driven to its end."""

    objects: Objects
    id: str
    plan: Plan
    experiment: Experiment
    result: SweepResult


def experiment_of(space: Space = SPACE, name: str = "made up") -> Experiment:
    """Digits, searched over `space`, with `STEPS` steps a trial."""
    made = load("vanilla.digits").override(
        {"name": name, "train.steps": STEPS, "train.evaluate_every": EVERY}
    )
    return made.model_copy(update={"search": space})


def make_sweep(store: str, experiment: Experiment | None = None, **plan: Any) -> Made:
    """Drive a sweep over made-up trials to its end; `plan` are fields of the plan."""
    objects, chosen = open_objects(store), experiment or experiment_of()
    asked = parse_plan({"sampler": "random", "stop": "none"} | plan)
    sweep_id = begin(objects, chosen, asked)
    with ledger_of(objects, sweep_id, asked, chosen.seed) as ledger:
        drive(objects, ledger, chosen, asked)
        result = finish(objects, sweep_id, ledger, asked, chosen)
    return Made(objects, sweep_id, asked, chosen, result)


def begin(objects: Objects, experiment: Experiment, plan: Plan) -> str:
    """Write sweep.json; returns the id."""
    sweep_id = new_id()
    document = {"id": sweep_id, "created": time.time(), "on": "local", "plan": plan.model_dump(mode="json")}
    objects.put(sweep_key(sweep_id, "sweep.json"), encode(document | {"experiment": experiment.document()}))
    return sweep_id


def ledger_of(objects: Objects, sweep_id: str, plan: Plan, seed: int = 0) -> Ledger:
    """The sweep's ledger, a journal beside its results."""
    path = objects.local_path(sweep_key(sweep_id, "journal.log"))
    assert path is not None
    return open_ledger(path, sweep_id, plan.directions, plan.sampler, seed, plan.objectives)


def drive(objects: Objects, ledger: Ledger, experiment: Experiment, plan: Plan, most: int = 10**6) -> None:
    """Run trials one after the other until the sweep is over, or at most so many."""
    tunable = [f"gan.{name}" for name in experiment.gan.scalars]
    conductor = Conductor(ledger, experiment.search, plan, seed=experiment.seed, tunable=tunable)
    for _ in range(most):
        given = conductor.next()
        if given is None:
            return
        live(objects, conductor, given)


def live(objects: Objects, conductor: Conductor, given: Assignment) -> None:
    """One trial from its beginning to its end, with a sealed run and a sample grid in the store."""
    run_id = given.run_id or new_id()
    for step in range(EVERY, STEPS + 1, EVERY):
        figures = figures_of(given.params, step, given.seed or 0)
        beat = Beat(given.number, "running", step, step / STEPS, step / 10, 1.0, figures, HEALTHY, run_id)
        beat = replaced(beat, checkpoint=step)
        if given.params["gan.lr_ratio"] < 0.3 and step == 2 * EVERY:
            seal(objects, run_id, "collapsed", step, figures, collapse(step))
            conductor.hear(replaced(beat, state="collapsed", verdict=collapse(step)))
            return
        if conductor.hear(beat).do == "stop":
            seal(objects, run_id, "pruned", step, figures, HEALTHY)
            conductor.hear(replaced(beat, state="pruned"))
            return
    seal(objects, run_id, "completed", STEPS, figures, HEALTHY)
    conductor.hear(replaced(beat, state="complete"))


def replaced(beat: Beat, **changes: Any) -> Beat:
    return Beat(**(vars(beat) | changes))


HEALTHY = {"kind": "healthy", "evidence": [], "remedy": ""}


def collapse(step: int) -> dict[str, Any]:
    """A verdict on a collapse that was seen at `step`."""
    sign = {"signal": "probe_coverage", "value": 0.05, "threshold": 0.12, "window": 3, "step": step}
    return {"kind": "mode collapse", "evidence": [sign], "remedy": "raise gan.lr_ratio from 0.2 to 2"}


def figures_of(params: Mapping[str, Any], step: int, seed: int = 0) -> dict[str, float]:
    """FID is best at lr_ratio 1 and by relativistic; coverage is best at 4: so they are traded for each other."""
    ratio = params["gan.lr_ratio"]
    worse = 4.0 if params.get("gan.loss") == "hinge" else 0.0
    fid = 2.0 + worse + 6.0 * max(ratio, 1 / ratio) ** 0.5 + 300.0 / step + 0.1 * seed
    coverage = 0.9 / max(ratio / 4, 4 / ratio) ** 0.4
    return {"fid": fid, "coverage": coverage}


def seal(
    objects: Objects,
    run_id: str,
    state: str,
    step: int,
    figures: Mapping[str, float],
    verdict: Mapping[str, Any],
) -> None:
    """What a run leaves behind, as far as a sweep reads it."""
    end = {"state": state, "step": step, "figures": figures, "floor": FLOOR, "verdict": verdict["kind"]}
    end |= {"evidence": verdict["evidence"], "remedy": verdict["remedy"], "changes": []}
    objects.put(run_key(run_id, "sealed.json"), encode(end))
    sink = io.BytesIO()
    Image.new("L", (16, 16), 255 * step // STEPS).save(sink, "PNG")
    objects.put(sample_key(run_id, step, "0123abcd"), sink.getvalue())
