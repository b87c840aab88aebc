"""Techniques against collapse and overfitting that any game of two players can turn on, as functions and small modules.

gans/adversarial.py holds their fields and says when they are called. All is row by row, or over groups of `unit` rows,
or summed over ranks, so that every number of ranks and micro-batches computes the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from gans import augment, warp
from gans.critics import TURNS, Equipped, feature_size, watched
from gans.data.base import DataSpec, Field
from gans.draws import Draws
from gans.family import Family, Networks, Step
from gans.sync import Sync

if TYPE_CHECKING:
    from gans.adversarial import Adversarial

Seen = tuple[Tensor, Tensor]
"""Rows as the discriminator was shown them, and its logits."""


def problems(family: Adversarial, spec: DataSpec) -> list[str]:
    """Every option that cannot be had with this data or with another option, one line each."""
    name, found = type(family).__name__, []
    if family.pac > 1 and family.conditional:
        found.append(f"gan.pac = {family.pac}: {name} judges each row with its label, so it takes 1 alone")
    if family.pac > 1 and family.rotation:
        found.append(
            f"gan.pac = {family.pac} with gan.rotation: a pack has no one rotation; leave one of them out"
        )
    if family.minibatch_stddev == 1:
        found.append("gan.minibatch_stddev = 1: a group has 2 rows or more, and 0 means none")
    if family.truncation is not None and family.latent == "uniform":
        found.append("gan.truncation cuts off normal latents: set gan.latent=normal, or leave it out")
    return found + (
        [] if "x" not in spec.fields else _picture_problems(family, spec) or _memory_problems(family, spec)
    )


def _picture_problems(family: Adversarial, spec: DataSpec) -> list[str]:
    options = {
        f"augment={family.augment}": family.augment != "none",
        "consistency": family.consistency > 0,
        "consistency_fake": family.consistency_fake > 0,
        "rotation": family.rotation > 0,
    }
    if spec.x.kind != "image":
        return [
            f"gan.{name} is for pictures, and this data has vectors" for name, on in options.items() if on
        ]
    height, width = spec.x.shape[1:]
    found = []
    if family.rotation and height != width:
        found.append(f"gan.rotation needs square pictures, these are {height} x {width}: set data.size")
    return found


def _memory_problems(family: Adversarial, spec: DataSpec) -> list[str]:
    """What remembers rows wants their number to stay."""
    options = {"augment=ada": family.adaptive, "lecam": family.lecam > 0}
    if not any(options.values()) or type(family).rows is Family.rows:
        return []
    if len({family.rows(i / 64, 2**16, spec) for i in range(65)}) == 1:
        return []
    name = type(family).__name__
    return [
        f"gan.{option} remembers the rows of a batch, and {name} changes their number here: leave it out"
        for option, on in options.items()
        if on
    ]


def equip(family: Adversarial, nets: Networks, spec: DataSpec) -> Networks:
    """`nets` with what the options of `family` add: a critic around the discriminator, and modules without weights."""
    body = nets["discriminator"]
    if family.pac > 1:
        body = family.networks(_wide(spec, family.pac))["discriminator"]
    group = 0 if family.places_stddev else family.minibatch_stddev
    features = 0
    if family.rotation:
        labels = (torch.zeros(2, dtype=torch.int64),) if family.conditional else ()
        features = feature_size(body, torch.zeros(2, *spec.x.shape), *labels)
    equipped = dict(nets)
    if family.pac > 1 or group or features:
        equipped["discriminator"] = Equipped(body, family.pac, group, features)
    if family.augment == "ada":
        equipped["augment"] = augment.Adaptive(family.ada_parts, family.augment_p)
    elif family.augment == "diff":
        equipped["augment"] = augment.DiffAugment(family.diff_policy)
    if family.lecam:
        equipped["lecam"] = LeCam()
    return equipped


def _wide(spec: DataSpec, pac: int) -> DataSpec:
    """The spec of `pac` samples as one."""
    channels, *rest = spec.x.shape
    return DataSpec({**spec.fields, "x": Field(spec.x.kind, (pac * channels, *rest))})


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


def regularisers(
    family: Adversarial, nets: Networks, step: Step, real: Seen, fake: Seen
) -> dict[str, Tensor]:
    """What options add to the critic's loss, weighted, one value a row (or pack) each, by name."""
    terms = {}
    if family.lecam and step.step >= family.lecam_start:
        means = nets["lecam"]
        assert isinstance(means, LeCam)
        terms["lecam"] = family.lecam * means.penalty(real[1], fake[1])
    for name, weight, (x, logits) in (
        ("consistency", family.consistency, real),
        ("consistency_fake", family.consistency_fake, fake),
    ):
        if weight:
            moved = transformed(x, step.draws, family.consistency_shift, family.consistency_flip)
            terms[name] = weight * (logits - family.judge(nets, moved, step.batch)).square()
    if family.rotation:
        terms["rotation"] = family.rotation * rotation_loss(family, nets, step, step.batch["x"])
    return terms


def remember(memory: dict[str, Tensor], pac: int, real_logits: Tensor, fake_logits: Tensor) -> None:
    """Note each row's logits, and its sign where real, for `follow`."""
    real, fake = (logits.detach().repeat_interleave(pac) for logits in (real_logits, fake_logits))
    if "ada" in memory:
        memory["ada"].add_(torch.stack([real.sign(), torch.ones_like(real)], 1))
    if "lecam" in memory:
        memory["lecam"].copy_(torch.stack([real, fake, torch.ones_like(real)], 1))


def follow(family: Adversarial, nets: Networks, step: int, memory: dict[str, Tensor], sync: Sync) -> None:
    """Let what all ranks noted move the running state of ADA and LeCam."""
    if "ada" in memory and step % family.ada_every == family.ada_every - 1:
        signs, seen = sync.total(memory["ada"].sum(0)).unbind()
        pipeline = nets["augment"]
        assert isinstance(pipeline, augment.Adaptive)
        pipeline.follow(signs / seen, family.ada_target, seen / family.ada_images)
        memory["ada"].zero_()
    if "lecam" in memory:
        real, fake, num = sync.total(memory["lecam"].sum(0)).unbind()
        means = nets["lecam"]
        assert isinstance(means, LeCam)
        means.follow(real / num, fake / num, family.lecam_decay if step >= family.lecam_start else 0.0)


def transformed(x: Tensor, draws: Draws, share: float, flip: bool) -> Tensor:
    """Pictures moved by whole pixels, up to `share` of a side, mirrored at the border; and half of them flipped.

    The semantics-preserving T of consistency regularisation (Zhang et al. 2020, section 3).
    """
    x = warp.shifted(x, *augment.jitter(draws, x.shape[2], x.shape[3], share), mirrored=True)
    return torch.where((draws.uniform() < 0.5)[:, None, None, None], x.flip(3), x) if flip else x


def turned(x: Tensor, quarters: Tensor) -> Tensor:
    """Square picture n of x (N, C, S, S) turned by quarters[n] in {0, 1, 2, 3} of a full turn."""
    half, odd = ((quarters // by % 2 == 1)[:, None, None, None] for by in (2, 1))
    x = torch.where(half, x.flip(2, 3), x)
    return torch.where(odd, x.rot90(1, (2, 3)), x)


def rotation_loss(family: Adversarial, nets: Networks, step: Step, x: Tensor) -> Tensor:
    """-log Q(R = r | x turned by r), r drawn for each row, one value a row (Chen et al. 2019, equations 2 and 3)."""
    critic, quarters = nets["discriminator"], step.draws.integers(TURNS)
    assert isinstance(critic, Equipped)
    assert critic.turns is not None
    with watched(critic.body) as seen:
        family.judge(nets, turned(x, quarters), step.batch)
    return cross_entropy(critic.turns(seen[0].flatten(1)).float(), quarters, reduction="none")


class Stateless(nn.Module):
    """A network with other values for its parameters, which may depend on anything."""

    def __init__(self, network: nn.Module, values: dict[str, Tensor]) -> None:
        super().__init__()
        self.network, self.values = network, values

    def forward(self, *inputs: Any) -> Tensor:
        judged: Tensor = functional_call(self.network, self.values, inputs)
        return judged


def unrolled(
    critic: nn.Module, loss: Callable[[nn.Module], Tensor], steps: int, lr: float, sync: Sync
) -> nn.Module:
    """`critic` after `steps` steps of gradient descent on its loss over the rows of all ranks, as a function of
    whatever the loss depends on (Metz et al. 2017, equations 7 to 9). loss: one value a row of this rank."""
    values: dict[str, Tensor] = dict(critic.named_parameters())
    for _ in range(steps):
        rows = loss(Stateless(critic, values))
        gradients = torch.autograd.grad(
            rows.sum(), list(values.values()), create_graph=True, allow_unused=True, materialize_grads=True
        )
        count = rows.new_tensor([len(rows)])
        flat = sync.total(torch.cat([*(g.flatten() for g in gradients), count]))  # one exchange for all
        moves = (flat[:-1] * (-lr / flat[-1].detach())).split([g.numel() for g in gradients])
        values = {
            name: value + move.view_as(value)
            for (name, value), move in zip(values.items(), moves, strict=True)
        }
    return Stateless(critic, values)


def ahead(family: Adversarial, nets: Networks, step: Step, real: Tensor, fake: Tensor) -> Networks:
    """`nets` with the critic as it will be `family.unrolled` steps on, by its loss on these rows without penalties."""

    def loss(critic: nn.Module) -> Tensor:
        judges = {**nets, "discriminator": critic}
        real_logits, fake_logits = (family.judge(judges, x, step.batch) for x in (real, fake))
        return family.critic_loss(real_logits, fake_logits)

    critic = unrolled(nets["discriminator"], loss, family.unrolled, family.unrolled_lr, step.sync)
    return {**nets, "discriminator": critic}


def truncated_normal(uniform: Tensor, bound: float) -> Tensor:
    """Standard normal values within ±bound, by the inverse of their distribution at `uniform` in [0, 1)."""
    within = math.erf(bound / math.sqrt(2))
    return (math.sqrt(2) * torch.erfinv((2 * uniform - 1) * within)).clamp(-bound, bound)
