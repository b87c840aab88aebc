"""Every figure of samples against the training data, beside the same figures of held-out real data."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gans.data.base import Dataset
from gans.errors import ConfigError, DataError
from gans.metrics.distances import Gaussian, kid
from gans.metrics.extractors import Extractor, extract, fetch_subset
from gans.metrics.manifold import density_coverage, precision_recall
from gans.metrics.modes import EMPTY_CLASS_FREQUENCY, class_coverage, mode_coverage

#: Samples of the training set that stand for it.
MAX_REFERENCE = 5_000

#: Samples of the held-out set used where no number is asked.
DEFAULT_SAMPLES = 2_000

#: The fewest samples that the nearest-neighbour figures are computed on.
MIN_SAMPLES = 8

#: FID and KID of samples that are not finite, and the most either is reported as: JSON has no infinity.
WORST_DISTANCE = 1e6

KID_SUBSETS, KID_SUBSET_SIZE = 10, 250


def require_enough(train: Dataset, held_out: Dataset) -> None:
    """Raise DataError where metrics cannot be computed, because either split has fewer than 8 samples."""
    short = [
        f"the {name} split has {len(split)} samples; metrics need at least {MIN_SAMPLES}"
        for name, split in (("training", train), ("held-out", held_out))
        if len(split) < MIN_SAMPLES
    ]
    if short:
        raise DataError("\n".join(short))


class Evaluator:
    """Scores samples against `train`; `held_out`, scored alike, gives the floor.

    `num_samples` is what both are scored on: 0, or more than there are, means all of `held_out` (0: at most
    2,000). The figures depend on it, so compare equal numbers only. All draws follow `seed`.
    Raises DataError where either split has fewer than 8 samples, ConfigError where `num_samples` is 1 to 7.
    """

    def __init__(
        self, train: Dataset, held_out: Dataset, extractor: Extractor, num_samples: int = 0, seed: int = 0
    ) -> None:
        require_enough(train, held_out)
        if num_samples < 0 or 0 < num_samples < MIN_SAMPLES:
            raise ConfigError(
                f"num_samples={num_samples}: metrics need at least {MIN_SAMPLES} samples, or 0 for all"
            )
        self.num_samples = min(num_samples or DEFAULT_SAMPLES, len(held_out))
        self.extractor = extractor
        self._seed = seed
        self._modes = train.modes
        self._is_image = train.spec.x.kind == "image"
        reference = fetch_subset(train, MAX_REFERENCE, seed)["x"]
        self._real, shares = extract(extractor, reference)
        self._gaussian = Gaussian.fit(self._real)
        self._frequencies: Tensor | None = None
        if shares is not None:
            counts = torch.bincount(shares.argmax(1), minlength=shares.shape[1])
            self._frequencies = counts.double() / len(shares)
        held = fetch_subset(held_out, self.num_samples, seed)
        #: The figures of held-out real data: what a perfect generator would score.
        self.floor: dict[str, float] = self(held["x"], held.get("label"))

    @torch.no_grad()
    def __call__(self, x: Tensor, labels: Tensor | None = None) -> dict[str, float]:
        """Figures of samples `x` (images float NCHW in [-1, 1], or vectors), of which `num_samples` are used.

        `labels` (N,) int64 are the classes that were asked for. Returns finite floats under `fid, kid,
        precision, recall, density, coverage`; `classes, class_kl` where the extractor knows classes, and then
        `label_accuracy` where labels are given; `modes, hq, mode_kl` where the data has known modes. Samples
        that are not finite get the worst of each (docs/metrics.md). Raises ValueError for fewer than 8.
        """
        if len(x) < MIN_SAMPLES:
            raise ValueError(f"metrics need at least {MIN_SAMPLES} samples, not {len(x)}")
        x = x[: self.num_samples].detach().float()
        labels = labels[: self.num_samples].cpu() if labels is not None else None
        if not torch.isfinite(x).all():
            return self._worst(labels)
        # Images are judged as they would be stored.
        features, shares = extract(self.extractor, x.clamp(-1.0, 1.0) if self._is_image else x)
        # What overflows float32 once squared is as bad as infinite.
        if not torch.isfinite(features.square()).all():
            return self._worst(labels)
        figures = self._distances(features)
        if self._frequencies is not None and shares is not None:
            predicted = shares.argmax(1)
            captured, class_kl = class_coverage(predicted, self._frequencies)
            figures |= {"classes": float(captured), "class_kl": class_kl}
            if labels is not None:
                figures["label_accuracy"] = float((predicted == labels).double().mean())
        if self._modes is not None:
            modes, hq, mode_kl = mode_coverage(x, self._modes)
            figures |= {"modes": float(modes), "hq": hq, "mode_kl": mode_kl}
        return figures

    def _distances(self, features: Tensor) -> dict[str, float]:
        """The six figures that need features alone; the neighbour figures on equally many real and fake."""
        equal = min(len(features), len(self._real))
        real, fake = self._real[:equal], features[:equal]
        precision, recall = precision_recall(real, fake)
        density, coverage = density_coverage(real, fake)
        distances = {
            "fid": self._gaussian.distance(Gaussian.fit(features)),
            "kid": kid(self._real, features, KID_SUBSETS, KID_SUBSET_SIZE, self._seed),
        }
        return {name: min(value, WORST_DISTANCE) for name, value in distances.items()} | {
            "precision": precision,
            "recall": recall,
            "density": density,
            "coverage": coverage,
        }

    def _worst(self, labels: Tensor | None) -> dict[str, float]:
        """The figures of samples that are not finite, under the same names as any others."""
        worst = {"fid": WORST_DISTANCE, "kid": WORST_DISTANCE}
        worst |= dict.fromkeys(("precision", "recall", "density", "coverage"), 0.0)
        if self._frequencies is not None:
            rarest = max(float(self._frequencies.min()), EMPTY_CLASS_FREQUENCY)
            worst |= {"classes": 0.0, "class_kl": -math.log(rarest)}
            if labels is not None:
                worst["label_accuracy"] = 0.0
        if self._modes is not None:
            worst |= {"modes": 0.0, "hq": 0.0, "mode_kl": math.log(len(self._modes.centres))}
        return worst
