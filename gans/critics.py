"""What options put around a discriminator: rows judged in packs, the deviation within groups, a head for rotations.

Any network that gives one logit a row can be wrapped. What its last weighted layer takes in are its features.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

TURNS = 4


def packed(x: Tensor, pac: int) -> Tensor:
    """(N, C, ...) → (N / pac, pac C, ...): each `pac` consecutive rows joined along channels (Lin et al. 2018)."""
    return x.reshape(len(x) // pac, pac * x.shape[1], *x.shape[2:])


def deviation(features: Tensor, group: int) -> Tensor:
    """(N, ...) → (N,): the standard deviation over each `group` consecutive rows, averaged over all features.

    Karras et al. 2018 (Progressive GAN), section 3; inside the root 1e-8 is added, as in their code.
    """
    groups = features.float().reshape(len(features) // group, group, -1)
    return (groups.var(1, unbiased=False) + 1e-8).sqrt().mean(1).repeat_interleave(group)


def last_weighted(network: nn.Module) -> str:
    """The name of `network.head`, where there is one, or else of the last layer that multiplies by a weight.

    Raises ValueError where there is none.
    """
    if isinstance(getattr(network, "head", None), nn.Module):
        return "head"
    found = [name for name, module in network.named_modules() if _is_weighted(module)]
    if not found:
        raise ValueError(f"{type(network).__name__} has no weighted layer: name its last one `head`")
    return found[-1]


def _is_weighted(module: nn.Module) -> bool:
    if isinstance(module, nn.Embedding):
        return False
    if parametrize.is_parametrized(module, "weight"):
        weight: Any = module.parametrizations["weight"].original  # type: ignore[index,union-attr]
        return bool(weight.dim() > 1)
    own = module._parameters.get("weight")
    return own is not None and own.dim() > 1


class Equipped(nn.Module):
    """A discriminator `body` with what options add to it.

    `pac` rows are judged as one, with one logit for them; `body` is made for `pac` times the channels. The deviation
    within `group` packs times a learned `weight`, zero at first, joins the logit: the same as joining the deviation to
    the features as a constant plane, where the layer after them is linear and reaches every pixel of it. `features` is
    the size of the features of a row, for a linear head that tells by how many quarters a picture is turned; 0: none.
    """

    def __init__(self, body: nn.Module, pac: int = 1, group: int = 0, features: int = 0) -> None:
        super().__init__()
        self.body, self.pac, self.group = body, pac, group
        self.weight = nn.Parameter(torch.zeros(())) if group else None
        self.turns = nn.Linear(features, TURNS) if features else None

    def forward(self, x: Tensor, *conditions: Tensor) -> Tensor:
        x = packed(x, self.pac) if self.pac > 1 else x
        if self.weight is None:
            judged: Tensor = self.body(x, *conditions)
            return judged
        with watched(self.body) as seen:
            logits: Tensor = self.body(x, *conditions).float()
        return logits + self.weight * deviation(seen[0], self.group)


@contextmanager
def watched(body: nn.Module) -> Iterator[list[Tensor]]:
    """The features of each forward pass of `body` within this context."""
    seen: list[Tensor] = []

    def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0])

    handle = body.get_submodule(last_weighted(body)).register_forward_pre_hook(note)
    try:
        yield seen
    finally:
        handle.remove()


def feature_size(body: nn.Module, *example: Tensor) -> int:
    """Features of a row of `body`, found by a look at `example`, which leaves it as it is."""
    training = body.training
    with torch.no_grad(), watched(body.eval()) as seen:
        body(*example)
    body.train(training)
    return seen[0][0].numel()
