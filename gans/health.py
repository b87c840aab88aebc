"""Health of a run: a verdict at each tick, with the numbers behind it and one thing worth trying.

It sees cheap signals only (losses, gradient norms, the critic's signs, a few generated samples against a few real
ones) and never the figures a run is scored on. It knows nothing of families or of what is done about a verdict.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from gans.config import Config
from gans.data.base import Batch
from gans.metrics.probe import SampleProbe

Kind = Literal[
    "healthy",
    "mode collapse",
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

    KINDS: ClassVar[tuple[Kind, ...]] = (
        "healthy",
        "mode collapse",
        "vanishing gradient",
        "discriminator overpowering",
        "oscillation",
        "diverged",
    )

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

REMEDIES: dict[Kind, str] = {
    "healthy": "",
    "mode collapse": "raise gan.lr_ratio (the critic is too slow to punish repeated samples), "
    "or set gan.loss=relativistic with gan.r1 and gan.r2",
    "vanishing gradient": "lower gan.lr_ratio or gan.critic_steps, or use gan.loss=non_saturating or relativistic",
    "discriminator overpowering": "lower gan.lr_ratio, or penalise the critic with gan.r1",
    "oscillation": "lower gan.lr_g, or raise gan.r1 and gan.r2",
    "diverged": "lower gan.lr_g and gan.lr_ratio, or set gan.norm_d=spectral or gan.r1",
}


class HealthRules(Config):
    """Thresholds; docs/health.md says how they were chosen.

    Probe signals are relative to real samples (1: as diverse as real). A collapse is called when, over `window`
    ticks, the distance to the nearest other sample stays below `near` (samples repeat) and coverage either below
    `collapsed` or below `lost` of the best it was; not before `grace` of the budget.
    """

    grace: float = Field(0.35, ge=0, le=1)
    window: int = Field(3, ge=1)
    collapsed: float = 0.12
    near: float = 0.3
    lost: float = 0.25
    notable: float = 0.3
    exploded: float = 1e4
    vanished: float = 1e-4
    overpowering: float = 0.98
    swings: int = Field(3, ge=1)
    samples: int = Field(128, ge=64)


PROBED = ("probe_coverage", "probe_nearest")


class Monitor:
    """Judges a run tick by tick. `probe` compares generated with real rows; without it only numbers are judged."""

    def __init__(self, probe: SampleProbe | None = None, rules: HealthRules | None = None) -> None:
        self.probe = probe
        self.rules = rules or HealthRules()
        self.windows: dict[str, deque[float]] = {
            name: deque(maxlen=self.rules.window) for name in (*PROBED, "d_accuracy", "grad_generator")
        }
        self.peak_coverage = 0.0
        self.peak_gradient = 0.0
        self.falls = 0
        self.high = False

    @property
    def num_samples(self) -> int:
        """How many generated rows a tick needs."""
        return self.rules.samples

    @property
    def wants_samples(self) -> bool:
        return self.probe is not None

    def observe(
        self, step: int, progress: float, metrics: dict[str, float], samples: Batch | None
    ) -> Verdict:
        """The verdict at `step`, from this tick's metrics and generated rows (`x`, rank 0's)."""
        bad = {k: v for k, v in metrics.items() if not math.isfinite(v)}
        if bad:
            name, value = next(iter(bad.items()))
            return self._verdict("diverged", [Evidence(name, value, self.rules.exploded, 1, step)], {})
        signals = self._look(samples["x"]) if self.probe is not None and samples is not None else {}
        self._remember(metrics | signals)
        kind, evidence = self._judge(step, progress, metrics)
        return self._verdict(kind, evidence, signals)

    def state(self) -> dict[str, Any]:
        """What a resume needs, as plain values."""
        scalars = {k: getattr(self, k) for k in ("peak_coverage", "peak_gradient", "falls", "high")}
        return {"windows": {k: list(v) for k, v in self.windows.items()}, **scalars}

    def load(self, state: dict[str, Any]) -> None:
        """Take up `state()`."""
        for name, values in state["windows"].items():
            self.windows[name] = deque(values, maxlen=self.rules.window)
        for name in ("peak_coverage", "peak_gradient", "falls", "high"):
            setattr(self, name, state[name])

    def _look(self, x: Tensor) -> dict[str, float]:
        assert self.probe is not None
        return {f"probe_{k}": v for k, v in self.probe(x).items()}

    def _remember(self, seen: dict[str, float]) -> None:
        for name, window in self.windows.items():
            if name in seen:
                window.append(seen[name])
        if "probe_coverage" in seen:
            self.peak_coverage = max(self.peak_coverage, seen["probe_coverage"])
            self._count_falls(seen["probe_coverage"])
        self.peak_gradient = max(self.peak_gradient, seen.get("grad_generator", 0.0))

    def _count_falls(self, coverage: float) -> None:
        """A fall is a drop from above 2/3 of the best coverage so far to below 1/3 of it, once that is worth losing."""
        if self.peak_coverage < self.rules.notable:
            return
        if coverage > self.peak_coverage * 2 / 3:
            self.high = True
        elif self.high and coverage < self.peak_coverage / 3:
            self.high, self.falls = False, self.falls + 1

    def _judge(self, step: int, progress: float, metrics: dict[str, float]) -> tuple[Kind, list[Evidence]]:
        rules = self.rules
        for name, value in metrics.items():
            if name.startswith("loss_") and abs(value) > rules.exploded:
                return "diverged", [Evidence(name, value, rules.exploded, 1, step)]
        if progress < rules.grace or len(self.windows["probe_coverage"]) < rules.window:
            return "healthy", []
        below = {
            "coverage": self._below("probe_coverage", rules.collapsed, step),
            "nearest": self._below("probe_nearest", rules.near, step),
            "lost": self._below("probe_coverage", rules.lost * self.peak_coverage, step),
            "gradient": self._below("grad_generator", rules.vanished * self.peak_gradient, step),
            "accuracy": self._above("d_accuracy", rules.overpowering, step),
        }

        def holds(*names: str) -> list[Evidence]:
            found = [below[n] for n in names]
            return [e for e in found if e is not None] if all(found) else []

        if evidence := holds("gradient", "accuracy"):
            return "vanishing gradient", evidence
        if evidence := holds("coverage", "nearest") or holds("lost", "nearest"):
            return "mode collapse", evidence
        if evidence := holds("accuracy", "coverage"):
            return "discriminator overpowering", evidence
        if self.falls >= rules.swings:
            return "oscillation", [Evidence("coverage_falls", self.falls, rules.swings, rules.window, step)]
        return "healthy", []

    def _below(self, name: str, threshold: float, step: int) -> Evidence | None:
        """Evidence that the signal stayed below `threshold` for the whole window, by its largest value."""
        window = self.windows[name]
        if len(window) < self.rules.window or max(window) >= threshold:
            return None
        return Evidence(name, max(window), threshold, len(window), step)

    def _above(self, name: str, threshold: float, step: int) -> Evidence | None:
        """Evidence that the signal stayed above `threshold` for the whole window, by its smallest value."""
        window = self.windows[name]
        if len(window) < self.rules.window or min(window) <= threshold:
            return None
        return Evidence(name, min(window), threshold, len(window), step)

    @staticmethod
    def _verdict(kind: Kind, evidence: list[Evidence], signals: dict[str, float]) -> Verdict:
        return Verdict(kind, tuple(evidence), REMEDIES[kind], signals)


def _plain(value: Any) -> Any:
    """JSON has no NaN: non-finite numbers become their names."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
