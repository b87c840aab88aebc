"""The base of every value a run is made of: frozen, typed, closed to unknown fields."""

import inspect

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """A frozen pydantic model that refuses unknown fields and ill-typed values."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @classmethod
    def field_names(cls) -> list[str]:
        """Every field, those of the class itself first and what it inherits from furthest away last."""
        declared = [n for base in cls.__mro__ for n in inspect.get_annotations(base)]
        return list(dict.fromkeys(n for n in declared if n in cls.model_fields))
