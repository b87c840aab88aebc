"""Every family on data that suits it, as small as it goes: the subjects of the contract suites."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch

from gans.data.base import DataConfig, Dataset
from gans.data.digits import Digits
from gans.data.domains import DigitDomains
from gans.data.points import Ring
from gans.families.cgan import CGAN
from gans.families.cyclegan import CycleGAN
from gans.families.dcgan import DCGAN
from gans.families.r3gan import R3GAN
from gans.families.vanilla import Vanilla
from gans.families.wgan import WGAN
from gans.families.wgan_gp import WGANGP
from gans.family import Family
from gans.options import Train
from gans.sync import Alone, Sync
from gans.training import Training

CPU = torch.device("cpu")
RING, DIGITS, DOMAINS = Ring(num=500), Digits(size=8), DigitDomains(size=16)


@dataclass(frozen=True)
class Case:
    """A family, its data, and whether its samples are squashed to [-1, 1]."""

    family: Family
    data: DataConfig
    squashed: bool = True


CASES = {
    "vanilla": Case(Vanilla(width=16, latent_dim=8), RING, squashed=False),
    "vanilla-batch-norm": Case(Vanilla(width=16, latent_dim=8, norm_g="batch"), DIGITS),
    "wgan": Case(WGAN(width=16, latent_dim=8, critic_steps=2), RING, squashed=False),
    "wgan-pictures": Case(WGAN(width=4, latent_dim=8, critic_steps=2), DIGITS),
    "wgan_gp": Case(WGANGP(width=16, latent_dim=8, critic_steps=2), RING, squashed=False),
    "wgan_gp-pictures": Case(WGANGP(width=4, latent_dim=8, critic_steps=2, norm_d="group"), DIGITS),
    "dcgan": Case(DCGAN(width=4, latent_dim=8), DIGITS),
    "dcgan-penalised": Case(DCGAN(width=4, latent_dim=8, r1=1.0, r2=1.0), DIGITS),
    "dcgan-lazy": Case(DCGAN(width=4, latent_dim=8, norm_d="none", r1=1.0, penalty_every=2), DIGITS),
    "cgan": Case(CGAN(width=4, latent_dim=8), DIGITS),
    "r3gan": Case(R3GAN(width=4, latent_dim=8), DIGITS, squashed=False),
    "cyclegan": Case(CycleGAN(width=4, width_d=4, blocks=1, pool=9), DOMAINS),
}


@cache
def loaded(data: DataConfig) -> Dataset:
    """The training split, read once a process."""
    return data.load("train")


def training(
    case: Case, batch: int = 8, seed: int = 0, sync: Sync | None = None, **options: object
) -> Training:
    """A run of the case at its first step."""
    train = Train(batch=batch, **({"precision": "fp32"} | options))  # type: ignore[arg-type]
    return Training(case.family, loaded(case.data), train, seed, CPU, sync or Alone())


def with_fields(case: Case, **fields: object) -> Case:
    """The case with other hyperparameters."""
    return Case(case.family.model_copy(update=fields), case.data, case.squashed)


def frozen(case: Case) -> Case:
    """The case with learning rate zero, which every family calls `lr_g`: every step meets the same weights."""
    return with_fields(case, lr_g=0.0)
