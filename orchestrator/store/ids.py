"""Names of runs, sweeps and models.

An id sorts by time, is matched before it is used, and so never escapes its folder.
"""

import re
import secrets
from datetime import UTC, datetime

from orchestrator.errors import ConfigError, NotFound

ID_PATTERN = re.compile(r"\d{8}-\d{6}-[a-z0-9]{6}")
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
RESERVED = ("latest",)  # what the command line calls the newest run
EXAMPLE = "20261122-014500-k3v9qa"
ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"  # without l, o, 0, 1: ids are read aloud and typed


def new_id(now: datetime | None = None) -> str:
    """A fresh id: UTC date and time to the second, then 30 random bits, e.g. `20261122-014500-k3v9qa`."""
    stamp = (now or datetime.now(UTC)).astimezone(UTC).strftime("%Y%m%d-%H%M%S")
    return f"{stamp}-{''.join(secrets.choice(ALPHABET) for _ in range(6))}"


def check_id(text: str, kind: str = "run") -> str:
    """`text` itself when it is an id of a run or sweep. Raises NotFound otherwise."""
    if not ID_PATTERN.fullmatch(text):
        raise NotFound(f"no {kind} {text!r}: an id looks like {EXAMPLE}; `ganctl runs` lists those there are")
    return text


def check_name(text: str) -> str:
    """`text` itself when it may name a model. Raises ConfigError otherwise, also for what would be taken for a run."""
    if not NAME_PATTERN.fullmatch(text):
        raise ConfigError(
            f"model name {text!r}: 1 to 63 of a-z, 0-9, `_` and `-`, beginning with a letter or digit "
            f"({NAME_PATTERN.pattern})"
        )
    if text in RESERVED or ID_PATTERN.fullmatch(text):
        raise ConfigError(f"model name {text!r} means a run; choose another, e.g. `faces`")
    return text
