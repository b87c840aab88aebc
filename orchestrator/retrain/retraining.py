"""A retraining is a value: what is trained again, on which data, when, and what it takes to be promoted.

It knows neither Prefect nor PyTorch: an experiment inside it is a document, until `resolved` looks at it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import yaml
from pydantic import BaseModel, Field, ValidationError, ValidationInfo, field_validator

from gans.config import Config
from gans.errors import ConfigError, GanctlError
from orchestrator.errors import NotFound
from orchestrator.judging.options import Evaluation, Gate
from orchestrator.mistakes import say
from orchestrator.retrain.cron import check_cron, check_timezone
from orchestrator.store.documents import Document
from orchestrator.store.ids import check_name

if TYPE_CHECKING:
    from orchestrator.experiment import Experiment
    from orchestrator.sweep.plan import Plan

BLOCK = re.compile(r"[a-z0-9][a-z0-9-]*/[a-z0-9][a-z0-9-]*")


class DataTrigger(Config):
    """A round once `at_least` items were added to the data or removed since the last round; looked for as the cron
    `every` says."""

    at_least: int = Field(1, ge=1)
    every: str = "*/10 * * * *"

    @field_validator("every")
    @classmethod
    def _cron(cls, text: str) -> str:
        return check_cron(text)


class EventTrigger(Config):
    """A round at each event whose name is `expect` and whose resource has what `match` says, as Prefect's
    automations read both: `expect="external.upload.done"`, `match={"prefect.resource.id": "bucket.faces*"}`."""

    expect: str = Field(min_length=1)
    match: Mapping[str, str | tuple[str, ...]] = {}


class Triggers(Config):
    """What begins a round, beside a person: a `cron` in a `timezone`, more `data`, `events`. All may be given."""

    cron: str | None = None
    timezone: str = "UTC"
    data: DataTrigger | None = None
    events: tuple[EventTrigger, ...] = ()

    @field_validator("cron")
    @classmethod
    def _cron(cls, text: str | None) -> str | None:
        return None if text is None else check_cron(text)

    @field_validator("timezone")
    @classmethod
    def _zone(cls, text: str) -> str:
        return check_timezone(text)


class Budget(Config):
    """`hours` of wall-clock a round may take; `rounds_a_day` that may begin within 24 hours. None: no limit."""

    hours: float | None = Field(None, gt=0)
    rounds_a_day: int | None = Field(None, ge=1)


class Retraining(Config):
    """Everything that is known of a retraining before it runs.

    name: the model's, under which its versions are promoted. experiment: a recipe, FILE.yaml, module:function, or an
    experiment as a document; `resolved` makes it a document. overrides: dotted fields of the experiment. data: in the
    place of the experiment's. sweep: a plan; each round then sweeps and trains the winner. start: from the champion's
    weights, or anew. overlap: what becomes of a round that is asked for while another runs. on: where it trains.
    notify: Prefect's notification blocks, `type/name`. remedies: how often a round that collapsed is tried again.
    """

    name: str
    experiment: str | Document
    overrides: Mapping[str, Any] = {}
    data: Document | None = None
    sweep: Document | None = None
    start: Literal["champion", "fresh"] = "champion"
    triggers: Triggers = Triggers()
    overlap: Literal["queue", "refuse"] = "queue"
    evaluation: Evaluation = Evaluation()
    gate: Gate = Gate()
    budget: Budget = Budget()
    on: str = "local"
    notify: tuple[str, ...] = ()
    remedies: int = Field(1, ge=0)

    @field_validator("name")
    @classmethod
    def _model(cls, text: str) -> str:
        try:
            return check_name(text)
        except ConfigError as error:
            raise ValueError(str(error)) from None

    @field_validator("experiment", "data", "sweep", mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        return value.model_dump(mode="json") if isinstance(value, BaseModel) else value

    @field_validator("on")
    @classmethod
    def _place(cls, text: str) -> str:
        if text not in ("local", "inline") and not re.fullmatch(r"https?://[^/\s]+/?", text):
            raise ValueError("allowed are local, inline and http://HEAD:8265, Ray's Jobs API")
        return text

    @field_validator("notify")
    @classmethod
    def _blocks(cls, blocks: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if wrong := [block for block in blocks if not BLOCK.fullmatch(block)]:
            raise ValueError(f"{', '.join(wrong)}: a notification block is type/name, slack-webhook/ops")
        return blocks

    def document(self) -> Document:
        """The retraining as plain JSON; `parse` rebuilds it."""
        return self.model_dump(mode="json")

    def resolved(self) -> Self:
        """The same with its experiment as a whole document, overrides and data in it, and its plan complete.

        So it stays what it is when a recipe changes. Raises ConfigError that lists every mistake.
        """
        mistakes: list[str] = []
        experiment, plan = _experiment(self, mistakes), _plan(self, mistakes)
        if experiment is not None and plan is not None and not experiment.search.root:
            mistakes.append(
                "field `sweep`: the experiment has no search space; give it a `search`, or leave `sweep` out"
            )
        if mistakes or experiment is None:
            raise ConfigError("\n".join(mistakes))
        whole = {"experiment": experiment.document(), "overrides": {}, "data": None}
        return self.model_copy(
            update=whole | {"sweep": None if plan is None else plan.model_dump(mode="json")}
        )

    def trains(self) -> Experiment:
        """The experiment of a resolved retraining. Raises ConfigError where this version of ganctl cannot read it."""
        from orchestrator.experiment import parse as parse_experiment

        assert isinstance(self.experiment, dict), "resolve it first"
        return parse_experiment(self.experiment)

    def plan(self) -> Plan | None:
        """How each round sweeps; None where it does not."""
        from orchestrator.sweep.plan import parse_plan

        return None if self.sweep is None else parse_plan(self.sweep)


def parse(fields: Mapping[str, Any]) -> Retraining:
    """A retraining from plain JSON or YAML values. Raises ConfigError, a line a mistake; its experiment is not read."""
    try:
        return Retraining.model_validate(dict(fields))
    except ValidationError as error:
        lines = dict.fromkeys(say(Retraining, e, whole="retraining") for e in error.errors())
        raise ConfigError("\n".join(lines)) from None


def from_yaml(text: str) -> Retraining:
    """A retraining from YAML or JSON text. Its field `on` is read though YAML 1.1 takes a bare `on` for true.

    Raises ConfigError.
    """
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"a retraining is a mapping of fields: {', '.join(Retraining.model_fields)}")
    return parse({"on" if key is True else str(key): value for key, value in document.items()})


def load(name: str) -> Retraining:
    """The retraining in the file `name`, or the one that `package.module:function` returns.

    Raises NotFound, or ConfigError.
    """
    if name.endswith((".yaml", ".yml", ".json")):
        path = Path(name)
        if not path.is_file():
            raise NotFound(f"no file {name!r}")
        return from_yaml(path.read_text())
    module, colon, function = name.partition(":")
    if not colon:
        raise ConfigError(f"{name!r} is no retraining: give FILE.yaml, FILE.json or module:function")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        made = getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise NotFound(f"retraining {name!r} cannot be imported from {Path.cwd()}: {error}") from error
    try:
        retraining = made()
    except ValidationError as error:
        raise ConfigError("\n".join(say(Retraining, e, whole="retraining") for e in error.errors())) from None
    if not isinstance(retraining, Retraining):
        raise ConfigError(f"{name!r} returned {type(retraining).__name__}, not a Retraining")
    return retraining


def _experiment(retraining: Retraining, mistakes: list[str]) -> Experiment | None:
    from orchestrator.experiment import parse as parse_experiment
    from orchestrator.recipes import load as load_recipe

    given = retraining.experiment
    try:
        experiment = load_recipe(given) if isinstance(given, str) else parse_experiment(given)
        if retraining.data is not None:
            experiment = parse_experiment(experiment.document() | {"data": retraining.data})
        return experiment.override(retraining.overrides) if retraining.overrides else experiment
    except GanctlError as error:
        mistakes += [f"experiment: {line}" for line in str(error).splitlines()]
        return None


def _plan(retraining: Retraining, mistakes: list[str]) -> Plan | None:
    try:
        return retraining.plan()
    except ConfigError as error:
        mistakes.append(f"sweep: {error}")
        return None
