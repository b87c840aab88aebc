"""How many known classes or modes the samples reach, and how evenly."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from gans.data.base import Modes
from gans.metrics.manifold import distances

#: Frequency given to a class that has no real sample, so that the reverse KL stays finite.
EMPTY_CLASS_FREQUENCY = 1e-9

#: A sample within this Mahalanobis distance of its nearest mode is of high quality.
HQ_RADIUS = 3.0


class ClassCoverage(NamedTuple):
    """Number of classes with at least one sample, and KL(fake classes || real classes) in nats, in [0, ∞)."""

    captured: int
    reverse_kl: float


class ModeCoverage(NamedTuple):
    """Number of modes with an HQ sample, HQ share in [0, 1], KL(HQ histogram || uniform) in nats."""

    captured: int
    hq_share: float
    reverse_kl: float


def class_coverage(labels_fake: Tensor, real_frequencies: Tensor) -> ClassCoverage:
    """Classes captured by samples that a classifier labelled `labels_fake` (N,) int64, N ≥ 1.

    `real_frequencies` (K,) are the data's class frequencies (or counts). The KL has a floor above 0 for a
    perfect sampler (about (K-1) / 2N): print it beside the figure.
    Source: VEEGAN, Srivastava et al. 2017 (arXiv 1705.07761); PacGAN, Lin et al. 2018 (arXiv 1712.04086).
    """
    counts = torch.bincount(labels_fake.cpu(), minlength=len(real_frequencies)).double()
    if len(counts) > len(real_frequencies):
        raise ValueError(f"label {len(counts) - 1} is not one of the {len(real_frequencies)} classes")
    real = real_frequencies.cpu().double()
    real = (real / real.sum()).clamp(min=EMPTY_CLASS_FREQUENCY)
    return ClassCoverage(int((counts > 0).sum()), _kl(counts / counts.sum(), real))


def mode_coverage(points: Tensor, modes: Modes) -> ModeCoverage:
    """Modes captured by `points` (N, D) of a mixture of equal isotropic Gaussians (PacGAN's 2D protocols).

    HQ: Mahalanobis distance to the nearest mode below 3. Captured: at least one HQ sample. With no HQ sample
    the KL is log K, its maximum. A perfect sampler of 2D modes has an HQ share of 1 - exp(-9/2) = 98.9 %;
    more means shrunken modes. Source: PacGAN, Lin et al. 2018 (arXiv 1712.04086).
    """
    num_modes = len(modes.centres)
    distance, nearest = distances(points.cpu(), modes.centres.cpu()).min(1)
    hq = distance / modes.sigma < HQ_RADIUS
    counts = torch.bincount(nearest[hq], minlength=num_modes).double()
    if not counts.sum():
        return ModeCoverage(0, 0.0, math.log(num_modes))
    uniform = torch.full((num_modes,), 1 / num_modes, dtype=torch.double)
    return ModeCoverage(
        int((counts > 0).sum()), float(hq.double().mean()), _kl(counts / counts.sum(), uniform)
    )


def _kl(p: Tensor, q: Tensor) -> float:
    """KL(p || q) in nats, with 0 log 0 = 0; never below 0."""
    return max(0.0, float((torch.xlogy(p, p) - p * q.log()).sum()))
