"""Values that change over a run: constants are floats, the rest are small frozen functions of progress."""

import math
from typing import Annotated

from pydantic import Field

from gans.config import Config


class Cosine(Config):
    """From `start` to `end` along half a cosine over the run (R3GAN's schedules; Huang et al. 2024, appendix)."""

    start: float
    end: float

    def at(self, progress: float) -> float:
        return self.end + 0.5 * (self.start - self.end) * (1 + math.cos(math.pi * min(progress, 1.0)))


Schedule = Annotated[float | Cosine, Field(union_mode="smart")]


def scaled(value: float | Cosine, factor: float) -> float | Cosine:
    """The schedule times `factor`."""
    if isinstance(value, Cosine):
        return Cosine(start=value.start * factor, end=value.end * factor)
    return value * factor


def powered(value: float | Cosine, exponent: float) -> float | Cosine:
    """The schedule's ends to the power of `exponent`."""
    if isinstance(value, Cosine):
        return Cosine(start=value.start**exponent, end=value.end**exponent)
    return value**exponent


def at(value: float | Cosine, progress: float) -> float:
    """The value of a schedule at `progress` in [0, 1]."""
    return value.at(progress) if isinstance(value, Cosine) else value
