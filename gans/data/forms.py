"""Signed distances to simple plane forms, and their anti-aliased coverage of pixels.

Knows nothing of colours, labels or data sets. Lengths are in widths of the picture; y points down.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

OVAL_AXES = (0.64, 1.0)
SQUARE_HALF = 0.78
TRIANGLE_HALF = 0.95
CROSS_ARM = 0.38


def oval(x: Tensor, y: Tensor) -> Tensor:
    """An upright ellipse; first-order distance f / |grad f|, which is exact on its edge."""
    a, b = OVAL_AXES
    k1 = torch.hypot(x / a, y / b)
    k2 = torch.hypot(x / a**2, y / b**2).clamp(min=1e-6)
    return (k1 * (k1 - 1) / k2).maximum(k1 - 1)  # the first tends to -0 at the centre


def square(x: Tensor, y: Tensor) -> Tensor:
    """An upright square."""
    return _box(x, y, SQUARE_HALF, SQUARE_HALF)


def triangle(x: Tensor, y: Tensor) -> Tensor:
    """An equilateral triangle that points up, its centroid at the origin."""
    r = TRIANGLE_HALF
    x, y = x.abs() - r, r / math.sqrt(3) - y
    over = x + math.sqrt(3) * y > 0
    x, y = (
        torch.where(over, (x - math.sqrt(3) * y) / 2, x),
        torch.where(over, (-math.sqrt(3) * x - y) / 2, y),
    )
    x = x - x.clamp(-2 * r, 0)
    return -torch.hypot(x, y) * y.sign()


def cross(x: Tensor, y: Tensor) -> Tensor:
    """A cross of two bars; inside, the greater of the depths in either bar."""
    return torch.minimum(_box(x, y, 1.0, CROSS_ARM), _box(x, y, CROSS_ARM, 1.0))


def _box(x: Tensor, y: Tensor, width: float, height: float) -> Tensor:
    dx, dy = x.abs() - width, y.abs() - height
    return torch.hypot(dx.clamp(min=0), dy.clamp(min=0)) + torch.maximum(dx, dy).clamp(max=0)


FORMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "oval": oval,
    "square": square,
    "triangle": triangle,
    "cross": cross,
}
"""Form → its signed distance at (x, y), in units of the form's radius: negative inside."""


def pixel_centres(size: int) -> tuple[Tensor, Tensor]:
    """x (1, 1, size) and y (1, size, 1) of the pixels' centres, in widths of the picture."""
    line = (torch.arange(size) + 0.5) / size
    return line.view(1, 1, size), line.view(1, size, 1)


def distances(form: Tensor, centre: Tensor, radius: Tensor, angle: Tensor, size: int) -> Tensor:
    """Signed distances (N, size, size) of each picture's pixels to its form.

    form (N,) int64 numbers `FORMS`; centre (N, 2) is (x, y); radius (N,); angle (N,) in radians, clockwise.
    """
    x, y = pixel_centres(size)
    x, y = x - centre[:, 0].view(-1, 1, 1), y - centre[:, 1].view(-1, 1, 1)
    cos, sin, scale = (v.view(-1, 1, 1) for v in (angle.cos(), angle.sin(), radius))
    x, y = (cos * x + sin * y) / scale, (cos * y - sin * x) / scale
    result = torch.empty_like(x)
    for number, distance in enumerate(FORMS.values()):
        rows = torch.nonzero(form == number)[:, 0]
        result[rows] = distance(x[rows], y[rows])
    return result * scale


def coverage(distance: Tensor, size: int) -> Tensor:
    """The share of each pixel that lies inside: 1 half a pixel within the edge, 0 half a pixel without."""
    return (0.5 - size * distance).clamp(0, 1)


def outlined(distance: Tensor, width: float) -> Tensor:
    """The distance to the rim of that width that lies along the inside of the edge."""
    return (distance + width / 2).abs() - width / 2
