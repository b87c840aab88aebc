"""What makes StyleGAN2 that, each point against its definition; its layers are in tests/test_style.py."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gans.data.base import DataSpec, Field
from gans.draws import Draws
from gans.errors import ConfigError
from gans.families import stylegan2
from gans.families.stylegan2 import Generator, StyleGAN2, auto_r1, mixed, path_lengths
from gans.family import Phase, Step
from gans.filters import upsampled
from gans.sampling import draw
from gans.sync import Alone
from gans.training import build
from tests.support.families import CASES, CPU, DIGITS, RING, STYLE, loaded, training, with_fields
from tests.support.threads import one_thread as one_thread

CASE = CASES["stylegan2"]


def generator(**fields: object) -> Generator:
    """The generator of the smallest case, as it begins."""
    net = build(StyleGAN2(**(STYLE | fields)), loaded(DIGITS), seed=0)["generator"]
    assert isinstance(net, Generator)
    return net


def spec(*shape: int, **fields: Field) -> DataSpec:
    return DataSpec({"x": Field("image", shape), **fields})


def latents(num: int, seed: int = 0) -> Tensor:
    return torch.randn(num, STYLE["latent_dim"], generator=torch.Generator().manual_seed(seed))


def noise(net: Generator, num: int) -> list[Tensor]:
    return [torch.randn(num, 1, size, size) for size in net.synthesis.noise_sizes]


def phases(**fields: object) -> dict[str, Phase]:
    return {p.name: p for p in StyleGAN2(**fields).phases()}


def test_the_defaults_are_those_of_the_paper_at_1024_px() -> None:
    family = StyleGAN2()
    assert (family.loss, family.lr_g, family.betas) == ("non_saturating", 0.002, (0.0, 0.99))
    with torch.device("meta"):
        nets = family.networks(spec(3, 1024, 1024))
    net = nets["generator"]
    assert isinstance(net, Generator)
    assert net.synthesis.num_styles == 18
    assert [conv.weight.shape[0] for conv in net.synthesis.convs][::2] == [512] * 5 + [256, 128, 64, 32]
    # the figures that the authors' code prints
    assert sum(p.numel() for p in net.parameters()) == 30_370_060
    assert sum(p.numel() for p in nets["discriminator"].parameters()) == 29_012_513


def test_noise_begins_without_effect_and_is_learned_for_every_pixel() -> None:
    net = generator()
    styles = net.styles(latents(2), None, 1.0)
    assert all(conv.strength == 0 for conv in net.synthesis.convs)
    assert net.synthesis(styles, noise(net, 2)).equal(net.synthesis(styles))
    last = net.synthesis.convs[-1]
    one = [torch.zeros(2, 1, size, size) for size in net.synthesis.noise_sizes]
    one[-1][0, 0, 3, 5] = 1.0
    with torch.no_grad():
        last.strength.fill_(0.5)
    changed = (net.synthesis(styles, one) - net.synthesis(styles)).abs().amax(1).nonzero().tolist()
    assert changed == [[0, 3, 5]]


def test_the_picture_is_a_sum_over_resolutions() -> None:
    """Without a picture at 8 px, that at 4 px is left, upsampled."""
    net = generator()
    styles = net.styles(latents(3), None, 1.0)
    coarse: list[Tensor] = []
    net.synthesis.pictures[0].register_forward_hook(lambda _, __, out: coarse.append(out))
    with torch.no_grad():
        net.synthesis.pictures[1].weight.zero_()
    picture = net.synthesis(styles)
    torch.testing.assert_close(picture, upsampled(coarse[0], net.synthesis.kernel))


def test_lazy_phases_correct_learning_rate_and_betas_of_both_networks() -> None:
    found = phases(lr_g=1e-3, lr_ratio=2.0, betas=(0.5, 0.99))
    assert list(found) == ["critic", "penalty", "generator", "path"]
    assert (found["penalty"].every, found["path"].every) == (16, 4)
    for names, lr, c in ((("critic", "penalty"), 2e-3, 16 / 17), (("generator", "path"), 1e-3, 4 / 5)):
        for phase in (found[name] for name in names):
            assert phase.optimiser.lr == pytest.approx(lr * c)
            assert phase.optimiser.betas == pytest.approx((0.5**c, 0.99**c))
    assert found["path"].double
    assert not found["path"].reuses


def test_without_path_lengths_the_generators_optimiser_is_as_given() -> None:
    found = phases(lr_g=1e-3, path=0.0)
    assert "path" not in found
    assert found["generator"].optimiser.lr == 1e-3
    assert found["generator"].optimiser.betas == (0.0, 0.99)


def test_a_path_is_as_long_as_the_jacobian_says() -> None:
    """g(w) = A w with A known: J^T y = A^T y, for each layer its own A."""
    layers, style, side = 3, 4, 5
    a = torch.randn(layers, 2 * side * side, style, generator=torch.Generator().manual_seed(0))
    styles = torch.randn(6, layers, style, requires_grad=True)
    picture = torch.einsum("lps,nls->np", a, styles).view(6, 2, side, side)
    y = torch.randn(6, 2, side, side)
    jty = torch.einsum("lps,np->nls", a, y.flatten(1)) / side
    expected = jty.square().sum(2).mean(1).sqrt()
    torch.testing.assert_close(path_lengths(picture, styles, y), expected)


def test_path_lengths_deviate_from_their_running_mean() -> None:
    """On every second row; times weight and interval; the mean follows after the step by a hundredth."""
    family = StyleGAN2(**STYLE, path=3.0, path_every=4)
    nets, data = build(family, loaded(DIGITS), seed=0), loaded(DIGITS)
    net = nets["generator"]
    assert isinstance(net, Generator)
    net.path_mean.fill_(0.25)
    memory = family.memory(data.spec, 8)
    step = Step({"x": torch.zeros(8, 1, 8, 8)}, Draws(0, 8, CPU), Alone(), memory=memory)
    loss, report = family.objective("path", nets, step)
    lengths = report["path_length"]
    assert lengths.shape == (4,)
    assert loss.item() == pytest.approx(3 * 4 * (lengths - 0.25).square().mean().item(), rel=1e-5)
    assert memory["path_length"][::2].equal(lengths)
    family.after("path", nets, step)
    assert net.path_mean.item() == pytest.approx(0.99 * 0.25 + 0.01 * lengths.mean().item())


def test_a_groups_rows_stay_together_for_deviation_and_paths() -> None:
    assert StyleGAN2().unit == 4
    assert StyleGAN2(minibatch_stddev=0).unit == 2
    assert StyleGAN2(minibatch_stddev=3).unit == 6
    assert StyleGAN2(minibatch_stddev=0, path=0.0).unit == 1


def test_styles_are_those_of_another_latent_from_the_crossover_on() -> None:
    w, other = torch.zeros(3, 2), torch.ones(3, 2)
    styles = mixed(w, other, torch.tensor([1, 3, 4]), 4)
    assert styles[:, :, 0].tolist() == [[0, 1, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]]


def test_nine_pictures_in_ten_mix_styles_at_any_layer() -> None:
    rows = 2000
    family = StyleGAN2(**STYLE)
    nets = build(family, loaded(DIGITS), seed=0)
    step = Step({}, Draws(0, rows, CPU), Alone())
    styles = family._mixed(nets, step)
    same = (styles == styles[:, :1]).all(2)
    crossovers = same.sum(1).bincount(minlength=5)
    assert crossovers[4].item() / rows == pytest.approx(0.1, abs=0.02)
    for layer in (1, 2, 3):
        assert crossovers[layer].item() / rows == pytest.approx(0.3, abs=0.04)
    alone = StyleGAN2(**STYLE, style_mixing=0.0)._mixed(nets, step)
    assert alone.equal(alone[:, :1].expand(-1, 4, -1))


def test_the_mean_w_follows_the_batches_and_ends_at_the_expectation() -> None:
    family, data = StyleGAN2(**STYLE, style_decay=0.95), loaded(DIGITS)
    nets, draws = build(family, data, seed=0), Draws(0, 64, CPU)
    step = Step({}, draws, Alone(), memory=family.memory(data.spec, 64))
    net = nets["generator"]
    assert isinstance(net, Generator)
    for i in range(120):
        before = net.mapping.average.clone()
        draws.restart(i)
        with torch.no_grad():
            family.fake(nets, step)
        family.after("generator", nets, step)
        torch.testing.assert_close(net.mapping.average, 0.95 * before + 0.05 * step.memory["w"].mean(0))
    with torch.no_grad():
        expected, spread = net.mapping(latents(20_000)).mean(0), net.mapping(latents(20_000)).std(0)
    assert ((net.mapping.average - expected).abs() < 0.1 * spread).all()


def test_full_truncation_gives_the_mean_picture_and_none_the_networks_own() -> None:
    net = generator()
    net.mapping.follow(torch.arange(8.0), 0.0)
    nets = {"generator": net}
    shown = {}
    for psi in (0.0, 0.5, 1.0, None):
        family = StyleGAN2(**STYLE, truncation=psi, sampled_noise=False)
        shown[psi] = draw(family, nets, 3, seed=0, inputs={})["x"]
    mean = net.synthesis(net.mapping.average.expand(3, net.synthesis.num_styles, 8)).detach()
    torch.testing.assert_close(shown[0.0], mean)
    assert shown[1.0].equal(shown[None])  # type: ignore[index]
    assert len({x.numpy().tobytes() for x in shown.values()}) == 3


def test_samples_have_noise_unless_asked_not_to_and_exports_have_none() -> None:
    nets = {"generator": (net := generator())}
    with torch.no_grad():
        for conv in net.synthesis.convs:
            conv.strength.fill_(0.3)
    noisy, plain = (
        draw(StyleGAN2(**STYLE, sampled_noise=on), nets, 4, seed=0, inputs={})["x"] for on in (True, False)
    )
    assert not noisy.equal(plain)
    draws = Draws(0, 256, CPU)
    family = StyleGAN2(**STYLE)
    module, example = family.exported(nets, loaded(DIGITS).spec)
    assert list(example) == ["z"]
    torch.testing.assert_close(module(family.latents(draws)[:4]), plain)


def test_large_pictures_are_sampled_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    nets, family = {"generator": generator()}, StyleGAN2(**STYLE)
    whole = draw(family, nets, 5, seed=0, inputs={})["x"]
    monkeypatch.setattr(stylegan2, "PIXELS_AT_ONCE", 3 * 64)
    torch.testing.assert_close(draw(family, nets, 5, seed=0, inputs={})["x"], whole)


def test_labels_reach_both_networks() -> None:
    family = CASES["stylegan2-by-class"].family
    nets = build(family, loaded(DIGITS), seed=0)
    z, labels = latents(1).expand(2, -1), torch.tensor([3, 8])
    pictures = nets["generator"](z, labels)
    assert not pictures[0].equal(pictures[1])
    logits = nets["discriminator"](pictures[:1].expand(2, -1, -1, -1), labels)
    assert logits[0] != logits[1]


def test_adaptive_augmentation_is_an_option() -> None:
    t = training(
        with_fields(CASES["stylegan2-by-class"], augment="ada", ada_images=80, ada_target=-0.9), batch=8
    )
    for _ in range(6):
        t.run_step()
    assert all(torch.isfinite(p).all() for net in t.nets.values() for p in net.parameters())
    assert t.nets["augment"].p > 0  # type: ignore[operator]


def test_the_rule_for_r1_is_that_of_the_automatic_configuration() -> None:
    assert auto_r1(1024, 32) == pytest.approx(6.5536)
    assert auto_r1(256, 64) == pytest.approx(0.2048)


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (spec(3, 24, 24), "24 px cannot be reached by doubling 4 px"),
        (spec(3, 32, 16), "pictures must be square, these are 32 x 16"),
        (spec(3, 4, 4), "larger than 4 px"),
        (spec(3, 2048, 2048), "at most 1024 px, these have 2048"),
        (DataSpec({"x": Field("vector", (2,))}), r"makes pictures (C, H, W)"),
    ],
)
def test_pictures_that_do_not_suit_are_told(found: DataSpec, told: str) -> None:
    assert any(told in problem for problem in StyleGAN2().check(found))


def test_classes_are_asked_of_labelled_data_alone() -> None:
    with pytest.raises(ConfigError, match=r"needs labels for gan.by_class=true, and this data has none"):
        build(StyleGAN2(by_class=True), loaded(RING), seed=0)
    assert StyleGAN2(by_class=True).check(spec(1, 8, 8, label=Field("label", (), 10))) == []


def test_every_picture_size_from_8_to_1024_px_is_taken() -> None:
    for power in range(3, 11):
        assert StyleGAN2().check(spec(3, 2**power, 2**power)) == []
