"""Penalties against closed forms on critics whose gradient is known, and their place in a family's phases."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import grad

from gans.draws import Draws
from gans.families.dcgan import DCGAN
from gans.families.vanilla import Vanilla
from gans.family import Step
from gans.penalties import clip_weights, gradient_penalty, zero_centred
from gans.schedule import Cosine
from gans.sync import Alone
from tests.support.families import CPU, RING, Case, training
from tests.support.threads import one_thread as one_thread

X = torch.tensor([[1.0, 2.0], [-3.0, 0.5], [0.0, 1.0]])


def quadratic(weight: Tensor, x: Tensor) -> Tensor:
    """D(x) = sum_i w_i x_i^2 / 2, whose gradient is w * x."""
    return (weight * x.square()).sum(1) / 2


def largest(net: nn.Module) -> float:
    """The largest absolute weight."""
    return max(p.detach().abs().max().item() for p in net.parameters())


def test_zero_centred_penalty_and_its_gradient_have_the_closed_form() -> None:
    weight = torch.tensor([2.0, -1.0], requires_grad=True)
    x = X.clone().requires_grad_(True)
    penalty = zero_centred(quadratic(weight, x), x)
    torch.testing.assert_close(penalty, 0.5 * (weight * X).square().sum(1))
    (by_weight,) = grad(penalty.mean(), weight)
    torch.testing.assert_close(by_weight, (weight * X.square()).mean(0).detach())


def test_gradient_penalty_and_its_gradient_have_the_closed_form() -> None:
    """A linear critic has the same gradient everywhere: (|w| - 1)^2, by w: 2 (|w| - 1) w / |w|."""
    weight = torch.tensor([3.0, 4.0], requires_grad=True)
    penalty = gradient_penalty(lambda x: x @ weight, X, X + 1, torch.rand(3, 1))
    torch.testing.assert_close(penalty, torch.full((3,), 16.0))
    (by_weight,) = grad(penalty.mean(), weight)
    torch.testing.assert_close(by_weight, 2 * 4 * weight.detach() / 5)


def test_gradient_penalty_looks_between_real_and_fake() -> None:
    seen: list[Tensor] = []

    def critic(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return quadratic(torch.ones(2), x)

    real, fake, mix = X, torch.zeros_like(X), torch.tensor([[0.0], [1.0], [0.25]])
    penalty = gradient_penalty(critic, real, fake, mix)
    torch.testing.assert_close(seen[0], mix * X)
    torch.testing.assert_close(penalty, ((mix * X).norm(dim=1) - 1).square())


def test_gradient_penalty_of_a_flat_critic_has_a_finite_gradient() -> None:
    weight = torch.zeros(2, requires_grad=True)
    (by_weight,) = grad(gradient_penalty(lambda x: x @ weight, X, X, torch.rand(3, 1)).mean(), weight)
    assert torch.isfinite(by_weight).all()


def test_clipping_bounds_every_weight_and_leaves_small_ones() -> None:
    net = nn.Linear(2, 2)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[0.5, -0.5], [0.004, -0.009]]))
        net.bias.copy_(torch.tensor([0.0, 3.0]))
    clip_weights(net.parameters(), 0.01)
    torch.testing.assert_close(net.weight.detach(), torch.tensor([[0.01, -0.01], [0.004, -0.009]]))
    torch.testing.assert_close(net.bias.detach(), torch.tensor([0.0, 0.01]))


def test_a_family_clips_its_critic_after_each_of_its_steps_and_never_its_generator() -> None:
    t = training(Case(Vanilla(width=8, latent_dim=4, loss="wasserstein", clip=0.01), RING))
    t.run_step()
    assert largest(t.nets["discriminator"]) <= 0.01
    assert largest(t.nets["generator"]) > 0.01


def test_a_lazy_penalty_corrects_learning_rate_and_betas() -> None:
    """Karras et al. 2020, appendix B: c = 16 / 17."""
    c = 16 / 17
    critic, penalty, generator = DCGAN(r1=1.0, penalty_every=16, betas=(0.5, 0.99), lr_g=1e-3).phases()
    assert (penalty.every, penalty.data, penalty.trains) == (16, "same", critic.trains)
    assert penalty.double
    assert not critic.double
    assert penalty.optimiser == critic.optimiser
    assert critic.optimiser.lr == pytest.approx(1e-3 * c)
    assert critic.optimiser.betas == (pytest.approx(0.5**c), pytest.approx(0.99**c))
    assert generator.optimiser.lr == 1e-3
    assert generator.optimiser.betas == (0.5, 0.99)


def test_a_lazy_penalty_corrects_schedules_too() -> None:
    family = DCGAN(
        r1=1.0,
        penalty_every=4,
        betas=(0.0, Cosine(start=0.9, end=0.99)),
        lr_g=Cosine(start=1e-3, end=1e-4),
        lr_ratio=2,
    )
    optimiser = family.phases()[0].optimiser
    assert optimiser.lr == Cosine(start=2e-3 * 0.8, end=2e-4 * 0.8)
    assert optimiser.betas == (0.0, Cosine(start=0.9**0.8, end=0.99**0.8))


def test_an_unpenalised_or_eager_critic_is_not_corrected() -> None:
    for family in (DCGAN(penalty_every=16, lr_g=1e-3), DCGAN(r1=1.0, lr_g=1e-3)):
        critic, generator = family.phases()
        assert critic.optimiser == generator.optimiser
        assert critic.double == family.penalised


@pytest.mark.parametrize("weights", [{"r1": 3.0}, {"r2": 3.0}, {"gp": 3.0}])
def test_a_lazy_penalty_weighs_its_interval_times_the_eager_one(weights: dict[str, float]) -> None:
    values = {}
    for every, phase in ((1, "critic"), (4, "penalty")):
        family = Vanilla(width=8, latent_dim=4, penalty_every=every, **weights)  # type: ignore[arg-type]
        t = training(Case(family, RING))
        batch = t.loader.next()
        _, report = family.objective(phase, t.nets, Step(batch, Draws(0, 8, CPU), Alone()))
        values[every] = report["penalty"].mean().item()
    assert values[1] > 0
    assert values[4] == pytest.approx(4 * values[1], rel=1e-5)
