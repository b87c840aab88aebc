"""Verdicts: what is called, on what evidence, and what is left alone."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gans.data.digits import Digits
from gans.families.vanilla import Vanilla
from gans.health import HealthRules, Monitor, Verdict
from gans.loop import Tick, train
from gans.metrics import SampleProbe, extractor_for
from gans.options import Train
from tests.support.threads import one_thread

__all__ = ["one_thread"]

CALM = {"loss_d": 1.0, "loss_g": 1.0, "grad_generator": 1.0, "d_accuracy": 0.7}


def real(num: int, seed: int = 0) -> Tensor:
    return torch.randn(num, 2, generator=torch.Generator().manual_seed(seed))


def monitor(**rules: float) -> Monitor:
    return Monitor(SampleProbe(real(512)), HealthRules.model_validate(rules))


def watch(m: Monitor, rows: list[tuple[dict[str, float], Tensor]], start: float = 0.5) -> Verdict:
    """The last verdict after these ticks, spread over the budget from `start`."""
    verdict = Verdict("healthy")
    for i, (metrics, x) in enumerate(rows):
        progress = start + (1 - start) * i / max(1, len(rows) - 1)
        verdict = m.observe(100 + i, progress, CALM | metrics, {"x": x})
    return verdict


def test_real_samples_are_healthy() -> None:
    assert watch(monitor(), [({}, real(128, seed)) for seed in range(1, 9)]).healthy


def test_repeated_samples_are_a_mode_collapse_with_evidence() -> None:
    verdict = watch(monitor(), [({}, real(1, 3).expand(128, 2))] * 3)
    assert verdict.kind == "mode collapse"
    assert {e.signal for e in verdict.evidence} == {"probe_coverage", "probe_nearest"}
    assert all(e.value < e.threshold and e.window == 3 and e.step == 102 for e in verdict.evidence)
    assert "gan.lr_ratio" in verdict.remedy


def test_a_collapse_is_not_called_before_the_window_is_full() -> None:
    assert watch(monitor(), [({}, real(1, 3).expand(128, 2))] * 2).healthy


def test_nothing_is_called_within_the_grace_period() -> None:
    rows = [({}, real(1, 3).expand(128, 2))] * 5
    m = monitor(grace=0.4)
    for i, (metrics, x) in enumerate(rows):
        assert m.observe(i, 0.3, CALM | metrics, {"x": x}).healthy


def test_one_good_tick_within_the_window_clears_a_run() -> None:
    point = real(1, 3).expand(128, 2)
    assert watch(monitor(), [({}, point), ({}, point), ({}, real(128, 1)), ({}, point), ({}, point)]).healthy


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_non_finite_metric_is_divergence_at_once(value: float) -> None:
    verdict = monitor().observe(7, 0.01, CALM | {"grad_critic": value}, None)
    assert verdict.kind == "diverged"
    assert verdict.evidence[0].signal == "grad_critic"
    assert verdict.document()["evidence"][0]["value"] in ("nan", "inf")


def test_an_exploding_loss_is_divergence() -> None:
    assert monitor().observe(7, 0.01, CALM | {"loss_g": -2e4}, None).kind == "diverged"


def test_a_silent_generator_under_a_perfect_critic_has_a_vanishing_gradient() -> None:
    m = monitor()
    m.observe(1, 0.1, CALM, {"x": real(128, 1)})
    silent = {"grad_generator": 1e-6, "d_accuracy": 1.0}
    assert watch(m, [(silent, real(128, 2))] * 3).kind == "vanishing gradient"


def test_a_perfect_critic_over_varied_but_wrong_samples_overpowers() -> None:
    verdict = watch(monitor(), [({"d_accuracy": 1.0}, real(128, s) * 3 + 30) for s in range(3)])
    assert verdict.kind == "discriminator overpowering"


def test_coverage_that_falls_again_and_again_is_oscillation() -> None:
    rows = [({}, real(128, i) if i % 2 else real(128, i) + 30) for i in range(9)]
    assert watch(monitor(), rows).kind == "oscillation"


def test_a_monitor_resumes_where_it_was() -> None:
    point = real(1, 3).expand(128, 2)
    whole, first, second = monitor(), monitor(), monitor()
    watch(first, [({}, point)] * 2)
    second.load(first.state())
    assert watch(second, [({}, point)]).kind == watch(whole, [({}, point)] * 3).kind == "mode collapse"


def run(seed: int, **gan: object) -> list[Tick]:
    dataset = Digits(size=8).load("train")
    probe = SampleProbe(
        dataset.fetch(dataset.order(0, 0)[:512])["x"], extractor_for(dataset, choice="random")
    )
    options = Train(steps=600, batch=64, log_every=20, evaluate_every=0, sample_every=0, stop_unhealthy=True)
    family = Vanilla.model_validate({"width": 128, "lr_g": 1e-3, "betas": (0.0, 0.9), **gan})
    return list(train(family, dataset, options, seed=seed, monitor=Monitor(probe)))


@pytest.mark.parametrize("seed", [0, 1])
def test_hinge_with_a_slow_critic_is_stopped_as_collapsed_early(seed: int) -> None:
    last = run(seed, loss="hinge", lr_ratio=0.1)[-1]
    assert last.ended == "mode collapse"
    assert last.progress <= 0.5
    assert last.verdict.evidence


@pytest.mark.parametrize("seed", [0, 1])
def test_relativistic_pairing_with_penalties_runs_to_the_end(seed: int) -> None:
    last = run(seed, loss="relativistic", lr_ratio=2.0, r1=0.5, r2=0.5)[-1]
    assert last.ended == "budget"
