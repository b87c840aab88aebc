"""What pydantic finds wrong with a value, in the house's words: field, value, what is allowed, the nearest name."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel


def say(model: type[BaseModel], error: Any, prefix: str = "", whole: str = "it") -> str:
    """One of a ValidationError's `errors()` as a line. `prefix` goes before the field, `whole` is the model's name."""
    path = [str(part) for part in error["loc"]]
    where = f"{prefix}{'.'.join(path)}".rstrip(".") or whole
    if error["type"] == "extra_forbidden":
        fields = fields_at(model, path[:-1])
        near = get_close_matches(path[-1], fields, n=1, cutoff=0.5)
        hint = f"did you mean `{prefix}{'.'.join([*path[:-1], near[0]])}`? " if near else ""
        return f"unknown field `{where}`; {hint}fields: {', '.join(fields)}"
    if error["type"] == "missing":
        return f"field `{where}` is missing"
    message = error["msg"].removeprefix("Value error, ")
    said = f"{message[:1].lower()}{message[1:]}"
    return f"field `{where}` = {error['input']!r}: {said}" if path else f"{where}: {said}"


def fields_at(model: type[BaseModel], path: list[str]) -> list[str]:
    """The field names of the model at `path` below `model`, as far as annotations tell; numbers are list positions."""
    for name in path:
        if name.isdecimal():
            continue
        field = model.model_fields.get(name)
        inner = next(_models(field.annotation), None) if field is not None else None
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models an annotation names: itself, or those inside `X | None`, `tuple[X, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)
