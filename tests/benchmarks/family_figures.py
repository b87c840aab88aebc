"""What a recipe is judged by: one figure beside that of real data and that of a method that learns nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import interpolate, l1_loss

from gans.data.base import Batch, Dataset, to_float
from gans.data.domains import transform
from gans.data.views import imitated
from gans.metrics import Evaluator, extractor_for
from gans.metrics.extractors import fetch_subset
from gans.metrics.modes import mode_coverage

if TYPE_CHECKING:
    from orchestrator.cli.trained import Trained

SEED = 11
COMPONENTS = 256  # principal components of the Gaussian that stands for a generator without a network


@dataclass(frozen=True)
class Figure:
    """A figure of a recipe, of real held-out data (`floor`), and of a naive method, which is to be beaten."""

    name: str
    value: float
    floor: float
    baseline: float
    naive: str
    higher: bool = False


def split(trained: Trained, name: str) -> Dataset:
    """The training or the held-out split, with what the generator imitates under the name `x`."""
    from orchestrator.cli.trained import load_split

    e = trained.experiment
    return imitated(load_split(e, name), e.gan.imitates)  # type: ignore[arg-type]


def held_out(trained: Trained, num: int = 256) -> Batch:
    """Rows of the held-out split, all fields, as floats."""
    from orchestrator.cli.trained import load_split

    rows = load_split(trained.experiment, "held_out")
    return to_float(rows.fetch(rows.order(SEED, 0)[: min(num, len(rows))]))


def mapped(trained: Trained, rows: Batch) -> Tensor:
    """The samples that a family which maps data makes of `rows`."""
    inputs = {name: rows[name] for name in trained.experiment.gan.inputs}
    return trained.model.sample(len(next(iter(rows.values()))), SEED, inputs=inputs)["x"]


def gaussian(train: Dataset, num: int) -> Tensor:
    """`num` samples of the Gaussian fitted to the training samples, on their first principal components."""
    x = fetch_subset(train, 5_000, SEED)["x"].flatten(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        _, spread, axes = torch.pca_lowrank(x, q=min(COMPONENTS, *x.shape))
        z = torch.randn(num, len(spread)) * spread / len(x) ** 0.5
    drawn = x.mean(0) + z @ axes.T
    return drawn.view(num, *train.spec.x.shape)


def distance(trained: Trained) -> list[Figure]:
    """FID, and the share of asked-for classes where there are labels to ask for."""
    from orchestrator.cli.trained import load_split

    train, held = split(trained, "train"), split(trained, "held_out")
    evaluator = Evaluator(train, held, extractor_for(train, choice=trained.experiment.train.extractor))
    num = evaluator.num_samples
    inputs = trained.inputs(load_split(trained.experiment, "held_out"), num)
    drawn = trained.model.sample(num, SEED, inputs=inputs)
    figures, plain = evaluator(drawn["x"], drawn.get("label")), evaluator(gaussian(train, num))
    name = "a Gaussian of the pixels"
    found = [Figure("fid", figures["fid"], evaluator.floor["fid"], plain["fid"], name)]
    if "label_accuracy" in figures and train.spec.num_classes:
        chance = 1 / train.spec.num_classes
        floor = evaluator.floor["label_accuracy"]
        found.append(
            Figure("label accuracy", figures["label_accuracy"], floor, chance, "chance", higher=True)
        )
    return found


def quality(trained: Trained) -> list[Figure]:
    """The share of points near a mode, which a Gaussian of the points misses."""
    train, held = split(trained, "train"), split(trained, "held_out")
    assert train.modes is not None
    x = trained.model.sample(2_500, SEED)["x"]
    shares = [
        mode_coverage(points, train.modes)[1]
        for points in (x, held.fetch(held.order(0, 0)[:2_500])["x"], gaussian(train, 2_500))
    ]
    return [Figure("hq", *shares, "a Gaussian of the points", higher=True)]


def psnr(x: Tensor, truth: Tensor) -> float:
    """Mean over pictures in [-1, 1] of the peak signal-to-noise ratio, in dB."""
    errors = (x.clamp(-1, 1) - truth).square().flatten(1).mean(1).clamp(min=1e-10)
    return float((10 * torch.log10(4 / errors)).mean())


def super_resolution(trained: Trained) -> list[Figure]:
    """PSNR beside bicubic interpolation. No floor: the truth's is infinite."""
    rows = held_out(trained)
    truth, low = rows["x"], rows["low"]
    bicubic = interpolate(low, size=truth.shape[-2:], mode="bicubic", align_corners=False)
    values = psnr(mapped(trained, rows), truth), float("inf"), psnr(bicubic, truth)
    return [Figure("psnr", *values, "bicubic", higher=True)]


def translation(truth: Callable[[Batch], Tensor]) -> Callable[[Trained], list[Figure]]:
    """L1 to the true picture of domain b, beside the picture of domain a itself."""

    def figures(trained: Trained) -> list[Figure]:
        rows = held_out(trained)
        true = truth(rows)
        copied = rows["a"].expand_as(true) if rows["a"].shape[1] in (1, true.shape[1]) else 0 * true
        made = mapped(trained, rows)
        values = float(l1_loss(made, true)), 0.0, float(l1_loss(copied, true))
        return [Figure("l1", *values, "a copy of the picture")]

    return figures


FIGURES: dict[str, Callable[[Trained], list[Figure]]] = {
    "cyclegan.digits": translation(lambda rows: transform(rows["a"])),
}
"""By recipe; the others are judged by `distance`, and points by `quality`."""


def figures_of(name: str, trained: Trained) -> list[Figure]:
    """The figures of a trained recipe."""
    field = trained.model.spec.fields[trained.experiment.gan.imitates]
    return FIGURES.get(name, distance if field.kind == "image" else quality)(trained)
