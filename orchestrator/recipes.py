"""Recipes: functions that return a complete `Experiment`. A variant calls another and replaces fields.

A recipe of one's own is any such function, named on the command line as `package.module:function`.
"""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from gans.data.digits import Digits
from gans.data.domains import DigitDomains
from gans.data.points import Grid, Ring
from gans.families.cgan import CGAN
from gans.families.cyclegan import CycleGAN
from gans.families.dcgan import DCGAN
from gans.families.r3gan import R3GAN
from gans.families.vanilla import Vanilla
from gans.families.wgan import WGAN
from gans.families.wgan_gp import WGANGP
from gans.options import Train
from gans.schedule import Cosine
from orchestrator.errors import ConfigError, NotFound
from orchestrator.experiment import Experiment, from_yaml
from orchestrator.sweep.space import Choice, Distribution, Int, LogUniform, Space

Recipe = Callable[[], Experiment]


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


def r3gan_digits() -> Experiment:
    """Relativistic pairing with R1 and R2 on residual networks, 16 px digits."""
    return Experiment(
        name="r3gan.digits",
        gan=R3GAN(
            width=16,
            lr_g=Cosine(start=1e-3, end=2e-4),
            lr_ratio=5.0,
            betas=(0.0, 0.99),
            r1=3.0,
            r2=3.0,
        ),
        data=Digits(size=16),
        train=Train(steps=2000, batch=64, evaluate_every=500, sample_every=500),
        search=Space({"gan.lr_ratio": LogUniform(low=1.0, high=20.0)}),
    )


def cyclegan_digits() -> Experiment:
    """Unpaired translation between two domains made from the digits: as they are, and inverted with a shadow.

    Without the identity loss, which fights a map that inverts contrast.
    """
    return Experiment(
        name="cyclegan.digits",
        gan=CycleGAN(width=8, width_d=16, blocks=2, lr_g=1e-3, identity=0.0),
        data=DigitDomains(size=16),
        train=Train(steps=1200, batch=16, evaluate_every=300, sample_every=300, sample_grid=32),
    )


def demo() -> Experiment:
    """What `ganctl demo` sweeps: balance, critic steps, loss, penalty, width and norm of a small GAN on digits."""
    return Experiment(
        name="demo",
        gan=Vanilla(width=128, depth=2, lr_g=1e-3, betas=(0.0, 0.9)),
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


def balance() -> Space:
    """The learning-rate balance alone, the first thing to search."""
    return Space(
        {"gan.lr_ratio": LogUniform(low=0.1, high=10.0), "gan.lr_g": LogUniform(low=2e-4, high=2e-3)}
    )


def balance_and_loss() -> dict[str, Distribution]:
    """Balance, critic steps, loss, and the penalty's weight where the loss wants one."""
    return {
        "gan.lr_ratio": LogUniform(low=0.1, high=10.0),
        "gan.critic_steps": Int(low=1, high=2),
        "gan.loss": Choice(options=("hinge", "non_saturating", "relativistic")),
        "gan.r1": LogUniform(low=0.03, high=3.0, sets=("gan.r2",), when={"gan.loss": ("relativistic",)}),
    }


def conv_space() -> Space:
    """The same for strided convolutions, with width and normalisation."""
    return Space(
        {
            **balance_and_loss(),
            "gan.width": Choice(options=(12, 16, 24)),
            "gan.norm_g": Choice(options=("batch", "none")),
            "gan.norm_d": Choice(options=("none", "spectral")),
        }
    )


RECIPES: dict[str, Recipe] = {
    "vanilla.ring": vanilla_ring,
    "vanilla.grid": vanilla_grid,
    "vanilla.digits": vanilla_digits,
    "dcgan.digits": dcgan_digits,
    "dcgan.digits32": dcgan_digits32,
    "wgan.ring": wgan_ring,
    "wgan.digits": wgan_digits,
    "wgan_gp.ring": wgan_gp_ring,
    "wgan_gp.digits": wgan_gp_digits,
    "cgan.digits": cgan_digits,
    "r3gan.digits": r3gan_digits,
    "cyclegan.digits": cyclegan_digits,
    "demo": demo,
}


def summary(recipe: Recipe) -> str:
    """The first line of a recipe's docstring."""
    return (inspect.getdoc(recipe) or "").partition("\n")[0]


def load(name: str) -> Experiment:
    """The experiment called `name`: a recipe, a YAML or JSON file, or `package.module:function` of one's own.

    Raises NotFound with the nearest recipe, or ConfigError.
    """
    if name in RECIPES:
        return RECIPES[name]()
    if name.endswith((".yaml", ".yml", ".json")):
        path = Path(name)
        if not path.is_file():
            raise NotFound(f"no file {name!r}")
        return from_yaml(path.read_text())
    if ":" in name:
        return _own(name)
    near = difflib.get_close_matches(name, RECIPES, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise NotFound(
        f"no recipe {name!r}{hint} recipes: {', '.join(RECIPES)}; or FILE.yaml, or module:function"
    )


def _own(name: str) -> Experiment:
    """A recipe of one's own, found from the current directory as Python itself would."""
    module, _, function = name.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        recipe = getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise NotFound(f"recipe {name!r} cannot be imported from {Path.cwd()}: {error}") from error
    experiment = recipe()
    if not isinstance(experiment, Experiment):
        raise ConfigError(f"recipe {name!r} returned {type(experiment).__name__}, not an Experiment")
    return experiment
