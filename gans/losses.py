"""Adversarial losses as pure functions of logits. They know nothing of networks, batches or optimisers.

Each loss is a pair: the discriminator's loss of (real logits, fake logits) and the generator's loss of the same
two, in that order. Logits have one row a sample, and every function returns their losses row by row, whose mean is
the batch's loss. `paired` says that the generator's loss needs real logits too, `centre` which logit is that of a row
that may be real as well as generated: None where differences of logits alone count.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

LossName = Literal["minimax", "non_saturating", "least_squares", "hinge", "wasserstein", "relativistic"]


@dataclass(frozen=True)
class AdversarialLoss:
    """One two-player objective, both sides to be minimised."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor], Tensor]
    paired: bool = False
    centre: float | None = 0.0


def _cross_entropy(real: Tensor, fake: Tensor) -> Tensor:
    """-E[log D(x)] - E[log(1 - D(G(z)))] with D = sigmoid(logit); Goodfellow et al. 2014, eq. 1."""
    return softplus(-real) + softplus(fake)


def _minimax_generator(_: Tensor, fake: Tensor) -> Tensor:
    """E[log(1 - D(G(z)))]; Goodfellow et al. 2014, eq. 1. Vanishes where the discriminator wins."""
    return -softplus(fake)


def _non_saturating_generator(_: Tensor, fake: Tensor) -> Tensor:
    """-E[log D(G(z))]; Goodfellow et al. 2014, section 3."""
    return softplus(-fake)


def _least_squares_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Mao et al. 2017, eq. 9 with a=0, b=c=1."""
    return 0.5 * ((real - 1).square() + fake.square())


def _least_squares_generator(_: Tensor, fake: Tensor) -> Tensor:
    """Mao et al. 2017, eq. 9."""
    return 0.5 * (fake - 1).square()


def _hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Lim and Ye 2017; Miyato et al. 2018, eq. 16."""
    return relu(1 - real) + relu(1 + fake)


def _critic(real: Tensor, fake: Tensor) -> Tensor:
    """Minus the Wasserstein estimate; Arjovsky et al. 2017, eq. 2."""
    return fake - real


def _raise_fake(_: Tensor, fake: Tensor) -> Tensor:
    """-E[D(G(z))]; the generator's side of hinge and Wasserstein."""
    return -fake


def _relativistic_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """RpGAN: E[f(D(G(z)) - D(x))] with f = softplus; Jolicoeur-Martineau 2019, Huang et al. 2024 eq. 2."""
    return softplus(fake - real)


def _relativistic_generator(real: Tensor, fake: Tensor) -> Tensor:
    """RpGAN's generator: the pair the other way round."""
    return softplus(real - fake)


LOSSES: dict[LossName, AdversarialLoss] = {
    "minimax": AdversarialLoss(_cross_entropy, _minimax_generator),
    "non_saturating": AdversarialLoss(_cross_entropy, _non_saturating_generator),
    "least_squares": AdversarialLoss(_least_squares_discriminator, _least_squares_generator, centre=0.5),
    "hinge": AdversarialLoss(_hinge_discriminator, _raise_fake),
    "wasserstein": AdversarialLoss(_critic, _raise_fake, centre=None),
    "relativistic": AdversarialLoss(
        _relativistic_discriminator, _relativistic_generator, paired=True, centre=None
    ),
}


def named(loss: LossName | AdversarialLoss) -> AdversarialLoss:
    """The loss of that name; a loss is its own."""
    return LOSSES[loss] if isinstance(loss, str) else loss


def joined(losses: Sequence[AdversarialLoss], rows: int) -> AdversarialLoss:
    """One loss for len(losses) x `rows` logits: the i-th `rows` of them are judged by losses[i]."""

    def each(sides: list[Callable[[Tensor, Tensor], Tensor]]) -> Callable[[Tensor, Tensor], Tensor]:
        def side(real: Tensor, fake: Tensor) -> Tensor:
            pieces = zip(sides, real.split(rows), fake.split(rows), strict=True)
            return torch.cat([of(r, f) for of, r, f in pieces])

        return side

    return AdversarialLoss(
        each([loss.discriminator for loss in losses]),
        each([loss.generator for loss in losses]),
        any(loss.paired for loss in losses),
    )
