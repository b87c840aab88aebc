"""The model a run has trained so far, from its newest checkpoint, or that of one checkpoint."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

from gans.checkpoint import WEIGHTS, spec_from
from gans.data.base import Batch, Dataset, Split
from gans.generator import Model
from gans.options import default_device
from gans.sampling import real_inputs
from orchestrator.errors import NotFound, StoreError
from orchestrator.experiment import Experiment, parse
from orchestrator.store import checkpoints
from orchestrator.store.checkpoints import Span
from orchestrator.store.files import files_for
from orchestrator.store.layout import checkpoint_folder
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
    def restore(cls, objects: Objects, run_id: str, span: Span | None = None, weights: str = "") -> Trained:
        """Read the newest checkpoint, or that at `span`, (step, attempt), whose weights' SHA-256 is `weights`.

        The data is opened only where the run has not ended and said its shapes. Raises NotFound where there is no
        such checkpoint, StoreError where its weights are others, ConfigError or DataError where it does not fit.
        """
        if (here := str(Path.cwd())) not in sys.path:
            sys.path.append(here)  # where a family of one's own was found when the run began
        run = Run(objects, run_id)
        experiment = parse(run.document()["experiment"])
        if span is None:
            spans = run.checkpoints()
            if not spans:
                raise NotFound(f"run {run_id} has no checkpoint yet; its state is {run.state()!r}")
            span = spans[-1]
        files = checkpoints.read_span(objects, run_id, span)
        if weights and hashlib.sha256(files[WEIGHTS]).hexdigest() != weights:
            folder = checkpoint_folder(run_id, *span)
            raise StoreError(
                f"store {objects.url}: {folder}/{WEIGHTS} is not what was promoted; roll back to another version"
            )
        described = (run.sealed() or {}).get("spec")
        spec = spec_from(described) if described else load_split(experiment, "held_out").spec
        model = Model.restore(experiment.gan, spec, files).to(default_device())
        return cls(run_id, experiment, model, span[0])

    def inputs(self, held_out: Dataset, num: int) -> Batch:
        """What the family samples from: `num` rows of `held_out`, none where it needs none."""
        return real_inputs(self.experiment.gan, held_out, num, self.model.device)


def load_split(experiment: Experiment, split: Split) -> Dataset:
    """A split of the experiment's data, wherever it lies."""
    return experiment.data.load(split, files_for(getattr(experiment.data, "path", "")))
