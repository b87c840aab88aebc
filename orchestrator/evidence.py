"""The evidence of a verdict (`gans.health.Verdict.document()`) in a line that people read, everywhere the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def line(verdict: Mapping[str, Any]) -> str:
    """All of it; empty for a verdict without any."""
    return "; ".join(map(sign, verdict.get("evidence") or ()))


def sign(evidence: Mapping[str, Any]) -> str:
    """One signal: `probe_reach 0.05 against 0.2 over 4 ticks at step 220`."""
    value, threshold = (_short(evidence.get(name)) for name in ("value", "threshold"))
    where = f"over {evidence.get('window')} ticks at step {evidence.get('step')}"
    return f"{evidence.get('signal')} {value} against {threshold} {where}"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, int | float) else str(value)
