"""How near a picture is to the true one: for tasks with one right answer, as super-resolution or paired translation."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d

PEAK = 2.0  # pictures lie in [-1, 1]
MOST_DB = 100.0  # of equal pictures, whose ratio is infinite
WINDOW, SIGMA = 11, 1.5
K1, K2 = 0.01, 0.03


def psnr(x: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each picture in dB, (N,): 10 log10(peak^2 / mean squared error), 100 at most.

    x, truth: (N, C, H, W) in [-1, 1]; what lies outside is clipped, as it would be stored.
    """
    error = (x.clamp(-1, 1) - truth).double().square().flatten(1).mean(1)
    return (10 * torch.log10(PEAK**2 / error)).clamp(max=MOST_DB).float()


def ssim(x: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity of each picture, (N,), at most 1 (Wang et al. 2004, eq. 13 and section III.C).

    x, truth: (N, C, H, W) in [-1, 1]; what lies outside is clipped. Gaussian windows of 11 x 11 px, sigma 1.5, that lie
    within the picture; the mean over windows and channels. Raises ValueError for pictures below 11 px.
    """
    if min(x.shape[2:]) < WINDOW:
        raise ValueError(f"ssim needs pictures of at least {WINDOW} px, not {x.shape[2]} x {x.shape[3]}")
    channels = x.shape[1]
    a, b = x.clamp(-1, 1).double(), truth.double()
    place = torch.arange(WINDOW, dtype=torch.float64, device=x.device) - WINDOW // 2
    line = torch.exp(-place.square() / (2 * SIGMA**2))
    window = (line / line.sum()).outer(line / line.sum()).expand(channels, 1, WINDOW, WINDOW)

    def local(values: Tensor) -> Tensor:
        return conv2d(values, window, groups=channels)

    mean_a, mean_b = local(a), local(b)
    var_a, var_b = local(a * a) - mean_a**2, local(b * b) - mean_b**2
    covariance = local(a * b) - mean_a * mean_b
    c1, c2 = (K1 * PEAK) ** 2, (K2 * PEAK) ** 2
    alike = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    index = alike / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return index.flatten(1).mean(1).float()
