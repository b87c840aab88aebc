"""Health of a run: a verdict at each tick, with the numbers behind it and one thing worth trying.

It sees cheap signals only (losses, gradient norms, the critic's signs, a few generated samples against a few real
ones) and never the figures a run is scored on. It knows nothing of families or of what is done about a verdict.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal, get_args

from pydantic import Field

from gans.config import Config
from gans.data.base import Batch
from gans.metrics.probe import SampleProbe

Kind = Literal[
    "healthy",
    "mode collapse",
    "partial collapse",
    "vanishing gradient",
    "discriminator overpowering",
    "oscillation",
    "diverged",
]


@dataclass(frozen=True)
class Evidence:
    """One signal that crossed its threshold: the value at `step`, over the last `window` ticks."""

    signal: str
    value: float
    threshold: float
    window: int
    step: int

    def __str__(self) -> str:
        return f"{self.signal} {self.value:.3g} vs {self.threshold:.3g} over {self.window} ticks at step {self.step}"


@dataclass(frozen=True)
class Verdict:
    """What a run's health is, why, and one remedy. `signals` are this tick's probe figures."""

    KINDS: ClassVar[tuple[Kind, ...]] = get_args(Kind)

    kind: Kind
    evidence: tuple[Evidence, ...] = ()
    remedy: str = ""
    signals: dict[str, float] = field(default_factory=dict)

    @property
    def healthy(self) -> bool:
        return self.kind == "healthy"

    def document(self) -> dict[str, Any]:
        """The verdict as plain JSON."""
        evidence = [{k: _plain(v) for k, v in asdict(e).items()} for e in self.evidence]
        return {"kind": self.kind, "evidence": evidence, "remedy": self.remedy}


HEALTHY = Verdict("healthy")

_COLLAPSE = (
    "raise gan.lr_ratio (the critic is too slow to punish repeated samples), "
    "or set gan.loss=relativistic with gan.r1 and gan.r2"
)
REMEDIES: dict[Kind, str] = {
    "healthy": "",
    "mode collapse": _COLLAPSE,
    "partial collapse": _COLLAPSE,
    "vanishing gradient": "lower gan.lr_ratio or gan.critic_steps, or use gan.loss=non_saturating or relativistic",
    "discriminator overpowering": "lower gan.lr_ratio, or penalise the critic with gan.r1",
    "oscillation": "lower gan.lr_g, or raise gan.r1 and gan.r2",
    "diverged": "lower gan.lr_g and gan.lr_ratio, or set gan.norm_d=spectral or gan.r1",
}
"""Advice for a family that has none of its own."""


class HealthRules(Config):
    """Thresholds; docs/health.md says how they were chosen. Shares of the budget count from the last change of course.

    A signal counts by its whole window: at least `window` looks that span at least `span` of the budget. Nothing but
    divergence is called before `grace` of the budget; until `patience`, reach (`SampleProbe`) below `hopeless` of
    samples whose spread is below `bunched` is a mode collapse; from then on any reach below `collapsed` is, and from
    twice `patience` below `lagging`. Before that, no run is called whose spread grew by `growing` in the window. Where
    meanwhile the critic was right more often than `overpowering`, that is called discriminator overpowering, or a
    vanishing gradient, where the generator's gradient was below `vanished`, absolutely or relative to its peak. Reach
    that stays below `partial` after `settled` of the budget is a partial collapse. `swings` falls of the reach from
    its best, at least `notable`, to half of that are an oscillation. Samples are looked at in at most `looks` ticks,
    `samples` of them.
    """

    grace: float = Field(0.1, ge=0, le=1)
    patience: float = Field(0.2, ge=0, le=1)
    settled: float = Field(0.8, ge=0, le=1)
    window: int = Field(4, ge=1)
    span: float = Field(0.07, ge=0, le=1)
    hopeless: float = 0.15
    bunched: float = 0.2
    growing: float = 1.4
    collapsed: float = 0.2
    lagging: float = 0.3
    partial: float = 0.55
    overpowering: float = 0.95
    vanished: float = 1e-4
    exploded: float = 1e4
    notable: float = 0.6
    swings: int = Field(3, ge=1)
    samples: int = Field(128, ge=64)
    looks: int = Field(40, ge=1)


REACH, SPREAD, GRADIENT, ACCURACY = "probe_reach", "probe_pairwise", "grad_generator", "d_accuracy"
_SCALARS = ("begun", "spent", "tick", "looked", "peak_reach", "peak_gradient", "falls", "high", "sound")


class Monitor:
    """Judges a run tick by tick. `probe` compares generated with real rows; without it only numbers are judged.

    `sound` says that nothing was suspicious at the last tick, grace or not: weights worth going back to.
    """

    def __init__(self, probe: SampleProbe | None = None, rules: HealthRules | None = None) -> None:
        self.probe = probe
        self.rules = rules or HealthRules()
        self.sound = False
        self.restart(0.0)

    def restart(self, progress: float) -> None:
        """Forget what was seen: the run changed course at `progress`, and what is left of the budget counts as all."""
        self.begun = progress
        self.spent, self.tick, self.looked = 0.0, 0.0, -math.inf
        names = (REACH, SPREAD, GRADIENT, ACCURACY)
        self.windows: dict[str, deque[tuple[float, float]]] = {name: deque() for name in names}
        self.peak_reach = self.peak_gradient = 0.0
        self.falls = 0
        self.high = False

    @property
    def num_samples(self) -> int:
        """How many generated rows a look takes."""
        return self.rules.samples

    @property
    def wants_samples(self) -> bool:
        """Whether the next tick is one to look at samples in: more looks would cost time and tell little more."""
        due = self.looked + 1 / self.rules.looks <= self.spent + self.tick + 1e-9
        return self.probe is not None and due

    def observe(
        self, step: int, progress: float, metrics: dict[str, float], samples: Batch | None
    ) -> Verdict:
        """The verdict at `step`, from this tick's metrics and generated rows (`x`, rank 0's), if it has any."""
        spent = (progress - self.begun) / max(1.0 - self.begun, 1e-9)
        self.spent, self.tick = spent, spent - self.spent
        if (evidence := self._diverged(step, metrics)) is not None:
            self.sound = False
            return self._verdict("diverged", [evidence], {})
        signals: dict[str, float] = {}
        if self.probe is not None and samples is not None:
            signals = {f"probe_{name}": value for name, value in self.probe(samples["x"]).items()}
            self.looked = spent
        self._remember(metrics | signals)
        return self._verdict(*self._judge(step), signals)

    def state(self) -> dict[str, Any]:
        """What a resume needs, as plain values."""
        windows = {name: [list(seen) for seen in window] for name, window in self.windows.items()}
        return {"windows": windows, **{name: getattr(self, name) for name in _SCALARS}}

    def load(self, state: dict[str, Any]) -> None:
        """Take up `state()`."""
        for name, seen in state["windows"].items():
            self.windows[name] = deque((at, value) for at, value in seen)
        for name in _SCALARS:
            setattr(self, name, state[name])

    def _remember(self, seen: dict[str, float]) -> None:
        for name, window in self.windows.items():
            if name in seen:
                window.append((self.spent, seen[name]))
            while len(window) > self.rules.window and window[-1][0] - window[1][0] >= self.rules.span:
                window.popleft()
        self.peak_gradient = max(self.peak_gradient, seen.get(GRADIENT, 0.0))
        if REACH in seen:
            self._count_falls(seen[REACH])
        reached = self.windows[REACH]
        self.sound = not reached or reached[-1][1] >= self.rules.lagging

    def _count_falls(self, reach: float) -> None:
        """A fall is a drop from above 5/6 of the best reach so far to below half of it, once that is worth losing."""
        self.peak_reach = max(self.peak_reach, reach)
        if self.peak_reach < self.rules.notable:
            return
        if reach > self.peak_reach * 5 / 6:
            self.high = True
        elif self.high and reach < self.peak_reach / 2:
            self.high, self.falls = False, self.falls + 1

    def _diverged(self, step: int, metrics: dict[str, float]) -> Evidence | None:
        for name, value in metrics.items():
            exploded = name.startswith("loss_") and abs(value) > self.rules.exploded
            if exploded or not math.isfinite(value):
                return Evidence(name, value, self.rules.exploded, 1, step)
        return None

    def _judge(self, step: int) -> tuple[Kind, list[Evidence]]:
        rules = self.rules
        if self.spent < rules.grace:
            return "healthy", []
        if low := self._collapsed(step):
            won = self._above(ACCURACY, rules.overpowering, step)
            silent = self._below(GRADIENT, rules.vanished * max(self.peak_gradient, rules.vanished), step)
            if won is None:
                return "mode collapse", low
            if silent is None:
                return "discriminator overpowering", [won, *low]
            return "vanishing gradient", [silent, won, *low]
        partial = self._below(REACH, rules.partial, step)
        if partial is not None and self.spent >= rules.settled:
            return "partial collapse", [partial]
        if self.falls >= rules.swings:
            return "oscillation", [Evidence("reach_falls", self.falls, rules.swings, rules.window, step)]
        return "healthy", []

    def _collapsed(self, step: int) -> list[Evidence]:
        """Evidence of few modes; early in a run, when healthy ones reach few too, also of samples close together."""
        if self.spent >= self.rules.patience:
            late = self.spent >= 2 * self.rules.patience
            low = self._below(REACH, self.rules.lagging if late else self.rules.collapsed, step)
            return [low] if low and (late or not self._growing()) else []
        low, close = (
            self._below(REACH, self.rules.hopeless, step),
            self._below(SPREAD, self.rules.bunched, step),
        )
        return [low, close] if low and close and not self._growing() else []

    def _growing(self) -> bool:
        """Whether the spread rises over the window: a run that has just begun to learn, whatever the budget."""
        values = self._full(SPREAD)
        return bool(values) and values[-1] > self.rules.growing * values[0]

    def _below(self, name: str, threshold: float, step: int) -> Evidence | None:
        """Evidence that the signal stayed below `threshold` for the whole window, by its largest value."""
        values = self._full(name)
        if not values or max(values) >= threshold:
            return None
        return Evidence(name, max(values), threshold, len(values), step)

    def _above(self, name: str, threshold: float, step: int) -> Evidence | None:
        """Evidence that the signal stayed above `threshold` for the whole window, by its smallest value."""
        values = self._full(name)
        if not values or min(values) <= threshold:
            return None
        return Evidence(name, min(values), threshold, len(values), step)

    def _full(self, name: str) -> list[float]:
        """The window's values, once it is long enough."""
        window = self.windows[name]
        if len(window) < self.rules.window or window[-1][0] - window[0][0] < self.rules.span:
            return []
        return [value for _, value in window]

    @staticmethod
    def _verdict(kind: Kind, evidence: list[Evidence], signals: dict[str, float]) -> Verdict:
        return Verdict(kind, tuple(evidence), REMEDIES[kind], signals)


def _plain(value: Any) -> Any:
    """JSON has no NaN: non-finite numbers become their names."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
