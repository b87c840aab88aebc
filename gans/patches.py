"""The discriminator of patches (Isola et al. 2017, section 3.2.2), which families of picture translation share."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from gans.networks import LeakyReLU, initialise
from gans.nn import Norm, normalisation, weighted

SMALLEST = 8  # px: below, no patch is left


def patch_discriminator(inputs: int, size: int, width: int, norm: Norm = "instance") -> nn.Module:
    """(N, inputs, S, S) → (N, 1, s, s), one logit a patch; S from 8 px up.

    Three strided layers see 70 px patches as in the paper (appendix 6.1.2); two from 32 px (34 px patches), one below
    (16 px). A norm on every layer but the first and the last.
    """
    strided = 3 if size >= 128 else 2 if size >= 32 else 1
    widths = [width * min(2**i, 8) for i in range(strided + 1)]
    layers: list[nn.Module] = [weighted(nn.Conv2d(inputs, width, 4, 2, 1), norm), LeakyReLU()]
    for i, (a, b) in enumerate(pairwise(widths), start=1):
        stride = 2 if i < strided else 1
        layers += [weighted(nn.Conv2d(a, b, 4, stride, 1), norm), normalisation(norm, b), LeakyReLU()]
    return initialise(nn.Sequential(*layers, weighted(nn.Conv2d(widths[-1], 1, 4, 1, 1), norm)))
