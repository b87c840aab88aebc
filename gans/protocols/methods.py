"""The methods that compete in a protocol: functions of a budget that return a complete family and how it is trained.

`gan`, `pacgan2` and `pacgan4` are the published ones, as PacGAN's code configures them. A `quick` budget is a fraction
of the published one, so they learn ten times as fast there, and decay. `r3gan` is the relativistic loss with R1 and R2
and a moving average (Huang et al. 2024), on perceptrons for points and DCGAN's networks for pictures, without norm in
the discriminator. `pacgan2-r` is packing with the same loss and penalties, for which a short training does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gans.families.dcgan import DCGAN
from gans.families.vanilla import Vanilla
from gans.family import Family
from gans.options import Train
from gans.protocols.pictures import StackedDCGAN
from gans.protocols.points import PackedPoints, PointsGAN
from gans.schedule import Cosine, Schedule

POINTS_BATCH, POINTS_EPOCH = 100, 1_000  # judgements a step; steps an epoch of 100,000 points
PENALISED_BATCH = 256
STACKED_BATCH, STACKED_EPOCH = 64, 2_000  # of 128,000 pictures


@dataclass(frozen=True)
class Budget:
    """Epochs, and whether this is the reduced budget with its higher learning rates."""

    epochs: float
    quick: bool = False

    def steps(self, per_epoch: int) -> int:
        return max(1, round(self.epochs * per_epoch))

    def rate(self, published: float) -> Schedule:
        """The published learning rate, or the reduced budget's."""
        return Cosine(start=10 * published, end=published / 10) if self.quick else published


@dataclass(frozen=True)
class Entrant:
    """A method ready to be trained."""

    family: Family
    train: Train


Method = Callable[[Budget], Entrant]


def points_gan(budget: Budget, pac: int = 1) -> Entrant:
    """GAN and PacGAN on points (Lin et al. 2018): a step is 100 judgements, each of `pac` points side by side."""
    return Entrant(
        PointsGAN(lr_g=budget.rate(1e-4), pac=pac),
        _train(budget.steps(POINTS_EPOCH), POINTS_BATCH * pac, ema=False),
    )


def points_r3gan(budget: Budget, gamma: Cosine) -> Entrant:
    """RpGAN + R1 + R2 on perceptrons without norm, as R3GAN has none; `gamma`, in units of length squared, goes with
    the data's scale. The protocol's batch norm costs it most of its high-quality samples (docs/benchmarks.md).
    """
    family = Vanilla(**_penalised(gamma), lr_g=Cosine(start=1e-3, end=1e-5), lr_ratio=2.0)
    return Entrant(family, _train(budget.steps(POINTS_EPOCH), PENALISED_BATCH, ema=True))


def points_pac(budget: Budget, gamma: Cosine) -> Entrant:
    """Packing of two with the same loss and penalties instead of the long training of the protocol.

    A packed discriminator has squared as many modes to tell apart: it makes three steps a generator's step, at half its
    rate, and begins with its kinks spread over the data.
    """
    rate = Cosine(start=2e-3, end=1e-5)
    family = PackedPoints(**_penalised(gamma), lr_g=rate, lr_ratio=0.5, critic_steps=3, pac=2)
    return Entrant(family, _train(budget.steps(POINTS_EPOCH), PENALISED_BATCH, ema=True))


def _penalised(gamma: Cosine) -> dict[str, Any]:
    """What both penalised methods on points have in common."""
    loss = {"loss": "relativistic", "betas": (0.0, 0.99), "r1": gamma, "r2": gamma}
    return {"latent_dim": 2, "width": 256, "depth": 3, **loss}


def stacked_gan(budget: Budget, pac: int = 1, width: int = 64) -> Entrant:
    """DCGAN and PacDCGAN on stacked digits: Adam(2e-4, 0.5), 64 judgements a step, 100 uniform latents, two
    generator steps a discriminator's step (Lin et al. 2018, their code)."""
    return Entrant(
        StackedDCGAN(width=width, latent="uniform", pac=pac),
        _train(budget.steps(STACKED_EPOCH), STACKED_BATCH * pac, ema=False),
    )


def stacked_r3gan(budget: Budget, width: int = 64) -> Entrant:
    """RpGAN + R1 + R2 on stacked digits, on the protocol's networks without norm in the discriminator: R3GAN's own
    are slower on a CPU and were not better after as many steps (docs/benchmarks.md)."""
    gamma = Cosine(start=0.3, end=0.03)
    family = DCGAN(
        loss="relativistic",
        width=width,
        norm_d="none",
        lr_g=Cosine(start=1e-3, end=2e-5),
        lr_ratio=3.0,
        betas=(0.0, 0.99),
        r1=gamma,
        r2=gamma,
    )
    return Entrant(family, _train(budget.steps(STACKED_EPOCH), STACKED_BATCH, ema=True))


def _train(steps: int, batch: int, ema: bool) -> Train:
    """Nothing but training, and figures at the end."""
    return Train(
        steps=steps,
        batch=batch,
        log_every=25,
        evaluate_every=0,
        sample_every=0,
        sample_grid=1,
        checkpoint_every=0,
        on_collapse="ignore",
        ema=ema,
    )
