"""PSNR and SSIM against their definitions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gans.metrics.pictures import psnr, ssim


def pictures(seed: int, num: int = 2, size: int = 14) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(num, 3, size, size, generator=generator) * 2 - 1


def test_psnr_is_the_peak_over_the_error_in_decibels() -> None:
    truth = torch.zeros(2, 3, 4, 4)
    x = truth.clone()
    x[0] += 0.2  # a tenth of the range: 20 dB
    x[1, :, :2] += 0.2  # half of the pixels: 3 dB better
    assert psnr(x, truth).tolist() == pytest.approx([20.0, 20 + 10 * math.log10(2)], abs=1e-4)


def test_psnr_is_of_pictures_as_they_are_stored_and_bounded() -> None:
    truth = torch.ones(1, 1, 4, 4)
    assert psnr(truth * 3, truth).item() == 100.0


def test_ssim_is_its_definition_window_by_window() -> None:
    """Eq. 13 of Wang et al. 2004 with weighted moments (eq. 14 to 16), summed pixel by pixel."""
    a, b = pictures(0, 1), (pictures(0, 1) + 0.3 * pictures(1, 1)).clamp(-1, 1)
    weights = torch.tensor(
        [[math.exp(-((i - 5) ** 2 + (j - 5) ** 2) / (2 * 1.5**2)) for j in range(11)] for i in range(11)],
        dtype=torch.float64,
    )
    weights /= weights.sum()
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    values = []
    for channel in range(3):
        for y in range(4):
            for x in range(4):
                p, q = (v[0, channel, y : y + 11, x : x + 11].double() for v in (a, b))
                m, n = (weights * p).sum(), (weights * q).sum()
                s, t = (weights * (p - m) ** 2).sum(), (weights * (q - n) ** 2).sum()
                st = (weights * (p - m) * (q - n)).sum()
                values.append((2 * m * n + c1) * (2 * st + c2) / ((m**2 + n**2 + c1) * (s + t + c2)))
    assert ssim(a, b).item() == pytest.approx(torch.stack(values).mean().item(), abs=1e-6)


def test_ssim_is_one_of_equal_pictures_and_less_of_others_whichever_comes_first() -> None:
    a, b = pictures(0), pictures(1)
    assert ssim(a, a).tolist() == pytest.approx([1.0, 1.0])
    assert ssim(a, b).equal(ssim(b, a))
    assert ssim(a, b).max() < 0.2


def test_pictures_smaller_than_the_window_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 11 px, not 10 x 10"):
        ssim(pictures(0, size=10), pictures(1, size=10))
