"""What makes StyleGAN3 that: its layers' bands, its input that moves and turns, its filters, its moving averages."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from gans.data.base import DataSpec, Field
from gans.draws import Draws
from gans.errors import ConfigError
from gans.families.stylegan3 import StyleGAN3
from gans.families.stylegan3.networks import Band, Discriminator, FourierInput, Layer, Synthesis, blurred
from gans.family import Networks
from gans.loop import train
from gans.metrics.equivariance import moving, turning
from gans.options import Train
from gans.sampling import own_figures
from gans.training import build
from tests.support.families import CASES, CPU, RING, loaded, training, with_fields
from tests.support.threads import one_thread as one_thread

SMALL: dict[str, Any] = {
    "latent_dim": 8,
    "style_dim": 8,
    "channel_base": 64,
    "channel_base_d": 64,
    "width_max": 4,
    "num_layers": 3,
    "margin": 8,
    "minibatch_stddev": 0,
}


def spec(size: int = 16) -> DataSpec:
    return DataSpec({"x": Field("image", (1, size, size))})


def made(family: StyleGAN3, size: int = 16) -> Networks:
    """Fresh networks, their magnitudes those of random latents, as after some training."""
    torch.manual_seed(0)
    nets = family.networks(spec(size))
    settle(family, nets)
    return nets


def settle(family: StyleGAN3, nets: Networks) -> None:
    with torch.no_grad():
        w = nets["generator"].mapping(torch.randn(16, family.latent_dim))
        for _ in range(family.num_layers + 1):
            nets["generator"].synthesis.follow(nets["generator"].synthesis.measured(w)[1].mean(0), 0.0)


def band(cutoff: float, rate: int, size: int, channels: int = 4) -> Band:
    return Band(cutoff, rate / 2 - cutoff, rate, size, channels)


# Sizes with margin and channels of the official networks for 1024 px (their layers' names: "L3_52_512").
OFFICIAL = {
    "t": [(36, 512), (36, 512), (52, 512), (52, 512), (84, 512), (148, 512), (148, 512), (276, 323), (276, 203),
          (532, 128), (1044, 81), (1044, 51), (1044, 32), (1024, 32), (1024, 3)],
    "r": [(36, 1024), (36, 1024), (52, 1024), (52, 1024), (84, 1024), (148, 1024), (148, 1024), (276, 645), (276, 406),
          (532, 256), (1044, 161), (1044, 102), (1044, 64), (1024, 64), (1024, 3)],
}  # fmt: skip


@pytest.mark.parametrize("variant", ["t", "r"])
def test_layers_have_the_sizes_and_channels_of_the_official_networks(variant: Any) -> None:
    bands = StyleGAN3(variant=variant).bands(1024, 3)
    assert [(b.size, b.channels) for b in bands] == OFFICIAL[variant]


def test_cutoffs_and_stopbands_grow_geometrically_up_to_the_critical_layers() -> None:
    family = StyleGAN3()
    bands = family.bands(256, 3)
    cutoffs = torch.tensor([b.cutoff for b in bands])
    ratios = cutoffs[1:] / cutoffs[:-1]
    torch.testing.assert_close(ratios, torch.tensor([(128 / 2) ** (1 / 12)] * 12 + [1.0] * 2))
    assert cutoffs[0] == 2
    assert cutoffs[-1] == 128
    for i, b in enumerate(bands):
        stopband = b.cutoff + b.half_width
        least = family.first_stopband * (128 * 2**0.3 / family.first_stopband) ** min(i / 12, 1)
        assert stopband == pytest.approx(max(least, b.rate / 2))
        assert (
            b.rate == 256 or b.rate >= 2 * least > b.rate / 2
        )  # the least power of two that holds the stopband


def test_the_input_is_of_frequencies_uniform_in_the_disc_of_its_band() -> None:
    torch.manual_seed(0)
    layer = FourierInput(band(3.0, 16, 16, channels=4000), style=2)
    share = layer.frequencies.square().sum(1) / 3.0**2  # uniform on [0, 1] for a uniform disc
    for quantile in (0.1, 0.5, 0.9):
        assert share.quantile(quantile).item() == pytest.approx(quantile, abs=0.03)
    assert share.max() <= 1


def features() -> tuple[FourierInput, Tensor]:
    torch.manual_seed(0)
    return FourierInput(band(2.0, 16, 20), style=8), torch.randn(3, 8)


def test_the_input_moves_as_it_is_told() -> None:
    layer, w = features()
    still, moved = layer(w), layer(w, moving(torch.tensor([2 / 16, -1 / 16])))  # two pixels right, one up
    torch.testing.assert_close(moved[:, :, :-1, 2:], still[:, :, 1:, :-2], rtol=0, atol=1e-4)


def test_the_input_turns_as_it_is_told() -> None:
    layer, w = features()
    turned = layer(w, turning(math.pi / 2))  # from x, right, to y, down
    torch.testing.assert_close(turned, layer(w).rot90(-1, (2, 3)), rtol=0, atol=1e-4)


def test_the_input_moves_and_turns_as_w_says_whatever_the_length_of_what_it_says() -> None:
    layer, w = features()
    assert layer(w).equal(layer(torch.randn(3, 8)))  # at first w says nothing
    still, angle, place = layer(w), 0.6, torch.tensor([0.1, -0.2])
    expected = layer(w, turning(angle) @ moving(place))
    with torch.no_grad():
        layer.motion.copy_(3 * torch.tensor([math.cos(angle), -math.sin(angle), *place.tolist()]))
        # scaled as a whole by the length of (cos, sin): the translation too
    torch.testing.assert_close(layer(w), expected, rtol=0, atol=1e-4)
    assert not torch.allclose(expected, still, atol=1e-2)


def test_frequencies_beyond_what_the_rate_holds_are_damped() -> None:
    layer, w = features()
    shrunk = torch.diag(
        torch.tensor([10.0, 10.0, 1.0])
    )  # a picture a tenth as large, of ten times the frequencies
    radius = 10 * layer.frequencies.norm(dim=1)
    left = (1 - (radius - 2) / 6).clamp(0, 1)
    with torch.no_grad():
        layer.weight.copy_(2 * torch.eye(4)[:, :, None, None])  # over sqrt(4 channels)
    assert (layer(w, shrunk).amax((0, 2, 3)) <= left + 1e-5).all()


def waves(given: Band, shift: float) -> Tensor:
    """Channels of waves below the cutoff of `given`, moved by `shift` pixels of its rate."""
    generator = torch.Generator().manual_seed(1)
    angle = 2 * math.pi * torch.rand(1, given.channels, 1, 1, generator=generator)
    phase = torch.rand(1, given.channels, 1, 1, generator=generator)
    place = (torch.arange(given.size) + 0.5 - given.size / 2 - shift) / given.rate
    x, y = angle.cos() * place, angle.sin() * place[:, None]
    return torch.sin(2 * math.pi * (0.9 * given.cutoff * (x + y) + phase))


@torch.no_grad()
def decibels(layer: nn.Module, given: Band, w: Tensor) -> float:
    """How well half a pixel before the layer is one pixel after it, away from the border."""
    still, moved = (layer(waves(given, shift), w) for shift in (0.0, 0.5))
    error = (moved[..., 9:-8, 9:-8] - still[..., 8:-9, 8:-9]).square().mean()
    return float(10 * torch.log10(still.square().mean() / error))


class Pointwise(nn.Module):
    """The layer before its nonlinearity, without aliases and as fine as its output; then LeakyReLU on that grid."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        finer: Tensor = self.layer.up(x)  # twice as fine as the output
        return leaky_relu(finer[..., 1::2, 1::2], 0.2)


def test_a_filtered_nonlinearity_is_far_less_aliased_than_a_pointwise_one() -> None:
    torch.manual_seed(0)
    given, made = band(6.0, 16, 26), band(7.0, 32, 52)
    layer, w = Layer(given, made, 8, 1), torch.randn(1, 8)
    filtered, pointwise = (decibels(net, given, w) for net in (layer, Pointwise(layer)))
    assert filtered > 40
    assert filtered > pointwise + 12


def test_a_layer_keeps_unit_power_whatever_its_inputs_power_once_its_magnitude_has_followed() -> None:
    """White noise in, of variance 100; with LeakyReLU's gain undone the convolution's output has variance 1."""
    torch.manual_seed(0)
    given = band(4.0, 16, 40, channels=64)
    layer = Layer(given, band(8.0, 16, 16, channels=64), 8, 3)
    with torch.no_grad():
        layer.magnitude.fill_(100.0)
    seen: list[Tensor] = []
    layer.up.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    layer(10 * torch.randn(8, 64, 40, 40), torch.randn(8, 8))
    assert seen[0][:, :, 4:-4, 4:-4].square().mean().item() == pytest.approx(1, rel=0.05)


def test_averages_follow_the_critics_generated_rows() -> None:
    case = with_fields(CASES["stylegan3"], magnitude_images=8, style_decay=0.75)
    t = training(case, batch=8)
    generator = t.nets["generator"]
    t.draws.restart(0)
    with torch.no_grad():
        w = generator.mapping(case.family.latents(t.draws))  # type: ignore[attr-defined]
        powers = generator.synthesis.measured(w)[1]
    t.run_step()
    torch.testing.assert_close(generator.mapping.average, 0.25 * w.mean(0))
    # 8 rows a step and a half-life of 8 images: half of 1, half of the batch's mean square
    magnitudes = torch.stack([layer.magnitude for layer in generator.synthesis.layers])
    torch.testing.assert_close(magnitudes, 0.5 + 0.5 * powers.mean(0))


def test_t_is_equivariant_to_translation_and_r_to_rotation_too() -> None:
    figures = {}
    for variant in ("t", "r"):
        family = StyleGAN3(variant=variant, **SMALL)
        figures[variant] = own_figures(family, made(family), seed=0)
    assert figures["t"].keys() == {"eq_t", "eq_t_frac", "eq_r"}
    assert min(figures[v]["eq_t"] for v in "tr") > 60
    assert min(figures[v]["eq_t_frac"] for v in "tr") > 40
    assert figures["r"]["eq_r"] > 40 > 28 > figures["t"]["eq_r"]


class Cropped(nn.Module):
    """The middle of a picture."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        spare = x.shape[-1] - self.size
        return x[..., spare // 2 : spare // 2 + self.size, spare // 2 : spare // 2 + self.size]


def test_it_is_far_more_equivariant_than_with_pointwise_nonlinearities() -> None:
    """All layers of 16 px have one rate: without their filters they are StyleGAN2's, and whole pixels are no test."""
    family = StyleGAN3(**SMALL)
    nets = made(family)
    filtered = own_figures(family, nets, seed=0)["eq_t_frac"]
    bands = family.bands(16, 1)
    for layer, made_band in zip(nets["generator"].synthesis.layers, bands, strict=True):
        layer.up, layer.down = Cropped(made_band.size), nn.Identity()
    settle(family, nets)
    assert filtered > own_figures(family, nets, seed=0)["eq_t_frac"] + 10


def test_without_a_margin_borders_tell_where_things_are() -> None:
    eq_t = []
    for margin in (0, 8):
        family = StyleGAN3(**{**SMALL, "margin": margin})
        eq_t.append(own_figures(family, made(family), seed=0)["eq_t"])
    assert eq_t[1] > eq_t[0] + 30


def test_r_has_pointwise_convolutions_and_radial_filters_but_for_critical_layers() -> None:
    synthesis = Synthesis(StyleGAN3(variant="r", **SMALL).bands(16, 1), 8, 2, "r")
    assert [layer.weight.shape[2] for layer in synthesis.layers] == [1] * 4
    assert [layer.down.filter.dim() for layer in synthesis.layers] == [2, 1, 1, 1]
    plain = Synthesis(StyleGAN3(**SMALL).bands(16, 1), 8, 2, "t")
    assert [layer.weight.shape[2] for layer in plain.layers] == [3] * 3 + [1]
    assert {layer.down.filter.dim() for layer in plain.layers} == {1}


def test_r_blurs_what_the_discriminator_sees_until_enough_images_were_made() -> None:
    t = training(with_fields(CASES["stylegan3-r"], blur=4.0, blur_images=32), batch=8)
    discriminator = t.nets["discriminator"]
    assert isinstance(discriminator, Discriminator)
    seen = []
    for _ in range(5):
        seen.append(discriminator.sigma.item())
        t.run_step()
    assert seen == [4, 3, 2, 1, 0]
    x = torch.randn(2, 1, 8, 8)
    sharp = discriminator(x)
    discriminator.sigma.fill_(3.0)
    assert not torch.allclose(discriminator(x), sharp)
    discriminator.blurs = False
    torch.testing.assert_close(discriminator(x), sharp)


def test_a_blur_is_a_gaussian_of_sigma_pixels_and_keeps_constants() -> None:
    point = torch.zeros(1, 1, 31, 31)
    point[..., 15, 15] = 1
    spread = blurred(point, torch.tensor(2.0))[0, 0]
    away = (torch.arange(31.0) - 15).square()
    assert spread.sum().item() == pytest.approx(1, abs=1e-4)
    assert (spread.sum(0) * away).sum().sqrt().item() == pytest.approx(2, rel=0.01)
    assert spread.equal(spread.T)
    constant = torch.full((1, 1, 8, 8), 0.3)
    torch.testing.assert_close(blurred(constant, torch.tensor(5.0)), constant)
    assert blurred(point, torch.tensor(0.0)).equal(point)


def test_t_does_not_blur() -> None:
    assert not StyleGAN3(**SMALL).networks(spec())["discriminator"].blurs


def test_the_penalty_is_lazy_and_nothing_of_stylegan2s_generator_is_left() -> None:
    critic, penalty, generator = StyleGAN3().phases()
    assert (penalty.every, penalty.double, generator.double) == (16, True, False)
    assert critic.optimiser.lr == pytest.approx(0.8 * 2.5e-3 * 16 / 17)
    assert critic.optimiser.betas == pytest.approx((0, 0.99 ** (16 / 17)))
    assert generator.optimiser.lr == pytest.approx(2.5e-3)
    t = training(CASES["stylegan3"])
    names = [name for name, _ in t.nets["generator"].named_parameters()]
    assert not [name for name in names if "noise" in name or "strength" in name or "constant" in name]


def test_truncation_leads_to_the_picture_of_the_mean_w() -> None:
    family = StyleGAN3(**SMALL)
    nets = made(family)
    with torch.no_grad():
        nets["generator"].mapping.follow(torch.randn(8), 0.0)
        inputs = Draws(0, 3, CPU)
        x = family.with_changes({"truncation": 0.0}).sample(nets, {}, inputs)["x"]
        mean = nets["generator"].synthesis(nets["generator"].mapping.average[None])
        torch.testing.assert_close(x, mean.expand(3, -1, -1, -1), rtol=1e-4, atol=1e-5)
        inputs.restart(0)
        whole = family.with_changes({"truncation": 1.0}).sample(nets, {}, inputs)["x"]
        inputs.restart(0)
        torch.testing.assert_close(whole, family.sample(nets, {}, inputs)["x"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "size", "told"),
    [
        (StyleGAN3(), 4, "must be larger than 4 px"),
        (StyleGAN3(), 24, "cannot be reached by doubling 4 px"),
        (StyleGAN3(num_layers=2), 16, r"gan\.num_critical = 2: fewer than gan\.num_layers = 2"),
        (
            StyleGAN3(first_stopband=1.5),
            16,
            r"gan\.first_stopband = 1\.5 must lie above gan\.first_cutoff = 2",
        ),
        (StyleGAN3(first_cutoff=4.0, first_stopband=5.0), 8, r"gan\.first_cutoff = 4: below 4"),
        (StyleGAN3(minibatch_stddev=1), 16, r"gan\.minibatch_stddev = 1"),
    ],
)
def test_what_cannot_be_is_refused(family: StyleGAN3, size: int, told: str) -> None:
    (problem,) = family.check(spec(size))
    with pytest.raises(AssertionError, match=told):
        raise AssertionError(problem)


def test_vectors_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"makes pictures \(C, H, W\)"):
        build(StyleGAN3(), loaded(RING), seed=0)


class Spread:
    """A score of samples."""

    num_samples = 8

    def __call__(self, x: Tensor, labels: Tensor | None = None) -> dict[str, float]:
        return {"spread": float(x.std())}


def test_equivariance_is_reported_beside_the_figures_of_samples() -> None:
    case = CASES["stylegan3"]
    options = Train(steps=1, batch=8, precision="fp32")
    *_, last = train(case.family, loaded(case.data), options, device=CPU, evaluate=Spread())
    assert last.evaluation is not None
    assert last.evaluation.keys() == {"spread", "eq_t", "eq_t_frac", "eq_r"}
    assert all(math.isfinite(value) for value in last.evaluation.values())
