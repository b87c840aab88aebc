"""What the discriminator is shown instead of pictures, so that it cannot learn few of them by heart.

`Adaptive` (ADA) is the pipeline of Karras et al. 2020b ("Training Generative Adversarial Networks with Limited Data",
appendix B, configuration bgc) whose probability follows how well the discriminator does. `DiffAugment` is that of Zhao
et al. 2020 ("Differentiable Augmentation for Data-Efficient GAN Training"). Both work on (N, C, H, W) in [-1, 1] in
float32, row by row, draw for the global batch, can be differentiated twice, and hold no parameters.

A discriminator of pairs sees several pictures as the channels of one: `channels` says how many each has, and all of a
row are moved and recoloured alike, each by its own colours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from gans.draws import Draws
from gans.warp import shifted, warped

Part = Literal["blit", "geometry", "colour"]
Policy = Literal["colour", "translation", "cutout"]

_SHIFT = 0.125  # of the side: whole pixels up to it, fractions with it as deviation
_SCALE, _CONTRAST, _SATURATION = 0.2, 0.5, 1.0  # deviations of log2 of the factor
_BRIGHTNESS = 0.2


class Adaptive(nn.Module):
    """Each transformation with probability `p`, a buffer that `follow` moves. At p = 0 pictures are as they were.

    Blit: mirrored, turned by quarters, moved by whole pixels. Geometry: scaled, turned, stretched, moved. Colour:
    brightness, contrast, luma inverted, hue turned, saturation; the last two only where there are three channels.
    """

    p: Tensor

    def __init__(self, parts: Sequence[Part], p: float = 0.0, channels: Sequence[int] = ()) -> None:
        super().__init__()
        self.parts, self.channels = tuple(parts), tuple(channels)
        self.register_buffer("p", torch.tensor(p))

    def forward(self, x: Tensor, draws: Draws) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            if "blit" in self.parts:
                x = self._blitted(x, draws)
            if "geometry" in self.parts:
                x = self._moved(x, draws)
            if "colour" not in self.parts:
                return x
            due, normal, uniform = draws.uniform(5) < self.p, draws.normal(3), draws.uniform(2)
            return _each(x, self.channels, lambda picture: _coloured(picture, due, normal, uniform))

    @torch.no_grad()
    def follow(self, correct: Tensor, target: float, step: Tensor) -> None:
        """Raise p by `step` where `correct`, E[sign D(real)], exceeds `target`, and lower it where it falls short."""
        self.p.add_(torch.sign(correct - target) * step).clamp_(0, 1)

    def _blitted(self, x: Tensor, draws: Draws) -> Tensor:
        height, width = x.shape[2:]
        due = draws.uniform(3) < self.p  # (N, 3)
        drawn = draws.uniform(5)
        flip, half, quarter = (drawn[:, i] < 0.5 for i in range(3))
        x = _where(due[:, 0] & flip, x.flip(3), x)
        x = _where(due[:, 1] & half, x.flip(2, 3), x)
        if height == width:
            x = _where(due[:, 1] & quarter, x.rot90(1, (2, 3)), x)
        down, right = (
            torch.round((2 * drawn[:, 3 + i] - 1) * _SHIFT * side).long() * due[:, 2]
            for i, side in enumerate((height, width))
        )
        return shifted(x, down, right, mirrored=True)

    def _moved(self, x: Tensor, draws: Draws) -> Tensor:
        height, width = x.shape[2:]
        # Two turns, one of them with probability p (Karras et al. 2020b, appendix B).
        turning = 1 - (1 - self.p).sqrt()
        chances = torch.stack([self.p, turning, self.p, turning, self.p])
        due = draws.uniform(5) < chances
        scale, stretch, *by = draws.normal(4).unbind(1)
        first, last = ((2 * draws.uniform(2) - 1) * math.pi).unbind(1)
        scale = torch.where(due[:, 0], torch.exp2(-_SCALE * scale), 1.0)
        stretch = torch.where(due[:, 2], torch.exp2(-_SCALE * stretch), 1.0)
        first, last = torch.where(due[:, 1], first, 0.0), torch.where(due[:, 3], last, 0.0)
        matrix = scale[:, None, None] * _turn(first) @ _stretch(stretch) @ _turn(last)
        sides = torch.tensor([width, height], device=x.device)
        offset = torch.stack(by, 1) * _SHIFT * sides * due[:, 4:]
        return _where(due.any(1), warped(x, matrix, offset), x)


class DiffAugment(nn.Module):
    """Of `policy`, in the paper's order: colour (brightness, saturation, contrast), translation, cutout.

    Translation moves by up to 1/8 of a side, cutout blanks a square of half the side anywhere, both with zeros.
    """

    def __init__(self, policy: Sequence[Policy], channels: Sequence[int] = ()) -> None:
        super().__init__()
        self.policy, self.channels = tuple(policy), tuple(channels)

    def forward(self, x: Tensor, draws: Draws) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            if "colour" in self.policy:
                drawn = draws.uniform(3)
                x = _each(x, self.channels, lambda picture: _recoloured(picture, drawn))
            if "translation" in self.policy:
                x = shifted(x, *jitter(draws, x.shape[2], x.shape[3], 1 / 8), mirrored=False)
            return x * uncut(draws, x.shape[2], x.shape[3], 1 / 2) if "cutout" in self.policy else x


def jitter(draws: Draws, height: int, width: int, share: float) -> tuple[Tensor, Tensor]:
    """Whole pixels down and right (N,), uniform up to `share` of either side."""
    most = [int(side * share + 0.5) for side in (height, width)]
    down, right = (draws.integers(2 * m + 1) - m for m in most)
    return down, right


def half_mirrored(x: Tensor, draws: Draws) -> Tensor:
    """Pictures (N, C, H, W), each mirrored or not with equal chances."""
    return torch.where((draws.uniform() < 0.5)[:, None, None, None], x.flip(3), x)


def uncut(draws: Draws, height: int, width: int, share: float) -> Tensor:
    """(N, 1, H, W): 0 in a rectangle of `share` of either side, anywhere and partly outside, 1 around it."""
    within = []
    for side in (height, width):
        size = int(side * share + 0.5)
        begin = draws.integers(side + 1 - size % 2)[:, None] - size // 2
        place = torch.arange(side, device=draws.device)
        within.append((place >= begin) & (place < begin + size))  # (N, side)
    return (~(within[0][:, :, None] & within[1][:, None])).float()[:, None]


def _each(x: Tensor, channels: Sequence[int], change: Callable[[Tensor], Tensor]) -> Tensor:
    """`x` with each of the pictures changed whose channels it holds one upon another."""
    return change(x) if len(channels) < 2 else torch.cat([change(p) for p in x.split(list(channels), 1)], 1)


def _coloured(x: Tensor, due: Tensor, normal: Tensor, uniform: Tensor) -> Tensor:
    """ADA's transformations of colour, of rows that `due` (N, 5) says, by values drawn: (N, 3) and (N, 2)."""
    brightness, contrast, saturation = normal.unbind(1)
    flip, angle = uniform.unbind(1)
    x = x + _wide(torch.where(due[:, 0], _BRIGHTNESS * brightness, 0.0))
    x = x * _wide(torch.where(due[:, 1], torch.exp2(_CONTRAST * contrast), 1.0))
    x = x - _wide(2.0 * (due[:, 2] & (flip < 0.5))) * x.mean(1, keepdim=True)
    if x.shape[1] != 3:
        return x
    x = _hue(x, _wide(torch.where(due[:, 3], (2 * angle - 1) * math.pi, 0.0)))
    more = _wide(torch.where(due[:, 4], torch.exp2(_SATURATION * saturation), 1.0) - 1)
    return x + more * (x - x.mean(1, keepdim=True))


def _recoloured(x: Tensor, drawn: Tensor) -> Tensor:
    brightness, saturation, contrast = (_wide(d) for d in drawn.unbind(1))
    x = x + (brightness - 0.5)
    mean = x.mean(1, keepdim=True)
    x = (x - mean) * (2 * saturation) + mean
    mean = x.mean((1, 2, 3), keepdim=True)
    return (x - mean) * (contrast + 0.5) + mean


def _hue(x: Tensor, angle: Tensor) -> Tensor:
    """Colours (N, 3, H, W) turned about the grey axis: x cos + (v cross x) sin + v (v . x) (1 - cos), v = 1/sqrt(3)."""
    across = (x.roll(1, 1) - x.roll(-1, 1)) / math.sqrt(3)
    cos, sin = torch.cos(angle), torch.sin(angle)
    return x * cos + across * sin + x.mean(1, keepdim=True) * (1 - cos)


def _turn(angle: Tensor) -> Tensor:
    """(N,) → (N, 2, 2): rotations."""
    cos, sin = torch.cos(angle), torch.sin(angle)
    return torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)


def _stretch(by: Tensor) -> Tensor:
    """(N,) → (N, 2, 2): x times `by`, y divided by it."""
    return torch.diag_embed(torch.stack([by, 1 / by], 1))


def _where(rows: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Rows of `a` where `rows` (N,), of `b` elsewhere."""
    return torch.where(_wide(rows), a, b)


def _wide(values: Tensor) -> Tensor:
    """(N,) → (N, 1, 1, 1)."""
    return values[:, None, None, None]
