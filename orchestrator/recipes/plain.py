"""Recipes of the families with plain networks: perceptrons and strided convolutions."""

from __future__ import annotations

from gans.data.digits import Digits
from gans.data.points import Grid, Ring
from gans.families.cgan import CGAN
from gans.families.dcgan import DCGAN
from gans.families.vanilla import Vanilla
from gans.families.wgan import WGAN
from gans.families.wgan_gp import WGANGP
from gans.options import Train
from orchestrator.experiment import Experiment
from orchestrator.recipes.spaces import balance, balance_and_loss, conv_space
from orchestrator.sweep.space import Choice, Space


def vanilla_ring() -> Experiment:
    """A multilayer GAN on eight Gaussians on a circle: the smallest run that can lose modes."""
    return Experiment(
        name="vanilla.ring",
        gan=Vanilla(latent_dim=2, width=128, depth=3, lr_g=1e-3, lr_ratio=2.0, betas=(0.5, 0.999)),
        data=Ring(),
        train=Train(steps=4000, batch=256, log_every=50, evaluate_every=1000, sample_every=1000),
        search=balance(),
    )


def vanilla_grid() -> Experiment:
    """The same on twenty-five Gaussians."""
    return vanilla_ring().model_copy(update={"name": "vanilla.grid", "data": Grid()})


def vanilla_digits() -> Experiment:
    """Perceptrons on 16 px handwritten digits, with the relativistic loss and both penalties."""
    return Experiment(
        name="vanilla.digits",
        gan=Vanilla(
            loss="relativistic", width=256, lr_g=1e-3, lr_ratio=2.0, betas=(0.0, 0.9), r1=0.5, r2=0.5
        ),
        data=Digits(size=16),
        train=Train(steps=4000, batch=64, evaluate_every=1000, sample_every=1000, sample_grid=100),
        search=demo().search,
    )


def dcgan_digits() -> Experiment:
    """Strided convolutions with batch norm on 16 px digits."""
    return Experiment(
        name="dcgan.digits",
        gan=DCGAN(width=16, lr_g=1e-3, lr_ratio=1.0, norm_d="spectral"),
        data=Digits(size=16),
        train=Train(steps=2000, batch=64, evaluate_every=500, sample_every=500),
        search=conv_space(),
    )


def dcgan_digits32() -> Experiment:
    """The same at 32 px, where bf16 and channels-last begin to pay."""
    base = dcgan_digits()
    return base.model_copy(update={"name": "dcgan.digits32", "data": Digits(size=32)})


def wgan_ring() -> Experiment:
    """Weight clipping on the ring."""
    return Experiment(
        name="wgan.ring",
        gan=WGAN(latent_dim=2, width=128, depth=3, lr_g=2e-4, clip=0.1, norm_g="none"),
        data=Ring(),
        train=Train(steps=3000, batch=256, log_every=50, evaluate_every=1000, sample_every=1000),
    )


def wgan_digits() -> Experiment:
    """Weight clipping on 16 px digits."""
    return Experiment(
        name="wgan.digits",
        gan=WGAN(width=16, lr_g=5e-4, clip=0.02),
        data=Digits(size=16),
        train=Train(steps=1500, batch=64, evaluate_every=500, sample_every=500),
    )


def wgan_gp_ring() -> Experiment:
    """Gradient penalty on the ring."""
    return Experiment(
        name="wgan_gp.ring",
        gan=WGANGP(latent_dim=2, width=128, depth=3, lr_g=5e-4, gp=0.1, norm_g="none"),
        data=Ring(),
        train=Train(steps=3000, batch=256, log_every=50, evaluate_every=1000, sample_every=1000),
    )


def wgan_gp_digits() -> Experiment:
    """Gradient penalty on 16 px digits."""
    return Experiment(
        name="wgan_gp.digits",
        gan=WGANGP(width=16, lr_g=1e-3, critic_steps=3),
        data=Digits(size=16),
        train=Train(steps=1500, batch=64, evaluate_every=500, sample_every=500),
    )


def cgan_digits() -> Experiment:
    """Digits by class: the grid's columns are the classes 0 to 9."""
    return Experiment(
        name="cgan.digits",
        gan=CGAN(width=16, lr_g=1e-3, lr_ratio=1.0),
        data=Digits(size=16),
        train=Train(steps=2000, batch=64, evaluate_every=500, sample_every=500, sample_grid=60),
        search=balance(),
    )


def demo() -> Experiment:
    """What `ganctl demo` sweeps: balance, critic steps, loss, penalty, width and norm of a small GAN on digits."""
    return Experiment(
        name="demo",
        gan=Vanilla(width=128, depth=2, norm_g="batch", lr_g=1e-3, betas=(0.0, 0.9)),
        data=Digits(size=16),
        train=Train(
            steps=600,
            batch=64,
            log_every=20,
            evaluate_every=300,
            sample_every=0,
            checkpoint_every=0,
            on_collapse="stop",
        ),
        search=Space(
            {
                **balance_and_loss(),
                "gan.width": Choice(options=(64, 128, 256)),
                "gan.norm_g": Choice(options=("batch", "none")),
                "gan.norm_d": Choice(options=("none", "spectral")),
            }
        ),
    )
