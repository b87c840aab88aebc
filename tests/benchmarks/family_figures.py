"""What a recipe is judged by: one figure beside that of real data and that of a method that learns nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import interpolate, l1_loss

from gans.data import domains, photos
from gans.data.base import Batch, Dataset, to_float
from gans.data.shapes import CLASSES, Shapes
from gans.data.views import imitated
from gans.metrics import Evaluator, Extractor, classifier_extractor, extractor_for, frechet
from gans.metrics.extractors import extract, fetch_subset
from gans.metrics.modes import mode_coverage
from gans.metrics.pictures import psnr

if TYPE_CHECKING:
    from orchestrator.trained import Trained

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
    from orchestrator.trained import load_split

    e = trained.experiment
    return imitated(load_split(e, name), e.gan.imitates)  # type: ignore[arg-type]


def held_out(trained: Trained, num: int = 256) -> Batch:
    """Rows of the held-out split, all fields, as floats."""
    from orchestrator.trained import load_split

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
    from orchestrator.trained import load_split

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


def super_resolution(trained: Trained) -> list[Figure]:
    """PSNR and FID to the true pictures, beside bicubic interpolation. No floor of PSNR: the truth's is infinite."""
    rows = held_out(trained)
    truth, low = rows["x"], rows["low"]
    bicubic = interpolate(low, size=truth.shape[-2:], mode="bicubic", align_corners=False)
    made = mapped(trained, rows)
    near, plain = float(psnr(made, truth).mean()), float(psnr(bicubic, truth).mean())
    extractor = extractor_for(split(trained, "train"))
    real, ours, theirs = (extract(extractor, x.clamp(-1, 1))[0] for x in (truth, made, bicubic))
    return [
        Figure("psnr", near, float("inf"), plain, "bicubic", higher=True),
        Figure("fid", frechet(real, ours), 0.0, frechet(real, theirs), "bicubic"),
    ]


def translation(truth: Callable[[Batch], Tensor]) -> Callable[[Trained], list[Figure]]:
    """L1 to the true picture of domain b, beside the picture of domain a itself, and beside the mean picture."""

    def figures(trained: Trained) -> list[Figure]:
        rows = held_out(trained)
        true, made = truth(rows), mapped(trained, rows)
        mean = fetch_subset(split(trained, "train"), 2_000, SEED)["x"].mean(0).expand_as(true)
        naive = {"the mean picture": mean}
        if rows["a"].shape[1] in (1, true.shape[1]):
            naive["a copy of the picture"] = rows["a"].expand_as(true)
        far = {name: float(l1_loss(x, true)) for name, x in naive.items()}
        nearest = min(far, key=lambda name: far[name])
        return [Figure("l1", float(l1_loss(made, true)), 0.0, far[nearest], nearest)]

    return figures


def attributes(trained: Trained) -> list[Figure]:
    """The share of rows translated to the class asked for, by a classifier of each attribute, beside a copy of them."""
    data = trained.experiment.data
    assert isinstance(data, Shapes)
    found, rows = [], held_out(trained)
    family = trained.experiment.gan
    inputs = {name: rows[name] for name in family.inputs}
    samples = trained.model.sample(len(rows["x"]), SEED, inputs=inputs)
    for name in CLASSES:
        if f"to_{name}" not in samples:
            continue
        judge = classifier_extractor(Shapes(size=data.size, label=name).load("train"))
        asked = samples[f"to_{name}"]
        turned = asked >= 0
        shares = [
            float((_predicted(judge, x)[turned] == asked[turned]).float().mean())
            for x in (samples["x"], rows["x"])
        ]
        found.append(
            Figure(f"{name} accuracy", shares[0], 1.0, shares[1], "a copy of the picture", higher=True)
        )
    return found


def _predicted(judge: Extractor, x: Tensor) -> Tensor:
    """The class of each picture, (N,)."""
    _, shares = extract(judge, x.clamp(-1, 1))
    assert shares is not None
    return shares.argmax(1)


FIGURES: dict[str, Callable[[Trained], list[Figure]]] = {
    "cyclegan.digits": translation(lambda rows: domains.transform(rows["a"])),
    "cyclegan.photos": translation(lambda rows: photos.transform(rows["a"])),
    "pix2pix.labels": translation(lambda rows: rows["b"]),
    "pix2pix.edges": translation(lambda rows: rows["b"]),
    "srgan.photos": super_resolution,
    "srgan.photos2x": super_resolution,
    "stargan.joint": attributes,
}
"""By recipe; the others are judged by `distance`, and points by `quality`."""


def figures_of(name: str, trained: Trained) -> list[Figure]:
    """The figures of a trained recipe."""
    field = trained.model.spec.fields[trained.experiment.gan.imitates]
    return FIGURES.get(name, distance if field.kind == "image" else quality)(trained)
