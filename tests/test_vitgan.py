"""What makes ViTGAN: L2 attention, improved spectral norm, overlapping patches, self-modulation, implicit patches."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gans.data.base import DataSpec, Field
from gans.families.vitgan import (
    Discriminator,
    DistanceAttention,
    DotAttention,
    Generator,
    GeneratorBlock,
    Modulated,
    PatchFunction,
    SelfModulatedNorm,
    ViTGAN,
)
from gans.spectral import Spectral, iterate
from tests.support.families import CASES, training
from tests.support.threads import one_thread as one_thread

SMALL = ViTGAN(latent_dim=5, width=8, depth=2, heads=2, mapping_layers=2, patch=4, overlap=2)


def generator(config: ViTGAN = SMALL, side: int = 2) -> Generator:
    torch.manual_seed(0)
    return Generator(config, side, channels=3)


def discriminator(config: ViTGAN = SMALL, side: int = 2) -> Discriminator:
    torch.manual_seed(0)
    return Discriminator(config, side, channels=3)


def normalised(x: Tensor) -> Tensor:
    return (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()


def picture(*shape: int) -> DataSpec:
    return DataSpec({"x": Field("image" if len(shape) == 3 else "vector", shape)})


def test_the_defaults_are_the_papers_for_32_px() -> None:
    family = ViTGAN()
    critic, generator = family.phases()
    assert (generator.optimiser.lr, critic.optimiser.lr, generator.optimiser.betas) == (
        2e-3,
        2e-3,
        (0.0, 0.99),
    )
    assert (family.loss, family.r1, family.patch, family.overlap) == ("non_saturating", 0.1, 4, 2)
    assert (family.augment, family.consistency, family.consistency_fake) == ("diff", 10, 10)
    assert critic.double
    assert len(family.phases()) == 2  # R1 is not lazy


def test_there_is_neither_convolution_nor_pooling() -> None:
    for network in (generator(), discriminator()):
        assert not any(isinstance(m, nn.modules.conv._ConvNd) for m in network.modules())


def test_attention_weights_fall_with_the_squared_distance_of_tied_queries_and_keys() -> None:
    torch.manual_seed(0)
    attention, x = DistanceAttention(6, heads=2), torch.randn(2, 4, 6)
    weights = attention.weights(x)
    q = attention.query(x)
    for head, part in enumerate(q.split(3, 2)):
        energy = -torch.cdist(part, part).square() / math.sqrt(3)
        torch.testing.assert_close(weights[:, head], energy.exp() / energy.exp().sum(2, keepdim=True))
    torch.testing.assert_close(weights.sum(3), torch.ones(2, 2, 4))
    assert (weights.argmax(3) == torch.arange(4)).all()  # no token is nearer than itself


def test_each_head_of_distance_attention_mixes_its_own_values() -> None:
    torch.manual_seed(0)
    attention, x = DistanceAttention(6, heads=2), torch.randn(2, 4, 6)
    weights, values = attention.weights(x), attention.value(x).split(3, 2)
    mixed = torch.cat([weights[:, h] @ values[h] for h in (0, 1)], 2)
    torch.testing.assert_close(attention(x), attention.leave(mixed))


def test_the_generators_attention_is_that_of_dot_products() -> None:
    torch.manual_seed(0)
    attention, x = DotAttention(6, heads=2), torch.randn(2, 4, 6)
    q, k, v = (part.view(2, 4, 2, 3).transpose(1, 2) for part in attention.project(x).split(6, 2))
    expected = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(2, 4, 6)
    torch.testing.assert_close(attention(x), attention.leave(expected))


def test_every_matrix_of_the_discriminator_keeps_the_spectral_norm_it_began_with() -> None:
    d = discriminator()
    linears = [m for m in d.modules() if isinstance(m, nn.Linear)]
    assert len(linears) == 2 + 5 * SMALL.depth
    for layer in linears:
        assert any(isinstance(m, Spectral) for m in layer.modules())
        original = dict(layer.named_parameters())["parametrizations.weight.original"]
        torch.testing.assert_close(layer.weight, original)  # the identity at first
        begun = torch.linalg.matrix_norm(layer.weight.detach(), 2)
        with torch.no_grad():
            original.mul_(3).add_(torch.randn_like(original))
        for _ in range(300):
            iterate(layer)
        torch.testing.assert_close(
            torch.linalg.matrix_norm(layer.weight.detach(), 2), begun, rtol=1e-3, atol=0
        )
    assert not any(parametrize.is_parametrized(m) for m in generator().modules())


def test_a_critic_update_is_followed_by_a_power_iteration() -> None:
    t = training(CASES["vitgan"])
    before = {k: b.clone() for k, b in t.nets["discriminator"].named_buffers() if k.endswith(".u")}
    t.run_step()
    after = dict(t.nets["discriminator"].named_buffers())
    assert before
    assert any(not b.equal(after[k]) for k, b in before.items())


@pytest.mark.parametrize("overlap", [0, 1, 2])
def test_patches_reach_over_their_edges_and_keep_their_number(overlap: int) -> None:
    d = discriminator(SMALL.with_changes({"overlap": overlap}), side=3)
    x = torch.arange(1.0, 1 + 3 * 12 * 12).view(1, 3, 12, 12)
    patches = d.patches(x)
    side = 4 + 2 * overlap
    assert patches.shape == (1, 9, 3 * side**2)
    padded = nn.functional.pad(x, (overlap,) * 4)
    for i in range(9):
        top, left = 4 * (i // 3), 4 * (i % 3)
        assert patches[0, i].equal(padded[0, :, top : top + side, left : left + side].flatten())


def test_the_discriminator_knows_where_a_patch_is() -> None:
    d, x = discriminator(SMALL.with_changes({"overlap": 0})), torch.randn(2, 3, 8, 8)
    swapped = torch.cat([x[..., 4:], x[..., :4]], 3)  # the two columns of patches
    assert not torch.allclose(d(x), d(swapped), atol=1e-4)
    with torch.no_grad():
        d.places.zero_()
    torch.testing.assert_close(d(x), d(swapped))


def test_the_verdict_is_read_from_the_class_token() -> None:
    d, x = discriminator(), torch.randn(2, 3, 8, 8)
    seen: list[Tensor] = []
    d.blocks[-1].register_forward_hook(lambda _, inputs, out: seen.append(out))
    logits = d(x)
    assert seen[0].shape == (2, 1 + 4, 8)
    torch.testing.assert_close(logits, d.head(d.norm(seen[0][:, 0])).flatten())


def test_the_self_modulated_norm_scales_and_shifts_by_the_latent() -> None:
    torch.manual_seed(0)
    norm, h = SelfModulatedNorm(4), torch.randn(2, 3, 4)
    one, other = torch.randn(2, 4), torch.randn(2, 4)
    for w in (one, other):
        expected = norm.gamma(w)[:, None] * normalised(h) + norm.beta(w)[:, None]
        torch.testing.assert_close(norm(h, w), expected)
    assert not torch.allclose(norm.gamma(one), norm.gamma(other))
    assert not torch.allclose(norm.beta(one), norm.beta(other))
    assert norm.gamma(torch.zeros(1, 4)).eq(1).all()  # centred at one


def test_a_generator_block_is_residual_around_attention_and_perceptron() -> None:
    torch.manual_seed(0)
    block, h, w = GeneratorBlock(8, 2), torch.randn(2, 3, 8), torch.randn(2, 8)
    middle = h + block.attention(block.norm1(h, w))
    torch.testing.assert_close(block(h, w), middle + block.mlp(block.norm2(middle, w)))


def test_the_latent_enters_by_the_norms_alone() -> None:
    g = generator()
    seen: list[Tensor] = []
    g.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.extend(inputs))
    z = torch.randn(2, 5)
    x = g(z)
    assert seen[0].equal(g.places[None].expand(2, -1, -1))
    torch.testing.assert_close(seen[1], g.styles(z))
    assert not torch.allclose(x[0], x[1])


def test_demodulated_weights_have_length_one() -> None:
    torch.manual_seed(0)
    layer, y = Modulated(4, 6, 5, demodulate=True), torch.randn(3, 4)
    weights = layer(torch.eye(6)[None], y) - layer.bias  # (3, 6, 5): the columns are what each output weighs
    torch.testing.assert_close(weights.square().sum(1), torch.ones(3, 5))
    plain = Modulated(4, 6, 5, demodulate=False)
    expected = plain.weight.T[None] * plain.scale(y)[:, :, None]
    torch.testing.assert_close(plain(torch.eye(6)[None], y), expected)


def test_a_pixel_is_a_function_of_its_place_and_its_token() -> None:
    """Each pixel by itself, at its coordinates in [-1, 1]^2, gives what the patch has there."""
    torch.manual_seed(0)
    f, y = PatchFunction(6, 3, channels=2), torch.randn(2, 6)
    patch = f(y)
    assert patch.shape == (2, 9, 2)
    line = (-1.0, 0.0, 1.0)
    for i, place in enumerate((a, b) for a in line for b in line):
        encoded = torch.sin(f.fourier(torch.tensor([place])))
        alone = f.colour(torch.sin(f.hidden(encoded[None], y)), y)
        torch.testing.assert_close(patch[:, i], alone[:, 0])


def test_tokens_become_patches_in_reading_order() -> None:
    g = generator(side=3)
    numbered = torch.arange(18.0)[:, None, None] + torch.arange(16.0)[:, None] / 100  # token, pixel
    g.function.register_forward_hook(lambda _, inputs, out: numbered.expand_as(out))
    x = g(torch.randn(2, 5))
    assert x.shape == (2, 3, 12, 12)
    for row in range(2):
        for i in range(9):
            top, left = 4 * (i // 3), 4 * (i % 3)
            expected = row * 9 + i + torch.arange(16.0).view(4, 4) / 100
            torch.testing.assert_close(x[row, 1, top : top + 4, left : left + 4], expected)


@pytest.mark.parametrize(
    ("changes", "spec", "told"),
    [
        ({}, picture(2), "makes pictures"),
        ({}, picture(1, 16, 8), "must be square"),
        ({}, picture(1, 10, 10), "patches of gan.patch = 4"),
        ({}, picture(1, 4, 4), "a proper divisor"),
        ({"heads": 3}, picture(1, 16, 16), "gan.width = 8 must be a multiple of gan.heads = 3"),
    ],
)
def test_unsuitable_data_and_fields_are_told(changes: dict[str, int], spec: DataSpec, told: str) -> None:
    assert told in "; ".join(SMALL.with_changes(changes).check(spec))
