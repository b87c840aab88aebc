"""What style-based and growing generators share, against its definition: equalised layers, filters, modulation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, leaky_relu

from gans.equalised import EqualisedConv2d, EqualisedLinear, PixelNorm, scaled_leaky_relu
from gans.filters import BINOMIAL, downsampled, taps, upfirdn2d, upsampled
from gans.style import (
    Epilogue,
    MappingNetwork,
    ResidualBlock,
    ResidualDiscriminator,
    channels_at,
    demodulation,
    modulated_conv2d,
)
from tests.support.threads import one_thread as one_thread

FILTERS = {"separable": taps(BINOMIAL), "plane": torch.outer(taps(BINOMIAL), taps(BINOMIAL))}


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_equalised_weights_are_standard_normal_and_scaled_when_used() -> None:
    torch.manual_seed(0)
    linear, conv = EqualisedLinear(400, 100, gain=2.0), EqualisedConv2d(40, 100, 3)
    for layer in (linear, conv):
        assert layer.weight.std().item() == pytest.approx(1, abs=0.02)
    x = seeded(5, 400)
    torch.testing.assert_close(linear(x), x @ (linear.weight * 2 / math.sqrt(400)).T)
    picture = seeded(2, 40, 6, 6)
    torch.testing.assert_close(
        conv(picture), conv2d(picture, conv.weight / math.sqrt(40 * 9), padding=1), rtol=1e-4, atol=1e-5
    )


def test_an_equalised_layer_keeps_the_variance_through_its_nonlinearity() -> None:
    torch.manual_seed(0)
    out = scaled_leaky_relu(EqualisedLinear(512, 512)(seeded(512, 512)))
    assert out.square().mean().item() == pytest.approx(1, rel=0.1)
    torch.testing.assert_close(scaled_leaky_relu(out), math.sqrt(2) * leaky_relu(out, 0.2))


def test_the_learning_rate_multiplier_slows_learning_and_leaves_the_function() -> None:
    """One step of Adam moves each stored weight by lr whatever its gradient, so the used one by lr * m * scale."""
    used = []
    for m in (1.0, 0.01):
        torch.manual_seed(0)
        layer = EqualisedLinear(50, 30, bias_init=1.0, lr_multiplier=m)
        optimiser = torch.optim.Adam(layer.parameters(), lr=1e-3)
        x = seeded(8, 50)
        before = layer(x).detach()
        used.append(before)
        layer(x).square().sum().backward()
        weight = layer.weight.detach() * layer.scale
        optimiser.step()
        moved = (layer.weight.detach() * layer.scale - weight).abs()
        assert moved.mean().item() == pytest.approx(1e-3 * m / math.sqrt(50), rel=1e-2)
    torch.testing.assert_close(used[0], used[1])


def test_pixel_norm_gives_every_pixel_unit_mean_square() -> None:
    x = 7 * seeded(3, 5, 4, 4)
    torch.testing.assert_close(PixelNorm()(x).square().mean(1), torch.ones(3, 4, 4))


@pytest.mark.parametrize("name", FILTERS)
def test_resampling_keeps_constants_away_from_the_border(name: str) -> None:
    x, filter = torch.full((2, 3, 8, 8), 2.5), FILTERS[name]
    up, down = upsampled(x, filter), downsampled(x, filter)
    assert up.shape == (2, 3, 16, 16)
    assert down.shape == (2, 3, 4, 4)
    torch.testing.assert_close(up[..., 2:-2, 2:-2], torch.full((2, 3, 12, 12), 2.5))
    torch.testing.assert_close(down[..., 1:-1, 1:-1], torch.full((2, 3, 2, 2), 2.5))


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize(
    ("up", "down", "padding"), [(1, 1, (2, 1)), (2, 1, (2, 1)), (1, 2, (1, 1)), (3, 2, (0, -2))]
)
def test_upfirdn_is_zero_insertion_padding_convolution_and_decimation(
    name: str, up: int, down: int, padding: tuple[int, int]
) -> None:
    """By the definition, tap by tap, with a filter that has no symmetry."""
    one = taps([1.0, 2.0, 3.0, 4.0])
    filter = one if name == "separable" else torch.outer(one, one)
    x = seeded(1, 1, 5, 5)
    wide = torch.zeros(5 * up, 5 * up)
    wide[::up, ::up] = x[0, 0]
    before, after = padding
    padded = torch.zeros(5 * up + before + max(after, 0), 5 * up + before + max(after, 0))
    padded[before : before + 5 * up, before : before + 5 * up] = wide
    if after < 0:
        padded = padded[:after, :after]
    side = len(padded) - 3
    expected = torch.zeros(side, side)
    for i in range(side):
        for j in range(side):
            for a in range(4):
                for b in range(4):
                    expected[i, j] += one[a] * one[b] * padded[i + 3 - a, j + 3 - b]
    got = upfirdn2d(x, filter, up, down, padding, gain=2.0)
    torch.testing.assert_close(got[0, 0], 2 * expected[::down, ::down])


def test_upsampling_interpolates_between_pixels() -> None:
    """[1, 3, 3, 1] puts new pixels a quarter of the way between old ones: 3/4 of the nearer, 1/4 of the other."""
    x = torch.arange(4.0).expand(1, 1, 4, 4)
    got = upsampled(x, FILTERS["plane"])[0, 0, 4]
    torch.testing.assert_close(got[1:-1], torch.tensor([0.25, 0.75, 1.25, 1.75, 2.25, 2.75]))


def test_demodulated_weights_have_unit_norm() -> None:
    weight, style = seeded(6, 4, 3, 3), seeded(5, 4, seed=1)
    factor = demodulation(weight, style)
    used = weight[None] * style[:, None, :, None, None] * factor[:, :, None, None, None]
    torch.testing.assert_close(used.square().sum((2, 3, 4)), torch.ones(5, 6))


@pytest.mark.parametrize("demodulate", [True, False])
def test_modulated_convolution_convolves_each_row_with_its_own_weights(demodulate: bool) -> None:
    """Equation 1 of StyleGAN2, then equation 3, with weights made for each row."""
    x, weight, style = seeded(5, 4, 6, 6), seeded(7, 4, 3, 3, seed=1), seeded(5, 4, seed=2)
    rows = []
    for row, s in zip(x, style, strict=True):
        own = weight * s[None, :, None, None]
        if demodulate:
            own = own / own.square().sum((1, 2, 3), keepdim=True).sqrt()
        rows.append(conv2d(row[None], own, padding=1))
    torch.testing.assert_close(
        modulated_conv2d(x, weight, style, demodulate), torch.cat(rows), rtol=1e-4, atol=1e-4
    )


def test_modulation_equals_scaling_input_channels() -> None:
    x, weight, style = seeded(2, 4, 6, 6), seeded(7, 4, 3, 3, seed=1), seeded(2, 4, seed=2)
    scaled = conv2d(x * style[:, :, None, None], weight, padding=1)
    torch.testing.assert_close(modulated_conv2d(x, weight, style, demodulate=False), scaled)


def test_the_doubling_convolution_is_zero_insertion_convolution_and_filter() -> None:
    """In the middle, where no border is felt: the order of the two convolutions does not matter there."""
    x, weight, style = seeded(2, 4, 8, 8), seeded(7, 4, 3, 3, seed=1), seeded(2, 4, seed=2)
    filter = FILTERS["plane"]
    got = modulated_conv2d(x, weight, style, demodulate=False, up=True, filter=filter)
    assert got.shape == (2, 7, 16, 16)
    finer = upsampled(x * style[:, :, None, None], filter)
    expected = conv2d(finer, weight.flip(2, 3), padding=1)
    torch.testing.assert_close(got[..., 4:-4, 4:-4], expected[..., 4:-4, 4:-4], rtol=1e-3, atol=1e-4)


def test_the_mapping_network_normalises_z_and_shifts_nothing_by_its_scale() -> None:
    torch.manual_seed(0)
    mapping = MappingNetwork(8, 6, 2)
    z = seeded(4, 8)
    torch.testing.assert_close(mapping(z), mapping(3 * z))
    assert [layer.lr_multiplier for layer in mapping.layers] == [0.01, 0.01]  # type: ignore[misc]


def test_the_mapping_network_follows_the_mean_w_and_truncates_towards_it() -> None:
    mapping = MappingNetwork(8, 6, 2)
    mean = torch.arange(6.0)
    for _ in range(300):
        mapping.follow(mean, 0.9)
    torch.testing.assert_close(mapping.average, mean)
    w = seeded(3, 6)
    torch.testing.assert_close(mapping.truncated(w, 0.0), mean.expand(3, 6))
    torch.testing.assert_close(mapping.truncated(w, 1.0), w)
    torch.testing.assert_close(mapping.truncated(w, 0.7), mean + 0.7 * (w - mean))


def test_labels_reach_w() -> None:
    mapping = MappingNetwork(8, 6, 2, num_classes=3)
    w = mapping(seeded(1, 8).expand(3, 8), torch.arange(3))
    assert len({tuple(row.tolist()) for row in w}) == 3


def test_a_residual_block_halves_and_divides_by_the_root_of_two() -> None:
    """With its branch set to zero, what is left is the skip: filtered, halved, convolved, over sqrt(2)."""
    block = ResidualBlock(3, 5)
    with torch.no_grad():
        block.second.weight.zero_()
    x = seeded(2, 3, 8, 8)
    skip = conv2d(downsampled(x, FILTERS["plane"]), block.skip.weight / math.sqrt(3))
    torch.testing.assert_close(block(x), skip / math.sqrt(2))


def test_residual_blocks_keep_the_variance() -> None:
    torch.manual_seed(0)
    block = ResidualBlock(64, 64)
    x = seeded(8, 64, 1, 1).expand(8, 64, 16, 16)  # constant over pixels, which the filter keeps
    inner = block(x)[..., 2:-2, 2:-2]
    assert inner.square().mean().item() == pytest.approx(1, rel=0.25)


def test_the_discriminator_sees_the_deviation_within_groups_alone() -> None:
    torch.manual_seed(0)
    head = Epilogue(6, group=2)
    x = seeded(4, 6, 4, 4)
    changed = x.clone()
    changed[0] += 1
    same = head(x)[:, 0] == head(changed)[:, 0]
    assert same.tolist() == [False, False, True, True]
    assert head.mix.weight.shape[1] == 7


def test_the_deviation_joins_as_a_constant_plane() -> None:
    torch.manual_seed(0)
    head = Epilogue(6, group=2)
    x = seeded(4, 6, 4, 4)
    std = torch.stack([(pair - pair.mean(0)).square().mean(0).sqrt().mean() for pair in x.split(2)])
    plane = std.repeat_interleave(2).view(4, 1, 1, 1).expand(4, 1, 4, 4)
    seen: list[Tensor] = []
    head.mix.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    head(x)
    torch.testing.assert_close(seen[0], torch.cat([x, plane], 1))


def test_a_label_projects_the_discriminators_features() -> None:
    torch.manual_seed(0)
    critic = ResidualDiscriminator(1, [4, 8], group=0, num_classes=3, style=6, mapping_depth=2)
    x, label = seeded(3, 1, 8, 8), torch.tensor([0, 1, 2])
    features: list[Tensor] = []
    critic.head.register_forward_hook(lambda _, __, out: features.append(out))
    logits = critic(x, label)
    assert critic.mapping is not None
    expected = (features[0] * critic.mapping(None, label)).sum(1) / math.sqrt(6)
    torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize(("size", "channels"), [(4, 512), (64, 512), (128, 256), (1024, 32)])
def test_channels_follow_the_papers_rule(size: int, channels: int) -> None:
    assert channels_at(size, base=32768, most=512) == channels
