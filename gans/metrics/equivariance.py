"""How well a generator's pictures move and turn with what they are made from: EQ-T, EQ-T_frac and EQ-R, in dB.

Karras et al. 2021 (StyleGAN3), section 2.2 (equation 3) and appendix E. The same latents are rendered twice, once as
they are and once with the generator's input transformed; the first picture is then transformed by a resampler of high
quality and compared with the second wherever both are defined: 10 log10(I^2 / mean squared difference) with I = 2, the
range of [-1, 1]. Higher is better; aliasing and borders lower it. It knows nothing of networks.

Translations are as in the appendix. For rotation it compares what both the first picture's band and the turned one's
hold, the intersection of two squares of frequencies, by a filter made on a grid four times as fine and bilinear lookup;
here that octagon's own kernel, in closed form under a radial Lanczos window, is evaluated at every pixel.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

FARTHEST = 0.125  # of a picture's side, along either axis (appendix E.1)
LANCZOS = (
    3  # zero crossings of the window of E.2; those of E.3, convolved with one another, reach twice as far
)
PEAK = 2.0

Render = Callable[[int, Tensor], Tensor]
"""(group of latents, inverse transform (3, 3) of positions, the picture's side being 1) → pictures (N, C, S, S)."""


@torch.no_grad()
def equivariance(render: Render, places: Tensor, turns: Tensor) -> dict[str, float]:
    """`eq_t` (whole pixels), `eq_t_frac` and `eq_r` in dB over all groups.

    places: (K, 2) in [-1, 1), each group's translation over `FARTHEST`; turns: (K,) in [-1, 1), its angle over pi.
    """
    errors: dict[str, list[Tensor]] = {"eq_t": [], "eq_t_frac": [], "eq_r": []}
    for k, (place, turn) in enumerate(zip((places * FARTHEST).cpu().double(), turns.tolist(), strict=True)):
        still = render(k, torch.eye(3)).float()
        size = still.shape[-1]
        whole = (place * size).round() / size
        errors["eq_t"].append(_error(render(k, moving(whole)), *translated(still, whole * size)))
        errors["eq_t_frac"].append(_error(render(k, moving(place)), *translated(still, place * size)))
        angle = turn * math.pi
        turned, there = rotated(still, angle)
        limited, here = band_limited(render(k, turning(angle)).float(), angle)
        errors["eq_r"].append(_error(limited, turned, there * here))
    return {name: _decibels(torch.stack(found).sum(0)) for name, found in errors.items()}


def moving(place: Tensor) -> Tensor:
    """(3, 3): what takes positions back by `place` (x, y), so that the picture moves by it."""
    found = torch.eye(3)
    found[:2, 2] = -place.float()
    return found


def turning(angle: float) -> Tensor:
    """(3, 3): what turns positions back by `angle` (radians, from x to y), so that the picture turns by it."""
    found = torch.eye(3)
    found[:2, :2] = _rotation(-angle).float()
    return found


def translated(x: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """x (N, C, S, S) moved by `shift` (x, y) in pixels, and the mask (S, S) of pixels that no border reached.

    By whole pixels it is exact, else a Lanczos filter (appendix E.1, E.2).
    """
    (across, seen_x), (down, seen_y) = (
        _shifting(float(amount), x.shape[-1], x.device) for amount in shift.tolist()
    )
    return down @ x @ across.T, seen_y[:, None] * seen_x[None, :]


def _shifting(amount: float, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(S, S) that moves a line of S pixels by `amount`, and (S,): 1 where all the pixels it asks for are there."""
    to, source = (torch.arange(size, dtype=torch.float64) for _ in range(2))
    if amount == round(amount):
        reach, kernel = 0.5, (to[:, None] - amount == source).double()
    else:
        apart = to[:, None] - amount - source
        reach, kernel = float(LANCZOS), torch.sinc(apart) * _lanczos(apart, LANCZOS)
    kernel = kernel / kernel.sum(1, keepdim=True).clamp(min=1e-6)
    seen = (to - amount - reach > -1) & (to - amount + reach < size)
    return kernel.float().to(device), seen.float().to(device)


def rotated(x: Tensor, angle: float) -> tuple[Tensor, Tensor]:
    """x (N, C, S, S) turned by `angle` about its centre, limited to the octagon, and its mask (S, S)."""
    return _looked_up(x, _rotation(-angle), -angle)


def band_limited(x: Tensor, angle: float) -> tuple[Tensor, Tensor]:
    """x limited in frequency as if it had been turned by `angle`, but not turned: R* of appendix E.3."""
    return _looked_up(x, torch.eye(2, dtype=torch.float64), angle)


def _looked_up(x: Tensor, back: Tensor, angle: float) -> tuple[Tensor, Tensor]:
    """Each pixel from around the place to which `back` (2, 2) takes it, by the kernel of the octagon for `angle`.

    The kernel is in the coordinates of x, whose own band is the upright square.
    """
    size = x.shape[-1]
    reach = window_radius(size)
    axis = torch.arange(size, dtype=torch.float64, device=x.device) - (size - 1) / 2
    px, py = torch.meshgrid(axis, axis, indexing="xy")  # (S, S) each
    at_x, at_y = (c * px + s * py + (size - 1) / 2 for c, s in back.tolist())
    column, line = at_x.floor(), at_y.floor()
    across, down = at_x - column, at_y - line
    if not (across.any() or down.any()):
        across, down = across[:1, :1], down[:1, :1]  # the same kernel everywhere
    total, weight = torch.zeros_like(x), torch.zeros_like(across)
    for dy in range(1 - reach, reach + 1):
        for dx in range(1 - reach, reach + 1):
            rows, columns = ((k + d).clamp(0, size - 1).long() for k, d in ((line, dy), (column, dx)))
            taps = octagon_kernel(across - dx, down - dy, angle, reach)
            total += taps.to(x.dtype) * x[:, :, rows, columns]
            weight += taps
    first, last = reach - 1, size - reach
    seen = (torch.minimum(at_x, at_y) >= first) & (torch.maximum(at_x, at_y) <= last)
    return total / weight.to(x.dtype), seen.to(x.dtype)


def window_radius(size: int) -> int:
    """Pixels that the rotation's kernel reaches: 6, or a quarter of smaller pictures, so that something is left."""
    return min(2 * LANCZOS, size // 4)


def octagon_kernel(x: Tensor, y: Tensor, angle: float, reach: int) -> Tensor:
    """The kernel at offset (x, y) in pixels: ideal for the band |fx|, |fy| < 1/2 cut with the same turned by `angle`.

    The integral of exp(2 pi i f.r) over a polygon is, by the divergence theorem, a sum over its edges of
    n.r L sinc(L t.r) sin(2 pi m.r) / (2 pi |r|^2), with normal n, direction t, length L and midpoint m.
    """
    turn = angle % (math.pi / 2)
    low, high = -0.5 * math.tan(math.pi / 4 - turn / 2), 0.5 * math.tan(turn / 2)
    squared = x.square() + y.square()
    total = torch.zeros_like(x)
    for normal, begin, end in ((0.0, low, high), (turn, -high, -low)):
        for quarter in range(4):
            c, s = math.cos(normal + quarter * math.pi / 2), math.sin(normal + quarter * math.pi / 2)
            along, beside = c * x + s * y, c * y - s * x
            middle = 0.5 * along + 0.5 * (begin + end) * beside
            length = end - begin
            total += along * length * torch.sinc(length * beside) * torch.sin(2 * math.pi * middle)
    area = 2 * (high - low)  # four triangles over the edges of either square: length / 4 each
    ideal = torch.where(squared < 1e-12, area, total / (2 * math.pi * squared.clamp(min=1e-12)))
    return ideal * _lanczos(squared.sqrt(), reach)


def _lanczos(distance: Tensor, reach: int) -> Tensor:
    return torch.sinc(distance / reach) * (distance.abs() < reach)


def _rotation(angle: float) -> Tensor:
    c, s = math.cos(angle), math.sin(angle)
    return torch.tensor([[c, -s], [s, c]], dtype=torch.float64)


def _error(x: Tensor, expected: Tensor, mask: Tensor) -> Tensor:
    """(2,) float64: the sum of squared differences where the mask is 1, and of how many."""
    squared = (x.float() - expected).double().square() * mask
    return torch.stack([squared.sum(), mask.double().sum() * x.shape[0] * x.shape[1]]).cpu()


def _decibels(error: Tensor) -> float:
    """PSNR; at most 200 dB, beyond which float32 tells nothing."""
    mean = max(float(error[0] / error[1].clamp(min=1.0)), PEAK**2 * 1e-20)
    return 20 * math.log10(PEAK) - 10 * math.log10(mean)
