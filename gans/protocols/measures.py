"""What the protocols measure: captured modes, the share of high quality, the reverse KL, and a perfect sampler's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from gans.data.base import Dataset, chunks, to_float
from gans.errors import ConfigError
from gans.metrics.extractors import Extractor
from gans.metrics.modes import class_coverage, mode_coverage

CHANNELS = 3
DRAWS = 10  # perfect samplers whose mean is the floor
BATCH = 1024  # pictures classified at a time


@dataclass(frozen=True)
class Figures:
    """Modes captured, KL(samples' modes || data's modes) in nats, share of high quality in [0, 1] (points only)."""

    modes: float
    kl: float
    hq: float | None = None


class Judge(Protocol):
    """Measures samples `x`; `floor` is the same of samples of the data, which no generator can better."""

    @property
    def floor(self) -> Figures: ...

    def __call__(self, x: Tensor) -> Figures: ...


class PointsJudge:
    """PacGAN's 2-D definitions (`gans.metrics.mode_coverage`) on `num` points at a time.

    `real` holds fresh draws of a mixture with known modes, at least `num`; the floor is the mean over as many sets of
    `num` as it has, up to ten.
    """

    def __init__(self, real: Dataset, num: int) -> None:
        if real.modes is None:
            raise ConfigError("the points protocol needs data with known modes: ring or grid")
        if len(real) < num:
            raise ConfigError(f"the floor of {num} samples needs as many real ones; the data has {len(real)}")
        self._modes = real.modes
        sets = [real.fetch(rows)["x"] for rows in chunks(min(len(real), DRAWS * num), num)]
        self.floor = _mean([self(points) for points in sets if len(points) == num])

    def __call__(self, x: Tensor) -> Figures:
        found = mode_coverage(x, self._modes)
        return Figures(found.captured, found.reverse_kl, found.hq_share)


class StackedJudge:
    """The stacked-digits definitions: a digit classifier by argmax on each channel, whose triple is the mode.

    `classifier` was trained on the single digits, of which `singles` (N, 1, S, S) are those that the data stacks. The
    data's mode frequencies are products of the digits' frequencies in `singles`, as the classifier sees them, because
    channels are drawn independently. The floor is the mean of ten perfect samplers of `num` triples.
    Source: VEEGAN, Srivastava et al. 2017 (arXiv 1705.07761), section 4.2.
    """

    def __init__(self, classifier: Extractor, singles: Tensor, num: int) -> None:
        self._classifier = classifier
        digits = self._digits(to_float({"x": singles})["x"])
        self.num_digits = int(digits.max()) + 1
        share = torch.bincount(digits, minlength=self.num_digits).double() / len(digits)
        self.frequencies = torch.cartesian_prod(share, share, share).prod(1)
        rng = np.random.default_rng(0)
        sets = [rng.integers(len(digits), size=(num, CHANNELS)) for _ in range(DRAWS)]
        self.floor = _mean([self._figures(digits[torch.from_numpy(rows)]) for rows in sets])

    def __call__(self, x: Tensor) -> Figures:
        """Of pictures (N, 3, S, S) in [-1, 1]; those with a value that is not finite are of no mode."""
        finite = x[x.flatten(1).isfinite().all(1)]
        if not len(finite):
            return Figures(0, -math.log(float(self.frequencies[self.frequencies > 0].min())))
        return self._figures(self.triples(finite))

    def triples(self, x: Tensor) -> Tensor:
        """(N, 3, S, S) → the digit in each channel, (N, 3) int64."""
        digits = self._digits(x.clamp(-1, 1).flatten(0, 1).unsqueeze(1))
        return digits.view(len(x), CHANNELS)

    def _digits(self, pictures: Tensor) -> Tensor:
        found = []
        for piece in pictures.split(BATCH):
            likely = self._classifier.probabilities(self._classifier.features(piece))
            assert likely is not None
            found.append(likely.argmax(1).cpu())
        return torch.cat(found)

    def _figures(self, triples: Tensor) -> Figures:
        k = self.num_digits
        mode = (triples[:, 0] * k + triples[:, 1]) * k + triples[:, 2]
        found = class_coverage(mode, self.frequencies)
        return Figures(found.captured, found.reverse_kl)


def _mean(figures: Sequence[Figures]) -> Figures:
    shares = [f.hq for f in figures if f.hq is not None]
    return Figures(
        modes=sum(f.modes for f in figures) / len(figures),
        kl=sum(f.kl for f in figures) / len(figures),
        hq=sum(shares) / len(shares) if shares else None,
    )
