"""What may help a run that a verdict was passed on: other values for a few fields of its family.

It knows nothing of verdicts' evidence, nor of who applies a remedy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gans.family import Family


@dataclass(frozen=True)
class Remedy:
    """New values of family fields, by name without `gan.`."""

    changes: Mapping[str, Any]

    def said(self, family: Family) -> str:
        """One line against the family's present values: "raise gan.lr_ratio from 0.5 to 2, set gan.loss=hinge"."""
        new = {name: value for name, value in self.changes.items() if getattr(family, name) != value}
        return ", ".join(_said(name, getattr(family, name), value) for name, value in new.items())


def _said(name: str, now: Any, then: Any) -> str:
    if _number(now) and _number(then) and now:
        return f"{'raise' if then > now else 'lower'} gan.{name} from {now:.3g} to {then:.3g}"
    return f"set gan.{name}={then:.3g}" if _number(then) else f"set gan.{name}={then}"


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
