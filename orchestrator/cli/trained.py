"""The model a run has trained so far, from its newest checkpoint."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from gans.checkpoint import spec_from
from gans.data.base import Batch, Dataset, Split
from gans.generator import Model
from gans.options import default_device
from gans.sampling import real_inputs
from orchestrator.errors import NotFound
from orchestrator.experiment import Experiment, parse
from orchestrator.store.files import files_for
from orchestrator.store.objects import Objects
from orchestrator.store.reader import Run


@dataclass(frozen=True)
class Trained:
    """A run's model at `step`, and the experiment that it comes from."""

    run_id: str
    experiment: Experiment
    model: Model
    step: int

    @classmethod
    def restore(cls, objects: Objects, run_id: str) -> Trained:
        """Read the newest checkpoint. The data is opened only where the run has not ended and said its shapes.

        Raises NotFound where there is no checkpoint, ConfigError or DataError where it does not fit.
        """
        if (here := str(Path.cwd())) not in sys.path:
            sys.path.append(here)  # where a family of one's own was found when the run began
        run = Run(objects, run_id)
        experiment = parse(run.document()["experiment"])
        steps = [step for step, _ in run.checkpoints()]
        if not steps:
            raise NotFound(f"run {run_id} has no checkpoint yet; its state is {run.state()!r}")
        files = run.read_checkpoint(steps[-1])
        described = (run.sealed() or {}).get("spec")
        spec = spec_from(described) if described else load_split(experiment, "held_out").spec
        model = Model.restore(experiment.gan, spec, files).to(default_device())
        return cls(run_id, experiment, model, steps[-1])

    def inputs(self, held_out: Dataset, num: int) -> Batch:
        """What the family samples from: `num` rows of `held_out`, none where it needs none."""
        return real_inputs(self.experiment.gan, held_out, num, self.model.device)


def load_split(experiment: Experiment, split: Split) -> Dataset:
    """A split of the experiment's data, wherever it lies."""
    return experiment.data.load(split, files_for(getattr(experiment.data, "path", "")))
