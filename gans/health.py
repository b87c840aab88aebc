"""Health of a run: a verdict at each tick, with the numbers behind it and one thing worth trying.

It sees cheap signals only (losses, gradient norms, the critic's signs, a few generated samples against a few real
ones) and never the figures a run is scored on. It knows nothing of families or of what is done about a verdict.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

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
    """Thresholds. `grace` is the share of the budget in which samples are not judged; `window` counts ticks.

    `collapsed` bounds coverage and `narrow` the feature variance of samples, both relative to real samples (1 is
    as diverse as real); see docs/health.md for how they were chosen.
    """

    grace: float = 0.25
    window: int = 3
    collapsed: float = 0.15
    lost: float = 0.35
    narrow: float = 0.05
    exploded: float = 1e4
    vanished: float = 1e-4
    overpowering: float = 0.98
    swings: int = 3
    samples: int = 128


class Monitor:
    """Judges a run tick by tick. `probe` compares generated with real rows; without it only numbers are judged."""

    def __init__(self, probe: SampleProbe | None = None, rules: HealthRules | None = None) -> None:
        self.probe = probe
        self.rules = rules or HealthRules()
        self.coverage: deque[float] = deque(maxlen=self.rules.window)
        self.variance: deque[float] = deque(maxlen=self.rules.window)
        self.accuracy: deque[float] = deque(maxlen=self.rules.window)
        self.gradient: deque[float] = deque(maxlen=self.rules.window)
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
        self._remember(metrics, signals)
        kind, evidence = self._judge(step, progress, metrics, signals)
        return self._verdict(kind, evidence, signals)

    def state(self) -> dict[str, Any]:
        """What a resume needs, as plain values."""
        windows = {k: list(getattr(self, k)) for k in ("coverage", "variance", "accuracy", "gradient")}
        scalars = {k: getattr(self, k) for k in ("peak_coverage", "peak_gradient", "falls", "high")}
        return {**windows, **scalars}

    def load(self, state: dict[str, Any]) -> None:
        """Take up `state()`."""
        for name, value in state.items():
            setattr(self, name, deque(value, maxlen=self.rules.window) if isinstance(value, list) else value)

    def _look(self, x: Tensor) -> dict[str, float]:
        assert self.probe is not None
        return {f"probe_{k}": v for k, v in self.probe(x).items()}

    def _remember(self, metrics: dict[str, float], signals: dict[str, float]) -> None:
        if "probe_coverage" in signals:
            now = signals["probe_coverage"]
            self.coverage.append(now)
            self.variance.append(signals["probe_feature_variance"])
            self.peak_coverage = max(self.peak_coverage, now)
            self._count_falls(now)
        if "d_accuracy" in metrics:
            self.accuracy.append(metrics["d_accuracy"])
        if "grad_generator" in metrics:
            self.gradient.append(metrics["grad_generator"])
            self.peak_gradient = max(self.peak_gradient, metrics["grad_generator"])

    def _count_falls(self, coverage: float) -> None:
        """A fall is a drop from above 2/3 of the best coverage so far to below 1/3 of it."""
        if coverage > self.peak_coverage * 2 / 3:
            self.high = True
        elif self.high and coverage < self.peak_coverage / 3:
            self.high, self.falls = False, self.falls + 1

    def _judge(
        self, step: int, progress: float, metrics: dict[str, float], signals: dict[str, float]
    ) -> tuple[Kind, list[Evidence]]:
        rules, window = self.rules, self.rules.window
        for name, value in metrics.items():
            if name.startswith("loss_") and abs(value) > rules.exploded:
                return "diverged", [Evidence(name, value, rules.exploded, 1, step)]
        if progress < rules.grace or len(self.coverage) < window:
            return "healthy", []
        worst, widest = max(self.coverage), max(self.variance)
        covered = Evidence("coverage", worst, rules.collapsed, window, step)
        if self._silent():
            small = Evidence(
                "grad_generator", max(self.gradient), rules.vanished * self.peak_gradient, window, step
            )
            return "vanishing gradient", [
                small,
                Evidence("d_accuracy", min(self.accuracy), 0.98, window, step),
            ]
        if worst < rules.collapsed:
            if self.accuracy and min(self.accuracy) > rules.overpowering and widest > 0.5:
                right = Evidence("d_accuracy", min(self.accuracy), rules.overpowering, window, step)
                return "discriminator overpowering", [right, covered]
            return "mode collapse", [covered]
        if widest < rules.narrow:
            return "mode collapse", [Evidence("feature_variance", widest, rules.narrow, window, step)]
        if worst < rules.lost * self.peak_coverage and self.peak_coverage > 0.5:
            lost = Evidence("coverage", worst, rules.lost * self.peak_coverage, window, step)
            return "mode collapse", [lost]
        if self.falls >= rules.swings:
            return "oscillation", [Evidence("coverage_falls", self.falls, rules.swings, window, step)]
        return "healthy", []

    def _silent(self) -> bool:
        """The generator's gradient is a vanishing share of what it was, under a critic that is always right."""
        if len(self.gradient) < self.rules.window or len(self.accuracy) < self.rules.window:
            return False
        small = max(self.gradient) < self.rules.vanished * max(self.peak_gradient, 1e-12)
        return small and min(self.accuracy) > 0.98

    @staticmethod
    def _verdict(kind: Kind, evidence: list[Evidence], signals: dict[str, float]) -> Verdict:
        return Verdict(kind, tuple(evidence), REMEDIES[kind], signals)


def _plain(value: Any) -> Any:
    """JSON has no NaN: non-finite numbers become their names."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
