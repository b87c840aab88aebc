"""The evaluator and the probe on real, collapsed and broken samples."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from gans import metrics
from gans.data.base import to_float
from gans.errors import ConfigError, DataError
from gans.metrics import convnet
from gans.metrics.probe import expected_coverage
from tests.support.metric_data import Memory, digits, draw, normal, points, real_digits, ring


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def cache() -> Memory:
    return Memory()


@pytest.fixture(scope="module")
def classifier(cache: Memory) -> convnet.ConvExtractor:
    return metrics.classifier_extractor(digits(), cache=cache)


@pytest.fixture(scope="module")
def evaluator(classifier: convnet.ConvExtractor) -> metrics.Evaluator:
    return metrics.Evaluator(digits(), digits(1400, 1797), classifier)


# Evaluator


def test_the_floor_is_the_score_of_held_out_data(evaluator: metrics.Evaluator) -> None:
    held = to_float(digits(1400, 1797).tensors)
    assert evaluator.num_samples == 397
    score = evaluator(held["x"], held["label"])
    assert set(score) == set(evaluator.floor)
    assert score["fid"] == pytest.approx(evaluator.floor["fid"], rel=1e-6)
    assert score["coverage"] == evaluator.floor["coverage"] > 0.93
    assert evaluator.floor["classes"] == 10
    assert evaluator.floor["label_accuracy"] > 0.97


@pytest.mark.parametrize("kind", ["two classes", "one sample", "ten samples"])
@pytest.mark.parametrize("extractor", ["classifier", "random"])
def test_collapsed_digits_score_worse_than_held_out_ones(kind: str, extractor: str, cache: Memory) -> None:
    x, labels = real_digits(1400)
    collapsed = {
        "two classes": x[labels < 2].repeat(2, 1, 1, 1)[:397],
        "one sample": x[:1].repeat(397, 1, 1, 1),
        "ten samples": x[:10].repeat(40, 1, 1, 1)[:397],
    }[kind]
    judge = metrics.Evaluator(digits(), digits(1400, 1797), metrics.extractor_for(digits(), cache, extractor))
    score, floor = judge(collapsed), judge.floor
    assert score["fid"] > 3 * floor["fid"]
    assert score["kid"] > 3 * floor["kid"]
    assert score["coverage"] < 0.5 * floor["coverage"]
    assert score["recall"] < 0.5 * floor["recall"]


def test_asked_labels_are_compared_with_the_classifier(evaluator: metrics.Evaluator) -> None:
    x, labels = real_digits()
    assert evaluator(x, labels)["label_accuracy"] > 0.97
    assert evaluator(x, (labels + 1) % 10)["label_accuracy"] < 0.03
    assert "label_accuracy" not in evaluator(x)


def test_scores_repeat_and_leave_the_global_generator_alone(evaluator: metrics.Evaluator) -> None:
    x, _ = real_digits()
    state = torch.random.get_rng_state()
    assert evaluator(x) == evaluator(x)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_samples_that_are_not_finite_get_the_worst_figures_as_valid_json(
    bad: float, evaluator: metrics.Evaluator
) -> None:
    x, labels = real_digits()
    x = x.clone()
    x[7, 0, 3, 3] = bad
    worst, fine = evaluator(x, labels), evaluator(real_digits()[0], labels)
    json.dumps(worst, allow_nan=False)
    assert set(worst) == set(fine)
    assert all(worst[k] > fine[k] for k in ("fid", "kid", "class_kl"))
    assert all(worst[k] == 0 for k in ("precision", "recall", "coverage", "classes", "label_accuracy"))


def test_a_data_set_with_modes_reports_them() -> None:
    modes = ring()
    data, held = points(draw(modes, 3_000, 0), modes), points(draw(modes, 2_500, 1), modes)
    judge = metrics.Evaluator(data, held, metrics.extractor_for(data), num_samples=2_500)
    assert judge.num_samples == 2_500
    assert judge.floor["modes"] == 8
    assert judge.floor["hq"] == pytest.approx(0.989, abs=0.006)
    assert judge.floor["mode_kl"] < 0.005
    assert "classes" not in judge.floor
    far = judge(torch.full((2_500, 2), 1e30))
    assert (far["modes"], far["mode_kl"], far["fid"]) == (0, math.log(8), 1e6)


def test_the_evaluator_refuses_splits_and_samples_that_are_too_few(evaluator: metrics.Evaluator) -> None:
    with pytest.raises(DataError, match="held-out split has 3 samples"):
        metrics.Evaluator(points(torch.rand(50, 2)), points(torch.rand(3, 2)), metrics.points_extractor())
    with pytest.raises(ConfigError, match="num_samples=5"):
        metrics.Evaluator(points(torch.rand(50, 2)), points(torch.rand(9, 2)), metrics.points_extractor(), 5)
    with pytest.raises(ValueError, match="at least 8 samples, not 4"):
        evaluator(real_digits(4)[0])


# Probe


@pytest.mark.parametrize("space", ["pixels", "features"])
def test_fresh_real_samples_probe_near_one(space: str, classifier: convnet.ConvExtractor) -> None:
    x, _ = real_digits(1400)
    x = x[torch.from_numpy(digits().order(0, 0))]
    if space == "features":  # smaller pictures are compared as pixels
        x = torch.nn.functional.interpolate(x, scale_factor=4)
    probe = metrics.SampleProbe(x[:500], classifier if space == "features" else None)
    scores = [probe(x[start : start + 128]) for start in range(500, 1268, 128)]
    for signal in ("reach", "pairwise", "nearest", "feature_variance", "coverage"):
        assert np.mean([s[signal] for s in scores]) == pytest.approx(1.0, abs=0.06), signal


def test_the_probe_sees_collapse() -> None:
    x, labels = real_digits(1400)
    probe = metrics.SampleProbe(x[torch.from_numpy(digits().order(0, 0))][:500])
    one = probe(x[:1].repeat(128, 1, 1, 1))
    assert max(one["pairwise"], one["nearest"], one["feature_variance"]) < 1e-3
    assert one["coverage"] < 0.1 < one["reach"] < 0.2  # one cluster of sixteen
    two = probe(x[labels < 2][:128])
    assert max(two["reach"], two["coverage"]) < 0.5
    assert probe(torch.full((128, 1, 8, 8), math.nan)) == dict.fromkeys(one, 0.0)


@pytest.mark.parametrize("num_fake", [64, 200, 900])
def test_probe_coverage_of_a_perfect_sampler_is_one_at_every_number_of_fakes(num_fake: int) -> None:
    ratios = [
        metrics.SampleProbe(normal(512, 3, s))(normal(num_fake, 3, 90 + s))["coverage"] for s in range(20)
    ]
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.02)


def test_expected_coverage_is_the_chance_of_a_fake_before_the_kth_real() -> None:
    assert expected_coverage(1, 1, 1) == 0.5
    assert expected_coverage(3, 2, 2) == pytest.approx(1 - (3 / 5) * (2 / 4))


def test_the_probe_refuses_too_few_samples() -> None:
    with pytest.raises(ValueError, match="at least 256 real samples, not 10"):
        metrics.SampleProbe(torch.rand(10, 2))
    with pytest.raises(ValueError, match="at least 64 fakes, not 8"):
        metrics.SampleProbe(torch.rand(300, 2))(torch.rand(8, 2))
