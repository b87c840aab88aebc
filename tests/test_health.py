"""Verdicts: what is called, on what evidence, how early, and what is left alone."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gans.data.digits import Digits
from gans.families.vanilla import Vanilla
from gans.health import REMEDIES, HealthRules, Monitor, Verdict
from gans.loop import Tick, train
from gans.metrics import SampleProbe, extractor_for
from gans.options import Train
from tests.support.threads import one_thread

__all__ = ["one_thread"]

CALM = {"loss_d": 1.0, "loss_g": 1.0, "grad_generator": 1.0, "d_accuracy": 0.7}
Rows = list[tuple[dict[str, float], Tensor]]


def real(num: int, seed: int = 0) -> Tensor:
    return torch.randn(num, 2, generator=torch.Generator().manual_seed(seed))


def point(seed: int = 3) -> Tensor:
    """One sample, repeated."""
    return real(1, seed).expand(128, 2)


def right(seed: int) -> Tensor:
    """Varied samples of the right quarter of the data."""
    x = real(512, seed)
    return x[x[:, 0] > 0.7]


def few(seed: int) -> Tensor:
    """Varied samples of two far corners of the data."""
    return real(128, seed) * 0.1 + torch.tensor([[2.0, 2.0], [-2.0, -2.0]]).repeat(64, 1)


def monitor(**rules: float) -> Monitor:
    return Monitor(SampleProbe(real(512)), HealthRules.model_validate(rules))


def watch(m: Monitor, rows: Rows, start: float = 0.5, apart: float = 0.025) -> Verdict:
    """The last verdict after these ticks, `apart` in shares of the budget from `start`."""
    verdict = Verdict("healthy")
    for i, (metrics, x) in enumerate(rows):
        verdict = m.observe(100 + i, start + apart * i, CALM | metrics, {"x": x})
    return verdict


def test_real_samples_are_healthy() -> None:
    assert watch(monitor(), [({}, real(128, seed)) for seed in range(1, 19)]).healthy


def test_repeated_samples_are_a_mode_collapse_with_evidence() -> None:
    verdict = watch(monitor(), [({}, point())] * 4)
    assert verdict.kind == "mode collapse"
    (evidence,) = verdict.evidence
    assert (evidence.signal, evidence.window, evidence.step) == ("probe_reach", 4, 103)
    assert evidence.value < evidence.threshold
    assert "gan.lr_ratio" in verdict.remedy
    assert verdict.signals.keys() >= {"probe_reach", "probe_coverage"}


def test_a_collapse_is_not_called_before_the_window_is_full() -> None:
    assert watch(monitor(), [({}, point())] * 3).healthy


def test_a_window_also_spans_a_share_of_the_budget() -> None:
    m = monitor()
    assert watch(m, [({}, point())] * 7, apart=0.01).healthy
    assert watch(m, [({}, point())], start=0.571).kind == "mode collapse"


def test_one_good_look_within_the_window_clears_a_run() -> None:
    assert watch(monitor(), [({}, x) for x in (point(), point(), real(128, 1), point(), point())]).healthy


def test_nothing_but_divergence_is_called_within_the_grace_period() -> None:
    m = monitor()
    assert watch(m, [({}, point())] * 9, start=0.0, apart=0.012).healthy
    assert m.observe(9, 0.09, CALM | {"loss_d": math.nan}, None).kind == "diverged"


def test_early_only_samples_close_together_are_hopeless() -> None:
    bunched = watch(monitor(), [({}, point())] * 4, start=0.05)
    assert bunched.kind == "mode collapse"
    assert {e.signal for e in bunched.evidence} == {"probe_reach", "probe_pairwise"}
    spread: Rows = [({}, few(seed)) for seed in range(4)]
    assert watch(monitor(), spread, start=0.05).healthy
    assert watch(monitor(), spread, start=0.2).kind == "mode collapse"


def test_a_quarter_of_the_data_is_a_partial_collapse_but_late() -> None:
    rows: Rows = [({}, right(seed)) for seed in range(4)]
    assert watch(monitor(), rows, start=0.5).healthy
    assert watch(monitor(), rows, start=0.85).kind == "partial collapse"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_non_finite_metric_is_divergence_at_once(value: float) -> None:
    verdict = monitor().observe(7, 0.01, CALM | {"grad_critic": value}, None)
    assert verdict.kind == "diverged"
    assert verdict.evidence[0].signal == "grad_critic"
    assert verdict.document()["evidence"][0]["value"] in ("nan", "inf")


def test_an_exploding_loss_is_divergence() -> None:
    assert monitor().observe(7, 0.01, CALM | {"loss_g": -2e4}, None).kind == "diverged"


def test_samples_that_are_not_finite_are_a_collapse() -> None:
    assert watch(monitor(), [({}, torch.full((128, 2), math.nan))] * 4).kind == "mode collapse"


def test_few_modes_under_a_perfect_critic_are_its_overpowering() -> None:
    verdict = watch(monitor(), [({"d_accuracy": 1.0}, few(seed)) for seed in range(4)])
    assert verdict.kind == "discriminator overpowering"
    assert {e.signal for e in verdict.evidence} == {"d_accuracy", "probe_reach"}


def test_a_silent_generator_under_a_perfect_critic_has_a_vanishing_gradient() -> None:
    m = monitor()
    m.observe(1, 0.1, CALM, {"x": few(9)})
    silent = {"grad_generator": 1e-6, "d_accuracy": 1.0}
    verdict = watch(m, [(silent, few(seed)) for seed in range(4)])
    assert verdict.kind == "vanishing gradient"
    assert {e.signal for e in verdict.evidence} == {"grad_generator", "d_accuracy", "probe_reach"}


def test_a_perfect_critic_over_diverse_samples_is_no_matter() -> None:
    assert watch(monitor(), [({"d_accuracy": 1.0}, real(128, seed)) for seed in range(6)]).healthy


def test_reach_that_falls_again_and_again_is_oscillation() -> None:
    rows: Rows = [({}, real(128, i) if i % 2 else point()) for i in range(9)]
    assert watch(monitor(), rows).kind == "oscillation"


def test_two_falls_are_not_yet_oscillation() -> None:
    rows: Rows = [({}, real(128, i) if i % 2 else point()) for i in range(6)]
    assert watch(monitor(), rows).healthy


def test_a_monitor_resumes_where_it_was() -> None:
    whole, first, second = monitor(), monitor(), monitor()
    watch(first, [({}, point())] * 3)
    second.load(first.state())
    resumed = watch(second, [({}, point())], start=0.575)
    assert resumed.kind == watch(whole, [({}, point())] * 4).kind == "mode collapse"
    assert second.state() == whole.state()


def test_after_a_change_of_course_the_rest_of_the_budget_counts_as_all() -> None:
    m = monitor()
    assert watch(m, [({}, point())] * 4).kind == "mode collapse"
    m.restart(0.6)
    assert watch(m, [({}, point())] * 4, start=0.6, apart=0.01).healthy
    assert watch(m, [({}, point())] * 4, start=0.64).kind == "mode collapse"


def test_falls_before_a_change_of_course_are_forgotten() -> None:
    m = monitor()
    watch(m, [({}, real(128, i) if i % 2 else point()) for i in range(9)], start=0.1)
    m.restart(0.4)
    assert watch(m, [({}, real(128, i)) for i in range(9)], start=0.45).healthy


def test_weights_are_sound_by_the_last_look_grace_or_not() -> None:
    m = monitor()
    m.observe(1, 0.01, CALM, {"x": point()})
    assert not m.sound
    m.observe(2, 0.05, CALM, {"x": real(128, 1)})
    assert m.sound
    m.observe(3, 0.06, CALM, None)
    assert m.sound
    m.observe(4, 0.07, CALM | {"loss_d": math.inf}, None)
    assert not m.sound


def test_without_a_probe_finite_numbers_are_sound() -> None:
    m = Monitor()
    assert not m.wants_samples
    assert m.observe(1, 0.5, CALM, None).healthy
    assert m.sound


def test_samples_are_looked_at_a_limited_number_of_times() -> None:
    m, looks = monitor(looks=10), 0
    for i in range(1, 201):
        wanted = m.wants_samples
        looks += wanted
        m.observe(i, i / 200, CALM, {"x": real(128, i)} if wanted else None)
    assert 9 <= looks <= 11


def test_every_verdict_but_healthy_has_general_advice() -> None:
    assert {kind for kind, advice in REMEDIES.items() if advice} == set(Verdict.KINDS) - {"healthy"}


def run(seed: int, **gan: object) -> list[Tick]:
    dataset = Digits(size=8).load("train")
    probe = SampleProbe(
        dataset.fetch(dataset.order(0, 0)[:512])["x"], extractor_for(dataset, choice="random")
    )
    options = Train(
        steps=600, batch=64, log_every=20, evaluate_every=0, sample_every=0, on_collapse="stop", ema=False
    )
    family = Vanilla.model_validate({"width": 128, "lr_g": 1e-3, "betas": (0.0, 0.9), **gan})
    return list(train(family, dataset, options, seed=seed, monitor=Monitor(probe)))


@pytest.mark.parametrize("seed", [0, 1])
def test_hinge_with_a_slow_critic_is_stopped_as_collapsed_early(seed: int) -> None:
    last = run(seed, loss="hinge", lr_ratio=0.1)[-1]
    assert last.ended == "mode collapse"
    assert last.progress <= 0.3
    assert last.verdict.evidence


@pytest.mark.parametrize("seed", [0, 1])
def test_relativistic_pairing_with_penalties_runs_to_the_end(seed: int) -> None:
    last = run(seed, loss="relativistic", lr_ratio=2.0, r1=0.5, r2=0.5)[-1]
    assert last.ended == "budget"
