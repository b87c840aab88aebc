"""SRGAN's own parts: pixel shuffle, its losses and their weights, pre-training, the frozen features, refused data."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn.functional import interpolate

from gans.data.base import DataSpec, Field
from gans.data.digits import Digits
from gans.data.lowres import LowRes
from gans.draws import Draws
from gans.errors import ConfigError
from gans.export import export_onnx
from gans.families.srgan import SRGAN, Enlarger, Frozen, Residual, discriminator
from gans.family import Networks, Step
from gans.generator import Model
from gans.sync import Alone
from tests.support.families import CASES, CPU, DIGITS, Case, loaded, training, with_fields
from tests.support.threads import one_thread as one_thread

SMALL: dict[str, Any] = {"width": 4, "width_d": 4, "blocks": 1}


class Constant(nn.Module):
    """The same picture of one value for every row, or where `size` is 0 the same logit."""

    def __init__(self, value: float, size: int = 0) -> None:
        super().__init__()
        self.value, self.size = nn.Parameter(torch.tensor(value)), size

    def forward(self, x: Tensor) -> Tensor:
        shape = (len(x), x.shape[1], self.size, self.size) if self.size else (len(x),)
        return self.value.expand(shape)


class Halves(nn.Module):
    """Features that are half the picture."""

    def forward(self, x: Tensor) -> Tensor:
        return x / 2


def halves() -> nn.Module:
    """An extractor of one's own, with a weight that it would be wrong to train."""
    return nn.Sequential(Halves(), nn.BatchNorm2d(1), nn.Conv2d(1, 2, 1))


def no_network() -> str:
    return "features"


def spec(low: tuple[int, ...] = (1, 4, 4), x: tuple[int, ...] = (1, 8, 8)) -> DataSpec:
    return DataSpec({"low": Field("image", low), "x": Field("image", x)})


def step(value: float = 1.0) -> Step:
    """Four rows whose `x` has that value everywhere."""
    batch = {"low": torch.zeros(4, 1, 4, 4), "x": torch.full((4, 1, 8, 8), value)}
    return Step(batch, Draws(0, 4, CPU), Alone())


def constant(value: float, logit: float = 0.0, **others: nn.Module) -> Networks:
    return {"generator": Constant(value, size=8), "discriminator": Constant(logit), **others}


def test_a_doubling_shuffles_four_channels_into_each_square_of_pixels() -> None:
    """Channel 4 c + 2 i + j of a pixel becomes pixel (2 y + i, 2 x + j) of channel c (Shi et al. 2016, eq. 4)."""
    shuffles = [m for m in Enlarger(1, 1, 3, 0, "none").modules() if isinstance(m, nn.PixelShuffle)]
    assert len(shuffles) == 1
    wide = torch.arange(2 * 12 * 2 * 3.0).reshape(2, 12, 2, 3)
    shuffled = shuffles[0](wide)
    assert shuffled.shape == (2, 3, 4, 6)
    for y in range(4):
        for x in range(6):
            expected = wide[:, [4 * c + 2 * (y % 2) + x % 2 for c in range(3)], y // 2, x // 2]
            assert shuffled[:, :, y, x].equal(expected)


@pytest.mark.parametrize("factor", [2, 4])
def test_the_factor_follows_from_the_data(factor: Literal[2, 4]) -> None:
    data = LowRes(of=Digits(size=16), factor=factor)
    t = training(Case(SRGAN(**SMALL, pretrain=0), data))
    low = loaded(data).spec.fields["low"].shape
    assert low == (1, 16 // factor, 16 // factor)
    assert t.nets["generator"](torch.zeros(2, *low)).shape == (2, 1, 16, 16)
    t.run_step()
    assert all(torch.isfinite(v).all() for v in t.reports.values())


def test_the_generators_skips_carry_what_its_blocks_leave_out() -> None:
    """With the last weights of every branch at zero, the body passes on what entered it."""
    net = Enlarger(1, 1, 4, 2, "batch").eval()
    low = torch.randn(2, 1, 4, 4)
    before = net(low)
    lasts = [list(m.body.modules())[-1] for m in net.modules() if isinstance(m, Residual)]
    for norm in (*lasts, list(net.body.modules())[-1]):
        nn.init.zeros_(norm.get_parameter("weight"))
    assert not net(low).allclose(before)
    assert net(low).allclose(net.leave(net.enlarge(net.enter(low))))


def test_networks_are_those_of_figure_4() -> None:
    nets = SRGAN().networks(spec((3, 24, 24), (3, 96, 96)))
    kernels = [m for m in nets["generator"].modules() if isinstance(m, nn.Conv2d)]
    assert [(kernels[i].kernel_size, kernels[i].out_channels) for i in (0, -1)] == [((9, 9), 64), ((9, 9), 3)]
    # 16 blocks of two, one after them, one of 256 channels for each of two doublings
    assert [c.out_channels for c in kernels[1:-1]] == [64] * 33 + [256] * 2
    norms = [m for m in nets["generator"].modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert len(norms) == 33
    layers = [m for m in nets["discriminator"].modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    convolutions = [m for m in layers if isinstance(m, nn.Conv2d)]
    assert [(c.out_channels, c.stride[0]) for c in convolutions] == [
        *((64, 1), (64, 2), (128, 1), (128, 2), (256, 1), (256, 2), (512, 1), (512, 2))
    ]
    assert [m.out_features for m in layers if isinstance(m, nn.Linear)] == [1024, 1]
    assert next(m for m in layers if isinstance(m, nn.Linear)).in_features == 512 * 6 * 6


@pytest.mark.parametrize(("size", "strided"), [((4, 4), 1), ((8, 8), 2), ((16, 24), 3), ((64, 64), 4)])
def test_the_discriminator_fits_the_pictures(size: tuple[int, int], strided: int) -> None:
    net = discriminator(3, size, 4, "batch")
    assert net(torch.randn(2, 3, *size)).shape == (2,)
    assert sum(isinstance(m, nn.Conv2d) and m.stride == (2, 2) for m in net.modules()) == strided


def test_the_generators_loss_is_content_and_a_thousandth_of_the_adversarial_one() -> None:
    """G makes 0.5 where the truth is 1, and D's logit is 0."""
    loss, report = SRGAN().objective("generator", constant(0.5), step())
    assert report["content"].mean().item() == pytest.approx(0.25)
    log2 = torch.tensor(2.0).log().item()
    assert report["loss_adversarial"].mean().item() == pytest.approx(log2)
    assert loss.item() == pytest.approx(0.25 + 1e-3 * log2)
    # mean squared error 0.25 at a peak of 2
    assert report["psnr"].mean().item() == pytest.approx(10 * torch.tensor(16.0).log10().item(), abs=1e-4)
    weighted, _ = SRGAN(content_weight=3.0, adversarial=0.1).objective("generator", constant(0.5), step())
    assert weighted.item() == pytest.approx(3 * 0.25 + 0.1 * log2)


def test_the_content_loss_compares_features() -> None:
    family = SRGAN(content="tests.test_srgan:halves")
    _, report = family.objective("generator", constant(0.5, features=Frozen(Halves())), step())
    assert report["content"].mean().item() == pytest.approx(0.0625)


def test_pre_training_is_on_pixels_alone_whatever_the_content_loss() -> None:
    nets = constant(0.5)
    loss, report = SRGAN(content="random").objective("pretrain", nets, step())
    assert loss.item() == pytest.approx(0.25)
    (grad,) = torch.autograd.grad(loss, list(nets["generator"].parameters()))
    assert grad.item() == pytest.approx(-1.0)  # d (v - 1)^2 / dv at 0.5
    assert set(report) == {"loss_g", "psnr"}


def test_pre_training_leaves_the_discriminator_alone_until_it_ends() -> None:
    t = training(with_fields(CASES["srgan"], pretrain=2))
    for names in [{"pretrain"}, {"pretrain"}, {"critic", "generator"}]:
        before = [p.clone() for p in t.nets["discriminator"].parameters()]
        assert {p.name for p in t.phases if p.due(t.steps)} == names
        t.run_step()
        still = all(a.equal(b) for a, b in zip(before, t.nets["discriminator"].parameters(), strict=True))
        assert still == ("critic" not in names)
        assert ("loss_d" in t.reports) == ("critic" in names)


def test_pre_training_and_the_game_share_the_generators_optimiser() -> None:
    t = training(with_fields(CASES["srgan"], pretrain=2))
    assert len(t.optimisers) == 2
    assert [p.name for p in SRGAN(pretrain=0).phases()] == ["critic", "generator"]


@pytest.mark.parametrize("content", ["random", "tests.test_srgan:halves"])
def test_features_are_frozen_and_stay_in_eval_mode(content: str) -> None:
    t = training(with_fields(CASES["srgan-features"], pretrain=0, content=content))
    features = t.nets["features"]
    before = {k: v.clone() for k, v in features.state_dict().items()}
    for _ in range(2):
        t.run_step()
    assert before.keys() == features.state_dict().keys()
    assert all(v.equal(before[k]) for k, v in features.state_dict().items())
    assert not any(m.training for m in features.train().modules())
    assert not any(p.requires_grad for p in features.parameters())


def test_random_features_tell_pictures_apart_and_follow_the_seed() -> None:
    def features(seed: int) -> nn.Module:
        return training(with_fields(CASES["srgan-features"]), seed=seed).nets["features"]

    x = torch.rand(2, 1, 8, 8) * 2 - 1
    assert features(0)(x).equal(features(0)(x))
    assert not features(0)(x).allclose(features(1)(x))
    assert not features(0)(x)[0].allclose(features(0)(x)[1])


@pytest.mark.parametrize("option", [{"pac": 2}, {"minibatch_stddev": 4}, {"augment": "diff"}, {"r1": 1.0}])
def test_the_discriminators_options_are_to_be_had(option: dict[str, object]) -> None:
    t = training(with_fields(CASES["srgan"], pretrain=0, **option))
    t.run_step()
    assert all(torch.isfinite(v).all() for v in t.reports.values())
    content, adversarial = t.reports["content"].mean(), t.reports["loss_adversarial"].mean()
    assert t.reports["loss_g"].mean().item() == pytest.approx((content + 1e-3 * adversarial).item())


def test_a_sample_is_seen_beside_its_source_and_bicubic_interpolation() -> None:
    batch = {"low": torch.linspace(-1, 1, 16).view(1, 1, 4, 4)}
    family = SRGAN()
    samples = family.sample(constant(0.5), batch, Draws(0, 1, CPU))
    nearest, bicubic, made = family.pictures(batch, samples)
    assert nearest[0, 0, ::2, ::2].equal(batch["low"][0, 0])
    assert bicubic.shape == made.shape == (1, 1, 8, 8)
    assert made.eq(0.5).all()


def test_pre_training_raises_the_signal_to_noise_ratio() -> None:
    t = training(with_fields(CASES["srgan"], pretrain=200, lr_g=5e-3))
    seen = []
    for _ in range(60):
        t.run_step()
        seen.append(t.reports["psnr"].mean().item())
    assert sum(seen[-5:]) / 5 > sum(seen[:5]) / 5 + 2


@pytest.mark.parametrize("factor", [2, 4])
def test_with_a_skip_the_generator_begins_close_to_bicubic_interpolation(factor: int) -> None:
    low = torch.rand(2, 1, 4, 4) * 2 - 1
    size = 4 * factor
    smooth = interpolate(low, (size, size), mode="bicubic", align_corners=False)
    nets = SRGAN(**SMALL, skip="bicubic").networks(spec((1, 4, 4), (1, size, size)))
    assert (nets["generator"](low) - smooth).abs().max() < 0.2
    for parameter in nets["generator"].get_submodule("leave").parameters():
        nn.init.zeros_(parameter)
    assert nets["generator"](low).allclose(smooth, atol=1e-6)


def test_the_skip_survives_onnx(tmp_path: Path) -> None:
    family, data = SRGAN(**SMALL, skip="bicubic"), spec((1, 4, 4), (1, 16, 16))
    nets = {name: net.eval() for name, net in family.networks(data).items()}
    assert (export_onnx(Model(family, data, nets), tmp_path / "model.onnx") or 0.0) <= 1e-4


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (loaded(DIGITS).spec, r"lacks low \(fields: x, label\): use data.kind=lowres"),
        (spec((1, 8, 8), (1, 8, 8)), "low is 8 x 8, x is 8 x 8: set data.factor"),
        (spec((1, 4, 4), (1, 12, 12)), "enlarges by 2, 4, 8; low is 4 x 4, x is 12 x 12"),
        (spec((1, 4, 4), (1, 8, 16)), "low is 4 x 4, x is 8 x 16"),
        (spec((1, 1, 1), (1, 2, 2)), "x is 2 x 2: srgan needs pictures of at least 4 px"),
        (spec((1, 4, 4), (3, 8, 8)), "equal channels"),
        (spec((2,), (4,)), r"pictures \(C, H, W\)"),
    ],
)
def test_data_that_does_not_suit_is_refused(data: DataSpec, told: str) -> None:
    (problem,) = SRGAN().check(data)
    with pytest.raises(ConfigError, match=told):
        raise ConfigError(problem)


def test_an_extractor_that_is_not_there_is_told_before_anything_starts() -> None:
    (problem,) = SRGAN(content="tests.test_srgan:quarters").check(spec())
    assert "gan.content = 'tests.test_srgan:quarters' cannot be imported" in problem


def test_an_extractor_that_is_no_network_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"returned str, not a torch\.nn\.Module"):
        SRGAN(**SMALL, content="tests.test_srgan:no_network").networks(spec())


def test_an_unknown_content_loss_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValidationError, match=r"allowed are mse, random, or package\.module:function"):
        SRGAN(content="vgg")
