"""Adversarial losses against values worked out by hand, and what they do to gradients."""

from __future__ import annotations

import math

import pytest
import torch

from gans.losses import LOSSES, LossName

REAL, FAKE = torch.tensor([2.0, -1.0]), torch.tensor([0.5, -3.0])


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


# By the papers' formulas, written out for the two real logits 2, -1 and the two fake logits 0.5, -3.
CROSS_ENTROPY = (softplus(-2) + softplus(1)) / 2 + (softplus(0.5) + softplus(-3)) / 2
BY_HAND: dict[LossName, tuple[float, float]] = {
    "minimax": (CROSS_ENTROPY, -(softplus(0.5) + softplus(-3)) / 2),
    "non_saturating": (CROSS_ENTROPY, (softplus(-0.5) + softplus(3)) / 2),
    "least_squares": (0.5 * ((1 + 4) / 2 + (0.25 + 9) / 2), 0.5 * (0.25 + 16) / 2),
    "hinge": ((0 + 2) / 2 + (1.5 + 0) / 2, 1.25),
    "wasserstein": (-1.25 - 0.5, 1.25),
    "relativistic": ((softplus(-1.5) + softplus(-2)) / 2, (softplus(1.5) + softplus(2)) / 2),
}


def test_every_loss_is_worked_out() -> None:
    assert set(BY_HAND) == set(LOSSES)


@pytest.mark.parametrize("name", BY_HAND)
def test_values_are_those_worked_out_by_hand(name: LossName) -> None:
    loss = LOSSES[name]
    discriminator, generator = BY_HAND[name]
    assert loss.discriminator(REAL, FAKE).mean().item() == pytest.approx(discriminator, rel=1e-6)
    assert loss.generator(REAL, FAKE).mean().item() == pytest.approx(generator, rel=1e-6)


@pytest.mark.parametrize("name", BY_HAND)
def test_the_players_pull_fake_logits_in_opposite_directions(name: LossName) -> None:
    fake = FAKE.clone().requires_grad_(True)
    (down,) = torch.autograd.grad(LOSSES[name].discriminator(REAL, fake).mean(), fake)
    (up,) = torch.autograd.grad(LOSSES[name].generator(REAL, fake).mean(), fake)
    assert down[0] > 0 > up[0]


@pytest.mark.parametrize("name", BY_HAND)
def test_paired_tells_whether_the_generator_looks_at_real_logits(name: LossName) -> None:
    loss = LOSSES[name]
    moved = loss.generator(REAL + 1, FAKE) != loss.generator(REAL, FAKE)
    assert moved.all() == moved.any() == loss.paired


@pytest.mark.parametrize("name", BY_HAND)
def test_a_rows_loss_depends_on_its_own_logits_alone(name: LossName) -> None:
    loss = LOSSES[name]
    for side in (loss.discriminator, loss.generator):
        torch.testing.assert_close(side(REAL, FAKE)[:1], side(REAL[:1], FAKE[:1]), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["minimax", "non_saturating", "relativistic"])
def test_large_logits_stay_finite(name: LossName) -> None:
    far = torch.tensor([1e4, -1e4], requires_grad=True)
    for value in (LOSSES[name].discriminator(far, -far), LOSSES[name].generator(far, -far)):
        (gradient,) = torch.autograd.grad(value.mean(), far)
        assert torch.isfinite(value).all()
        assert torch.isfinite(gradient).all()


def test_the_minimax_generator_saturates_where_the_non_saturating_one_does_not() -> None:
    fake = torch.full((1,), -20.0, requires_grad=True)
    (flat,) = torch.autograd.grad(LOSSES["minimax"].generator(fake, fake), fake)
    (steep,) = torch.autograd.grad(LOSSES["non_saturating"].generator(fake, fake), fake)
    assert abs(flat.item()) < 1e-8
    assert steep.item() == pytest.approx(-1.0, abs=1e-6)
