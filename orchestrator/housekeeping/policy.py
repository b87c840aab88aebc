"""What a store need not keep, and for how long it does: a value. docs/housekeeping.md says the same at length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import Field, ValidationError

from gans.config import Config
from orchestrator.errors import ConfigError
from orchestrator.mistakes import say

DAY = 86_400.0


class Policy(Config):
    """After how many days what is deleted; None is never. What `References` holds is kept whatever this says.

    `checkpoints_days`: checkpoints of a run that completed, so long after it ended, but the newest and the one with the
    best FID. `last_checkpoints_days`: those two as well. `failed_days`: all checkpoints of a run that ended otherwise
    (collapsed, diverged, pruned, …). `sweeps_days`: so long after a sweep finished it refers to the runs of its best
    trial and of its front alone, no longer to all its trials. `parts_days`: metric parts of a run, so long after they
    were merged into a segment. `digests_days`: digests of a retraining's data that its last round did not use.
    `orphans_days`: what nothing leads to. 0.05 (72 minutes) at least, since what is written just now looks the same:
    runs that were never announced, checkpoints of sealed runs that were never finished or do not count, snapshots,
    segments and indexes that have been replaced, and probes.
    """

    checkpoints_days: float | None = Field(30.0, ge=0)
    last_checkpoints_days: float | None = Field(None, ge=0)
    failed_days: float | None = Field(7.0, ge=0)
    sweeps_days: float | None = Field(None, ge=0)
    parts_days: float | None = Field(1.0, ge=0)
    digests_days: float | None = Field(30.0, ge=0)
    orphans_days: float | None = Field(1.0, ge=0.05)


def parse_policy(fields: Mapping[str, Any]) -> Policy:
    """A policy from plain values. Raises ConfigError naming every wrong field at once."""
    try:
        return Policy.model_validate(dict(fields))
    except ValidationError as error:
        raise ConfigError("\n".join(say(Policy, mistake) for mistake in error.errors())) from None


def fields_of(text: str) -> dict[str, Any]:
    """The fields in YAML or JSON text. Raises ConfigError."""
    try:
        document = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"a policy is a mapping of fields: {', '.join(Policy.model_fields)}")
    return {str(name): value for name, value in document.items()}


def due(since: float, days: float | None, now: float) -> bool:
    """Whether `days` have passed since the Unix time `since`."""
    return days is not None and now - since >= days * DAY
