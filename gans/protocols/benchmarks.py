"""The mode-collapse protocols as values: data, methods, budgets, definitions, published figures.

ring            8 Gaussians on the unit circle           Lin et al. 2018 (PacGAN), section 4.1
grid            25 Gaussians                             the same
stacked-digits  1,000 triples of scikit-learn's digits   the next one's, without a download
stacked-mnist   1,000 triples of MNIST's digits          Srivastava et al. 2017 (VEEGAN), section 4.2
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from gans.data.base import DataConfig, Dataset, Files
from gans.data.points import Grid, Ring
from gans.data.stacked import StackedData, StackedDigits, StackedMnist
from gans.errors import ConfigError
from gans.loop import train
from gans.metrics.convnet import VERSION as CLASSIFIER
from gans.metrics.convnet import classifier_extractor
from gans.metrics.extractors import Cache
from gans.options import default_device
from gans.pictures import grid, scatter
from gans.protocols import methods, published
from gans.protocols.measures import DRAWS, Figures, Judge, PointsJudge, StackedJudge
from gans.protocols.methods import Budget, Entrant, Method
from gans.protocols.published import Published
from gans.schedule import Cosine

POINT_SAMPLES, STACKED_SAMPLES = 2_500, 26_000
STACKED_TRAINING = 128_000
SHOWN = 100  # pictures in a grid
NAMES = ("ring", "grid", "stacked-digits", "stacked-mnist")


@dataclass(frozen=True)
class Outcome:
    """What became of one training: its figures, and a picture of its samples."""

    figures: Figures
    picture: Image.Image


@dataclass(frozen=True)
class Benchmark(ABC):
    """One protocol. `samples` are drawn for the figures; `epochs` is the published budget, `quick` the reduced one."""

    name: str
    data: DataConfig
    modes: int
    samples: int
    epochs: float
    quick: float
    methods: Mapping[str, Method]
    published: tuple[Published, ...]
    #: Names what `judge` makes of equal samples: change it when a definition changes.
    definitions: ClassVar[str]

    def budget(self, epochs: float | None = None, quick: bool = False) -> Budget:
        """The published budget, the reduced one, or so many epochs of either kind."""
        return Budget(epochs if epochs is not None else self.quick if quick else self.epochs, quick)

    def entrant(self, method: str, budget: Budget) -> Entrant:
        """The method called `method`. Raises ConfigError."""
        if method not in self.methods:
            known = ", ".join(self.methods)
            raise ConfigError(f"method {method!r}: benchmark {self.name} knows {known}")
        return self.methods[method](budget)

    @abstractmethod
    def judge(self, files: Files | None = None, cache: Cache | None = None) -> Judge:
        """What measures samples; `cache` keeps what it had to learn for that."""

    @abstractmethod
    def draw(self, samples: Tensor, real: Dataset) -> Image.Image:
        """A picture of samples."""

    def run(
        self,
        entrant: Entrant,
        seed: int,
        judge: Judge,
        real: Dataset,
        tell: Callable[[float], None] = lambda done: None,
    ) -> Outcome:
        """Train `entrant` on `real` and measure it; `tell` hears which share is done."""
        examiner = _Examiner(judge, self.samples)
        ticks = train(
            entrant.family, real, entrant.train, seed=seed, device=default_device(), evaluate=examiner
        )
        for tick in ticks:
            tell(tick.progress)
        assert examiner.figures is not None
        return Outcome(examiner.figures, self.draw(examiner.samples, real))


class Points(Benchmark):
    """Ring and grid."""

    definitions = "within 3 sigma"

    def judge(self, files: Files | None = None, cache: Cache | None = None) -> Judge:
        fresh = self.data.model_copy(update={"num": DRAWS * self.samples}).load("held_out", files)
        return PointsJudge(fresh, self.samples)

    def draw(self, samples: Tensor, real: Dataset) -> Image.Image:
        return scatter(real.fetch(real.order(0, 0)[: self.samples])["x"], samples)


class Digits(Benchmark):
    """Stacked digits of either origin."""

    definitions = f"hardened classifier {CLASSIFIER}"

    def judge(self, files: Files | None = None, cache: Cache | None = None) -> Judge:
        assert isinstance(self.data, StackedData)
        singles = self.data.single_digits("train", files)
        classifier = classifier_extractor(singles, cache=cache, hardened=True)
        return StackedJudge(classifier, singles.tensors["x"], self.samples)

    def draw(self, samples: Tensor, real: Dataset) -> Image.Image:
        return grid([samples[:SHOWN]])


class _Examiner:
    """Keeps the figures and the samples of a training's end, as the loop's evaluator."""

    def __init__(self, judge: Judge, num: int) -> None:
        self.num_samples, self._judge = num, judge
        self.figures: Figures | None = None
        self.samples = torch.empty(0)

    def __call__(self, x: Tensor, labels: Tensor | None = None) -> dict[str, float]:
        self.samples = x.cpu()
        self.figures = self._judge(self.samples)
        return {"modes": self.figures.modes, "kl": self.figures.kl}


def benchmark(name: str, path: str | None = None) -> Benchmark:
    """The protocol called `name`; stacked MNIST takes the `path` to MNIST. Raises ConfigError."""
    if name not in NAMES:
        raise ConfigError(f"benchmark {name!r}: there are {', '.join(NAMES)}")
    if name == "stacked-mnist":
        if path is None:
            raise ConfigError(
                "stacked-mnist needs MNIST, which is not downloaded: --data PATH, a folder of idx files, an .npz "
                "archive or Parquet; stacked-digits needs none"
            )
        return _stacked(name, StackedMnist(path=path, num=STACKED_TRAINING))
    if path is not None:
        raise ConfigError(f"benchmark {name} makes its own data: leave --data out ({path!r} was given)")
    if name == "stacked-digits":
        return _stacked(name, StackedDigits(size=16, num=STACKED_TRAINING))
    return _ring() if name == "ring" else _grid()


def _ring() -> Points:
    gamma = Cosine(start=0.1, end=0.001)
    return _points("ring", Ring(), 8, published.RING, quick=6, gamma=gamma, packed=gamma)


def _grid() -> Points:
    gamma, packed = Cosine(start=0.5, end=0.01), Cosine(start=0.1, end=0.001)
    return _points("grid", Grid(), 25, published.GRID, quick=10, gamma=gamma, packed=packed)


def _points(
    name: str,
    data: DataConfig,
    modes: int,
    figures: tuple[Published, ...],
    quick: float,
    gamma: Cosine,
    packed: Cosine,
) -> Points:
    """`gamma` of R1 and R2 is that of r3gan, `packed` that of packing with penalties."""
    return Points(
        name=name,
        data=data,
        modes=modes,
        samples=POINT_SAMPLES,
        epochs=400,
        quick=quick,
        methods={
            "gan": methods.points_gan,
            "pacgan2": partial(methods.points_gan, pac=2),
            "pacgan4": partial(methods.points_gan, pac=4),
            "pacgan2-r": partial(methods.points_pac, gamma=packed),
            "r3gan": partial(methods.points_r3gan, gamma=gamma),
        },
        published=figures,
    )


def _stacked(name: str, data: StackedData) -> Digits:
    return Digits(
        name=name,
        data=data,
        modes=1_000,
        samples=STACKED_SAMPLES,
        epochs=50,
        quick=18,
        methods={
            "gan": methods.stacked_gan,
            "pacgan2": partial(methods.stacked_gan, pac=2),
            "pacgan4": partial(methods.stacked_gan, pac=4),
            "r3gan": methods.stacked_r3gan,
        },
        published=published.STACKED,
    )


def documents(bench: Benchmark, budget: Budget) -> dict[str, Any]:
    """Everything that the figures depend on, as plain JSON: a change of it makes other results."""
    entrants = {name: bench.entrant(name, budget) for name in bench.methods}
    return {
        "benchmark": bench.name,
        "data": bench.data.model_dump(mode="json"),
        "samples": bench.samples,
        "definitions": bench.definitions,
        "methods": {
            name: {"gan": e.family.model_dump(mode="json"), "train": e.train.model_dump(mode="json")}
            for name, e in entrants.items()
        },
    }
