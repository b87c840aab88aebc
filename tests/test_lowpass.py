"""Low-pass filters have the gain, cutoff and symmetry asked for; resampling is the operation it says it is."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gans.filters import upfirdn2d
from gans.lowpass import Resample, jinc_lowpass, kaiser_lowpass
from tests.support.threads import one_thread as one_thread

RATE, CUTOFF, WIDTH = 64.0, 12.0, 8.0


def response(filter: Tensor, fx: float, fy: float = 0.0) -> float:
    """|gain| of a filter of RATE samples a unit at frequency (fx, fy), by its definition as a sum."""
    if filter.dim() == 1:
        filter = torch.outer(filter, filter)
    place = (torch.arange(len(filter), dtype=torch.float64) - (len(filter) - 1) / 2) / RATE
    phase = 2 * math.pi * (fx * place[None, :] + fy * place[:, None])
    return abs(float((filter.double() * torch.cos(phase)).sum()))


@pytest.mark.parametrize("design", [kaiser_lowpass, jinc_lowpass])
@pytest.mark.parametrize("taps", [24, 25, 48])
def test_filters_keep_constants_halve_the_cutoff_and_stop_what_lies_beyond(
    design: type[Tensor], taps: int
) -> None:
    filter = design(taps, CUTOFF, WIDTH, RATE)
    assert filter.sum().item() == pytest.approx(1, abs=1e-5)
    assert response(filter, CUTOFF) == pytest.approx(0.5, abs=0.05)
    # Kaiser's formula for the attenuation that so many taps reach (Oppenheim and Schafer, equation 7.63)
    attenuation = 2.285 * (taps - 1) * math.pi * WIDTH / (RATE / 2) + 7.95
    ripple = 10 ** (-attenuation / 20)
    beyond = [response(filter, f) for f in torch.arange(CUTOFF + WIDTH / 2 + 1, RATE / 2, 0.5).tolist()]
    within = [response(filter, f) for f in torch.arange(0, CUTOFF - WIDTH / 2 - 1, 0.5).tolist()]
    assert max(beyond) < 2 * ripple + 0.01
    assert max(abs(gain - 1) for gain in within) < 2 * ripple + 0.02


def test_a_jinc_filter_treats_all_directions_alike_and_a_separable_one_does_not() -> None:
    def spread(filter: Tensor) -> float:
        gains = [
            response(filter, f * math.cos(a), f * math.sin(a))
            for f in (10.0, 12.0, 14.0)
            for a in (0.0, math.pi / 8, math.pi / 4)
        ]
        by_radius = torch.tensor(gains).view(3, 3)
        return float((by_radius.amax(1) - by_radius.amin(1)).max())

    assert spread(jinc_lowpass(48, CUTOFF, WIDTH, RATE)) < 0.02
    assert spread(kaiser_lowpass(48, CUTOFF, WIDTH, RATE)) > 0.3


def test_a_jinc_filter_is_the_same_in_every_quarter() -> None:
    filter = jinc_lowpass(12, CUTOFF, WIDTH, RATE)
    assert torch.allclose(filter, filter.T)
    assert torch.allclose(filter, filter.rot90())


@pytest.mark.parametrize("radial", [False, True])
@pytest.mark.parametrize(
    ("up", "down", "padding"),
    [(2, 1, (9, 8)), (1, 2, (3, 1)), (4, 2, (9, 11)), (1, 2, (-1, -2)), (1, 1, (0, 0))],
)
@pytest.mark.parametrize("dense", [False, True])
def test_resampling_is_zero_insertion_padding_convolution_decimation(
    radial: bool, up: int, down: int, padding: tuple[int, int], dense: bool
) -> None:
    filter = (jinc_lowpass if radial else kaiser_lowpass)(12, CUTOFF, WIDTH, RATE)
    resample = Resample(filter, 16, up, down, padding)
    assert resample.dense == (not radial)
    resample.dense &= dense
    x = torch.randn(2, 3, 16, 16)
    expected = upfirdn2d(x, filter, up, down, padding, gain=up**2)
    assert expected.shape[2:] == (resample.size, resample.size)
    torch.testing.assert_close(resample(x), expected, rtol=1e-5, atol=1e-5)


def test_large_pictures_are_convolved() -> None:
    assert not Resample(torch.ones(1), 1024).dense


def test_doubling_a_band_limited_signal_gives_the_samples_in_between() -> None:
    """Four cycles on 32 samples, doubled by a filter that stops at 12, inside of its reach from the border."""

    def sampled(num: int) -> Tensor:
        place = (torch.arange(num) + 0.5) / num
        return torch.cos(2 * math.pi * 4 * place)[None, :] * torch.sin(2 * math.pi * 3 * place)[:, None]

    filter = kaiser_lowpass(24, 12.0, 8.0, 64.0)
    total = 63 + 1 - 64 + len(filter) - 1
    before = (total + 2) // 2
    doubled = Resample(filter, 32, 2, 1, (before, total - before))(sampled(32)[None, None])
    assert doubled.shape[2:] == (64, 64)
    difference = (doubled[0, 0] - sampled(64))[12:-12, 12:-12]
    assert difference.abs().max() < 0.01
