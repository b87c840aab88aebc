"""Options of any game of two players, each against its paper's definition."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from gans.data.base import Batch, DataSpec, Field
from gans.draws import Draws
from gans.errors import ConfigError
from gans.families.cgan import CGAN
from gans.families.cyclegan import CycleGAN
from gans.families.dcgan import DCGAN
from gans.families.progressive import Progressive
from gans.families.vanilla import Vanilla
from gans.family import Family, Networks, Step
from gans.generator import Model
from gans.judged import LeCam, transformed
from gans.packing import why_not
from gans.sync import Alone
from gans.techniques import truncated_normal, unrolled
from gans.training import build
from tests.support.families import CPU, DIGITS, DOMAINS, RING, Case, loaded, training
from tests.support.threads import one_thread as one_thread

SMALL: dict[str, Any] = {"width": 4, "latent_dim": 8, "norm_d": "none"}


def step(rows: Tensor, index: int = 0) -> Step:
    return Step({"x": rows}, Draws(0, len(rows), CPU), Alone(), step=index)


# --- LeCam


def test_lecam_is_the_squared_distance_to_the_other_sides_mean() -> None:
    """Equation 6 with a_R = 1, a_F = -2: real logits 3, 0 and generated ones 0, 1."""
    means = LeCam()
    means.real.fill_(1.0)
    means.fake.fill_(-2.0)
    penalty = means.penalty(torch.tensor([3.0, 0.0]), torch.tensor([0.0, 1.0]))
    assert penalty.tolist() == [(3 + 2) ** 2 + (0 - 1) ** 2, (0 + 2) ** 2 + (1 - 1) ** 2]


def test_the_means_follow_the_logits_of_a_step_and_count_from_the_start_on() -> None:
    t = training(Case(DCGAN(**SMALL, lecam=0.3, lecam_start=2, lecam_decay=0.9), DIGITS))
    means, seen = t.nets["lecam"], []
    assert isinstance(means, LeCam)
    for i in range(4):
        before = means.real.item(), means.fake.item()
        t.run_step()
        real, fake = t.memory["lecam"][:, 0].mean().item(), t.memory["lecam"][:, 1].mean().item()
        decay = 0.0 if i < 2 else 0.9
        assert means.real.item() == pytest.approx(decay * before[0] + (1 - decay) * real, rel=1e-4, abs=1e-7)
        assert means.fake.item() == pytest.approx(decay * before[1] + (1 - decay) * fake, rel=1e-4, abs=1e-7)
        seen.append("lecam" in t.reports)
    assert seen == [False, False, True, True]


def test_lecam_joins_the_loss_with_its_weight() -> None:
    t = training(Case(DCGAN(**SMALL, lecam=0.3, lecam_start=0), DIGITS))
    means = t.nets["lecam"]
    assert isinstance(means, LeCam)
    means.fake.fill_(2.0)
    rows = step(torch.randn(8, 1, 8, 8))
    rows.memory.update(t.memory)
    loss, report = t.family.objective("critic", t.nets, rows)
    logits = rows.memory["lecam"]
    expected = 0.3 * ((logits[:, 0] - 2).square() + logits[:, 1].square())
    torch.testing.assert_close(report["lecam"], expected)
    torch.testing.assert_close(loss.detach(), report["loss_d"].mean() + expected.mean())


# --- consistency


class Constant(nn.Module):
    """The same logit for every row."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.full((len(x),), 3.0) + 0 * x.flatten(1).sum(1)


class Corner(nn.Module):
    """The first pixel as logit."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0, 0, 0]


@pytest.mark.parametrize("name", ["consistency", "consistency_fake"])
def test_consistency_is_nothing_for_a_critic_that_does_not_change(name: str) -> None:
    family = DCGAN(**SMALL, **{name: 10.0})
    nets = build(family, loaded(DIGITS), 0)
    for critic in (Constant(), Corner()):
        nets["discriminator"] = critic
        _, report = family.objective("critic", nets, step(torch.randn(8, 1, 8, 8)))
        assert report[name].shape == (8,)
        assert (report[name].sum() > 0) == isinstance(critic, Corner)


def test_consistency_compares_a_picture_with_itself_moved() -> None:
    """D is the first pixel, x counts pixels: a move by (down, right) of up to 1 px changes D by |8 down + right|."""
    family = DCGAN(**SMALL, consistency=1.0)
    nets = build(family, loaded(DIGITS), 0) | {"discriminator": Corner()}
    x = torch.arange(64.0).view(1, 1, 8, 8).expand(200, -1, -1, -1)
    _, report = family.objective("critic", nets, step(x))
    assert set(report["consistency"].sqrt().round().int().tolist()) == {0, 1, 8, 9}  # mirrored at the border


def test_pictures_are_flipped_only_where_asked_for() -> None:
    x = torch.randn(64, 1, 8, 8)
    assert transformed(x, Draws(0, 64, CPU), share=0.0, flip=False).equal(x)
    flipped = transformed(x, Draws(0, 64, CPU), share=0.0, flip=True)
    same = (flipped == x).flatten(1).all(1)
    assert flipped[~same].equal(x[~same].flip(3))
    assert 16 < same.sum() < 48


# --- unrolled


class Linear(nn.Module):
    """D(x) = a x + b in double."""

    def __init__(self, a: float, b: float) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a, dtype=torch.double))
        self.b = nn.Parameter(torch.tensor(b, dtype=torch.double))

    def forward(self, x: Tensor) -> Tensor:
        return self.a * x + self.b


X, Z = torch.tensor([1.0, 2.0, -0.5]).double(), torch.tensor([0.3, -1.0, 0.8]).double()


def surrogate(g: Tensor, steps: int) -> Tensor:
    """The generator's loss for x = g z after `steps` of the critic."""
    fake = g * Z

    def loss(critic: nn.Module) -> Tensor:
        return softplus(-critic(X)) + softplus(critic(fake))

    critic = unrolled(Linear(0.4, -0.1), loss, steps, 0.5, Alone())
    return softplus(-critic(fake)).mean()


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_the_generators_gradient_goes_through_the_critics_steps(steps: int) -> None:
    g = torch.tensor(0.7, dtype=torch.double, requires_grad=True)
    (gradient,) = torch.autograd.grad(surrogate(g, steps), g)
    h = 1e-5
    difference = (surrogate(g + h, steps) - surrogate(g - h, steps)).item() / (2 * h)
    assert gradient.item() == pytest.approx(difference, rel=1e-6)


def test_one_step_by_hand() -> None:
    """a' = a - lr dL/da, dL/da = mean(-x s(-ax - b) + gz s(agz + b)) with s the sigmoid; b likewise."""
    a, b, g, lr = 0.4, -0.1, 0.7, 0.5
    real, fake = torch.sigmoid(-(a * X + b)), torch.sigmoid(a * g * Z + b)
    a1 = a - lr * (-X * real + g * Z * fake).mean()
    b1 = b - lr * (-real + fake).mean()
    expected = softplus(-(a1 * g * Z + b1)).mean()
    torch.testing.assert_close(surrogate(torch.tensor(g).double(), 1), expected)


def test_a_family_looks_ahead_with_the_loss_of_its_rows_and_leaves_its_critic() -> None:
    family = Vanilla(width=8, latent_dim=4, unrolled=1, unrolled_lr=0.5)
    nets = build(family, loaded(RING), 0)
    critic = nn.Sequential(nn.Linear(2, 1), nn.Flatten(0))
    nets["discriminator"] = critic
    before = critic[0].weight.detach().clone()
    real = torch.randn(6, 2)
    loss, _ = family.objective("generator", nets, step(real))
    fake = family.fake(nets, step(real)).detach()
    now = critic(real).sigmoid() - 1, critic(fake).sigmoid()
    rate = torch.cat([now[0], now[1]]).detach()
    rows = torch.cat([real, fake])
    w = before[0] - 0.5 * (rate[:, None] * rows).sum(0) / 6
    b = critic[0].bias.detach() - 0.5 * rate.sum() / 6
    torch.testing.assert_close(loss.detach(), softplus(-(fake @ w + b)).mean())
    assert critic[0].weight.equal(before)


def test_looking_ahead_is_differentiated_twice_and_reuses_nothing() -> None:
    *_, generator = Vanilla(unrolled=2).phases()
    assert generator.double
    assert not generator.reuses


# --- truncation


def test_truncated_latents_lie_within_the_bound_and_are_normal_there() -> None:
    bound = 0.8
    u = (torch.arange(20000) + 0.5) / 20000
    z = truncated_normal(u, bound)
    assert z.abs().max() <= bound
    normal = torch.distributions.Normal(0.0, 1.0)
    inside = normal.cdf(torch.tensor(bound)) - normal.cdf(torch.tensor(-bound))
    expected = (normal.cdf(z) - normal.cdf(torch.tensor(-bound))) / inside
    torch.testing.assert_close(expected, u, atol=1e-4, rtol=0)
    assert truncated_normal(torch.tensor([0.0, 0.5]), bound).tolist() == pytest.approx([-bound, 0.0])


def test_truncation_is_of_samples_alone() -> None:
    family = Vanilla(latent_dim=16, truncation=0.5)
    assert family.sampled_latents(Draws(0, 100, CPU)).abs().max() <= 0.5
    assert family.latents(Draws(0, 100, CPU)).abs().max() > 2
    free = Vanilla(latent_dim=16)
    assert free.sampled_latents(Draws(0, 9, CPU)).equal(free.latents(Draws(0, 9, CPU)))


def test_a_model_is_sampled_with_another_truncation_where_its_family_has_one() -> None:
    class Latents(Vanilla):
        """Generates its latents."""

        def generate(self, nets: Networks, z: Tensor, batch: Batch) -> Tensor:
            return z

    model = Model(Latents(latent_dim=2), loaded(RING).spec, {"generator": nn.Identity()})
    assert model.sample(64)["x"].abs().max() > 1
    assert model.truncated(0.3).sample(64)["x"].abs().max() <= 0.3
    assert model.family.truncation is None  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="CycleGAN has no truncation"):
        Model(CycleGAN(), loaded(DOMAINS).spec, {}).truncated(0.3)
    with pytest.raises(ConfigError, match=r"set gan\.latent=normal"):
        Model(Vanilla(latent="uniform"), loaded(RING).spec, {}).truncated(0.3)


# --- what cannot be had


@pytest.mark.parametrize(
    ("family", "data", "told"),
    [
        (Vanilla(augment="ada"), RING, r"gan\.augment=ada is for pictures, and this data has vectors"),
        (Vanilla(augment="diff"), RING, "augment=diff is for pictures"),
        (
            Vanilla(rotation=1.0, consistency=1.0),
            RING,
            "consistency is for pictures.*rotation is for pictures",
        ),
        (CGAN(pac=2), DIGITS, r"gan\.pac = 2: CGAN judges each row with its label"),
        (DCGAN(pac=2, rotation=1.0), DIGITS, "a pack has no one rotation"),
        (DCGAN(minibatch_stddev=1), DIGITS, "2 rows or more, and 0 means none"),
        (DCGAN(latent="uniform", truncation=1.0), DIGITS, "set gan.latent=normal"),
        (
            Progressive(width=4, latent_dim=8, batches=(1.0, 0.5), lecam=0.3),
            DIGITS,
            r"gan\.lecam remembers the rows of a batch, and Progressive changes their number",
        ),
    ],
)
def test_options_that_do_not_suit_are_refused_with_the_reason(family: Family, data: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        build(family, loaded(data), seed=0)


def test_rotation_wants_square_pictures() -> None:
    spec = DataSpec({"x": Field("image", (1, 8, 12))})
    assert any("8 x 12" in problem for problem in Vanilla(rotation=1.0).check(spec))


def test_the_largest_group_is_the_unit_of_rows() -> None:
    assert DCGAN().unit == 1
    assert DCGAN(pac=3).unit == 3
    assert DCGAN(pac=2, minibatch_stddev=4).unit == 8


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"pac": 2}, "couples rows"),
        ({"unrolled": 1}, "couples rows"),
        ({"lecam": 0.3}, "keeps a memory of rows"),
        ({}, ""),
    ],
)
def test_what_couples_rows_is_not_packed_with_other_trainings(fields: dict[str, Any], why: str) -> None:
    found = why_not(training(Case(Vanilla(width=8, latent_dim=4, **fields), RING), batch=32))
    assert why in found
    assert bool(found) == bool(why)
