"""Figures from nearest neighbours: improved precision and recall, density and coverage."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class PrecisionRecall(NamedTuple):
    """Share of fakes on the real manifold, and of reals on the fake manifold, each in [0, 1]."""

    precision: float
    recall: float


class DensityCoverage(NamedTuple):
    """Real balls around a fake over k, in [0, ∞) with expectation 1; share of real balls hit, in [0, 1]."""

    density: float
    coverage: float


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances (N, M), float64, of `a` (N, D) and `b` (M, D).

    By matrix product, after moving the common centre to the origin: rounding stays near 1e-8 of the spread.
    """
    a, b = a.double(), b.double()
    centre = b.mean(0)
    return torch.cdist(a - centre, b - centre, compute_mode="use_mm_for_euclid_dist")


def neighbour_radii(points: Tensor, k: int) -> Tensor:
    """Distance (N,) of each of `points` (N, D) to its k-th nearest other; raises ValueError for N ≤ k."""
    if len(points) <= k:
        raise ValueError(f"k={k} nearest neighbours need more than {k} samples, not {len(points)}")
    within = distances(points, points).fill_diagonal_(0.0)
    return within.kthvalue(k + 1, dim=1).values


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> PrecisionRecall:
    """Improved precision and recall of `fake` (M, D) against `real` (N, D); use N = M.

    A set's manifold is the union of its k-nearest-neighbour balls.
    Source: Kynkäänniemi et al. 2019 (arXiv 1904.06991), eq. 1-3 (they use k = 3).
    """
    across = distances(real, fake)
    precision = (across <= neighbour_radii(real, k)[:, None]).any(0)
    recall = (across <= neighbour_radii(fake, k)[None, :]).any(1)
    return PrecisionRecall(float(precision.double().mean()), float(recall.double().mean()))


def density_coverage(real: Tensor, fake: Tensor, k: int = 5) -> DensityCoverage:
    """Density and coverage of `fake` (M, D) against `real` (N, D).

    For equal distributions E[density] = 1 and E[coverage] = 1 - Π_{i<k} (N-1-i) / (N+M-1-i), near 0.97 for
    N = M and k = 5. Source: Naeem et al. 2020 (arXiv 2002.09797), eq. 4, 5 and 9.
    """
    inside = distances(real, fake) <= neighbour_radii(real, k)[:, None]
    density = inside.double().sum(0).mean() / k
    return DensityCoverage(float(density), float(inside.any(1).double().mean()))
