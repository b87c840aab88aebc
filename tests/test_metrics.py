"""The figures against closed forms, independent implementations and published ceilings."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy import linalg
from torch import Tensor

from gans import metrics
from gans.data.base import Modes
from tests.support.metric_data import draw, grid, normal, ring


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def with_moments(num: int, mean: Tensor, covariance: Tensor, seed: int) -> Tensor:
    """Samples whose empirical mean and covariance are exactly the given ones."""
    x = normal(num, len(mean), seed)
    x = x - x.mean(0)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(x.T @ x / (num - 1)), x.T, upper=False).T
    return mean + white @ torch.linalg.cholesky(covariance).T


# Fréchet distance


def test_fid_equals_the_closed_form_for_two_gaussians() -> None:
    a, b = (
        torch.diag(torch.tensor([1.0, 4.0, 9.0]).double()),
        torch.diag(torch.tensor([4.0, 4.0, 1.0]).double()),
    )
    mean = torch.tensor([1.0, -2.0, 0.5]).double()
    real, fake = with_moments(50, torch.zeros(3).double(), a, 0), with_moments(80, mean, b, 1)
    # Commuting covariances: |μ|² + Σ (σ_a - σ_b)² = 5.25 + 1 + 0 + 4
    assert metrics.frechet(real, fake) == pytest.approx(10.25, rel=1e-10)


@pytest.mark.parametrize(("num_real", "num_fake"), [(200, 150), (20, 30), (20, 300)])
def test_fid_equals_sqrtm_with_more_and_fewer_samples_than_features(num_real: int, num_fake: int) -> None:
    mix = normal(40, 40, 3)
    real, fake = normal(num_real, 40, 4) @ mix, normal(num_fake, 40, 5, mean=0.3)
    s1, s2 = np.cov(real.numpy(), rowvar=False), np.cov(fake.numpy(), rowvar=False)
    # A ridge lets sqrtm cope with singular products; it bounds the precision of the reference, not of ours.
    root = linalg.sqrtm((s1 + 1e-10 * np.eye(40)) @ (s2 + 1e-10 * np.eye(40))).real
    shift = (real.mean(0) - fake.mean(0)).square().sum().item()
    assert metrics.frechet(real, fake) == pytest.approx(shift + np.trace(s1 + s2 - 2 * root), rel=1e-4)


def test_fid_of_a_set_with_itself_is_zero_also_far_from_the_origin() -> None:
    x = normal(30, 64, 0, mean=1e3)
    assert metrics.frechet(x, x) == pytest.approx(0.0, abs=1e-8)


def test_fid_refuses_a_single_sample() -> None:
    with pytest.raises(ValueError, match="N >= 2"):
        metrics.frechet(torch.zeros(1, 4), torch.zeros(5, 4))


# KID


def test_kid_of_equal_distributions_is_zero_and_of_shifted_ones_is_not() -> None:
    same = [metrics.kid(normal(400, 16, s), normal(400, 16, 100 + s), seed=s) for s in range(10)]
    assert abs(np.mean(same)) < 3 * np.std(same) / math.sqrt(10) + 1e-3
    assert metrics.kid(normal(400, 16, 0), normal(400, 16, 1, mean=0.5)) > 0.5


def test_kid_of_one_full_subset_equals_the_unbiased_estimator_written_as_loops() -> None:
    x, y = normal(6, 3, 0), normal(6, 3, 1)

    def k(a: Tensor, b: Tensor) -> float:
        return float((a @ b / 3 + 1) ** 3)

    inner = sum(k(z[i], z[j]) for z in (x, y) for i in range(6) for j in range(6) if i != j) / 30
    expected = inner - 2 * sum(k(a, b) for a in x for b in y) / 36
    assert metrics.kid(x, y, num_subsets=1) == pytest.approx(expected, rel=1e-10)


def test_kid_follows_its_seed() -> None:
    x, y = normal(300, 8, 0), normal(300, 8, 1)
    assert metrics.kid(x, y, subset_size=50, seed=1) == metrics.kid(x, y, subset_size=50, seed=1)
    assert metrics.kid(x, y, subset_size=50, seed=1) != metrics.kid(x, y, subset_size=50, seed=2)


# Nearest-neighbour figures


def test_identical_sets_have_full_precision_recall_and_coverage() -> None:
    x = normal(200, 8, 0)
    assert metrics.precision_recall(x, x) == (1.0, 1.0)
    assert metrics.density_coverage(x, x).coverage == 1.0


def test_distant_sets_have_none() -> None:
    x, far = normal(200, 8, 0), normal(200, 8, 1, mean=100.0)
    assert metrics.precision_recall(x, far) == (0.0, 0.0)
    assert metrics.density_coverage(x, far) == (0.0, 0.0)


def test_repeats_of_one_real_sample_are_precise_and_recall_next_to_nothing() -> None:
    x = normal(200, 8, 0)
    one = x[:1].expand(200, -1)
    assert metrics.precision_recall(x, one).precision == 1.0
    assert metrics.precision_recall(x, one).recall <= 1 / 200
    assert metrics.density_coverage(x, one).coverage < 0.1


def test_precision_and_recall_by_hand_on_a_line() -> None:
    real, fake = torch.tensor([[0.0], [1.0], [2.0], [10.0]]), torch.tensor([[0.5], [1.6], [30.0], [31.0]])
    # Real radii (k=1) 1, 1, 1, 8: two of four fakes inside. Fake radii 1.1, 1.1, 1, 1: all reals but 10.
    assert metrics.precision_recall(real, fake, k=1) == (0.5, 0.75)
    # Fakes lie in 2 (0.5: of 0, 1) + 2 (1.6: of 1, 2) real balls of 4; the balls of 0, 1 and 2 are hit.
    assert metrics.density_coverage(real, fake, k=1) == (1.0, 0.75)


def test_density_and_coverage_of_equal_distributions_have_the_published_expectation() -> None:
    pairs = [metrics.density_coverage(normal(200, 4, s), normal(200, 4, 50 + s)) for s in range(20)]
    assert np.mean([p.density for p in pairs]) == pytest.approx(1.0, abs=0.04)
    expected = 1 - math.prod((199 - i) / (399 - i) for i in range(5))
    assert np.mean([p.coverage for p in pairs]) == pytest.approx(expected, abs=0.008)


def test_neighbour_figures_refuse_too_few_samples() -> None:
    with pytest.raises(ValueError, match="more than 3 samples, not 3"):
        metrics.precision_recall(torch.rand(3, 2), torch.rand(10, 2))


# Classes and modes


def test_class_coverage_counts_classes_and_measures_kl_against_the_data() -> None:
    fake = torch.tensor([0, 0, 0, 1])
    captured, kl = metrics.class_coverage(fake, torch.tensor([2, 1, 1]))
    assert captured == 2
    assert kl == pytest.approx(0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.25))


def test_class_coverage_stays_finite_for_a_class_without_real_samples() -> None:
    assert 15 < metrics.class_coverage(torch.tensor([2, 2]), torch.tensor([0.5, 0.5, 0.0])).reverse_kl < 25


def test_class_coverage_refuses_a_label_outside_the_classes() -> None:
    with pytest.raises(ValueError, match="label 3 is not one of the 3 classes"):
        metrics.class_coverage(torch.tensor([3]), torch.ones(3))


@pytest.mark.parametrize(("modes", "num", "kl"), [(ring(), 8, 0.0015), (grid(), 25, 0.0047)])
def test_a_perfect_sampler_reaches_the_published_ceiling(modes: Modes, num: int, kl: float) -> None:
    scores = [metrics.mode_coverage(draw(modes, 2_500, seed), modes) for seed in range(40)]
    assert {s.captured for s in scores} == {num}
    assert np.mean([s.hq_share for s in scores]) == pytest.approx(1 - math.exp(-4.5), abs=0.001)
    # The KL of one draw is about chi-squared with K-1 degrees over 2N: its relative error here is < 10 %.
    assert np.mean([s.reverse_kl for s in scores]) == pytest.approx(kl, rel=0.2)


def test_a_sampler_of_one_mode_captures_one_at_the_greatest_divergence() -> None:
    modes = ring()
    collapsed = modes.centres[:1] + 0.001 * torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    assert metrics.mode_coverage(collapsed, modes) == pytest.approx((1, 1.0, math.log(8)))
    assert metrics.mode_coverage(torch.zeros(10, 2), modes) == (0, 0.0, math.log(8))


def test_high_quality_means_nearer_than_three_sigma() -> None:
    modes = Modes(torch.zeros(1, 2), 0.5)
    just_in_and_out = torch.tensor([[1.499, 0.0], [1.501, 0.0]])
    assert metrics.mode_coverage(just_in_and_out, modes).hq_share == 0.5
