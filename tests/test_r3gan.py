"""What makes it R3GAN: pairs of logits, both zero-centred penalties, residual networks without norm, its schedules."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate, softplus

from gans.draws import Draws
from gans.families.r3gan import GAIN, R3GAN, Block, Discriminator, Generator
from gans.family import Step
from gans.schedule import Cosine, at
from gans.sync import Alone
from tests.support.families import CASES, CPU, loaded, training
from tests.support.threads import one_thread as one_thread

SMALL = R3GAN(width=8, latent_dim=8, blocks=2, group=4)


def networks() -> tuple[Generator, Discriminator]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        nets = SMALL.built(loaded(CASES["r3gan"].data).spec)
    generator, discriminator = nets["generator"], nets["discriminator"]
    assert isinstance(generator, Generator)
    assert isinstance(discriminator, Discriminator)
    with torch.no_grad():  # away from the start, where the residual branches are zero
        for p in (*generator.parameters(), *discriminator.parameters()):
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    return generator, discriminator


def test_the_critic_learns_pairs_and_both_penalties_and_the_generator_the_pairs_the_other_way_round() -> None:
    generator, discriminator = networks()
    nets = {"generator": generator, "discriminator": discriminator}
    x = loaded(CASES["r3gan"].data).fetch(torch.arange(6).numpy())["x"].float() / 127.5 - 1
    step = Step({"x": x}, Draws(0, 6, CPU), Alone())
    loss, _ = SMALL.objective("critic", nets, step)
    fake = generator(Draws(0, 6, CPU).normal(8)).detach().requires_grad_(True)
    real = x.clone().requires_grad_(True)
    real_logits, fake_logits = discriminator(real), discriminator(fake)
    (r1,) = torch.autograd.grad(real_logits.sum(), real, retain_graph=True)
    (r2,) = torch.autograd.grad(fake_logits.sum(), fake, retain_graph=True)
    gamma = at(SMALL.r1, 0.0)
    norms = [0.5 * gamma * g.square().flatten(1).sum(1).mean() for g in (r1, r2)]
    assert min(map(float, norms)) > 0
    expected = softplus(fake_logits - real_logits).mean() + sum(norms)
    assert loss.detach().allclose(expected.detach(), rtol=1e-4)
    step = Step({"x": x}, Draws(0, 6, CPU), Alone())
    loss, _ = SMALL.objective("generator", nets, step)
    assert loss.detach().allclose(softplus(real_logits - fake_logits).mean().detach(), rtol=1e-4)


def test_there_is_no_norm_anywhere_and_3x3_convolutions_are_grouped() -> None:
    for net in networks():
        kinds = {type(m).__name__ for m in net.modules()}
        assert not any("Norm" in kind for kind in kinds)
        assert not any("ConvTranspose" in kind for kind in kinds), "resampling is bilinear"
        mixing = [m for m in net.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
        assert mixing
        assert all(m.in_channels // m.groups == SMALL.group for m in mixing)


def test_a_block_starts_as_the_identity_and_is_an_inverted_bottleneck() -> None:
    block = Block(8, 2, 4)
    x = torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    assert block(x).equal(x)
    assert (block.enter.out_channels, block.leave.in_channels) == (16, 16)
    wide = Block(256, 2, 16)
    assert float(wide.enter.weight.detach().std()) == pytest.approx(GAIN / 256**0.5, rel=0.05)


def test_resampling_is_bilinear() -> None:
    generator, _ = networks()
    z = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    x = generator.stages[0](generator.scale(z)[:, :, None, None] * generator.basis)
    x = interpolate(generator.widen[0](x), scale_factor=2, mode="bilinear", align_corners=False)
    assert generator(z).allclose(generator.picture(generator.stages[1](x)), atol=1e-6)


def test_the_generator_looks_at_a_fresh_batch_and_nothing_is_lazy() -> None:
    critic, generator = R3GAN().phases()
    assert (critic.data, generator.data) == ("fresh", "fresh")
    assert (critic.every, generator.every) == (1, 1)
    assert critic.double
    t = training(CASES["r3gan"])
    t.run_step()
    assert t.loader.cursor == 2 * 8


def test_rate_second_moment_and_gamma_follow_the_papers_cosines() -> None:
    gan = R3GAN()
    assert [at(gan.lr_g, p) for p in (0.0, 1.0)] == pytest.approx([2e-4, 5e-5])
    assert [at(gan.betas[1], p) for p in (0.0, 1.0)] == pytest.approx([0.9, 0.99])
    assert at(gan.betas[0], 0.5) == 0.0
    for gamma in (gan.r1, gan.r2):
        assert isinstance(gamma, Cosine)
        assert [at(gamma, p) for p in (0.0, 0.5, 1.0)] == pytest.approx([0.05, 0.0275, 0.005])
