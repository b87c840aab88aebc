"""The gate's rule on made-up figures: what promotes, what does not, and that the reason says why."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pydantic import ValidationError

from orchestrator.judging.gate import Measured, decide, halfway
from orchestrator.judging.options import Evaluation, Gate

FIGURES = {"fid": 4.0, "kid": 0.1, "coverage": 0.8, "recall": 0.7, "memorisation": 0.5}
GATE = Gate(margin=0.2)


def measured(noise: float = 0.001, seed: int = 0, **changes: float) -> Measured:
    """Figures with independent normal resamples of relative size `noise`."""
    figures = FIGURES | changes
    rng = np.random.default_rng(seed)
    resamples = {k: v * (1 + noise * rng.standard_normal(400)) for k, v in figures.items()}
    return Measured(figures, resamples)


def test_a_model_never_replaces_itself() -> None:
    for margin in (0.0, 0.2):
        for noise in (0.0, 0.01, 0.5):
            decision = decide(Gate(margin=margin), measured(noise), measured(noise))
            assert not decision.promote
            assert decision.reason.startswith("Kept: fid 4 is 0.0% better than the champion's 4")


@pytest.mark.parametrize(("fid", "promote"), [(3.55, True), (3.6, False), (2.0, True), (4.5, False)])
def test_the_improvement_must_be_nearer_to_the_margin_than_to_nothing(fid: float, promote: bool) -> None:
    decision = decide(GATE, measured(seed=1, fid=fid), measured())
    assert decision.promote == promote
    check = decision.checks[0]
    assert (check.name, check.kind, check.ok) == ("fid", "improvement", promote)
    assert check.bound == pytest.approx(1 - math.sqrt(0.8))
    assert check.difference == pytest.approx(1 - fid / 4)
    assert check.low < check.difference < check.high


def test_half_of_a_margin_twice_is_the_margin() -> None:
    assert (1 - halfway("fid", 0.3)) ** 2 == pytest.approx(0.7)
    assert (1 + halfway("coverage", 0.3)) ** 2 == pytest.approx(1.3)
    assert halfway("kid", 0.0) == halfway("recall", 0.0) == 0.0


def test_an_improvement_that_may_be_the_noise_of_its_samples_does_not_count() -> None:
    assert decide(GATE, measured(0.01, 1, fid=3.2), measured(0.01)).promote
    decision = decide(GATE, measured(0.15, 1, fid=3.2), measured(0.15))
    assert not decision.promote
    assert (
        "fid 3.2 is 20.0% better than the champion's 4, but that is not sure (at least -" in decision.reason
    )


def test_a_confident_gate_promotes_less() -> None:
    promoted = [
        decide(Gate(margin=0.2, confidence=c), measured(0.06, 1, fid=3.3), measured(0.06)).promote
        for c in (0.5, 0.8, 0.95, 0.999)
    ]
    assert promoted == sorted(promoted, reverse=True)
    assert promoted[0]
    assert not promoted[-1]


@pytest.mark.parametrize(
    ("changes", "lost"),
    [({"coverage": 0.7}, "coverage"), ({"recall": 0.6}, "recall"), ({"memorisation": 0.6}, "memorisation")],
)
def test_a_lost_guard_refuses_the_best_model(changes: dict[str, float], lost: str) -> None:
    decision = decide(GATE, measured(seed=1, fid=0.1, **changes), measured())
    assert not decision.promote
    assert f"{lost} went from" in decision.reason
    assert [c.name for c in decision.checks if not c.ok] == [lost]


def test_what_a_guard_gains_is_no_loss() -> None:
    assert decide(
        GATE, measured(seed=1, fid=2.0, coverage=0.95, recall=0.95, memorisation=0.3), measured()
    ).promote


def test_memorisation_below_one_half_is_chance_and_not_lost() -> None:
    assert decide(GATE, measured(seed=1, fid=2.0, memorisation=0.52), measured(memorisation=0.3)).promote
    assert not decide(GATE, measured(seed=1, fid=2.0, memorisation=0.6), measured(memorisation=0.3)).promote


def test_every_lost_condition_is_in_the_reason() -> None:
    decision = decide(Gate(at_most={"fid": 3.0}), measured(seed=1, fid=5.0, coverage=0.2), measured())
    assert "fid 5 is 25.0% worse" in decision.reason
    assert "coverage went from 0.8 to 0.2" in decision.reason
    assert "fid is 5 (at most" in decision.reason


@pytest.mark.parametrize(("primary", "value"), [("coverage", 0.95), ("precision", 0.9), ("kid", 0.05)])
def test_any_figure_may_be_the_primary(primary: str, value: float) -> None:
    champion, better = measured(precision=0.6), measured(seed=1, **{"precision": 0.6, primary: value})
    gate = Gate.model_validate({"primary": primary, "margin": 0.2, "guards": {}})
    assert decide(gate, better, champion).promote
    assert not decide(gate, champion, better).promote


def test_a_kid_of_zero_divides_nothing() -> None:
    decision = decide(Gate(primary="kid"), measured(seed=1, kid=-1e-5), measured(kid=0.0))
    assert all(math.isfinite(v) for c in decision.checks for v in (c.difference, c.low, c.high))


def test_without_a_champion_only_the_absolute_conditions_count() -> None:
    assert decide(GATE, measured(fid=100.0), None).promote
    gate = Gate(at_most={"fid": 5.0}, at_least={"coverage": 0.75})
    decision = decide(gate, measured(), None)
    assert decision.promote
    assert decision.reason.startswith("Promoted: there is no champion yet, and fid is 4 (at most ")
    assert not decide(gate, measured(coverage=0.7), None).promote
    assert not decide(
        gate, measured(fid=4.99, noise=0.05), None
    ).promote  # the worse end of the interval counts


def test_a_champion_that_cannot_be_compared_is_named_in_the_reason() -> None:
    decision = decide(GATE, measured(), None, "its x has another shape")
    assert decision.promote
    assert "the champion cannot be compared (its x has another shape)" in decision.reason


def test_absolute_conditions_also_hold_beside_a_champion() -> None:
    gate = Gate(margin=0.2, at_most={"fid": 1.0})
    assert not decide(gate, measured(seed=1, fid=2.0), measured()).promote


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["fid", "coverage", "kid"])
def test_what_is_not_finite_never_wins(value: float, name: str) -> None:
    broken = Measured(FIGURES | {name: value}, measured().resamples)
    assert not decide(GATE, broken, measured()).promote
    assert not decide(GATE, broken, None).promote
    assert not decide(GATE, broken, broken).promote
    assert "cannot be compared (its samples" in decide(GATE, measured(), broken).reason


def test_a_guard_that_the_champion_does_not_have_is_left_out() -> None:
    gate = Gate(margin=0.2, guards={"label_accuracy": 0.1})
    decision = decide(gate, measured(seed=1, fid=2.0, label_accuracy=0.4), measured())
    assert decision.promote
    assert [c.name for c in decision.checks] == ["fid"]


def test_the_rule_holds_for_any_figures() -> None:
    rng = np.random.default_rng(3)
    promoted = 0
    for i in range(300):
        fid, coverage, noise = rng.uniform(1, 6), rng.uniform(0.7, 0.9), rng.uniform(0, 0.05)
        decision = decide(GATE, measured(noise, i + 1, fid=fid, coverage=coverage), measured(noise, 0))
        promoted += decision.promote
        assert decision.promote == all(c.ok for c in decision.checks)
        if decision.promote:
            assert fid < 4 * math.sqrt(1 - GATE.margin)
            assert coverage > 0.8 - GATE.guards["coverage"]
    assert 50 < promoted < 250


def test_equal_models_are_promoted_less_often_than_the_confidence_allows() -> None:
    """Noise of the samples alone, and a margin of 0, where nothing but the interval protects the champion."""
    gate, noise, promoted = Gate(margin=0.0, guards={}), 0.05, 0
    rng = np.random.default_rng(0)
    for i in range(1000):
        a, b = (float(4 * (1 + noise * rng.standard_normal())) for _ in range(2))
        promoted += decide(gate, measured(noise, 2 * i, fid=a), measured(noise, 2 * i + 1, fid=b)).promote
    assert 20 < promoted < 80  # 50 expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"guards": {"covrage": 0.1}}, r"no figure covrage; figures: fid, kid, coverage"),
        ({"at_most": {"loss": 0.1}}, r"no figure loss"),
        ({"guards": {"recall": -0.1}}, r"a guard is how much may be lost, 0 or more"),
        ({"primary": "memorisation"}, r"primary"),
        ({"confidence": 1.0}, r"confidence"),
        ({"margin": -0.1}, r"margin"),
    ],
)
def test_a_wrong_gate_says_what_is_allowed(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Gate.model_validate(fields)


def test_seeds_follow_the_first() -> None:
    assert Evaluation(seed=7, draws=3).seeds == (7, 8, 9)
