"""How many trials of a sweep train as one model."""

from __future__ import annotations

from orchestrator.errors import ConfigError
from orchestrator.experiment import Experiment
from orchestrator.sweep.plan import Plan

LARGEST = 16  # a larger pack asks for more trials at once than the sampler can learn from
SMALLEST = 4  # a smaller one gains nothing (docs/packing.md)


def pack_size(experiment: Experiment, plan: Plan, hosts: int) -> int:
    """Trials to a host. `auto` packs where the space leaves the architecture alone, so that trials fit together.

    Raises ConfigError where a pack is asked for that cannot be.
    """
    obstacle = _obstacle(experiment, plan)
    if plan.pack != "auto":
        if plan.pack > 1 and obstacle:
            raise ConfigError(f"pack = {plan.pack}: {obstacle}; use pack=1")
        return plan.pack
    structural = [name for name in experiment.search.fields if not _scalar(experiment, name)]
    if obstacle or structural or plan.trials is None:
        return 1
    size = min(LARGEST, plan.trials // (2 * hosts))
    return size if size >= SMALLEST else 1


def _scalar(experiment: Experiment, name: str) -> bool:
    return name == "seed" or name.removeprefix("gan.") in experiment.gan.scalars


def _obstacle(experiment: Experiment, plan: Plan) -> str:
    if experiment.scale.workers > 1:
        return f"a trial of {experiment.scale.workers} workers trains alone"
    if plan.population:
        return "members of a population train alone"
    if plan.on_collapse == "remedy":
        return "a trial that may be given a remedy trains alone"
    return ""
