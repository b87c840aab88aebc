"""EQ-T and EQ-R against pictures whose equivariance is known: analytic ones, and ones glued to their pixels."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gans.metrics.equivariance import (
    Render,
    band_limited,
    equivariance,
    moving,
    octagon_kernel,
    rotated,
    translated,
    turning,
)
from tests.support.threads import one_thread as one_thread

SIZE = 24
MOVES = torch.rand(4, 3, generator=torch.Generator().manual_seed(3)) * 2 - 1


def waves(share: float = 0.5) -> Render:
    """Sums of waves whose frequencies fill `share` of the band of SIZE pixels, sampled where they are asked for."""
    generator = torch.Generator().manual_seed(0)
    frequencies = (torch.rand(4, 12, 2, generator=generator) - 0.5) * SIZE * share
    phases = torch.rand(4, 12, generator=generator)

    def render(k: int, transform: Tensor) -> Tensor:
        axis = (torch.arange(SIZE) + 0.5 - SIZE / 2) / SIZE
        places = torch.stack(torch.meshgrid(axis, axis, indexing="xy")).flatten(1)
        x, y = transform[:2, :2] @ places + transform[:2, 2:]
        turns = frequencies[:, :, :1] * x + frequencies[:, :, 1:] * y + phases[:, :, None]
        return torch.sin(2 * math.pi * turns).sum(1).view(4, 1, SIZE, SIZE) / 12**0.5

    return render


def measured(render: Render) -> dict[str, float]:
    return equivariance(render, MOVES[:, :2], MOVES[:, 2])


def test_band_limited_pictures_of_a_continuous_scene_are_equivariant() -> None:
    figures = measured(waves())
    assert figures["eq_t"] > 90
    assert figures["eq_t_frac"] > 40
    assert figures["eq_r"] > 50


def test_pictures_glued_to_their_pixels_are_not() -> None:
    scene = waves()
    assert max(measured(lambda k, transform: scene(k, torch.eye(3))).values()) < 12


def test_decibels_are_those_of_the_definition() -> None:
    """Moved pictures are off by 0.1 everywhere: 10 log10(2^2 / 0.1^2)."""
    scene = waves()

    def off(k: int, transform: Tensor) -> Tensor:
        return scene(k, transform) + 0.1 * (not transform.equal(torch.eye(3)))

    assert measured(off)["eq_t"] == pytest.approx(20 * math.log10(2 / 0.1), abs=0.1)


def test_detail_beyond_the_band_of_either_picture_does_not_count_against_rotation() -> None:
    """A wave in the corner of the band is outside of it once turned by 45 degrees: neither side is to hold it."""

    def corner(k: int, transform: Tensor) -> Tensor:
        shift = torch.arange(SIZE) % 2
        pattern = (1 - 2.0 * ((shift[:, None] + shift) % 2)).expand(1, 1, -1, -1)
        return pattern if transform.equal(torch.eye(3)) else torch.zeros(1, 1, SIZE, SIZE)

    figures = equivariance(corner, torch.zeros(1, 2), torch.tensor([0.25]))
    assert figures["eq_r"] > 30


def test_a_quarter_turn_is_exact_and_goes_from_x_to_y() -> None:
    x = torch.rand(2, 1, SIZE, SIZE)
    turned, mask = rotated(x, math.pi / 2)
    assert mask.sum() == (SIZE - 2 * 5) ** 2  # a radius of 6 pixels is lost at every border
    torch.testing.assert_close(turned * mask, x.rot90(-1, (2, 3)) * mask, rtol=0, atol=1e-5)
    unturned, _ = band_limited(x, math.pi / 2)
    torch.testing.assert_close(unturned * mask, x * mask, rtol=0, atol=1e-5)


def test_whole_pixels_are_moved_exactly_and_masked_at_the_border() -> None:
    x = torch.rand(2, 3, 8, 8)
    moved, mask = translated(x, torch.tensor([2.0, -1.0]))  # right and up
    expected = x.roll((-1, 2), (2, 3))
    assert mask.sum() == 7 * 6
    assert mask[-1].sum() == mask[:, :2].sum() == 0
    torch.testing.assert_close(moved * mask, expected * mask)


def test_transforms_are_inverses_of_what_happens_to_the_picture() -> None:
    assert moving(torch.tensor([0.25, -0.5])).tolist() == [[1, 0, -0.25], [0, 1, 0.5], [0, 0, 1]]
    back = turning(math.pi / 2) @ torch.tensor([0.0, 1.0, 1.0])  # what is below now was to the right
    torch.testing.assert_close(back, torch.tensor([1.0, 0.0, 1.0]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("angle", [0.0, 0.2, math.pi / 4, 1.3, 2.9, -0.7])
def test_the_kernel_is_the_integral_over_both_bands(angle: float) -> None:
    axis = (torch.arange(400, dtype=torch.float64) + 0.5) / 400 - 0.5
    fy, fx = torch.meshgrid(axis, axis, indexing="ij")
    c, s = math.cos(angle), math.sin(angle)
    both = ((c * fx + s * fy).abs() < 0.5) & ((c * fy - s * fx).abs() < 0.5)
    for x, y in ((0.0, 0.0), (0.5, 0.0), (0.3, -1.2), (2.1, 1.9)):
        integral = (torch.cos(2 * math.pi * (fx * x + fy * y)) * both).mean()
        r = math.hypot(x, y)
        window = float(torch.sinc(torch.tensor(r / 6)))
        at = octagon_kernel(torch.tensor(x).double(), torch.tensor(y).double(), angle, 6)
        assert at.item() == pytest.approx(integral.item() * window, abs=2e-3)
