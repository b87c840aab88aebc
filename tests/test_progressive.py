"""Progressive GAN's own parts: growth, fade-in, its layers, its schedule, and its batches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from gans.data.base import DataSpec, Field
from gans.data.digits import Digits
from gans.draws import Draws
from gans.ema import half_life_images
from gans.equalised import SQRT2, EqualisedConv2d, EqualisedLinear, PixelNorm
from gans.errors import ConfigError, DataError
from gans.families.progressive import WHOLE, Deviation, Discriminator, Generator, Progressive, faded, stage
from gans.family import Step
from gans.loop import Tick, train
from gans.options import Train
from gans.sync import Alone
from gans.training import State, Training, build
from tests.support.families import CPU, DIGITS, DOMAINS, RING, loaded
from tests.support.states import differences
from tests.support.threads import one_thread as one_thread

WIDTHS, LATENT = (8, 6, 4), 5  # 4, 8, 16 px
SMALL: dict[str, Any] = {"latent_dim": LATENT, "width": 4, "width_max": 8}


def spec(size: int, channels: int = 1) -> DataSpec:
    return DataSpec({"x": Field("image", (channels, size, size))})


def pair(widths: tuple[int, ...] = WIDTHS) -> tuple[Generator, Discriminator]:
    """Networks in eval mode, with biases that are not zero."""
    torch.manual_seed(0)
    nets = Generator(LATENT, widths, 2), Discriminator(widths, 2, group=4)
    with torch.no_grad():
        for net in nets:
            for name, p in net.eval().named_parameters():
                if name.endswith("bias"):
                    p.normal_()
    return nets


def smaller(network: nn.Module, like: nn.Module) -> nn.Module:
    """`like`, which has grown less, with the weights of `network`."""
    weights = network.state_dict()
    like.load_state_dict({name: weights[name] for name in like.state_dict()})
    return like


def doubled(x: Tensor) -> Tensor:
    return interpolate(x, scale_factor=2, mode="nearest")


def blocks(x: Tensor, size: int) -> Tensor:
    """x with each block of `size` px replaced by its average."""
    return interpolate(avg_pool2d(x, size), scale_factor=size, mode="nearest")


Z = torch.randn(4, LATENT, generator=torch.Generator().manual_seed(1))
X = torch.randn(4, 2, 16, 16, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def test_at_alpha_zero_the_generator_is_the_smaller_one_upsampled() -> None:
    generator, _ = pair()
    for level in (1, 2):
        small = smaller(generator, Generator(LATENT, WIDTHS[:level], 2))
        expected = small.at(Z, level - 1, 1.0)
        assert expected.shape[2] == 4 * 2 ** (level - 1)
        while expected.shape[2] < 16:
            expected = doubled(expected)
        torch.testing.assert_close(generator.at(Z, level, 0.0), expected)


@torch.no_grad()
def test_at_alpha_zero_the_critic_is_the_smaller_one_on_the_averaged_picture() -> None:
    _, critic = pair()
    for level in (1, 2):
        small = smaller(critic, Discriminator(WIDTHS[:level], 2, group=4))
        x = avg_pool2d(X, 2 ** (3 - level))
        torch.testing.assert_close(critic.at(X, level, 0.0), small.at(x, level - 1, 1.0))


@torch.no_grad()
def test_at_alpha_one_the_new_path_is_all_there_is() -> None:
    generator, critic = pair()
    h = generator.blocks[2](generator.blocks[1](generator.blocks[0](Z)))
    torch.testing.assert_close(generator.at(Z, 2, 1.0), generator.leave[2](h))
    h = critic.blocks[0](critic.blocks[1](critic.blocks[2](critic.enter[2](X))))
    torch.testing.assert_close(critic.at(X, 2, 1.0), h)


@torch.no_grad()
def test_in_between_both_paths_are_blended() -> None:
    generator, critic = pair()
    mixed = 0.75 * generator.at(Z, 2, 0.0) + 0.25 * generator.at(Z, 2, 1.0)
    torch.testing.assert_close(generator.at(Z, 2, 0.25), mixed)
    new = critic.blocks[2](critic.enter[2](X))
    h = 0.75 * critic.enter[1](avg_pool2d(X, 2)) + 0.25 * new
    torch.testing.assert_close(critic.at(X, 2, 0.25), critic.blocks[0](critic.blocks[1](h)))


def test_real_pictures_are_faded_like_generated_ones() -> None:
    """Of 8 px, at level 1: the picture itself, and by weight 1 - alpha its 2x2 averages."""
    x = X[:, :, :8, :8]
    coarse = doubled(avg_pool2d(x, 2))
    torch.testing.assert_close(faded(x, 1, 0.25), 0.25 * x + 0.75 * coarse)
    assert faded(x, 1, 1.0).equal(x)
    assert faded(x, 0, 1.0).equal(coarse)
    torch.testing.assert_close(faded(X, 1, 0.5), doubled(faded(avg_pool2d(X, 2), 1, 0.5)))


def test_the_critic_is_shown_faded_reals_and_pictures_of_the_present_resolution() -> None:
    family = Progressive(**SMALL, schedule=(1.0,), fade=1.0)
    nets = family.networks(spec(8))
    seen: list[Tensor] = []
    nets["discriminator"].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    x = X[:, :1, :8, :8].contiguous()
    for progress, stage_ in ((0.25, (0, 1.0)), (0.75, (1, 0.5))):
        seen.clear()
        family.objective("critic", nets, Step({"x": x}, Draws(0, 4, CPU), Alone(), progress=progress))
        torch.testing.assert_close(seen[0], faded(x, *stage_))
        assert seen[0].shape == seen[1].shape
        assert nets["generator"].stage == nets["discriminator"].stage == stage_


def test_what_has_not_grown_yet_has_no_gradient() -> None:
    for net, x in zip(pair(), (Z, X), strict=True):
        for growth, absent in ((0, {"1", "2"}), (WHOLE, {"2"}), (3 * WHOLE // 2, set())):
            net.zero_grad(set_to_none=True)
            net.grow(growth)
            net(x).square().sum().backward()
            without = {n.split(".")[1] for n, p in net.named_parameters() if p.grad is None}
            beside = {"0"} if growth >= WHOLE else set()  # the coarser entry or exit
            assert without == absent | beside


def test_samples_before_the_end_are_repeated_pixels_of_the_datas_size() -> None:
    family = Progressive(**SMALL)
    nets = build(family, loaded(Digits(size=16)), seed=0)
    for growth, block in ((0, 4), (WHOLE, 2), (2 * WHOLE, 1)):
        for net in nets.values():
            net.eval().grow(growth)
        with torch.no_grad():
            x = family.sample(nets, {}, Draws(0, 3, CPU))["x"]
        assert x.shape == (3, 1, 16, 16)
        torch.testing.assert_close(blocks(x, block), x)
        assert not torch.allclose(blocks(x, 2 * block), x)


def weighted(nets: tuple[nn.Module, ...]) -> Iterator[tuple[str, EqualisedConv2d | EqualisedLinear]]:
    for net in nets:
        for name, module in net.named_modules():
            assert type(module) not in (nn.Linear, nn.Conv2d)
            if isinstance(module, EqualisedConv2d | EqualisedLinear):
                yield name, module


def test_every_weight_is_standard_normal_and_scaled_by_hes_constant_in_use() -> None:
    nets = pair((64, 48, 32))
    linear = {f"leave.{k}" for k in range(3)} | {"blocks.0.6"}  # nothing rectifies what these make
    for name, layer in weighted(nets):
        assert layer.weight.std().item() == pytest.approx(1.0, abs=5 / math.sqrt(2 * layer.weight.numel()))
        he = 1.0 if name in linear else SQRT2
        assert layer.scale == pytest.approx(he / math.sqrt(layer.weight[0].numel()))


def test_pixel_norm_follows_every_convolution_of_the_generator_and_the_latent() -> None:
    generator, critic = pair()
    norms = [m for m in generator.modules() if isinstance(m, PixelNorm)]
    convolutions = [m for m in generator.blocks.modules() if isinstance(m, EqualisedConv2d)]
    assert len(norms) == len(convolutions) + 2  # the latent, and the layer that makes 4 px of it
    assert not any(isinstance(m, PixelNorm) for m in critic.modules())
    squares: list[Tensor] = []
    for norm in norms:
        norm.register_forward_hook(lambda _m, _i, out: squares.append(out.square().mean(1)))
    with torch.no_grad():
        x = generator.at(Z, 2, 1.0)
        torch.testing.assert_close(generator.at(7 * Z, 2, 1.0), x, rtol=1e-4, atol=1e-4)
    for square in squares:
        torch.testing.assert_close(square, torch.ones_like(square), rtol=1e-3, atol=1e-3)


def test_the_critic_sees_the_deviation_within_groups_of_consecutive_rows() -> None:
    x = torch.randn(6, 3, 4, 4)
    x[3:] = x[3]
    made = Deviation(3)(x)
    assert made[:, :3].equal(x)
    expected = x[:3].std(0, unbiased=False).mean()
    torch.testing.assert_close(made[:3, 3], expected.expand(3, 4, 4))
    assert made[3:, 3].max() < 1e-3
    assert Progressive().unit == 4
    assert Progressive(minibatch_stddev=0).unit == 1


def test_the_drift_term_is_the_square_of_the_critic_on_reals() -> None:
    real, fake = torch.tensor([1.0, -3.0]), torch.tensor([2.0, 5.0])
    assert Progressive(drift=0.1).critic_loss(real, fake).tolist() == pytest.approx([1 + 0.1, 8 + 0.9])
    family = Progressive()
    assert (family.loss, family.drift, family.gp, family.critic_steps) == ("wasserstein", 1e-3, 10.0, 1)
    assert (family.lr_g, family.lr_ratio, family.betas) == (1e-3, 1.0, (0.0, 0.99))


def test_the_schedule_is_the_papers_and_covers_all_resolutions_in_order() -> None:
    """Appendix A.1, 4 to 1024 px: 800k images at 4 px, then 800k of fading in and 800k of training by turns."""
    family = Progressive()
    parts = 1 + 2 * 8
    for part in range(parts):
        begin, middle = family.growth((part + 1e-6) / parts, 8), family.growth((part + 0.5) / parts, 8)
        fading, level = part % 2 == 1, (part + 1) // 2
        if fading:
            assert stage(begin) == pytest.approx((level, 0), abs=1e-4)
            assert stage(middle) == pytest.approx((level, 0.5), abs=1e-4)
        else:
            assert stage(begin) == stage(middle) == (level, 1.0)
    growths = [family.growth(i / 1000, 8) for i in range(1001)]
    assert growths == sorted(growths)
    assert growths[-1] == 8 * WHOLE


def test_weights_of_the_schedule_hold_by_resolution_and_the_last_for_all_beyond() -> None:
    family = Progressive(schedule=(3.0, 0.0, 1.0), fade=0.0)
    levels = [stage(family.growth(i / 10, 4))[0] for i in range(11)]  # 3, 0, 1, 1, 1 of 6
    assert levels == [0, 0, 0, 0, 0, 2, 2, 3, 3, 4, 4]


def test_the_batch_of_a_resolution_is_the_papers() -> None:
    family = Progressive(minibatch_stddev=0, fade=0.0)
    sizes = [family.rows((2 * level + 0.5) / 17, 16, spec(1024)) for level in range(9)]
    assert sizes == [16, 16, 16, 16, 16, 16, 14, 6, 3]
    grouped = [Progressive(fade=0.0).rows((2 * level + 0.5) / 17, 16, spec(1024)) for level in range(9)]
    assert grouped == [16, 16, 16, 16, 16, 16, 12, 4, 4]


SHRINKING = Progressive(**SMALL, minibatch_stddev=2, schedule=(1.0,), batches=(1.0, 0.5))


def ticks(resume: State | None = None) -> Iterator[Tick]:
    options = Train(batch=8, steps=8, log_every=1, evaluate_every=0, sample_every=0)
    return train(SHRINKING, loaded(DIGITS), options, device=CPU, resume=resume)


def test_images_and_data_are_counted_by_the_batch_really_used() -> None:
    seen = [(t.images, t.state()["position"]["cursor"]) for t in ticks()]
    assert [images for images, _ in seen] == [8, 16, 24, 32, 40, 44, 48, 52]
    assert all(cursor == images for images, cursor in seen)


def test_the_moving_average_follows_the_batch_really_used_and_copies_how_far_it_grew() -> None:
    t = Training(SHRINKING, loaded(DIGITS), Train(batch=8, steps=8), 0, CPU, Alone())
    average, weight = t.averages["generator"].network, t.nets["generator"].leave[1].weight
    expected, images = weight.detach().clone(), 0
    for rows in (8, 8, 8, 8, 8, 4, 4, 4):
        t.run_step()
        images += rows
        beta = 0.5 ** (rows / half_life_images(rows, images))
        expected.lerp_(weight.detach(), 1 - beta)
        assert average.growth == t.nets["generator"].growth
    torch.testing.assert_close(average.leave[1].weight, expected)
    assert average.stage == (1, 1.0)


def test_resuming_before_in_and_after_the_growth_is_never_having_stopped() -> None:
    *_, last = ticks()
    expected = last.state()
    del expected["position"]["seconds"]
    for at in (3, 4, 5, 6, 7):
        state = next(t.state() for t in ticks() if t.step == at)
        *_, last = ticks(state)
        found = last.state()
        del found["position"]["seconds"]
        assert differences(found, expected) == []


@pytest.mark.parametrize(
    ("family", "data", "told"),
    [
        (Progressive(), RING, "makes pictures"),
        (Progressive(augment="ada", batches=(1.0, 0.5)), Digits(size=16), r"augment=ada"),
    ],
)
def test_unsuitable_data_and_options_are_refused(family: Progressive, data: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        build(family, loaded(data), seed=0)


def test_data_without_the_field_x_is_refused() -> None:
    with pytest.raises(DataError, match="the field x, and the data has the fields a, b"):
        build(Progressive(), loaded(DOMAINS), seed=0)


def test_a_resolution_out_of_reach_is_refused_with_those_in_reach() -> None:
    (problem,) = Progressive().check(spec(24))
    assert "24 px cannot be reached by doubling 4 px; sizes: 8, 16, 32" in problem
    assert Progressive().check(spec(4)) == ["pictures must be larger than 4 px"]


@pytest.mark.parametrize("fields", [{"schedule": (1.0, 0.0)}, {"schedule": ()}, {"batches": (0.0,)}], ids=str)
def test_a_schedule_without_an_end_and_empty_batches_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Progressive(**fields)
