"""The figures of one contestant against held-out data, with their resamples. It knows no models and no store."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gans.data.base import Dataset
from gans.errors import DataError
from gans.metrics.distances import Gaussian
from gans.metrics.extractors import Extractor, extract, fetch_subset
from gans.metrics.manifold import distances, neighbour_radii
from orchestrator.judging.gate import Measured
from orchestrator.judging.options import Evaluation
from orchestrator.judging.resampling import Resamples, centred

#: The fewest held-out rows that anything is judged on, and the most that stand for the held-out split.
MIN_HELD_OUT, MAX_HELD_OUT = 64, 2000

#: The most held-out rows that memorisation is measured against, and how many training rows there are for each of them.
MAX_STRANGERS, TRAINING_SHARE = 5000, 4

#: Neighbours of precision and recall, and of density and coverage (gans/metrics/manifold.py).
K_MANIFOLD, K_BALLS = 3, 5

#: What of the transport's singular values, as a share of the largest, counts as none.
NEGLIGIBLE = 1e-7

PIECE = 1024


@dataclass(frozen=True)
class Reference:
    """What contestants are measured against, as features: held-out rows, and training rows for memorisation alone.

    Models have seen the training rows, so distances to those would reward copies.
    """

    held_out: Tensor
    gaussian: Gaussian
    strangers: Tensor
    training: Tensor
    resamples: Resamples

    @classmethod
    def of(cls, train: Dataset, held_out: Dataset, extractor: Extractor, evaluation: Evaluation) -> Reference:
        """The reference that these splits give. Raises DataError for fewer than 64 held-out rows."""
        if len(held_out) < MIN_HELD_OUT:
            raise DataError(
                f"the held-out split has {len(held_out)} samples; models are judged on at least {MIN_HELD_OUT}: "
                "hold out more of the data"
            )
        strangers = extract(extractor, fetch_subset(held_out, MAX_STRANGERS, 0)["x"])[0]
        training = extract(extractor, fetch_subset(train, TRAINING_SHARE * len(strangers), 0)["x"])[0]
        rows = strangers[:MAX_HELD_OUT]
        num, chunk = evaluation.samples * evaluation.draws, min(len(rows), evaluation.samples)
        resamples = Resamples.drawn(evaluation.resamples, num, len(rows), chunk, evaluation.seed)
        return cls(rows, Gaussian.fit(rows), strangers, training, resamples)


def measure(reference: Reference, features: Tensor, right: Tensor | None = None) -> Measured:
    """Figures of samples by their features (S, D): fid, kid, precision, recall, density, coverage, memorisation.

    `right` (S,) says of each sample whether it is read as the class that was asked for, and gives label_accuracy.
    Features that are not finite, or overflow float32 once squared, give NaN for every figure.
    """
    if not torch.isfinite(features.square()).all():
        return Measured(dict.fromkeys(("fid", "kid"), float("nan")))
    found = {"fid": fid(reference, features), "kid": kid(reference, features)}
    found |= _neighbours(reference, features)
    draws = reference.resamples
    alike = _nearest(features, reference.training) <= _nearest(features, reference.strangers)
    balance = len(reference.training) / len(reference.strangers)
    found["memorisation"] = (
        float(_odds_share(alike.double().mean(), balance)),
        _odds_share(draws.mean(alike), balance),
    )
    if right is not None:
        found["label_accuracy"] = float(right.double().mean()), draws.mean(right)
    return Measured(
        {name: figure for name, (figure, _) in found.items()},
        {name: centred(values, figure) for name, (figure, values) in found.items()},
    )


def fid(reference: Reference, features: Tensor) -> tuple[float, Tensor]:
    """Fréchet distance to the held-out rows, and its values (B,) on the resamples, to first order.

    With Σ₁ = AᵀA, Σ₂ = BᵀB and ABᵀ = USVᵀ, the derivative of tr(Σ₁Σ₂)^½ by Σ₂ is T/2, T = AᵀU S⁻¹ UᵀA, the optimal
    transport of the fakes to the reals (Dowson & Landau 1982; Takatsu 2011); alike for Σ₁.
    """
    real, fake = reference.gaussian, Gaussian.fit(features)
    u, s, vt = torch.linalg.svd(real.factor @ fake.factor.T, full_matrices=False)
    inverse = torch.where(s > NEGLIGIBLE * s.max(), s, torch.inf).rsqrt()
    shift = fake.mean - real.mean

    def influence(rows: Tensor, mean: Tensor, towards: Tensor, sign: float) -> Tensor:
        x = rows.double() - mean
        return 2 * sign * (x @ shift) + x.square().sum(1) - (x @ towards).square().sum(1)

    of_samples = influence(features, fake.mean, real.factor.T @ u * inverse, 1.0)
    of_held_out = influence(reference.held_out, real.mean, fake.factor.T @ vt.T * inverse, -1.0)
    figure = real.distance(fake)
    return figure, figure + reference.resamples.around(of_samples, of_held_out)


def kid(reference: Reference, features: Tensor) -> tuple[float, Tensor]:
    """Unbiased squared MMD to the held-out rows over all pairs, and its values (B,) on the resamples, to first order.

    Kernel (x·y / D + 1)³: Bińkowski et al. 2018 (arXiv 1801.01401), section 4.
    """
    real, fake = reference.held_out.double(), features.double()
    within_real, within_fake = _kernel_means(real, real, True), _kernel_means(fake, fake, True)
    real_to_fake, fake_to_real = _kernel_means(real, fake), _kernel_means(fake, real)
    figure = float(within_real.mean() + within_fake.mean() - 2 * fake_to_real.mean())
    of_samples, of_held_out = 2 * (within_fake - fake_to_real), 2 * (within_real - real_to_fake)
    return figure, figure + reference.resamples.around(of_samples, of_held_out)


def _kernel_means(a: Tensor, b: Tensor, same: bool = False) -> Tensor:
    """Mean kernel value (N,) of each of `a` (N, D) with all of `b` (M, D); with all others where they are the same."""
    means = []
    for rows in a.split(PIECE):
        total = ((rows @ b.T) / a.shape[1] + 1).pow_(3).sum(1)
        own = (rows.square().sum(1) / a.shape[1] + 1).pow(3) if same else 0.0
        means.append((total - own) / (len(b) - int(same)))
    return torch.cat(means)


def _neighbours(reference: Reference, features: Tensor) -> dict[str, tuple[float, Tensor]]:
    """Precision, recall, density and coverage on equally many real and fake: the means over chunks of the samples.

    Radii are those of the whole sets; which rows count is what a resample changes.
    """
    draws = reference.resamples
    size = draws.chunk
    real, real_weights = reference.held_out[:size], draws.held_out[:, :size]
    real_weights = real_weights / real_weights.mean(1, keepdim=True)
    manifold, balls = neighbour_radii(real, K_MANIFOLD), neighbour_radii(real, K_BALLS)
    every = torch.ones(1, size)
    parts: dict[str, list[tuple[float, Tensor]]] = {}
    for start in range(0, len(features) - size + 1, size):
        fake, weights = features[start : start + size], draws.samples[:, start : start + size]
        across = distances(real, fake)
        on_real = (across <= manifold[:, None]).float()
        on_fake = (across <= neighbour_radii(fake, K_MANIFOLD)[None, :]).float()
        in_ball = (across <= balls[:, None]).float()
        for name, value in {
            "precision": (_hit(on_real, every, every), _hit(on_real, real_weights, weights)),
            "recall": (_hit(on_fake.T, every, every), _hit(on_fake.T, weights, real_weights)),
            "density": (_inside(in_ball, every, every), _inside(in_ball, real_weights, weights)),
            "coverage": (_hit(in_ball.T, every, every), _hit(in_ball.T, weights, real_weights)),
        }.items():
            parts.setdefault(name, []).append((float(value[0]), value[1]))
    return {
        name: (sum(f for f, _ in some) / len(some), torch.stack([v for _, v in some]).mean(0))
        for name, some in parts.items()
    }


def _hit(near: Tensor, by: Tensor, counted: Tensor) -> Tensor:
    """Share (B,) of the columns of `near` (N, M), weighted by `counted` (B, M), with a row near among those of `by`."""
    return (((by @ near) > 0) * counted).sum(1) / counted.sum(1)


def _inside(near: Tensor, real: Tensor, fake: Tensor) -> Tensor:
    """Density (B,): real balls that hold a fake, over k, by the weights of either."""
    return ((real @ near) * fake).sum(1) / fake.sum(1) / K_BALLS


def _nearest(features: Tensor, rows: Tensor) -> Tensor:
    """Distance (S,) of each of `features` (S, D) to the nearest of `rows`."""
    return torch.cat([distances(piece, rows).min(1).values for piece in features.split(PIECE)])


def _odds_share(share: Tensor, balance: float) -> Tensor:
    """Memorisation in [0, 1]: the odds that a sample's nearest real neighbour is a training row, as a share.

    `share` of the samples have one, and there are `balance` training rows to a held-out one. Of a model that has not
    copied, rows of either kind are as likely to be the nearest: share = balance / (balance + 1), memorisation 0.5. It
    is 1 where the nearest is always a training row. The 1-nearest-neighbour two-sample test of Lopez-Paz and Oquab
    2017 (arXiv 1610.06545), asked of data copying as Meehan et al. 2020 (arXiv 2004.05675) do.
    """
    return share / (share + balance * (1 - share))
