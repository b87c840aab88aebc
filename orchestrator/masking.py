"""What looks like a secret is not shown and not stored: logs, commands, addresses."""

from __future__ import annotations

import re

SECRET = re.compile(
    r"""(?i)((?:token|secret|password|api[_-]?key|authorization)\w*["']?\s*[=:]\s*)("[^"]*"|'[^']*'|(?:bearer\s+)?\S+)"""
)
IN_ADDRESS = re.compile(r"(://[^\s/:@]*:)[^\s/@]+(?=@)")


def masked(line: str) -> str:
    """A line of a log without what looks like a secret, the password of an address included."""
    return IN_ADDRESS.sub(r"\1…", SECRET.sub(r"\1…", line))
