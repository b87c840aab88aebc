"""Options of any family, whatever its networks: what its discriminators are shown, and what regularises them.

A family says which data each of its discriminators sees (`seen`) and which loss is played (`game`), shows them rows by
`shown`, adds what `regularised` gives to their losses, and calls `follow` once they have stepped. All is row by row or
summed over ranks, so that every number of ranks and micro-batches computes the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from gans import augment, warp
from gans.augment import Part, Policy
from gans.data.base import DataSpec
from gans.draws import Draws
from gans.family import Family, Networks, Step
from gans.losses import AdversarialLoss

Seen = tuple[Tensor, Tensor]
"""Rows as a discriminator was shown them, and its logits: one a row, or a map of patches whose mean is the row's."""


class Judged(Family):
    """Options that any family with discriminators has, off by default."""

    augment: Literal["none", "ada", "diff"] = Field(
        "none", description="what D is shown: ADA (Karras et al. 2020b) or DiffAugment (Zhao et al. 2020)"
    )
    augment_p: float = Field(0.0, ge=0, le=1, description="a fixed probability for ada; 0: it adapts")
    ada_target: float = Field(0.6, description="E[sign D(real)] that p is led to (ADA, section 3.1)")
    ada_images: int = Field(500_000, ge=1, description="real rows in which p moves by 1 (ADA, section 3.1)")
    ada_every: int = Field(4, ge=1, description="steps from one move of p to the next (ADA, section 3.1)")
    ada_parts: tuple[Part, ...] = Field(
        ("blit", "geometry", "colour"), min_length=1, description="transformations of ada (ADA: bgc)"
    )
    diff_policy: tuple[Policy, ...] = Field(
        ("colour", "translation", "cutout"), min_length=1, description="transformations of diff"
    )
    lecam: float = Field(0.0, ge=0, description="weight of LeCam's regularisation, .3 (Tseng et al. 2021)")
    lecam_decay: float = Field(0.99, ge=0, lt=1, description="of its running means (Tseng et al. 2021)")
    lecam_start: int = Field(1000, ge=0, description="first step that it counts in (official code)")
    consistency: float = Field(
        0.0, ge=0, description="weight of (D(x) - D(T(x)))^2 on real rows, 10 (CR-GAN, Zhang et al. 2020)"
    )
    consistency_fake: float = Field(
        0.0, ge=0, description="the same on generated ones, 10 (bCR, Zhao et al. 2021)"
    )
    consistency_shift: float = Field(0.125, ge=0, lt=1, description="most that T moves, as a share of a side")
    consistency_flip: bool = Field(False, description="whether T also flips, which changes digits")

    @property
    def seen(self) -> Mapping[str, tuple[str, ...]]:
        """What each discriminator sees: a data field, or rows made like it; of several, pictures as channels of one."""
        return {"discriminator": ("x",)}

    @property
    def game(self) -> AdversarialLoss:
        """The adversarial loss that all discriminators have."""
        raise NotImplementedError

    @property
    def adaptive(self) -> bool:
        """Whether the probability of augmentation follows the discriminator."""
        return self.augment == "ada" and self.augment_p == 0

    def check(self, spec: DataSpec) -> list[str]:
        fields = {name for names in self.seen.values() for name in names if name in spec.fields}
        if any(spec.fields[name].kind != "image" for name in fields):
            options = {
                f"augment={self.augment}": self.augment != "none",
                "consistency": self.consistency > 0,
                "consistency_fake": self.consistency_fake > 0,
            }
            return [
                f"gan.{name} is for pictures, and this data has vectors" for name, on in options.items() if on
            ]
        return self._memory_problems(spec) if fields else []

    def built(self, spec: DataSpec) -> Networks:
        return self.networks(spec) | self.helpers(spec)

    def helpers(self, spec: DataSpec) -> Networks:
        """What these options add to the networks: modules without weights, for each discriminator its own."""
        nets: Networks = {}
        for critic, names in self.seen.items():
            channels = [spec.fields[name].shape[0] for name in names]
            if self.augment == "ada":
                nets[called("augment", critic)] = augment.Adaptive(self.ada_parts, self.augment_p, channels)
            elif self.augment == "diff":
                nets[called("augment", critic)] = augment.DiffAugment(self.diff_policy, channels)
        if self.lecam:
            nets |= {called("lecam", critic): LeCam() for critic in self.seen}
        return nets

    def memory(self, spec: DataSpec, rows: int) -> dict[str, Tensor]:
        """Of each row: sums of signs and how many (ADA); the last logits, real and generated, and 1 (LeCam)."""
        sizes = {"ada": 2 if self.adaptive else 0, "lecam": 3 if self.lecam else 0}
        return {
            called(name, critic): torch.zeros(rows, size)
            for name, size in sizes.items()
            if size
            for critic in self.seen
        }

    def shown(self, nets: Networks, x: Tensor, step: Step, critic: str = "discriminator") -> Tensor:
        """What the discriminator sees of rows `x` in training: augmented ones, as `augment` says."""
        return x if self.augment == "none" else nets[called("augment", critic)](x, step.draws)

    def regularised(
        self,
        nets: Networks,
        step: Step,
        real: Seen,
        fake: Seen,
        judge: Callable[[Tensor], Tensor],
        critic: str = "discriminator",
    ) -> dict[str, Tensor]:
        """What is added to the discriminator's loss, weighted, one value a row (or pack) each, by name.

        It also notes what p and LeCam's means go by. judge: the discriminator's logits of rows that it is shown.
        """
        scores = _scores(real[1]), _scores(fake[1])
        remember(step.memory, *scores, self.game.centre, critic)
        terms = {}
        if self.lecam and step.step >= self.lecam_start:
            means = nets[called("lecam", critic)]
            assert isinstance(means, LeCam)
            terms["lecam"] = self.lecam * means.penalty(*scores)
        weights = {"consistency": self.consistency, "consistency_fake": self.consistency_fake}
        for (name, weight), (x, _), score in zip(weights.items(), (real, fake), scores, strict=True):
            if weight:
                moved = transformed(x, step.draws, self.consistency_shift, self.consistency_flip)
                terms[name] = weight * (score - _scores(judge(moved))).square()
        return {called(name, critic): term for name, term in terms.items()}

    def probabilities(self, nets: Networks) -> dict[str, Tensor]:
        """The probability of augmentation for each discriminator, where it adapts, to be reported."""
        if not self.adaptive:
            return {}
        return {
            called("augment_p", critic): nets[called("augment", critic)].get_buffer("p").clone()
            for critic in self.seen
        }

    def follow(self, nets: Networks, step: Step) -> None:
        """Let what all ranks noted move the running state of ADA and LeCam."""
        for critic in self.seen:
            if self.adaptive and step.step % self.ada_every == self.ada_every - 1:
                noted = step.memory[called("ada", critic)]
                signs, seen = step.sync.total(noted.sum(0)).unbind()
                pipeline = nets[called("augment", critic)]
                assert isinstance(pipeline, augment.Adaptive)
                pipeline.follow(signs / seen, self.ada_target, seen / self.ada_images)
                noted.zero_()
            if self.lecam:
                real, fake, num = step.sync.total(step.memory[called("lecam", critic)].sum(0)).unbind()
                means = nets[called("lecam", critic)]
                assert isinstance(means, LeCam)
                decay = self.lecam_decay if step.step >= self.lecam_start else 0.0
                means.follow(real / num, fake / num, decay)

    def _memory_problems(self, spec: DataSpec) -> list[str]:
        """What remembers rows wants their number to stay."""
        options = {"augment=ada": self.adaptive, "lecam": self.lecam > 0}
        if not any(options.values()) or type(self).rows is Family.rows:
            return []
        if len({self.rows(i / 64, 2**16, spec) for i in range(65)}) == 1:
            return []
        name = type(self).__name__
        return [
            f"gan.{option} remembers the rows of a batch, and {name} changes their number here: leave it out"
            for option, on in options.items()
            if on
        ]


def called(name: str, critic: str) -> str:
    """What `name` of a discriminator is called: by itself, where `discriminator` is the only one."""
    return name if critic == "discriminator" else f"{name}_{critic}"


class LeCam(nn.Module):
    """Running means of the logits of real and of generated rows (Tseng et al. 2021, "Regularizing Generative
    Adversarial Networks under Limited Data")."""

    real: Tensor
    fake: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("real", torch.zeros(()))
        self.register_buffer("fake", torch.zeros(()))

    def penalty(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """(D(x) - a_F)^2 + (D(G(z)) - a_R)^2, one value a row (equation 6)."""
        return (real_logits - self.fake).square() + (fake_logits - self.real).square()

    @torch.no_grad()
    def follow(self, real: Tensor, fake: Tensor, decay: float) -> None:
        """Let the running means go on by the means of a batch."""
        self.real.lerp_(real, 1 - decay)
        self.fake.lerp_(fake, 1 - decay)


def remember(
    memory: dict[str, Tensor],
    real_logits: Tensor,
    fake_logits: Tensor,
    centre: float | None = 0.0,
    critic: str = "discriminator",
) -> None:
    """Note each row's logits, and whether D takes the real one for real, for `Judged.follow`.

    That is the sign of D(real) - centre or, for a loss that leaves a constant open, of D(real) - D(generated). Logits
    of packs are noted for each of their rows.
    """
    signs, last = memory.get(called("ada", critic)), memory.get(called("lecam", critic))
    real, fake = real_logits.detach(), fake_logits.detach()
    one = torch.ones_like(real)
    if signs is not None:
        right = (real - (fake if centre is None else centre)).sign()
        signs.add_(torch.stack([right, one], 1).repeat_interleave(len(signs) // len(real), 0))
    if last is not None:
        last.copy_(torch.stack([real, fake, one], 1).repeat_interleave(len(last) // len(real), 0))


def transformed(x: Tensor, draws: Draws, share: float, flip: bool) -> Tensor:
    """Pictures moved by whole pixels, up to `share` of a side, mirrored at the border; and half of them flipped.

    The semantics-preserving T of consistency regularisation (Zhang et al. 2020, section 3).
    """
    x = warp.shifted(x, *augment.jitter(draws, x.shape[2], x.shape[3], share), mirrored=True)
    return augment.half_mirrored(x, draws) if flip else x


def _scores(logits: Tensor) -> Tensor:
    """(N,) or (N, 1, s, s) → (N,): what D answers for a picture is the mean of its patches (Isola et al. 2017)."""
    return logits.flatten(1).mean(1) if logits.dim() > 1 else logits
