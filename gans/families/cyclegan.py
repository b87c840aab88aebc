"""CycleGAN (Zhu et al. 2017): unpaired translation between the data fields `a` and `b` by two generators and two
patch discriminators, a cycle loss |G_ba(G_ab(a)) - a| (weight 10) and an identity loss |G_ab(b) - b| (weight 5).

Section 4: least-squares loss, residual generators with instance norm and reflection padding, discriminators shown a
history of the last 50 generated pictures (Shrivastava et al. 2017), Adam(2e-4, 0.5). Here the discriminators step
first, on the very pictures the generators then learn from, so that one forward pass serves both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from gans.data.base import Batch, DataSpec
from gans.draws import Draws
from gans.family import Networks, Optimiser, Phase, Step, Terms
from gans.judged import Judged, Seen
from gans.losses import LOSSES, AdversarialLoss
from gans.networks import initialise
from gans.nn import normalisation
from gans.patches import SMALLEST, patch_discriminator
from gans.schedule import Schedule, scaled


class CycleGAN(Judged):
    """`width` channels at full resolution and `blocks` residual blocks a generator, `width_d` in a discriminator.

    `cycle` and `identity` weigh those losses against an adversarial loss of weight 1. `pool` is the number of past
    pictures a discriminator is shown (0: none). Every row of the global batch owns ceil(pool / batch) slots and
    swaps only with those, so that the pool is sharded like the batch: it behaves the same at every world size
    without communication, and a picture is replayed after as many pictures, on average, as from one common pool.
    """

    inputs: ClassVar[tuple[str, ...]] = ("a", "b")
    imitates: ClassVar[str] = "b"
    averaged: ClassVar[tuple[str, ...]] = ("g_ab", "g_ba")

    lr_g: Schedule = Field(2e-4, description="generators' learning rate (source: section 4)")
    lr_ratio: float = Field(1.0, gt=0, description="lr_d / lr_g (source: section 4)")
    betas: tuple[Schedule, Schedule] = Field((0.5, 0.999), description="Adam's betas (source: section 4)")
    cycle: float = Field(10.0, ge=0, description="weight lambda of the cycle loss (source: section 4)")
    identity: float = Field(
        5.0, ge=0, description="weight of the identity loss, lambda / 2 (source: section 5.2)"
    )
    pool: int = Field(50, ge=0, description="past pictures a discriminator is shown (source: section 4)")
    width: int = Field(64, ge=1, description="channels of a generator's first layer (source: appendix 7.2)")
    width_d: int = Field(
        64, ge=1, description="channels of a discriminator's first layer (source: appendix 7.2)"
    )
    blocks: int = Field(6, ge=1, description="residual blocks a generator (source: appendix 7.2, 128 px)")

    @property
    def seen(self) -> Mapping[str, tuple[str, ...]]:
        return {"d_a": ("a",), "d_b": ("b",)}

    @property
    def game(self) -> AdversarialLoss:
        return LOSSES["least_squares"]

    def check(self, spec: DataSpec) -> list[str]:
        if missing := [name for name in ("a", "b") if name not in spec.fields]:
            return [
                "cyclegan maps between two domains, the data fields a and b, and this data lacks "
                f"{' and '.join(missing)} (fields: {', '.join(spec.fields)}): use data.kind=domains, "
                "digit_domains or photo_domains"
            ]
        a, b = spec.fields["a"].shape, spec.fields["b"].shape
        if any(len(s) != 3 for s in (a, b)):
            return [f"cyclegan maps pictures (C, H, W); the fields a and b have shapes {a} and {b}"]
        problems = super().check(spec)
        if a[1:] != b[1:] or a[1] != a[2] or a[1] % 4 or a[1] < SMALLEST:
            problems.append(
                f"cyclegan needs square pictures of one size, a multiple of 4 from {SMALLEST} px up; "
                f"a is {a[1]} x {a[2]}, b is {b[1]} x {b[2]}: set data.a.size and data.b.size"
            )
        if self.identity and a[0] != b[0]:
            problems.append(
                f"the identity loss needs equal channels, a has {a[0]} and b has {b[0]}: set gan.identity=0"
            )
        return problems

    def networks(self, spec: DataSpec) -> Networks:
        (a, size, _), (b, _, _) = spec.fields["a"].shape, spec.fields["b"].shape
        return {
            "g_ab": residual_generator(a, b, size, self.width, self.blocks),
            "g_ba": residual_generator(b, a, size, self.width, self.blocks),
            "d_a": patch_discriminator(a, size, self.width_d),
            "d_b": patch_discriminator(b, size, self.width_d),
        }

    def phases(self) -> tuple[Phase, ...]:
        lr = self.lr_g
        return (
            Phase("critic", ("d_a", "d_b"), Optimiser(scaled(lr, self.lr_ratio), self.betas)),
            Phase("generator", ("g_ab", "g_ba"), Optimiser(lr, self.betas), data="same", reuses=True),
        )

    def memory(self, spec: DataSpec, rows: int) -> dict[str, Tensor]:
        noted, slots = super().memory(spec, rows), math.ceil(self.pool / rows)
        if not slots:
            return noted
        pools = {f"pool_{k}": torch.zeros(rows, slots, *spec.fields[k].shape) for k in ("a", "b")}
        return {**noted, **pools, "pooled": torch.zeros(rows, dtype=torch.int64)}

    def objective(self, phase: str, nets: Networks, step: Step) -> Terms:
        return {"critic": self._critic, "generator": self._generator}[phase](nets, step)

    def after(self, phase: str, nets: Networks, step: Step) -> None:
        if phase == "critic":
            self.follow(nets, step)

    def sample(self, nets: Networks, inputs: Batch, draws: Draws) -> Batch:
        x, back = nets["g_ab"](inputs["a"]), nets["g_ba"](inputs["b"])
        return {"x": x.float(), "back": back.float(), "cycled": nets["g_ba"](x).float()}

    def pictures(self, inputs: Batch, samples: Batch) -> list[Tensor]:
        """Per sample: a, its map to b, b, its map to a."""
        return [inputs["a"], samples["x"], inputs["b"], samples["back"]]

    def exported(self, nets: Networks, spec: DataSpec) -> tuple[nn.Module, Batch]:
        """The map from a to b."""
        a = Draws(seed=0, num=2, device=torch.device("cpu")).uniform(*spec.fields["a"].shape) * 2 - 1
        return nets["g_ab"], {"a": a}

    def _critic(self, nets: Networks, step: Step) -> Terms:
        a, b = step.batch["a"], step.batch["b"]
        fake_b = step.detached("fake_b", lambda: nets["g_ab"](a)).float()
        fake_a = step.detached("fake_a", lambda: nets["g_ba"](b)).float()
        fake_a, fake_b = self._pooled(step, fake_a, fake_b)
        sides_a = self._judged(nets, step, "d_a", a), self._judged(nets, step, "d_a", fake_a)
        sides_b = self._judged(nets, step, "d_b", b), self._judged(nets, step, "d_b", fake_b)
        (_, real_a), (_, false_a) = sides_a
        (_, real_b), (_, false_b) = sides_b
        discriminator = self.game.discriminator
        loss = (discriminator(real_a, false_a) + discriminator(real_b, false_b)).mean()
        added = self.regularised(nets, step, *sides_a, lambda x: nets["d_a"](x).float(), "d_a")
        added |= self.regularised(nets, step, *sides_b, lambda x: nets["d_b"](x).float(), "d_b")
        with torch.no_grad():
            real, false = torch.cat([real_a, real_b]), torch.cat([false_a, false_b])
            accuracy = 0.5 * ((real > 0.5).float().mean() + (false < 0.5).float().mean())
            gap = real.mean() - false.mean()
        report = {"loss_d": loss.detach(), "d_accuracy": accuracy, "d_gap": gap}
        report |= {name: term.detach() for name, term in added.items()} | self.probabilities(nets)
        return loss + sum(term.mean() for term in added.values()), report

    def _generator(self, nets: Networks, step: Step) -> Terms:
        a, b = step.batch["a"], step.batch["b"]
        fake_b = step.attached("fake_b", lambda: nets["g_ab"](a))
        fake_a = step.attached("fake_a", lambda: nets["g_ba"](b))
        # Section 4 weighs (D(G(x)) - 1)^2 by 1 against the other losses, LSGAN's equation by 1/2.
        fool = self.game.generator
        _, logits_a = self._judged(nets, step, "d_a", fake_a)
        _, logits_b = self._judged(nets, step, "d_b", fake_b)
        adversarial = 2 * (fool(logits_a, logits_a) + fool(logits_b, logits_b)).mean()
        cycle_a, cycle_b = l1_loss(nets["g_ba"](fake_b).float(), a), l1_loss(nets["g_ab"](fake_a).float(), b)
        cycle = cycle_a + cycle_b
        loss = adversarial + self.cycle * cycle
        report = {"loss_adversarial": adversarial.detach(), "cycle": 0.5 * cycle.detach()}
        if self.identity:
            identity = l1_loss(nets["g_ab"](b).float(), b) + l1_loss(nets["g_ba"](a).float(), a)
            loss = loss + self.identity * identity
            report["identity"] = 0.5 * identity.detach()
        return loss, {"loss_g": loss.detach(), **report}

    def _judged(self, nets: Networks, step: Step, critic: str, x: Tensor) -> Seen:
        """Pictures as `critic` is shown them, and its logits of their patches."""
        shown = self.shown(nets, x, step, critic)
        return shown, nets[critic](shown).float()

    def _pooled(self, step: Step, fake_a: Tensor, fake_b: Tensor) -> tuple[Tensor, Tensor]:
        """What the discriminators are shown: each new picture, or (once its row's slots are full, half the time)
        a past one whose slot it takes."""
        if not self.pool:
            return fake_a, fake_b
        filled, slots = step.memory["pooled"], step.memory["pool_a"].shape[1]
        full = filled == slots
        chosen = []
        for key, fake in (("pool_a", fake_a), ("pool_b", fake_b)):
            swap = full & (step.draws.uniform() < 0.5)
            slot = torch.where(full, step.draws.integers(slots), filled)
            chosen.append(exchange(step.memory[key], fake, slot, keep=~full | swap, swap=swap))
        filled.add_(~full)
        return chosen[0], chosen[1]


def exchange(pool: Tensor, fresh: Tensor, slot: Tensor, keep: Tensor, swap: Tensor) -> Tensor:
    """Write rows `keep` of `fresh` (N, ...) to `slot` (N,) of `pool` (N, S, ...) in place; return the old content
    for rows `swap`, the fresh rows for the others."""
    rows = torch.arange(len(pool), device=pool.device)
    old = pool[rows, slot]
    wide = (-1, *(1 for _ in fresh.shape[1:]))
    pool[rows, slot] = torch.where(keep.view(wide), fresh, old)
    return torch.where(swap.view(wide), old, fresh)


class Residual(nn.Module):
    """x + norm(conv(relu(norm(conv(x))))), 3x3, reflection padded."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*_convolved(width, width, 3), nn.ReLU(), *_convolved(width, width, 3))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def residual_generator(inputs: int, outputs: int, size: int, width: int, blocks: int) -> nn.Module:
    """(N, inputs, S, S) → (N, outputs, S, S) in [-1, 1] (appendix 7.2).

    From 32 px up two halvings and 7x7 convolutions at both ends as in the paper, below one halving and 3x3, whose
    reflection fits 8 px and whose reach is the same share of the picture.
    """
    halvings, kernel = (2, 7) if size >= 32 else (1, 3)
    widths = [width * 2**i for i in range(halvings + 1)]
    layers: list[nn.Module] = [*_convolved(inputs, width, kernel), nn.ReLU()]
    for a, b in pairwise(widths):
        layers += [nn.Conv2d(a, b, 3, 2, 1), normalisation("instance", b), nn.ReLU()]
    layers += [Residual(widths[-1]) for _ in range(blocks)]
    for a, b in pairwise(reversed(widths)):
        up = nn.ConvTranspose2d(a, b, 3, 2, 1, output_padding=1)
        layers += [up, normalisation("instance", b), nn.ReLU()]
    picture = nn.Conv2d(width, outputs, kernel, padding=kernel // 2, padding_mode="reflect")
    return initialise(nn.Sequential(*layers, picture, nn.Tanh()))


def _convolved(inputs: int, outputs: int, kernel: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, padding_mode="reflect")
    return [convolution, normalisation("instance", outputs)]
