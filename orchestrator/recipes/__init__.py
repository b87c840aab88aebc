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

from orchestrator.errors import ConfigError, NotFound
from orchestrator.experiment import Experiment, from_yaml
from orchestrator.recipes import (
    biggan,
    cyclegan,
    diversity,
    lapgan,
    pix2pix,
    plain,
    progressive,
    r3gan,
    srgan,
    stargan,
    stylegan2,
    stylegan3,
    vitgan,
)

Recipe = Callable[[], Experiment]

RECIPES: dict[str, Recipe] = {
    "vanilla.ring": plain.vanilla_ring,
    "vanilla.grid": plain.vanilla_grid,
    "vanilla.digits": plain.vanilla_digits,
    "vanilla.pacgan-ring": diversity.vanilla_pacgan_ring,
    "dcgan.digits": plain.dcgan_digits,
    "dcgan.digits32": plain.dcgan_digits32,
    "dcgan.ada": diversity.dcgan_ada,
    "dcgan.ssgan": diversity.dcgan_ssgan,
    "wgan.ring": plain.wgan_ring,
    "wgan.digits": plain.wgan_digits,
    "wgan_gp.ring": plain.wgan_gp_ring,
    "wgan_gp.digits": plain.wgan_gp_digits,
    "cgan.digits": plain.cgan_digits,
    "r3gan.digits": r3gan.r3gan_digits,
    "r3gan.stacked": r3gan.r3gan_stacked,
    "cyclegan.digits": cyclegan.cyclegan_digits,
    "cyclegan.photos": cyclegan.cyclegan_photos,
    "pix2pix.labels": pix2pix.pix2pix_labels,
    "pix2pix.edges": pix2pix.pix2pix_edges,
    "srgan.photos": srgan.srgan_photos,
    "srgan.photos2x": srgan.srgan_photos2x,
    "progressive.digits": progressive.progressive_digits,
    "lapgan.digits": lapgan.lapgan_digits,
    "lapgan.photos": lapgan.lapgan_photos,
    "stargan.shapes": stargan.stargan_shapes,
    "stargan.joint": stargan.stargan_joint,
    "biggan.digits": biggan.biggan_digits,
    "biggan.shapes": biggan.biggan_shapes,
    "stylegan2.digits": stylegan2.stylegan2_digits,
    "stylegan3.digits": stylegan3.stylegan3_digits,
    "stylegan3r.digits": stylegan3.stylegan3r_digits,
    "vitgan.digits": vitgan.vitgan_digits,
    "demo": plain.demo,
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
