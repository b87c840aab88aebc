"""Distances between two sets of feature vectors: Fréchet (FID) and kernel (KID). No network, no data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Gaussian:
    """The Gaussian fitted to features (N, D): mean (D,) and factor R (min(N, D), D) with covariance RᵀR.

    The factor is the triangular one of the centred features, so nothing is squared before it is needed: the
    distance keeps float64 precision and holds for N < D, where the covariance is singular.
    """

    mean: Tensor
    factor: Tensor

    @classmethod
    def fit(cls, features: Tensor) -> Gaussian:
        """Mean and unbiased covariance of `features` (N, D), N ≥ 2."""
        x = features.double()
        if x.ndim != 2 or len(x) < 2:
            raise ValueError(f"features must be (N, D) with N >= 2, not {tuple(x.shape)}")
        mean = x.mean(0)
        return cls(mean, torch.linalg.qr((x - mean) / (len(x) - 1) ** 0.5, mode="r").R)

    def distance(self, other: Gaussian) -> float:
        """Squared Fréchet distance |μ₁ - μ₂|² + tr(Σ₁ + Σ₂ - 2 (Σ₁Σ₂)^½), in [0, ∞).

        tr (Σ₁Σ₂)^½ is the nuclear norm of R₁R₂ᵀ, as R₁R₂ᵀ(R₁R₂ᵀ)ᵀ has the non-zero eigenvalues of Σ₁Σ₂.
        Source: Dowson & Landau 1982; Heusel et al. 2017 (arXiv 1706.08500), eq. 6.
        """
        cross = torch.linalg.svdvals(self.factor @ other.factor.T).sum()
        shift = (self.mean - other.mean).square().sum()
        total = shift + self.factor.square().sum() + other.factor.square().sum() - 2 * cross
        return max(0.0, float(total))


def frechet(real: Tensor, fake: Tensor) -> float:
    """FID: the Fréchet distance of the Gaussians fitted to `real` (N, D) and `fake` (M, D), in [0, ∞).

    Biased upwards by about 1/M: compare figures of equal M only, beside the floor of real data.
    Source: Heusel et al. 2017 (arXiv 1706.08500), eq. 6.
    """
    return Gaussian.fit(real).distance(Gaussian.fit(fake))


def kid(real: Tensor, fake: Tensor, num_subsets: int = 10, subset_size: int = 500, seed: int = 0) -> float:
    """KID: unbiased squared MMD of `real` (N, D) and `fake` (M, D), averaged over random subsets.

    Kernel k(x, y) = (x·y / D + 1)³. Each subset draws min(subset_size, N, M) of each set without replacement
    by `seed`. Scale x 1 (papers often print x 10³). Expectation 0 for equal distributions, so single values
    may be slightly negative. Source: Bińkowski et al. 2018 (arXiv 1801.01401), section 4.
    """
    size = min(subset_size, len(real), len(fake))
    if size < 2:
        raise ValueError(f"KID needs at least 2 samples of each kind, not {len(real)} real, {len(fake)} fake")
    rng = np.random.default_rng(seed)
    x, y = real.double(), fake.double()
    values = []
    for _ in range(num_subsets):
        xs = x[torch.from_numpy(rng.permutation(len(x))[:size])]
        ys = y[torch.from_numpy(rng.permutation(len(y))[:size])]
        values.append(_mmd2(xs, ys))
    return float(np.mean(values))


def _mmd2(x: Tensor, y: Tensor) -> float:
    """Unbiased MMD² of two sets of m samples: the diagonals of the two inner kernels are left out."""
    m, dim = x.shape

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        base = (a @ b.T).div_(dim).add_(1.0)
        return base * base * base

    def inner(a: Tensor) -> Tensor:
        values = kernel(a, a)
        return (values.sum() - values.diagonal().sum()) / (m * (m - 1))

    return float(inner(x) + inner(y) - 2 * kernel(x, y).mean())
