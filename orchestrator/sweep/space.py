"""What a sweep searches: experiment fields and the distributions their values are drawn from.

A space is a value: typed, frozen, JSON in and out. It knows Optuna's `Trial` as the thing that draws, and neither
studies nor Ray.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict, Field, RootModel, ValidationError, model_validator

from gans.config import Config
from gans.errors import ConfigError

if TYPE_CHECKING:  # every experiment imports this module, and Optuna takes a while
    import optuna

Scalar = bool | int | float | str | None


class _Distribution(Config):
    """What every distribution has besides its range.

    `sets`: further fields that take the same value. `when`: the parameter exists only where each named parameter
    has one of the listed values; elsewhere its fields take `otherwise`, or with None keep the recipe's value.
    """

    sets: tuple[str, ...] = ()
    when: dict[str, tuple[Scalar, ...]] = Field(default_factory=dict)
    otherwise: Scalar = None


class _Range(_Distribution):
    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> _Range:
        if not self.low < self.high:
            raise ValueError(f"low {self.low:g} must be below high {self.high:g}")
        return self


class LogUniform(_Range):
    """A float whose logarithm is uniform between `low` > 0 and `high`."""

    kind: Literal["loguniform"] = "loguniform"
    low: Annotated[float, Field(gt=0)]

    def suggest(self, name: str, trial: optuna.Trial) -> float:
        return trial.suggest_float(name, self.low, self.high, log=True)

    def __str__(self) -> str:
        return f"loguniform({self.low:.12g},{self.high:.12g})"


class Uniform(_Range):
    """A float, uniform between `low` and `high`."""

    kind: Literal["uniform"] = "uniform"

    def suggest(self, name: str, trial: optuna.Trial) -> float:
        return trial.suggest_float(name, self.low, self.high)

    def __str__(self) -> str:
        return f"uniform({self.low:.12g},{self.high:.12g})"


class Int(_Distribution):
    """A whole number from `low` to `high`, both included; `log` makes small ones likelier."""

    kind: Literal["int"] = "int"
    low: int
    high: int
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Int:
        if not self.low < self.high:
            raise ValueError(f"low {self.low} must be below high {self.high}")
        if self.log and self.low < 1:
            raise ValueError(f"low {self.low} must be at least 1 on a log scale")
        return self

    def suggest(self, name: str, trial: optuna.Trial) -> int:
        return trial.suggest_int(name, self.low, self.high, log=self.log)

    def __str__(self) -> str:
        return f"int({self.low},{self.high}{',log' if self.log else ''})"


class Choice(_Distribution):
    """One of `options`."""

    kind: Literal["choice"] = "choice"
    options: Annotated[tuple[Scalar, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _distinct(self) -> Choice:
        if len(set(self.options)) < len(self.options):
            raise ValueError(f"options {', '.join(map(_text, self.options))} name one value twice")
        return self

    def suggest(self, name: str, trial: optuna.Trial) -> Scalar:
        return trial.suggest_categorical(name, self.options)

    def __str__(self) -> str:
        return f"choice({','.join(map(_text, self.options))})"


Distribution = Annotated[LogUniform | Uniform | Int | Choice, Field(discriminator="kind")]


class Space(RootModel[dict[str, Distribution]]):
    """Dotted experiment field to distribution. `Space({"gan.lr_ratio": LogUniform(low=0.1, high=10)})`.

    Raises pydantic's ValidationError where a condition names no parameter, an impossible value or itself, and
    where two distributions set one field.
    """

    model_config = ConfigDict(frozen=True)

    @model_validator(mode="after")
    def _consistent(self) -> Space:
        owners: dict[str, str] = {}
        for name, distribution in self.root.items():
            for field in (name, *distribution.sets):
                if field in owners:
                    raise ValueError(f"`{field}` is set twice: by `{owners[field]}` and by `{name}`")
                owners[field] = name
            for parent, values in distribution.when.items():
                self._check_condition(name, parent, values)
        self._parents_first()
        return self

    def _check_condition(self, name: str, parent: str, values: tuple[Scalar, ...]) -> None:
        where = f"`when` of `{name}`"
        if parent not in self.root:
            hint = _hint(parent, self.root)
            raise ValueError(f"{where} names `{parent}`{hint}; parameters: {_listed(self.root)}")
        distribution = self.root[parent]
        if not isinstance(distribution, Choice):
            return
        skipped = () if distribution.otherwise is None else (distribution.otherwise,)
        options = [_text(option) for option in distribution.options + skipped]
        for value in map(_text, values):
            if value not in options:
                hint = _hint(value, options)
                raise ValueError(f"{where}: `{parent}` is never {value}{hint}; options: {', '.join(options)}")

    def _parents_first(self) -> list[str]:
        """Names in the order they can be drawn. Raises ValueError where conditions go round in a circle."""
        ordered: list[str] = []
        waiting = list(self.root)
        while waiting:
            ready = [name for name in waiting if all(parent in ordered for parent in self.root[name].when)]
            if not ready:
                raise ValueError(f"the conditions of {_listed(waiting)} depend on each other in a circle")
            ordered += ready
            waiting = [name for name in waiting if name not in ready]
        return ordered

    @property
    def fields(self) -> tuple[str, ...]:
        """Every experiment field that this space may set."""
        return tuple(field for name, d in self.root.items() for field in (name, *d.sets))

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """One value for every field that is set in this trial, drawn define-by-run."""
        values: dict[str, Any] = {}
        for name in self._parents_first():
            distribution = self.root[name]
            if all(f in values and values[f] in allowed for f, allowed in distribution.when.items()):
                value = distribution.suggest(name, trial)
            elif distribution.otherwise is not None:
                value = distribution.otherwise
            else:
                continue
            values |= dict.fromkeys((name, *distribution.sets), value)
        return values


KINDS: dict[str, tuple[type[LogUniform | Uniform | Int | Choice], str]] = {
    "loguniform": (LogUniform, "loguniform(low,high)"),
    "uniform": (Uniform, "uniform(low,high)"),
    "int": (Int, "int(low,high) or int(low,high,log)"),
    "choice": (Choice, "choice(a,b,…)"),
}
_CALL = re.compile(r"([A-Za-z_]\w*)\((.*)\)")


def is_distribution(text: str) -> bool:
    """Whether the right side of `field=text` is a distribution rather than a plain value."""
    return re.match(r"\s*[A-Za-z_]\w*\(", text) is not None


def parse_distribution(field: str, text: str) -> LogUniform | Uniform | Int | Choice:
    """`loguniform(0.1,10)` as a value. Raises ConfigError naming `field`, the text and what is allowed."""
    allowed = "; ".join(form for _, form in KINDS.values())
    call = _CALL.fullmatch(text.strip())
    if call is None:
        raise ConfigError(f"`{field}={text}`: the closing bracket is missing; allowed: {allowed}")
    kind, inside = call.groups()
    if kind not in KINDS:
        unknown = f"unknown distribution `{kind}`{_hint(kind, KINDS)}"
        raise ConfigError(f"`{field}={text}`: {unknown}; allowed: {allowed}")
    model, form = KINDS[kind]
    values = [_scalar(part) for part in inside.split(",")] if inside.strip() else []
    try:
        return model.model_validate(_arguments(model, values))
    except ValueError as error:
        said = _one_line(error) if isinstance(error, ValidationError) else error
        raise ConfigError(f"`{field}={text}`: {said}; allowed: {form}") from None


def _arguments(model: type[Config], values: list[Scalar]) -> dict[str, Any]:
    if model is Choice:
        return {"options": values}
    log = {"log": True} if model is Int and values[2:] == ["log"] else {}
    if len(values) != 2 + len(log):
        raise ValueError(f"{len(values)} arguments given")
    return {"low": values[0], "high": values[1], **log}


def resolve_field(name: str, fields: Collection[str]) -> str:
    """The one dotted field that is `name` or ends in `.name`. Raises ConfigError where there is none, or several."""
    if name in fields:
        return name
    matches = sorted(field for field in fields if field.endswith(f".{name}"))
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise ConfigError(f"`{name}` may mean {_listed(matches)}; write the whole name")
    whole = {alias: field for field in sorted(fields) for alias in (field, field.rpartition(".")[2])}
    nearest = get_close_matches(name, whole, n=1)
    hint = f"; did you mean `{whole[nearest[0]]}`?" if nearest else ""
    raise ConfigError(f"unknown field `{name}`{hint} fields: {', '.join(sorted(fields))}")


def parse_space(assignments: Iterable[str], fields: Collection[str]) -> tuple[Space, list[str]]:
    """`["lr_ratio=loguniform(0.1,10)", "gan.norm=none"]` as the space and the assignments that are plain values.

    `fields` are the experiment's dotted fields. Raises ConfigError with every mistake at once.
    """
    drawn: dict[str, LogUniform | Uniform | Int | Choice] = {}
    plain: list[str] = []
    mistakes: list[str] = []
    for assignment in assignments:
        name, _, text = assignment.partition("=")
        if not is_distribution(text):
            plain.append(assignment)
            continue
        try:
            field = resolve_field(name.strip(), fields)
            if field in drawn:
                raise ConfigError(f"`{assignment}`: `{field}` is given twice")
            drawn[field] = parse_distribution(field, text)
        except ConfigError as error:
            mistakes.append(str(error))
    if mistakes:
        raise ConfigError(" | ".join(mistakes))
    return Space(drawn), plain


def _scalar(text: str) -> Scalar:
    """A JSON scalar where it is one (1e-4, true, null, "quoted"), else the text itself."""
    stripped = text.strip()
    try:
        value = json.loads(stripped)
    except json.JSONDecodeError:
        return stripped
    return value if isinstance(value, Scalar) else stripped


def _text(value: Scalar) -> str:
    """What `_scalar` reads back as `value`."""
    return value if isinstance(value, str) and _scalar(value) == value else json.dumps(value)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _hint(name: str, known: Iterable[str]) -> str:
    nearest = get_close_matches(name, list(known), n=1)
    return f" (did you mean `{nearest[0]}`?)" if nearest else ""


def _one_line(error: ValidationError) -> str:
    places = [".".join(map(str, detail["loc"])) for detail in error.errors()]
    said = [detail["msg"].removeprefix("Value error, ") for detail in error.errors()]
    return "; ".join(f"{place}: {what}" if place else what for place, what in zip(places, said, strict=True))
