"""The moving average of a network, by half-life."""

import copy

import torch
from torch import Tensor, nn


def half_life_images(batch: int, images_seen: int) -> float:
    """Images in which the average forgets half: min(10/32 of 1,000 batches, 5 % of what was seen).

    StyleGAN2-ADA's rule (Karras et al. 2020, auto configuration and training loop's ramp-up).
    """
    return max(1e-8, min(batch * 1000 * 10 / 32, 0.05 * images_seen))


class Average:
    """A shadow of `network` for sampling. Float buffers are averaged like weights, the others copied."""

    def __init__(self, network: nn.Module) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self._pairs = list(zip(_floats(self.network), _floats(network), strict=True))
        self._others = list(zip(_others(self.network), _others(network), strict=True))

    @torch.no_grad()
    def update(self, batch: int, images_seen: int) -> None:
        """One step: beta = 0.5 ** (batch / half-life)."""
        beta = 0.5 ** (batch / half_life_images(batch, images_seen))
        shadow, live = [p[0] for p in self._pairs], [p[1] for p in self._pairs]
        torch._foreach_lerp_(shadow, live, 1 - beta)
        for mine, theirs in self._others:
            mine.copy_(theirs)


def _floats(network: nn.Module) -> list[Tensor]:
    return [t for t in (*network.parameters(), *network.buffers()) if t.is_floating_point()]


def _others(network: nn.Module) -> list[Tensor]:
    return [b for b in network.buffers() if not b.is_floating_point()]
