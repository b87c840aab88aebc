"""What options put around a discriminator: deviation within groups, packs of rows, the task of rotations."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gans.critics import Equipped, deviation, feature_size, last_weighted, packed
from gans.draws import Draws
from gans.families.dcgan import DCGAN
from gans.families.r3gan import R3GAN
from gans.families.vanilla import Vanilla
from gans.family import Step
from gans.networks import conv_discriminator, mlp_discriminator
from gans.sync import Alone
from gans.techniques import turned
from gans.training import build
from tests.support.families import CPU, DIGITS, RING, Case, loaded, training
from tests.support.threads import one_thread as one_thread

SMALL: dict[str, Any] = {"width": 4, "latent_dim": 8, "norm_d": "none"}


def step(rows: Tensor, index: int = 0) -> Step:
    return Step({"x": rows}, Draws(0, len(rows), CPU), Alone(), step=index)


# --- minibatch standard deviation


def test_deviation_is_over_consecutive_rows_and_averaged_over_features() -> None:
    features = torch.tensor([[0.0, 1.0], [2.0, 1.0], [5.0, 5.0], [5.0, 5.0]])
    # deviations 1 and 0 in the first group, 0 and 0 in the second
    torch.testing.assert_close(deviation(features, 2), torch.tensor([0.5, 0.5, 0, 0]), atol=2e-4, rtol=0)


@pytest.mark.parametrize("kind", ["vector", "image"])
def test_it_equals_joining_a_constant_plane_before_the_last_layer(kind: str) -> None:
    torch.manual_seed(0)
    if kind == "vector":
        body: nn.Module = mlp_discriminator((2,), 8, 1, "none")
        x, last = torch.randn(8, 2), nn.Linear(9, 1)
    else:
        body = conv_discriminator((1, 8, 8), 4, "none")
        x, last = torch.randn(8, 1, 8, 8), nn.Conv2d(5, 1, 4)
    critic = Equipped(body, group=4)
    layer = body.get_submodule(last_weighted(body))
    with torch.no_grad():
        critic.weight.fill_(0.7)  # type: ignore[union-attr]
        last.weight[:, :-1] = layer.weight  # type: ignore[operator]
        last.weight[:, -1] = 0.7 / (1 if kind == "vector" else 16)
        last.bias.copy_(layer.bias)  # type: ignore[arg-type,union-attr]
    features: list[Tensor] = []
    layer.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
    logits = critic(x)
    f = features[0]
    plane = deviation(f, 4).view(-1, 1, *(1 for _ in f.shape[2:])).expand(-1, 1, *f.shape[2:])
    torch.testing.assert_close(logits, last(torch.cat([f, plane], 1)).flatten())
    assert deviation(f, 4).min() > 0.01


def test_a_wrapped_critic_begins_as_the_one_without() -> None:
    family, data = DCGAN(**SMALL), loaded(DIGITS)
    grouped = family.model_copy(update={"minibatch_stddev": 4})
    x = torch.randn(8, 1, 8, 8)
    plain, wrapped = (build(f, data, 0)["discriminator"] for f in (family, grouped))
    torch.testing.assert_close(wrapped(x), plain(x))
    assert grouped.unit == 4


def test_the_last_weighted_layer_is_the_head_or_the_last_one_that_multiplies() -> None:
    assert last_weighted(conv_discriminator((1, 8, 8), 4, "spectral")) == "2"
    assert last_weighted(conv_discriminator((1, 16, 16), 4, "batch")) == "5"
    named = nn.Module()
    named.head, named.later = nn.Linear(3, 2), nn.Linear(2, 1)
    assert last_weighted(named) == "head"
    r3gan = build(R3GAN(width=4, latent_dim=8), loaded(DIGITS), 0)["discriminator"]
    assert last_weighted(r3gan) == "logit"
    with pytest.raises(ValueError, match="no weighted layer"):
        last_weighted(nn.ReLU())


def test_looking_at_features_leaves_a_network_as_it_is() -> None:
    body = conv_discriminator((1, 16, 16), 4, "batch")
    before = {k: v.clone() for k, v in body.state_dict().items()}
    assert feature_size(body, torch.randn(2, 1, 16, 16)) == 8 * 4 * 4
    assert body.training
    assert all(v.equal(before[k]) for k, v in body.state_dict().items())


# --- packing


def test_a_pack_is_consecutive_rows_joined_along_channels() -> None:
    x = torch.arange(4.0)[:, None, None, None].expand(4, 3, 2, 2)
    assert packed(x, 2)[:, :, 0, 0].tolist() == [[0, 0, 0, 1, 1, 1], [2, 2, 2, 3, 3, 3]]
    assert packed(torch.tensor([[1, 2], [3, 4]]), 2).tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize("data", [RING, DIGITS])
def test_a_logit_depends_on_every_row_of_its_pack_and_on_no_other(data: Any) -> None:
    family = Vanilla(width=8, latent_dim=4, pac=3) if data is RING else DCGAN(**SMALL, pac=3)
    dataset = loaded(data)
    critic = build(family, dataset, 0)["discriminator"]
    x = torch.randn(6, *dataset.spec.x.shape, requires_grad=True)
    logits = critic(x)
    assert logits.shape == (2,)
    for pack in (0, 1):
        (gradient,) = torch.autograd.grad(logits[pack], x, retain_graph=True)
        touched = gradient.flatten(1).abs().sum(1) > 0
        assert touched.tolist() == [i // 3 == pack for i in range(6)]


def test_losses_and_reports_of_packs_have_one_value_a_pack() -> None:
    t = training(Case(DCGAN(**SMALL, pac=2, loss="relativistic", gp=1.0), DIGITS))
    for phase in ("critic", "generator"):
        _, report = t.family.objective(phase, t.nets, step(torch.randn(8, 1, 8, 8)))
        assert {v.shape for v in report.values()} == {(4,)}


@pytest.mark.parametrize("weight", ["r1", "r2", "gp"])
def test_penalties_of_packs_are_those_of_the_joined_rows(weight: str) -> None:
    """A linear critic of a pack has the gradient w everywhere: |w|^2 / 2, and (|w| - 1)^2 between packs."""
    family = Vanilla(width=8, latent_dim=4, pac=2, penalty_every=2, **{weight: 1.0})  # type: ignore[arg-type]
    nets = build(family, loaded(RING), 0)
    body = nn.Sequential(nn.Linear(4, 1), nn.Flatten(0))
    nets["discriminator"] = Equipped(body, pac=2)
    _, report = family.objective("penalty", nets, step(torch.randn(6, 2)))
    norm = body[0].weight.detach().norm()
    expected = (norm - 1) ** 2 if weight == "gp" else 0.5 * norm**2
    torch.testing.assert_close(report["penalty"], 2 * expected.expand(3))


# --- rotation


def test_turned_pictures_are_turned_by_their_quarters() -> None:
    x = torch.randn(4, 2, 3, 3)
    assert turned(x, torch.arange(4)).equal(torch.stack([p.rot90(i, (1, 2)) for i, p in enumerate(x)]))


def test_the_discriminator_tells_rotations_of_real_rows_and_the_generator_of_its_own() -> None:
    family = DCGAN(**SMALL, rotation=2.0, rotation_g=0.5)
    nets = build(family, loaded(DIGITS), 0)
    critic = nets["discriminator"]
    assert isinstance(critic, Equipped)
    shown: list[Tensor] = []
    critic.body.register_forward_hook(lambda _, inputs, __: shown.append(inputs[0]))
    heads: list[Tensor] = []
    assert critic.turns is not None
    critic.turns.register_forward_hook(lambda _, __, out: heads.append(out))
    real = torch.randn(32, 1, 8, 8)
    for phase, name, weight in (("critic", "rotation", 2.0), ("generator", "rotation_g", 0.5)):
        shown.clear()
        heads.clear()
        loss, report = family.objective(phase, nets, step(real))
        source = real if phase == "critic" else shown[0]
        every = torch.stack([source.rot90(q, (2, 3)) for q in range(4)])  # (4, N, ...)
        quarters = (every == shown[-1]).flatten(2).all(2).int().argmax(0)
        assert set(quarters.tolist()) == {0, 1, 2, 3}
        torch.testing.assert_close(
            report[name], weight * cross_entropy(heads[0], quarters, reduction="none").detach()
        )
        rest = report["loss_d" if phase == "critic" else "loss_g"]
        torch.testing.assert_close(loss.detach(), (rest + report[name]).mean())


def test_rotations_are_learnt() -> None:
    t = training(Case(DCGAN(**{**SMALL, "width": 8}, rotation=1.0, lr_g=2e-3), DIGITS), batch=64)
    t.run_step()
    first = t.reports["rotation"].mean().item()
    assert first == pytest.approx(math.log(4), abs=0.1)
    for _ in range(60):
        t.run_step()
    assert t.reports["rotation"].mean() < 0.8 * first
