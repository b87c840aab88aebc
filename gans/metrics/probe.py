"""Cheap signals of diversity for the health monitor: a few milliseconds for 128 samples."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from gans.data.base import to_float
from gans.metrics.extractors import Extractor
from gans.metrics.manifold import distances

#: Real samples that are kept, and the fewest accepted; the fewest fakes accepted.
MAX_REAL, MIN_REAL, MIN_FAKE = 512, 256, 64

#: Without an extractor images are compared at this size (px): collapse shows there, and distances stay cheap.
MAX_SIZE = 8

#: Up to this size (px) images are always compared so: on digits as telling as features, and several times cheaper.
SMALL = 16

#: Expected share of covered real points for a perfect sampler, which the radius is chosen to reach.
TARGET_COVERAGE = 0.9

#: The most a ratio is reported as.
MAX_RATIO = 1e6

#: Clusters of the real samples, of which `reach` counts those that fakes reach, and the share of its due that counts.
CLUSTERS, DUE = 16, 0.2

SIGNALS = ("reach", "pairwise", "nearest", "feature_variance", "coverage")


class SampleProbe:
    """Compares fakes with a fixed set of real samples; every signal is about 1 for fresh real samples.

    `real` (N, ...) has at least 256 samples: images float NCHW in [-1, 1] or uint8, or vectors; the first 512
    are kept, so it should be in random order. They are compared as features of `extractor`; images of at most
    16 px, and all without an extractor, as pixels averaged down to at most 8 px. Raises ValueError for fewer real
    samples.
    """

    def __init__(self, real: Tensor, extractor: Extractor | None = None) -> None:
        if len(real) < MIN_REAL:
            raise ValueError(f"a sample probe needs at least {MIN_REAL} real samples, not {len(real)}")
        small = real.ndim == 4 and max(real.shape[2:]) <= SMALL
        self._extractor = None if small else extractor
        self._real = self._space(to_float({"x": real[:MAX_REAL]})["x"])
        within = distances(self._real, self._real).fill_diagonal_(math.inf)
        self._within = within
        self._radii = within.sort(1).values  # (N, N): column k-1 is the distance to the k-th neighbour
        self._pairwise = _mean_pairwise(self._real)
        self._variance = _total_variance(self._real)
        self._centres, self._shares = _clusters(self._real)

    @torch.no_grad()
    def __call__(self, fake: Tensor) -> dict[str, float]:
        """Signals of at least 64 fakes (n, ...), in [0, 10⁶]; of more than are real, the first are used.

        `reach`: share of real samples in clusters (k-means, 16) that get at least a fifth of the fakes due to them;
        it falls with the modes that are lost, whatever the quality of the rest (bins as in Richardson and Weiss 2018,
        arXiv 1805.12462). `pairwise`: mean distance of two fakes over that of two reals. `nearest`: median distance
        of a fake to the nearest other, over the same of equally many reals. `feature_variance`: ratio of total
        variances. `coverage`: share of real points with a fake within the distance of their k-th real neighbour,
        over the share expected of n fresh real samples; k is the least for which that is 0.9. All are 0 where a
        fake is not finite. Raises ValueError for fewer fakes.
        """
        if len(fake) < MIN_FAKE:
            raise ValueError(f"a sample probe needs at least {MIN_FAKE} fakes, not {len(fake)}")
        points = self._space(fake[: len(self._real)].detach().float())
        if not torch.isfinite(points.square()).all():
            return dict.fromkeys(SIGNALS, 0.0)
        n = len(points)
        own = distances(points, points).fill_diagonal_(math.inf)
        k, expected = _neighbours(len(self._real) - 1, n)
        hit = distances(self._real, points).min(1).values <= self._radii[:, k - 1]
        nearest_real = self._within[:n, :n].min(1).values.median()
        return {
            "reach": self._reach(points),
            "pairwise": _ratio(_mean_pairwise(points), self._pairwise),
            "nearest": _ratio(float(own.min(1).values.median()), float(nearest_real)),
            "feature_variance": _ratio(_total_variance(points), self._variance),
            "coverage": float(hit.double().mean()) / expected,
        }

    def _reach(self, points: Tensor) -> float:
        cluster = distances(points, self._centres).argmin(1)
        shares = torch.bincount(cluster, minlength=len(self._centres)) / len(points)
        return float(self._shares[shares >= DUE * self._shares].sum())

    def _space(self, x: Tensor) -> Tensor:
        """Where samples are compared: features (n, D) on the CPU."""
        if self._extractor is not None:
            return self._extractor.features(x).cpu()
        if x.ndim == 4:
            x = F.adaptive_avg_pool2d(x, (min(x.shape[2], MAX_SIZE), min(x.shape[3], MAX_SIZE)))
        return x.flatten(1).float().cpu()


def expected_coverage(num_real: int, num_fake: int, k: int) -> float:
    """Chance that one of `num_fake` fresh samples lies nearer than the k-th of `num_real` real neighbours.

    1 - Π_{i<k} (num_real - i) / (num_real + num_fake - i), whatever the density: Naeem et al. 2020 (arXiv
    2002.09797), eq. 9, where the point itself is not counted among `num_real`.
    """
    missed = math.prod((num_real - i) / (num_real + num_fake - i) for i in range(k))
    return 1.0 - missed


def _clusters(points: Tensor) -> tuple[Tensor, Tensor]:
    """Centres (K, D) of at most 16 clusters of `points` (n, D), and the share of the points in each, float64."""
    from sklearn.cluster import KMeans  # takes about a second to import

    distinct = len(points.unique(dim=0))
    found = KMeans(min(CLUSTERS, distinct), n_init=3, random_state=0).fit(points.double().numpy())
    shares = torch.bincount(torch.from_numpy(found.labels_).long()).double() / len(points)
    return torch.from_numpy(found.cluster_centers_), shares


def _neighbours(num_real: int, num_fake: int) -> tuple[int, float]:
    """The least k whose expected coverage reaches the target, and that coverage."""
    k = 1
    while (expected := expected_coverage(num_real, num_fake, k)) < TARGET_COVERAGE:
        k += 1
    return k, expected


def _mean_pairwise(points: Tensor) -> float:
    n = len(points)
    return float(distances(points, points).fill_diagonal_(0.0).sum() / (n * (n - 1)))


def _total_variance(points: Tensor) -> float:
    return float(points.double().var(0).sum())


def _ratio(fake: float, real: float) -> float:
    """fake / real, at most 10⁶; 1 for 0 / 0 (constant data, constant fakes)."""
    if real == 0.0:
        return 1.0 if fake == 0.0 else MAX_RATIO
    return min(fake / real, MAX_RATIO)
