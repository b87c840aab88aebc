"""Whether a text is a cron, without Prefect: five fields of numbers, names, ranges and steps, or a shorthand.

It allows a part of what Prefect's croniter reads: no seconds, no years, no `L`, `#` or `H`.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

SHORTHANDS = ("@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
EXAMPLE = "'0 3 * * *' is every day at three"


class Part(NamedTuple):
    """One of the five fields: its name, least and largest number, and names for the numbers from `least` on."""

    name: str
    least: int
    most: int
    names: tuple[str, ...] = ()

    def mistake(self, text: str) -> str:
        """What is wrong with `text` as this field; empty where nothing is."""
        for piece in text.lower().split(","):
            span, slash, step = piece.partition("/")
            ends = [] if span == "*" else span.split("-")
            numbers = [self._number(end) for end in ends]
            if len(ends) > 2 or None in numbers or (slash and not re.fullmatch(r"0*[1-9]\d*", step)):
                named = f" or {self.names[0]}..{self.names[-1]}" if self.names else ""
                return (
                    f"{self.name} {text!r}: *, {self.least}..{self.most}{named}, 1-5, */5 and lists of these"
                )
        return ""

    def _number(self, text: str) -> int | None:
        if text in self.names:
            return self.least + self.names.index(text)
        return int(text) if re.fullmatch(r"[0-9]+", text) and self.least <= int(text) <= self.most else None


PARTS = (
    Part("minute", 0, 59),
    Part("hour", 0, 23),
    Part("day", 1, 31),
    Part("month", 1, 12, MONTHS),
    Part("weekday", 0, 7, WEEKDAYS),
)


def check_cron(text: str) -> str:
    """`text` itself where it is a cron. Raises ValueError that says which field is wrong and what is allowed."""
    if text in SHORTHANDS:
        return text
    words = text.split()
    if len(words) != len(PARTS):
        names = ", ".join(part.name for part in PARTS)
        raise ValueError(f"a cron has five fields, {names}, or is one of {', '.join(SHORTHANDS)}; {EXAMPLE}")
    mistakes = [said for part, word in zip(PARTS, words, strict=True) if (said := part.mistake(word))]
    if mistakes:
        raise ValueError(f"allowed are for {'; for '.join(mistakes)}")
    return text


def check_timezone(text: str) -> str:
    """`text` itself where it names a time zone. Raises ValueError."""
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: the name of a folder of zones
        raise ValueError("no such time zone; write UTC, Europe/Berlin, America/New_York, …") from None
    return text
