"""Which samples and which held-out rows each resample of the bootstrap takes: the same for both contestants.

Weights say how often a row is taken. Figures that are means of neighbourhoods are recomputed on every resample, from
distances that are known; the two distances of whole distributions are linearised (`around`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Resamples:
    """Weights of S samples (B, S) and of R held-out rows (B, R), float32; each row of weights has a mean of 1.

    Samples are resampled within chunks of `chunk`, on which the neighbour figures are computed.
    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapters 6 and 13.
    """

    samples: Tensor
    held_out: Tensor
    chunk: int

    @classmethod
    def drawn(cls, num: int, samples: int, held_out: int, chunk: int, seed: int) -> Resamples:
        """`num` resamples by `seed`."""
        rng = np.random.default_rng(seed)

        def weights(size: int) -> Tensor:
            return torch.from_numpy(rng.multinomial(size, np.full(size, 1 / size), size=num)).float()

        pieces = [weights(min(chunk, samples - start)) for start in range(0, samples, chunk)]
        return cls(torch.cat(pieces, dim=1), weights(held_out), chunk)

    def mean(self, of_samples: Tensor) -> Tensor:
        """The mean (B,) of a value per sample (S,) on every resample."""
        return self.samples @ of_samples.float() / len(of_samples)

    def around(self, of_samples: Tensor, of_held_out: Tensor) -> Tensor:
        """First-order change (B,) of a functional, given its influence by sample (S,) and by held-out row (R,).

        The infinitesimal jackknife: Efron 1982, The Jackknife, the Bootstrap and Other Resampling Plans, chapter 6.
        """
        mine = (self.samples - 1).double() @ of_samples.double() / len(of_samples)
        return mine + (self.held_out - 1).double() @ of_held_out.double() / len(of_held_out)


def centred(values: Tensor, figure: float) -> np.ndarray:
    """Resampled values (B,), float64, moved so that their mean is the figure.

    A resample repeats rows, and so covers less than a sample does: its spread counts, its mean does not.
    """
    moved = values.double() - values.double().mean() + figure
    return moved.numpy()
