"""The families by name. A new one is its own file and a row here."""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

from gans.errors import ConfigError
from gans.family import Family

FAMILIES: dict[str, str] = {
    "vanilla": "gans.families.vanilla:Vanilla",
    "dcgan": "gans.families.dcgan:DCGAN",
    "wgan": "gans.families.wgan:WGAN",
    "wgan_gp": "gans.families.wgan_gp:WGANGP",
    "cgan": "gans.families.cgan:CGAN",
    "r3gan": "gans.families.r3gan:R3GAN",
    "stargan": "gans.families.stargan:StarGAN",
    "cyclegan": "gans.families.cyclegan:CycleGAN",
    "pix2pix": "gans.families.pix2pix:Pix2Pix",
    "srgan": "gans.families.srgan:SRGAN",
    "progressive": "gans.families.progressive:Progressive",
    "lapgan": "gans.families.lapgan:LAPGAN",
    "biggan": "gans.families.biggan:BigGAN",
    "vitgan": "gans.families.vitgan:ViTGAN",
    "stylegan2": "gans.families.stylegan2:StyleGAN2",
    "stylegan3": "gans.families.stylegan3:StyleGAN3",
}


def family_class(tag: str) -> type[Family]:
    """The family called `tag`, or the one of your own at `package.module:Class`. Raises ConfigError."""
    path = FAMILIES.get(tag, tag)
    if ":" not in path:
        near = difflib.get_close_matches(tag, FAMILIES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"unknown family {tag!r}{hint} families: {', '.join(FAMILIES)}, or module:Class")
    module, _, name = path.partition(":")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"family {tag!r} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Family)):
        raise ConfigError(f"family {tag!r} is not a subclass of gans.Family")
    return found


def family_tag(family: Family | type[Family]) -> str:
    """The name under which `family_class` finds this family again."""
    cls = family if isinstance(family, type) else type(family)
    path = f"{cls.__module__}:{cls.__qualname__}"
    return next((tag for tag, where in FAMILIES.items() if where == path), path)


def _by_tag(value: Any) -> Any:
    if isinstance(value, dict):
        if not isinstance(value.get("family"), str):
            raise ConfigError(f"gan needs a field `family`: {', '.join(FAMILIES)}, or module:Class")
        return family_class(value["family"]).model_validate({k: v for k, v in value.items() if k != "family"})
    return value


def _with_tag(family: Family) -> dict[str, Any]:
    return {"family": family_tag(family), **family.model_dump(mode="json")}


AnyFamily = Annotated[Family, BeforeValidator(_by_tag), PlainSerializer(_with_tag)]
"""A pydantic field for any family: parsed from a dict by its `family`, dumped with its tag and all its fields."""
