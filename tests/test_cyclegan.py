"""CycleGAN's own parts: its losses, its pool of past pictures, its networks, and how its maps are judged."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gans.data.base import DataSpec, Field
from gans.data.digits import Digits
from gans.data.domains import Domains
from gans.data.views import Renamed
from gans.draws import Draws
from gans.errors import DataError
from gans.families.cyclegan import CycleGAN, exchange, residual_generator
from gans.family import Networks, Step
from gans.patches import patch_discriminator
from gans.sync import Alone
from tests.support.families import CASES, CPU, DOMAINS, Case, loaded, training
from tests.support.threads import one_thread as one_thread


class Shift(nn.Module):
    """x + amount."""

    def __init__(self, amount: float) -> None:
        super().__init__()
        self.amount = nn.Parameter(torch.tensor(amount))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.amount


class Mean(nn.Module):
    """The mean of a picture as its only patch."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((1, 2, 3), keepdim=True)


def shifting() -> Networks:
    return {"g_ab": Shift(1.0), "g_ba": Shift(-0.5), "d_a": Mean(), "d_b": Mean()}


def step(batch: dict[str, Tensor], memory: dict[str, Tensor] | None = None, index: int = 0) -> Step:
    draws = Draws(0, len(batch["a"]), CPU)
    draws.restart(index)
    return Step(batch, draws, Alone(), memory=memory or {})


def spec(a: tuple[int, ...] = (1, 8, 8), b: tuple[int, ...] = (1, 8, 8)) -> DataSpec:
    return DataSpec({"a": Field("image", a), "b": Field("image", b)})


def test_losses_are_those_of_the_paper() -> None:
    """a is 0, b is 1 everywhere; G adds 1, F takes 0.5 away; D is the mean."""
    batch = {"a": torch.zeros(4, 1, 8, 8), "b": torch.ones(4, 1, 8, 8)}
    family = CycleGAN(cycle=10.0, identity=5.0, pool=0)
    loss, report = family.objective("generator", shifting(), step(batch))
    # G(a) = 1 is judged 1, F(b) = 0.5 is judged 0.5; cycles are off by 0.5, identities by 1 and 0.5.
    assert report["loss_adversarial"].item() == pytest.approx((1 - 1) ** 2 + (0.5 - 1) ** 2)
    assert report["cycle"].item() == pytest.approx(0.5)
    assert report["identity"].item() == pytest.approx(0.75)
    assert loss.item() == pytest.approx(0.25 + 10 * (0.5 + 0.5) + 5 * (1 + 0.5))
    critic, figures = family.objective("critic", shifting(), step(batch))
    # d_a: real 0, generated 0.5; d_b: real 1, generated 1; each halved.
    assert critic.item() == pytest.approx(0.5 * (1 + 0.25) + 0.5 * (0 + 1))
    assert figures["d_gap"].item() == pytest.approx((0 + 1) / 2 - (0.5 + 1) / 2)


def test_without_identity_loss_nothing_of_it_is_computed() -> None:
    batch = {"a": torch.zeros(4, 1, 8, 8), "b": torch.ones(4, 1, 8, 8)}
    _, report = CycleGAN(identity=0.0, pool=0).objective("generator", shifting(), step(batch))
    assert "identity" not in report


def test_an_exchange_returns_the_old_picture_where_it_swaps() -> None:
    pool = torch.arange(6.0).reshape(3, 2, 1)
    fresh = torch.tensor([[10.0], [20.0], [30.0]])
    keep, swap = torch.tensor([True, True, False]), torch.tensor([True, False, False])
    shown = exchange(pool, fresh, torch.tensor([1, 0, 1]), keep, swap)
    assert shown.flatten().tolist() == [1, 20, 30]
    assert pool.flatten().tolist() == [0, 10, 20, 3, 4, 5]


def test_the_pool_shows_new_pictures_until_full_and_then_half_past_ones() -> None:
    """Step k generates pictures of value k; 50 pictures over 8 rows are 7 slots each."""
    family = CycleGAN(pool=50)
    memory = family.memory(spec(), 8)
    assert memory["pool_a"].shape == (8, 7, 1, 8, 8)
    shown = []
    for k in range(400):
        fresh = torch.full((8, 1, 8, 8), float(k))
        a, b = family._pooled(step({"a": fresh}, memory, index=k), fresh, fresh)
        shown.append(torch.stack([a[:, 0, 0, 0], b[:, 0, 0, 0]]))
        assert memory["pooled"].eq(min(k + 1, 7)).all()
    ages = torch.arange(400.0).view(-1, 1, 1) - torch.stack(shown)
    assert ages[:7].eq(0).all()
    past = ages[7:].gt(0)
    assert past.float().mean().item() == pytest.approx(0.5, abs=0.03)
    # Each of a row's 7 slots is taken with probability 1/14 a step: it is 14 steps old on average.
    assert ages[100:][ages[100:] > 0].mean().item() == pytest.approx(14, rel=0.1)
    assert not past[:, 0].equal(past[:, 1])
    assert not past[:, :, 0].equal(past[:, :, 1])


def test_the_discriminators_are_shown_the_pool() -> None:
    t = training(CASES["cyclegan"], batch=9)
    for _ in range(3):
        t.run_step()
    assert t.memory["pooled"].eq(1).all()
    assert t.memory["pool_b"].abs().sum() > 0


@pytest.mark.parametrize("size", [8, 12, 16, 32, 128])
def test_networks_keep_the_size_and_judge_patches(size: int) -> None:
    x = torch.rand(2, 3, size, size) * 2 - 1
    mapped = residual_generator(3, 1, size, width=4, blocks=1)(x)
    assert mapped.shape == (2, 1, size, size)
    assert mapped.abs().max() <= 1
    patches = patch_discriminator(3, size, width=4)(x)
    assert patches.shape[:2] == (2, 1)
    assert patches.shape[2] > 1


@pytest.mark.parametrize(
    ("a", "b", "told"),
    [
        ((1, 16, 16), (1, 8, 8), "one size"),
        ((1, 6, 6), (1, 6, 6), "a multiple of 4 from 8 px up"),
        ((1, 8, 8), (3, 8, 8), "set gan.identity=0"),
        ((2,), (2,), r"pictures \(C, H, W\)"),
    ],
)
def test_shapes_that_do_not_suit_are_told(a: tuple[int, ...], b: tuple[int, ...], told: str) -> None:
    (problem,) = CycleGAN().check(spec(a, b))
    assert told in problem.replace("\\", "") or told.replace("\\", "") in problem


@pytest.mark.parametrize("only", ["a", "b"])
def test_one_domain_only_is_told(only: str) -> None:
    (problem,) = CycleGAN().check(DataSpec({only: Field("image", (1, 8, 8))}))
    assert problem.startswith("cyclegan maps between two domains, the data fields a and b")
    assert f"lacks {'ab'.replace(only, '')} (fields: {only})" in problem


def test_domains_of_other_channels_train_without_identity_loss() -> None:
    assert CycleGAN(identity=0).check(spec((1, 8, 8), (3, 8, 8))) == []


def test_samples_hold_both_maps_and_the_cycle() -> None:
    batch = {"a": torch.zeros(2, 1, 8, 8), "b": torch.ones(2, 1, 8, 8)}
    family = CycleGAN()
    samples = family.sample(shifting(), batch, Draws(0, 2, CPU))
    assert {k: v.unique().tolist() for k, v in samples.items()} == {
        "x": [1.0],
        "back": [0.5],
        "cycled": [0.5],
    }
    values = [column.unique().item() for column in family.pictures(batch, samples)]
    assert values == [0.0, 1.0, 1.0, 0.5]


def test_the_cycle_error_falls() -> None:
    family = CycleGAN(width=4, width_d=4, blocks=1, lr_g=2e-3)
    data = Domains(a=Digits(classes=(0,)), b=Digits(classes=(1,)))
    t = training(Case(family, data))
    t.run_step()
    first = t.reports["cycle"].item()
    for _ in range(60):
        t.run_step()
    assert t.reports["cycle"].item() < 0.7 * first


def test_a_renamed_view_shows_one_domain_as_x() -> None:
    domains = loaded(DOMAINS)
    view = Renamed(domains, {"b": "x"})
    rows = domains.order(seed=1, epoch=0)[:5]
    assert list(view.spec.fields) == ["x"]
    assert view.spec.x == domains.spec.fields["b"]
    assert len(view) == len(domains)
    assert np.array_equal(view.order(1, 0)[:5], rows)
    shown = view.fetch(rows)
    assert list(shown) == ["x"]
    assert shown["x"].equal(domains.fetch(rows)["b"])


def test_a_view_of_a_field_that_is_not_there_is_refused() -> None:
    with pytest.raises(DataError, match="no field c; fields: a, b"):
        Renamed(loaded(DOMAINS), {"c": "x"})
