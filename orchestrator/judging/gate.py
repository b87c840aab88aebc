"""Whether the challenger replaces the champion: figures and their resamples in, one decision out. Pure.

A figure's interval comes from its resamples: what the figure would have been on other latents and other held-out rows.
Both contestants were resampled alike, so that a difference is taken resample by resample.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from orchestrator.judging.options import SMALLER, Gate

Array = np.ndarray

#: A champion's figure counts as at least this when a relative improvement is taken: KID may be 0 or just below.
TINY = 1e-6

#: Memorisation of a model that has copied nothing.
NOTHING_COPIED = 0.5


@dataclass(frozen=True)
class Measured:
    """A contestant's figures, and for each of them its values on the resamples (B,), around the figure itself."""

    figures: Mapping[str, float]
    resamples: Mapping[str, Array] = field(default_factory=dict)

    @property
    def finite(self) -> bool:
        """Whether every figure and resample is a finite number."""
        return all(math.isfinite(v) for v in self.figures.values()) and all(
            bool(np.isfinite(values).all()) for values in self.resamples.values()
        )

    def interval(self, name: str, confidence: float) -> tuple[float, float]:
        """One-sided bounds of a figure, each at `confidence`."""
        return bounds(self.resamples[name], confidence)


@dataclass(frozen=True)
class Check:
    """One condition. `difference`: the relative improvement, or what a guard's figure lost; in [low, high].

    An improvement is ok above `bound` with `low` above 0, a guard with `high` at most `bound`. An absolute condition
    (`at_most`, `at_least`) has no champion; its difference is the figure itself, and its worse end meets `bound`.
    """

    name: str
    kind: Literal["improvement", "guard", "at_most", "at_least"]
    champion: float | None
    challenger: float
    difference: float
    low: float
    high: float
    bound: float
    ok: bool


@dataclass(frozen=True)
class Decision:
    """Whether to promote, why in one sentence, and every condition."""

    promote: bool
    reason: str
    checks: tuple[Check, ...] = ()


def decide(gate: Gate, challenger: Measured, champion: Measured | None, unfit: str = "") -> Decision:
    """Promote where every condition holds; `unfit` says why there is a champion that cannot be compared.

    The primary figure must surely be better at all, by what its samples say, and its estimate nearer to "better by the
    margin" than to "no better" (`halfway`), which two models that differ in their seed alone seldom are.
    Nothing that a guard watches may be lost beyond its bound; what the champion does not have cannot be lost. All must
    hold at once, so no correction for several tests is due: a wrong promotion is at most as likely as one wrong pass.
    """
    if not challenger.finite:
        return Decision(False, "Kept: the challenger's samples are not all finite, so it cannot be judged.")
    if champion is not None and not champion.finite:
        champion, unfit = None, "its samples are not all finite"
    checks = _absolutes(gate, challenger)
    if champion is not None:
        guards = [
            _guard(gate, name, challenger, champion) for name in gate.guards if name in champion.figures
        ]
        checks = [_improvement(gate, challenger, champion), *guards, *checks]
    return Decision(
        all(c.ok for c in checks), _reason(gate, checks, champion is not None, unfit), tuple(checks)
    )


def bounds(values: Array, confidence: float) -> tuple[float, float]:
    """The lower and the upper one-sided bound at `confidence` of resampled `values` (B,)."""
    low, high = np.quantile(values, (1 - confidence, confidence))
    return float(low), float(high)


def improvement(name: str, challenger: Array, champion: Array) -> Array:
    """Relative improvement of figure `name`: 0.25 is a quarter better."""
    better = champion - challenger if name in SMALLER else challenger - champion
    return better / np.maximum(np.abs(champion), TINY)


def halfway(name: str, margin: float) -> float:
    """The relative improvement whose ratio of figures is the geometric mean of those of 0 and of `margin`.

    Figures of trainings that differ in their seed spread in proportion to their size, so that either error is as likely
    there.
    """
    return 1 - math.sqrt(1 - margin) if name in SMALLER else math.sqrt(1 + margin) - 1


def _improvement(gate: Gate, challenger: Measured, champion: Measured) -> Check:
    name, bound = gate.primary, halfway(gate.primary, gate.margin)
    mine, other = challenger.figures[name], champion.figures[name]
    low, high = bounds(
        improvement(name, challenger.resamples[name], champion.resamples[name]), gate.confidence
    )
    difference = float(improvement(name, np.asarray(mine), np.asarray(other)))
    ok = difference > bound and low > 0
    return Check(name, "improvement", other, mine, difference, low, high, bound, ok)


def _guard(gate: Gate, name: str, challenger: Measured, champion: Measured) -> Check:
    mine, other, bound = challenger.figures[name], champion.figures[name], gate.guards[name]
    low, high = bounds(_lost(name, challenger.resamples[name], champion.resamples[name]), gate.confidence)
    lost = float(_lost(name, np.asarray(mine), np.asarray(other)))
    return Check(name, "guard", other, mine, lost, low, high, bound, high <= bound)


def _lost(name: str, challenger: Array, champion: Array) -> Array:
    """How much worse a guard's figure became, in its own units."""
    if name == "memorisation":  # below one half lies chance, as a poor model's few nearest rows, and no merit
        challenger, champion = (np.maximum(values, NOTHING_COPIED) for values in (challenger, champion))
    return challenger - champion if name in SMALLER else champion - challenger


def _absolutes(gate: Gate, challenger: Measured) -> list[Check]:
    checks = []
    for name, bound in gate.at_most.items():
        low, high = challenger.interval(name, gate.confidence)
        mine = challenger.figures[name]
        checks.append(Check(name, "at_most", None, mine, mine, low, high, bound, high <= bound))
    for name, bound in gate.at_least.items():
        low, high = challenger.interval(name, gate.confidence)
        mine = challenger.figures[name]
        checks.append(Check(name, "at_least", None, mine, mine, low, high, bound, low >= bound))
    return checks


def _reason(gate: Gate, checks: list[Check], compared: bool, unfit: str) -> str:
    """One sentence: what decided."""
    failed = [c for c in checks if not c.ok]
    verdict = "Kept" if failed else "Promoted"
    if failed:
        said = "; ".join(_said(c, gate.confidence) for c in failed)
    elif compared:
        said = _said(checks[0], gate.confidence)
        said += " and no guard is lost" if gate.guards else ""
    elif checks:
        said = "; ".join(_said(c, gate.confidence) for c in checks)
    else:
        said = "nothing is asked of a model without a champion to compare with"
    if not compared:
        told = f"the champion cannot be compared ({unfit})" if unfit else "there is no champion yet"
        said = f"{told}, and {said}"
    return f"{verdict}: {said}."


def _said(check: Check, confidence: float) -> str:
    c, sure = check, f"at {confidence:.0%} confidence"
    if c.kind == "improvement":
        assert c.champion is not None
        way = "better" if c.difference >= 0 else "worse"
        head = f"{c.name} {c.challenger:.3g} is {abs(c.difference):.1%} {way} than the champion's {c.champion:.3g}"
        sure = f"at least {c.low:.1%} {sure}"
        if c.ok:
            return f"{head} ({sure}; more than {c.bound:.1%} was asked)"
        if c.difference > c.bound:
            return f"{head}, but that is not sure ({sure})"
        return f"{head}, and more than {c.bound:.1%} is asked ({sure})"
    if c.kind == "guard":
        return (
            f"{c.name} went from {c.champion:.3g} to {c.challenger:.3g}, a loss of up to {c.high:.3g} {sure} where "
            f"{c.bound:g} is allowed"
        )
    word, end = ("at most", c.high) if c.kind == "at_most" else ("at least", c.low)
    return f"{c.name} is {c.challenger:.3g} ({word} {end:.3g} {sure}) and must be {word} {c.bound:g}"
