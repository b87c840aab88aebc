"""A run is a value: `Experiment` says everything a run is made of, is stored beside the results, and rebuilds it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import BaseModel, Field, ValidationError, ValidationInfo, field_validator

from gans.config import Config
from gans.data.base import DataConfig
from gans.data.kinds import AnyData, data_config
from gans.errors import ConfigError
from gans.families import AnyFamily, family_class
from gans.family import Family
from gans.health import HealthRules
from gans.options import Train
from orchestrator.assignments import read_assignments as read_assignments
from orchestrator.mistakes import say
from orchestrator.store.ids import ID_PATTERN
from orchestrator.sweep.space import Space

Document = dict[str, Any]


class Scale(Config):
    """How many ranks, where, and what each of them takes.

    With `max_workers` the group is elastic: it trains with as many as there is room for, from `workers` on, and goes
    on from its last checkpoint when that changes. `nodes` asks for that many machines with as many workers on each;
    None leaves it to Ray, which packs them. `gpus_per_worker` None: one where there are GPUs, else none.
    """

    workers: int = Field(1, ge=1)
    max_workers: int | None = Field(None, ge=1)
    nodes: int | None = Field(None, ge=1)
    cpus_per_worker: float = Field(1.0, gt=0)
    gpus_per_worker: float | None = Field(None, ge=0)
    max_failures: int = Field(3, ge=0)

    @field_validator("max_workers")
    @classmethod
    def _not_fewer(cls, most: int | None, info: ValidationInfo) -> int | None:
        workers = info.data.get("workers")
        if most is not None and workers is not None and most < workers:
            raise ValueError(f"must be at least scale.workers = {workers}, or null for a fixed number")
        return most

    @field_validator("nodes")
    @classmethod
    def _even(cls, nodes: int | None, info: ValidationInfo) -> int | None:
        workers, most = (info.data.get(name) for name in ("workers", "max_workers"))
        if nodes is not None and most is not None:
            raise ValueError(f"needs a fixed number of workers: set scale.max_workers = null (it is {most})")
        if nodes is not None and workers is not None and workers % nodes:
            raise ValueError(f"must divide scale.workers = {workers}, which are shared evenly")
        return nodes

    @property
    def most(self) -> int:
        """The most workers it may have."""
        return self.max_workers or self.workers

    @property
    def placement(self) -> str:
        """Ray's strategy for where the workers go."""
        if self.nodes is None:
            return "PACK"
        return {1: "STRICT_PACK", self.workers: "STRICT_SPREAD"}.get(self.nodes, "SPREAD")


class Experiment(Config):
    """Family with its hyperparameters, data, training, scale, health rules, search space and seed.

    `start` is the checkpoint whose weights, averages and optimisers it begins with, RUN or RUN@STEP of the same store.
    """

    name: str = Field(min_length=1, max_length=120)
    gan: AnyFamily
    data: AnyData
    train: Train = Train()
    scale: Scale = Scale()
    health: HealthRules = HealthRules()
    search: Space = Space({})
    seed: int = Field(0, ge=0)
    start: str | None = Field(None, pattern=rf"^{ID_PATTERN.pattern}(@\d+)?$")

    def document(self) -> Document:
        """The experiment as plain JSON; `parse` rebuilds it."""
        return self.model_dump(mode="json")

    def override(self, changes: Mapping[str, Any]) -> Experiment:
        """The experiment with dotted fields replaced (`gan.width`, `train.steps`).

        A new `gan.family` or `data.kind` starts from that family's or kind's defaults. Raises ConfigError that
        lists every mistake.
        """
        document = self.document()
        for field, tag in (("gan", "family"), ("data", "kind")):
            if f"{field}.{tag}" in changes and changes[f"{field}.{tag}"] != document[field].get(tag):
                document[field] = {tag: changes[f"{field}.{tag}"]}
                document["search"] = {}
        for path, value in changes.items():
            _set(document, path.split("."), value)
        return parse(document)


def parse(document: Mapping[str, Any]) -> Experiment:
    """An experiment from plain JSON or YAML values. Raises ConfigError naming every wrong field at once."""
    mistakes: list[str] = []
    parts: Document = dict(document)
    parts["gan"] = _part(document, "gan", "family", family_class, mistakes)
    parts["data"] = _part(document, "data", "kind", data_config, mistakes)
    try:
        experiment = Experiment.model_validate(parts)
    except ValidationError as error:
        known = {"gan", "data"} if mistakes else set()
        mistakes += [
            m
            for e in error.errors()
            if e["loc"][:1] not in {(k,) for k in known}
            for m in [say(Experiment, e, whole="experiment")]
        ]
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    return experiment


def from_yaml(text: str) -> Experiment:
    """An experiment from YAML or JSON text. Raises ConfigError."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"an experiment is a mapping of fields: {', '.join(Experiment.model_fields)}")
    return parse(document)


def flatten(document: Mapping[str, Any], prefix: str = "") -> Document:
    """Nested mappings as dotted paths; the search space is left out."""
    flat: Document = {}
    for key, value in document.items():
        if isinstance(value, Mapping) and value and (prefix or key != "search"):
            flat |= flatten(value, f"{prefix}{key}.")
        elif prefix or key != "search":
            flat[f"{prefix}{key}"] = value
    return flat


def _set(document: Document, path: list[str], value: Any) -> None:
    for key in path[:-1]:
        inner = document.get(key)
        document[key] = dict(inner) if isinstance(inner, Mapping) else {}
        document = document[key]
    document[path[-1]] = value


def _part(document: Mapping[str, Any], field: str, tag: str, find: Any, mistakes: list[str]) -> Any:
    """The validated family or data of a document, or its raw value where it is wrong."""
    raw = document.get(field)
    if isinstance(raw, Family | DataConfig) or not isinstance(raw, Mapping):
        return raw
    if not isinstance(raw.get(tag), str):
        mistakes.append(f"{field} needs a field `{tag}`")
        return raw
    try:
        model: type[BaseModel] = find(raw[tag])
    except ConfigError as error:
        mistakes.append(f"{field}.{tag}: {error}")
        return raw
    rest = {k: v for k, v in raw.items() if k != tag} if tag == "family" else dict(raw)
    try:
        return model.model_validate(rest)
    except ValidationError as error:
        mistakes += [say(model, e, f"{field}.") for e in error.errors()]
        return raw
