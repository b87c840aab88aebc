"""Every family on data that suits it, as small as it goes: the subjects of the contract suites."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from gans.data.base import DataConfig, Dataset
from gans.data.digits import Digits
from gans.data.domains import DigitDomains
from gans.data.lowres import LowRes
from gans.data.pairs import ShapePairs
from gans.data.points import Ring
from gans.data.shapes import Shapes
from gans.families.biggan import BigGAN
from gans.families.cgan import CGAN
from gans.families.cyclegan import CycleGAN
from gans.families.dcgan import DCGAN
from gans.families.lapgan import LAPGAN
from gans.families.pix2pix import Pix2Pix
from gans.families.progressive import Progressive
from gans.families.r3gan import R3GAN
from gans.families.srgan import SRGAN
from gans.families.stargan import StarGAN
from gans.families.stylegan2 import StyleGAN2
from gans.families.stylegan3 import StyleGAN3
from gans.families.vanilla import Vanilla
from gans.families.vitgan import ViTGAN
from gans.families.wgan import WGAN
from gans.families.wgan_gp import WGANGP
from gans.family import Family
from gans.options import Train
from gans.sync import Alone, Sync
from gans.training import Training

CPU = torch.device("cpu")
RING, DIGITS, DOMAINS = Ring(num=500), Digits(size=8), DigitDomains(size=16)
PAIRS, LOW = ShapePairs(size=16, num=200), LowRes(of=Digits(size=8), factor=2)


STYLE: dict[str, Any] = {
    "latent_dim": 8,
    "style_dim": 8,
    "mapping_layers": 2,
    "channel_base": 32,
    "lr_g": 1e-3,
}

ALIAS_FREE: dict[str, Any] = {**STYLE, "channel_base_d": 32, "num_layers": 2, "num_critical": 1, "margin": 2}


# With this few images a unit of p, it moves in a few steps.
ADAPTIVE: dict[str, Any] = {"augment": "ada", "ada_every": 2, "ada_images": 40}
JUDGED: dict[str, Any] = {
    **ADAPTIVE,
    "lecam": 0.3,
    "lecam_start": 1,
    "consistency": 1.0,
    "consistency_fake": 1.0,
}


SETS = (("colour",), ("fill", "rotation"))


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
    "dcgan-ada": Case(
        DCGAN(
            width=4,
            latent_dim=8,
            norm_d="none",
            r1=1.0,
            lecam=0.3,
            lecam_start=1,
            **ADAPTIVE,
        ),
        DIGITS,
    ),
    "dcgan-diff": Case(
        DCGAN(width=4, latent_dim=8, augment="diff", consistency=1.0, consistency_fake=1.0), DIGITS
    ),
    "dcgan-ssgan": Case(
        DCGAN(width=4, latent_dim=8, norm_d="none", rotation=1.0, minibatch_stddev=2, truncation=0.5), DIGITS
    ),
    "dcgan-pac": Case(DCGAN(width=4, latent_dim=8, norm_d="none", pac=2, r1=1.0, penalty_every=2), DIGITS),
    "vanilla-pac": Case(
        Vanilla(width=16, latent_dim=8, pac=2, minibatch_stddev=2, gp=1.0), RING, squashed=False
    ),
    "vanilla-unrolled": Case(Vanilla(width=16, latent_dim=8, unrolled=2), RING, squashed=False),
    "cgan": Case(CGAN(width=4, latent_dim=8), DIGITS),
    "r3gan": Case(R3GAN(width=4, latent_dim=8), DIGITS, squashed=False),
    "cyclegan": Case(CycleGAN(width=4, width_d=4, blocks=1, pool=9), DOMAINS),
    "cyclegan-judged": Case(CycleGAN(width=4, width_d=4, blocks=1, pool=9, **JUDGED), DOMAINS),
    "pix2pix": Case(Pix2Pix(width=4, width_d=4), PAIRS),
    "pix2pix-batch-norm": Case(Pix2Pix(width=4, width_d=4, norm_g="batch", norm_d="batch"), PAIRS),
    "pix2pix-judged": Case(Pix2Pix(width=4, width_d=4, loss="least_squares", **JUDGED), PAIRS),
    "pix2pix-jitter": Case(Pix2Pix(width=4, width_d=4, jitter=0.25, mirror=True), PAIRS),
    "pix2pix-diff": Case(Pix2Pix(width=4, width_d=4, augment="diff", loss="relativistic"), PAIRS),
    "srgan": Case(SRGAN(width=4, width_d=4, blocks=1, pretrain=1), LOW, squashed=False),
    "srgan-features": Case(
        SRGAN(
            width=4,
            width_d=4,
            blocks=1,
            pretrain=1,
            norm_g="none",
            norm_d="none",
            content="random",
            skip="bicubic",
        ),
        LOW,
        squashed=False,
    ),
    "srgan-judged": Case(
        SRGAN(width=4, width_d=4, blocks=1, pretrain=1, **JUDGED),
        LOW,
        squashed=False,
    ),
    "biggan": Case(BigGAN(width=4, latent_dim=8, shared_dim=4), DIGITS),
    "vitgan": Case(ViTGAN(width=8, latent_dim=8, depth=1, heads=2, mapping_layers=1), DIGITS, squashed=False),
    "progressive": Case(
        Progressive(
            latent_dim=8,
            width=4,
            width_max=4,
            minibatch_stddev=2,
            schedule=(0.25, 1.0),
            batches=(1.0, 0.5),
        ),
        DIGITS,
        squashed=False,
    ),
    "progressive-fading": Case(
        Progressive(
            latent_dim=8, width=4, width_max=4, minibatch_stddev=0, schedule=(0.0, 1.0), fade=1.0, r1=1.0
        ),
        DIGITS,
        squashed=False,
    ),
    "lapgan": Case(
        LAPGAN(levels=1, latent_dim=8, hidden=8, hidden_d=8, width=4, kernel=3), DIGITS, squashed=False
    ),
    "lapgan-by-class": Case(
        LAPGAN(
            levels=1,
            latent_dim=8,
            hidden=8,
            hidden_d=8,
            width=4,
            kernel=3,
            by_class=True,
            loss="relativistic",
            r1=1.0,
        ),
        DIGITS,
        squashed=False,
    ),
    "lapgan-judged": Case(
        LAPGAN(levels=1, latent_dim=8, hidden=8, hidden_d=8, width=4, kernel=3, by_class=True, **JUDGED),
        DIGITS,
        squashed=False,
    ),
    "stylegan2": Case(StyleGAN2(**STYLE, sampled_noise=False), DIGITS, squashed=False),
    "stylegan2-by-class": Case(
        StyleGAN2(**STYLE, by_class=True, minibatch_stddev=0, path=0.0, truncation=0.7),
        DIGITS,
        squashed=False,
    ),
    "stylegan3": Case(StyleGAN3(**ALIAS_FREE), DIGITS, squashed=False),
    "stylegan3-r": Case(
        StyleGAN3(**ALIAS_FREE, variant="r", minibatch_stddev=0, blur_images=64, truncation=0.7),
        DIGITS,
        squashed=False,
    ),
    "stargan": Case(
        StarGAN(width=4, width_d=4, blocks=1, critic_steps=2), Shapes(size=16, num=60, label="colour")
    ),
    "stargan-judged": Case(
        StarGAN(width=4, width_d=4, blocks=1, critic_steps=1, **JUDGED),
        Shapes(size=16, num=60, label="colour"),
    ),
    "stargan-joint": Case(
        StarGAN(width=4, width_d=4, blocks=0, critic_steps=1, sets=SETS), Shapes(size=16, num=60, sets=SETS)
    ),
}


@cache
def loaded(data: DataConfig) -> Dataset:
    """The training split, read once a process."""
    return data.load("train")


def fitting(family: Family, rows: int, least: int = 2) -> int:
    """`rows` rows if these are at least `least` of the groups that the family judges together. Or else about so many in
    groups: an even number of them for even `rows`, so that two ranks have equal shares, and an odd one for odd ones."""
    groups = max(least, -(-rows // family.unit))
    if groups * family.unit == rows:
        return rows
    return family.unit * (groups + (groups - rows) % 2)


def training(
    case: Case, batch: int = 8, seed: int = 0, sync: Sync | None = None, **options: object
) -> Training:
    """A run of the case at its first step, its batch as near to `batch` as it may be."""
    rows = fitting(case.family, batch, int(options.get("accumulate", 2)))  # type: ignore[call-overload]
    train = Train(batch=rows, **({"precision": "fp32"} | options))  # type: ignore[arg-type]
    return Training(case.family, loaded(case.data), train, seed, CPU, sync or Alone())


def with_fields(case: Case, **fields: object) -> Case:
    """The case with other hyperparameters."""
    return Case(case.family.model_copy(update=fields), case.data, case.squashed)


def frozen(case: Case) -> Case:
    """The case with learning rate zero, which every family calls `lr_g`: every step meets the same weights."""
    return with_fields(case, lr_g=0.0)
