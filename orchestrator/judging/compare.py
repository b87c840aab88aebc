"""Champion and challenger side by side: both restored, both drawn from the same seeds, both measured on the data as
it is now.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from PIL import Image

from gans.data.base import Dataset, DataSpec
from gans.data.views import imitated
from gans.generator import Model
from gans.metrics.distances import frechet, kid
from gans.metrics.extractors import Extractor, extract
from gans.metrics.manifold import density_coverage, precision_recall
from gans.sampling import real_inputs
from orchestrator.errors import ConfigError, DataError, NotFound
from orchestrator.experiment import Experiment
from orchestrator.judging.figures import Reference, measure
from orchestrator.judging.gate import Decision, Measured, decide
from orchestrator.judging.options import Evaluation, Gate
from orchestrator.judging.pictures import picture, side_by_side
from orchestrator.scene import Scene
from orchestrator.store import checkpoints
from orchestrator.store.objects import Objects
from orchestrator.store.reader import Run
from orchestrator.trained import Trained


@dataclass(frozen=True)
class Contestant:
    """A checkpoint of a run: the newest, the newest at `step`, or the one at (`step`, `attempt`).

    `weights` is the SHA-256 that its weights must have, "" for any; `promotion` the record that made it champion.
    """

    run_id: str
    step: int | None = None
    attempt: int | None = None
    weights: str = ""
    promotion: int | None = None


@dataclass(frozen=True)
class Split:
    """What a split of the data was when it was judged on."""

    fingerprint: str
    items: int


@dataclass(frozen=True)
class Judgement:
    """A decision with everything behind it. `measured` has `challenger` and, where it could be compared, `champion`.

    `pictures` has the same latents for both: `challenger`, and `champion` and `grids` where it could be drawn.
    """

    decision: Decision
    evaluation: Evaluation
    gate: Gate
    contestants: Mapping[str, Contestant]
    measured: Mapping[str, Measured]
    floor: Mapping[str, float]
    data: Mapping[str, Split]
    extractor: str
    pictures: Mapping[str, Image.Image] = field(default_factory=dict)
    time: float = 0.0


def judge(
    objects: Objects,
    experiment: Experiment,
    challenger: Contestant,
    champion: Contestant | None = None,
    evaluation: Evaluation | None = None,
    gate: Gate | None = None,
    scene: Scene | None = None,
) -> Judgement:
    """Draw and measure both on `experiment.data` as it is now, with that data's extractor, and decide.

    A champion that cannot be restored, or does not fit the data, is not compared: the challenger then has only the
    gate's absolute conditions to meet, and the reason says so. Nothing is written. Raises NotFound, ConfigError or
    DataError where the challenger cannot be restored, the gate names a figure it does not have, or the data is too
    small; StoreError where weights are not those that were promoted.
    """
    evaluation, gate = evaluation or Evaluation(), gate or Gate()
    arena = Arena.of(objects, experiment, evaluation, scene or Scene(objects))
    contestants, models, unfit = entered(objects, experiment, arena, challenger, champion)
    measured = {name: arena.measured(one) for name, one in models.items()}
    check_named(gate, measured["challenger"])
    return Judgement(
        decide(gate, measured["challenger"], measured.get("champion"), unfit),
        evaluation,
        gate,
        contestants,
        measured,
        arena.floor(),
        {"train": split(arena.train), "held_out": split(arena.held_out)},
        arena.extractor.name,
        arena.pictures(models),
        time.time(),
    )


@dataclass(frozen=True)
class Arena:
    """What both contestants meet: the data as it is now, features of it, and what is drawn."""

    train: Dataset
    held_out: Dataset
    extractor: Extractor
    reference: Reference
    evaluation: Evaluation

    @classmethod
    def of(cls, objects: Objects, experiment: Experiment, evaluation: Evaluation, scene: Scene) -> Arena:
        """The arena of an experiment. Raises DataError, ConfigError."""
        train, held_out = scene.data(experiment)
        extractor = scene.extractor(experiment)
        real, held = (imitated(part, experiment.gan.imitates) for part in (train, held_out))
        return cls(train, held_out, extractor, Reference.of(real, held, extractor, evaluation), evaluation)

    @property
    def spec(self) -> DataSpec:
        """The data's fields."""
        return self.held_out.spec

    @torch.no_grad()
    def measured(self, model: Model) -> Measured:
        """Figures of `evaluation.samples` samples of each seed, with conditions as frequent as in the held-out data."""
        num = self.evaluation.samples
        inputs = real_inputs(model.family, self.held_out, num, model.device)
        features, right = [], []
        for seed in self.evaluation.seeds:
            drawn = model.sample(num, seed, inputs=inputs)
            x = drawn["x"].detach().float()
            if not torch.isfinite(x).all():
                return Measured({"fid": float("nan")})
            # Images are judged as they would be stored.
            found, shares = extract(self.extractor, x.clamp(-1.0, 1.0) if x.dim() == 4 else x)
            features.append(found)
            if shares is not None and "label" in drawn:
                right.append(shares.argmax(1) == drawn["label"].cpu())
        return measure(self.reference, torch.cat(features), torch.cat(right) if right else None)

    def floor(self) -> dict[str, float]:
        """The figures of real training rows in place of samples: what a perfect generator would score."""
        held = self.reference.held_out
        real = self.reference.training[: self.evaluation.samples * self.evaluation.draws]
        size = min(len(held), len(real))
        precision, recall = precision_recall(held[:size], real[:size])
        density, coverage = density_coverage(held[:size], real[:size])
        distances = {"fid": frechet(held, real), "kid": kid(held, real, 1, size)}
        neighbours = {"precision": precision, "recall": recall, "density": density, "coverage": coverage}
        return distances | neighbours

    def pictures(self, models: Mapping[str, Model]) -> dict[str, Image.Image]:
        """A picture of each, from the same latents, and both beside each other."""
        drawn = {name: picture(model, self.held_out, self.evaluation.seed) for name, model in models.items()}
        if len(drawn) > 1:
            drawn["grids"] = side_by_side({name: drawn[name] for name in ("champion", "challenger")})
        return drawn


def restored(objects: Objects, contestant: Contestant) -> tuple[Contestant, Model]:
    """The contestant with everything it left open, and its model. Raises what `Trained.restore` raises."""
    c = contestant
    if c.step is not None and c.attempt is not None:
        span = c.step, c.attempt
    else:
        spans = [s for s in Run(objects, c.run_id).checkpoints() if c.step in (None, s[0])]
        if not spans:
            at = "" if c.step is None else f" at step {c.step}"
            raise NotFound(f"run {c.run_id} has no finished checkpoint{at} in {objects.url}")
        span = spans[-1]
    trained = Trained.restore(objects, c.run_id, span, c.weights)
    listing = checkpoints.marker(objects, c.run_id, span)["files"]
    weights = c.weights or str(listing["weights.safetensors"]["sha256"])
    return replace(c, step=span[0], attempt=span[1], weights=weights), trained.model


def entered(
    objects: Objects, e: Experiment, arena: Arena, challenger: Contestant, champion: Contestant | None
) -> tuple[dict[str, Contestant], dict[str, Model], str]:
    """Both contestants, the models that can be measured, and why the champion's cannot.

    Raises ConfigError where the challenger's does not fit the data.
    """
    mine, model = restored(objects, challenger)
    if problem := misfit(model, arena.spec, e.gan.imitates):
        raise ConfigError(f"run {mine.run_id} does not fit experiment {e.name}: {problem}")
    contestants, models = {"challenger": mine}, {"challenger": model}
    if champion is None:
        return contestants, models, ""
    try:
        contestants["champion"], model = restored(objects, champion)
    except (NotFound, ConfigError, DataError) as error:
        return contestants | {"champion": champion}, models, str(error).partition("\n")[0]
    if not (unfit := misfit(model, arena.spec, e.gan.imitates)):
        models["champion"] = model
    return contestants, models, unfit


def misfit(model: Model, spec: DataSpec, imitates: str) -> str:
    """Why a model cannot be measured on data of this spec, empty where it can."""
    family = model.family
    if family.imitates != imitates:
        return f"it imitates the field {family.imitates}, not {imitates}"
    for name in dict.fromkeys((imitates, *family.inputs)):
        mine, now = model.spec.fields.get(name), spec.fields.get(name)
        if mine is None or now is None:
            return f"the data {'had' if now is None else 'has'} a field {name}{' then' if now is None else ' only now'}"
        if mine.shape != now.shape:
            return f"its {name} has the shape {mine.shape}, that of the data is {now.shape}"
        if mine.num_classes != now.num_classes:
            return f"it knows {mine.num_classes} classes, the data has {now.num_classes}"
    return ""


def check_named(gate: Gate, measured: Measured) -> None:
    """Raise ConfigError where the gate names figures that the challenger does not have."""
    if not measured.finite:
        return
    wrong = [
        f"gate.{field}: there is no {name} of this model on this data; figures: {', '.join(measured.figures)}"
        for field, named in (
            ("guards", gate.guards),
            ("at_most", gate.at_most),
            ("at_least", gate.at_least),
        )
        for name in named
        if name not in measured.figures
    ]
    if wrong:
        raise ConfigError("\n".join(wrong))


def split(dataset: Dataset) -> Split:
    """What is said of a split."""
    return Split(dataset.fingerprint(), len(dataset))
