"""What bodies of requests have in common."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Asked(BaseModel):
    """The body of an action: nothing that we do not know, and no text for a number."""

    model_config = ConfigDict(extra="forbid", strict=True)


def whole(value: Any) -> Any:
    """2.0 is an integer in JSON."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(whole)]
Count = Annotated[int, Field(ge=0), BeforeValidator(whole)]
Ordinal = Annotated[int, Field(ge=1), BeforeValidator(whole)]
