"""pix2pix's own parts: the U-Net's skips, noise by dropout, judged pairs, the L1 loss, refused data."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gans.data.base import DataSpec, Field
from gans.draws import Draws
from gans.errors import ConfigError
from gans.families.pix2pix import Pix2Pix, UNet, jittered
from gans.family import Networks, Step
from gans.sync import Alone
from tests.support.families import CASES, CPU, DIGITS, DOMAINS, PAIRS, loaded, training, with_fields
from tests.support.threads import one_thread as one_thread

LOG2 = math.log(2)


class Shift(UNet):
    """a + amount, in the place of a U-Net without dropout."""

    def __init__(self, amount: float) -> None:
        super().__init__(1, 1, 8, 1, "none", dropout=0.0)
        self.amount = nn.Parameter(torch.tensor(amount))

    def forward(self, a: Tensor, z: Tensor | None = None) -> Tensor:
        return a + self.amount


class Product(nn.Module):
    """The mean of channel 0 times channel 1 as the only patch."""

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1] == 2
        return (x[:, :1] * x[:, 1:]).mean((2, 3), keepdim=True)


class Called(nn.Module):
    """A function as a network."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def step(a: float, b: float) -> Step:
    batch = {"a": torch.full((4, 1, 8, 8), a), "b": torch.full((4, 1, 8, 8), b)}
    return Step(batch, Draws(0, 4, CPU), Alone())


def shifting(amount: float) -> Networks:
    return {"generator": Shift(amount), "discriminator": Product()}


def spec(
    a: tuple[int, ...] = (1, 8, 8), b: tuple[int, ...] = (1, 8, 8), independent: bool = False
) -> DataSpec:
    return DataSpec({"a": Field("image", a), "b": Field("image", b, independent=independent)})


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_the_generators_loss_is_the_adversarial_one_and_a_hundred_times_l1() -> None:
    """a is 1, b is 0.5; G adds 1, and D is the product of what it sees: the pair (1, 2) gives 2."""
    loss, report = Pix2Pix().objective("generator", shifting(1.0), step(1.0, 0.5))
    assert report["loss_adversarial"].item() == pytest.approx(softplus(-2.0))
    assert report["l1"].item() == pytest.approx(1.5)
    assert loss.item() == pytest.approx(softplus(-2.0) + 100 * 1.5)
    lighter, _ = Pix2Pix(l1=1.0).objective("generator", shifting(1.0), step(1.0, 0.5))
    assert lighter.item() == pytest.approx(softplus(-2.0) + 1.5)


def test_the_discriminator_judges_pairs_and_its_loss_is_halved() -> None:
    """With a = 1 the real pair (1, 0.5) gives 0.5, the generated pair (1, 2) gives 2."""
    loss, report = Pix2Pix().objective("critic", shifting(1.0), step(1.0, 0.5))
    assert loss.item() == pytest.approx(0.5 * (softplus(-0.5) + softplus(2.0)))
    assert report["d_gap"].item() == pytest.approx(0.5 - 2.0)
    assert report["d_accuracy"].item() == pytest.approx(0.5)


def test_the_same_picture_is_judged_by_what_it_was_made_of() -> None:
    net = training(CASES["pix2pix"]).nets["discriminator"]
    a, b = (torch.rand(2, 3, 16, 16) * 2 - 1 for _ in range(2))
    assert not net(torch.cat([a, b], 1)).allclose(net(torch.cat([a.flip(0), b], 1)))


def test_layers_are_those_of_the_appendix() -> None:
    """C64-C128-C256-C512-C512-C512-C512-C512 down, CD512-CD512-CD512-C512-C256-C128-C64 up."""
    net = UNet(3, 3, 256, 64, "instance")
    down = [m.out_channels for m in net.modules() if isinstance(m, nn.Conv2d)]
    up = [m for m in net.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert down == [64, 128, 256, 512, 512, 512, 512, 512]
    assert [m.out_channels for m in up] == [512, 512, 512, 512, 256, 128, 64, 3]
    # but for the innermost, each takes in as much again by its skip
    assert [m.in_channels for m in up] == [512, *(2 * m.out_channels for m in up[:-1])]
    assert net.shapes == [(512, 2, 2), (512, 4, 4), (512, 8, 8)]
    patches = Pix2Pix(width=2).networks(spec((3, 256, 256), (3, 256, 256)))["discriminator"]
    layers = [m for m in patches.modules() if isinstance(m, nn.Conv2d)]
    assert [(m.out_channels, m.stride[0]) for m in layers] == [(64, 2), (128, 2), (256, 2), (512, 1), (1, 1)]
    reach = 1
    for layer in reversed(layers):
        reach = (reach - 1) * layer.stride[0] + layer.kernel_size[0]
    assert reach == 70  # px of a patch


@pytest.mark.parametrize("size", [8, 16, 32])
def test_the_u_net_keeps_the_size_and_reaches_one_pixel(size: int) -> None:
    net = UNet(3, 1, size, 2, "instance")
    seen = []
    net.down[-1].register_forward_hook(lambda _, args, out: seen.append(out.shape[2:]))
    made = net(torch.rand(2, 3, size, size), torch.rand(2, net.dropped))
    assert made.shape == (2, 1, size, size)
    assert made.abs().max() <= 1
    assert seen == [(1, 1)]


def test_every_skip_carries_its_part_of_the_picture() -> None:
    """With the way through the innermost pixel cut the picture depends on a, by skips of several sizes, and by nothing
    else."""
    net = UNet(1, 1, 16, 2, "none", dropout=0.0)
    a = torch.rand(1, 1, 16, 16, requires_grad=True)
    nn.init.normal_(net.leave.get_parameter("weight"))
    layers = [m for m in net.up.modules() if isinstance(m, nn.ConvTranspose2d)]
    with torch.no_grad():
        layers[0].weight.zero_()  # from the innermost pixel
    (cut,) = torch.autograd.grad(net(a).sum(), a)
    assert cut.abs().max() > 0
    with torch.no_grad():
        net.leave.get_parameter("weight")[
            2:
        ].zero_()  # from the first layer of the way down: the outermost skip
    (half,) = torch.autograd.grad(net(a).sum(), a)
    assert half.abs().max() > 0
    with torch.no_grad():
        for layer in layers[1:]:
            layer.weight[layer.in_channels // 2 :].zero_()
    (none,) = torch.autograd.grad(net(a).sum(), a)
    assert none.abs().max() == 0


def test_noise_is_dropout_drawn_row_by_row() -> None:
    net = UNet(1, 1, 8, 4, "none").eval()
    a = torch.rand(1, 1, 8, 8)
    z = torch.rand(1, net.dropped)
    assert net(a, z).equal(net(a, z))
    assert not net(a, z).equal(net(a, 1 - z))
    assert net(a, torch.ones(1, net.dropped)).allclose(_doubled(net, a))


def _doubled(net: UNet, a: Tensor) -> Tensor:
    """What the U-Net gives where nothing is dropped: each layer with dropout is scaled by 1 / (1 - 0.5)."""
    handles = [net.up[i].register_forward_hook(lambda _, args, out: 2 * out) for i in range(len(net.shapes))]
    try:
        return net(a)
    finally:
        for handle in handles:
            handle.remove()


def test_jitter_cuts_a_part_of_the_old_size_out_of_the_enlarged_picture() -> None:
    ramp = torch.arange(16.0).expand(64, 1, 16, 16)
    moved = jittered(torch.cat([ramp, ramp.mT], 1), Draws(0, 64, CPU), 0.25, mirror=False)
    assert moved.shape == (64, 2, 16, 16)
    assert -1e-4 < moved.min() < moved.max() < 15 + 1e-4
    inner = moved[:, 0, :, 3:13].diff(dim=-1)  # of a picture that is 20 px wide now, away from its border
    torch.testing.assert_close(inner, torch.full_like(inner, 16 / 20))
    lefts, tops = moved[:, 0, 0, 5].round(decimals=3), moved[:, 1, 5, 0].round(decimals=3)
    assert len(lefts.unique()) == len(tops.unique()) == 5  # places of 16 px in 20
    assert not lefts.equal(tops)


def test_half_of_the_pairs_are_mirrored() -> None:
    ramp = torch.arange(8.0).expand(400, 1, 8, 8)
    moved = jittered(ramp, Draws(0, 400, CPU), 0.0, mirror=True)
    turned = (moved[:, 0, 0].diff() < 0).all(-1)
    assert moved[turned].equal(ramp[turned].flip(3))
    assert moved[~turned].equal(ramp[~turned])
    assert 150 < turned.sum() < 250


def test_both_sides_of_a_pair_are_jittered_alike_for_both_players() -> None:
    family, a = Pix2Pix(jitter=0.5, mirror=True, dropout=0.0), torch.rand(4, 1, 8, 8)
    moves = Step({"a": a, "b": a}, Draws(0, 4, CPU), Alone())
    moves.keep = True
    seen = []

    def judged(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return x.mean((1, 2, 3), keepdim=True)

    critic = Called(judged)
    nets: Networks = {"generator": Shift(0.25), "discriminator": critic}
    family.objective("critic", nets, moves)
    _, report = family.objective("generator", nets, moves)
    real, made, again = seen
    assert real[:, :1].equal(real[:, 1:])
    assert not real[:, :1].equal(a)
    torch.testing.assert_close(made[:, 1:], real[:, 1:] + 0.25)
    assert again.equal(made)
    assert float(report["l1"]) == pytest.approx(0.25)


def test_half_of_the_activations_are_dropped_in_training_and_in_sampling() -> None:
    family = CASES["pix2pix"].family
    nets = training(CASES["pix2pix"]).nets
    a = loaded(PAIRS).fetch(torch.arange(4).numpy())["a"].float() / 127.5 - 1
    seen: list[Tensor] = []
    nets["generator"].get_submodule("up.1").register_forward_hook(lambda _, args, out: seen.append(args[0]))
    for net in nets.values():
        net.eval()
    first, second = (family.sample(nets, {"a": a}, Draws(seed, 4, CPU))["x"] for seed in (0, 1))
    assert not first.equal(second)
    dropped = (seen[0][:, :16] == 0).float().mean().item()
    # relu leaves about half, and of those dropout half
    assert 0.6 < dropped < 0.9


def test_without_dropout_a_picture_has_one_translation() -> None:
    case = with_fields(CASES["pix2pix"], dropout=0.0)
    nets = training(case).nets
    a = {"a": torch.rand(2, 3, 16, 16)}
    first, second = (case.family.sample(nets, a, Draws(seed, 2, CPU))["x"] for seed in (0, 1))
    assert first.equal(second)
    module, example = case.family.exported(nets, loaded(PAIRS).spec)
    assert list(example) == ["a"]
    assert module(*example.values()).shape == (2, 3, 16, 16)


def test_the_generator_steps_on_the_rows_that_were_judged() -> None:
    """The same dropout: its forward pass is kept."""
    t = training(CASES["pix2pix"])
    calls: list[int] = []
    t.nets["generator"].register_forward_hook(lambda *_: calls.append(1))
    t.run_step()
    assert len(calls) == 1


def test_l1_falls_in_training() -> None:
    t = training(with_fields(CASES["pix2pix"], lr_g=2e-3))
    seen = []
    for _ in range(40):
        t.run_step()
        seen.append(t.reports["l1"].item())
    assert sum(seen[-5:]) < 0.8 * sum(seen[:5])


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (loaded(DIGITS).spec, r"lacks a and b \(fields: x, label\): use data.kind=shape_pairs"),
        (DataSpec({"a": Field("image", (1, 8, 8))}), "lacks b"),
        (loaded(DOMAINS).spec, "pix2pix needs pairs, and in this data nothing pairs a with b"),
        (spec(independent=True), "needs pairs"),
        (spec((1, 8, 8), (1, 16, 16)), "one size"),
        (spec((2,), (1, 8, 8)), "one size"),
        (spec((1, 12, 12), (1, 12, 12)), "cannot be reached by doubling 4 px"),
        (spec((1, 4, 4), (1, 4, 4)), "larger than 4 px"),
        (spec((1, 8, 16), (1, 8, 16)), "must be square"),
    ],
)
def test_data_that_does_not_suit_is_refused(data: DataSpec, told: str) -> None:
    (problem,) = Pix2Pix().check(data)
    with pytest.raises(ConfigError, match=told):
        raise ConfigError(problem)


def test_pictures_stand_beside_what_they_were_made_of() -> None:
    inputs, samples = {"a": torch.zeros(2, 1, 8, 8)}, {"x": torch.ones(2, 3, 8, 8)}
    a, x = Pix2Pix().pictures(inputs, samples)
    assert a.shape == x.shape == (2, 3, 8, 8)
    assert x.equal(samples["x"])
