"""`field=value` words, as commands take them."""

from __future__ import annotations

from typing import Any

import yaml

from orchestrator.errors import ConfigError


def read_assignments(words: list[str], example: str = "train.steps=500") -> dict[str, Any]:
    """`["gan.width=64", ...]` as a mapping; values are read as YAML scalars or lists. Raises ConfigError."""
    changes: dict[str, Any] = {}
    for word in words:
        path, equals, text = word.partition("=")
        if not equals or not path:
            raise ConfigError(f"cannot read {word!r}: write overrides as field=value, for instance {example}")
        changes[path] = yaml.safe_load(text) if text else ""
    return changes
