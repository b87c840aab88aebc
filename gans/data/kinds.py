"""The kinds of data by name. A module is imported when its kind is first asked for."""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import Annotated, Any, cast

from pydantic import BeforeValidator, SerializeAsAny

from gans.data.base import DataConfig
from gans.errors import ConfigError

KINDS: dict[str, str] = {
    "digits": "gans.data.digits:Digits",
    "ring": "gans.data.points:Ring",
    "grid": "gans.data.points:Grid",
    "images": "gans.data.images:Images",
    "parquet": "gans.data.parquet:Parquet",
    "pairs": "gans.data.paired:Pairs",
    "domains": "gans.data.domains:Domains",
    "digit_domains": "gans.data.domains:DigitDomains",
    "shapes": "gans.data.shapes:Shapes",
    "shape_pairs": "gans.data.pairs:ShapePairs",
    "photos": "gans.data.photos:Photos",
    "photo_domains": "gans.data.photos:PhotoDomains",
    "lowres": "gans.data.lowres:LowRes",
    "stacked_digits": "gans.data.stacked:StackedDigits",
    "stacked_mnist": "gans.data.stacked:StackedMnist",
}


def data_config(tag: str) -> type[DataConfig]:
    """The config class of the kind `tag`. Raises ConfigError, with the nearest name, where there is none."""
    if tag not in KINDS:
        near = difflib.get_close_matches(tag, KINDS, n=1)
        hint = f"; did you mean `{near[0]}`?" if near else ";"
        raise ConfigError(f"unknown data kind {tag!r}{hint} kinds: {', '.join(KINDS)}")
    module, _, name = KINDS[tag].partition(":")
    return cast(type[DataConfig], getattr(import_module(module), name))


def _by_kind(value: Any) -> Any:
    if isinstance(value, dict):
        if not isinstance(value.get("kind"), str):
            raise ConfigError(f"data needs a field `kind`, one of: {', '.join(KINDS)}")
        return data_config(value["kind"]).model_validate(value)
    return value


AnyData = Annotated[SerializeAsAny[DataConfig], BeforeValidator(_by_kind)]
"""A pydantic field for any kind of data: parsed from a dict by its `kind`, dumped with all its fields."""
