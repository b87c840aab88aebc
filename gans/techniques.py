"""Techniques against collapse and overfitting that any game of two players can turn on, as functions and small modules.

gans/adversarial.py holds their fields and says when they are called; what games of more players have, too, is in
gans/judged.py. All is row by row, or over groups of `unit` rows, or summed over ranks, so that every number of ranks
and micro-batches computes the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from gans.critics import TURNS, Equipped, feature_size, watched
from gans.data.base import DataSpec, Field
from gans.family import Networks, Step
from gans.sync import Sync

if TYPE_CHECKING:
    from gans.adversarial import Adversarial


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
    if family.rotation and "x" in spec.fields:
        found += _rotation_problems(spec.x)
    return found


def _rotation_problems(x: Field) -> list[str]:
    if x.kind != "image":
        return ["gan.rotation is for pictures, and this data has vectors"]
    height, width = x.shape[1:]
    if height != width:
        return [f"gan.rotation needs square pictures, these are {height} x {width}: set data.size"]
    return []


def equip(family: Adversarial, nets: Networks, spec: DataSpec) -> Networks:
    """`nets` with a critic around the discriminator, where the options of `family` ask for one."""
    body = nets["discriminator"]
    if family.pac > 1:
        body = family.networks(_wide(spec, family.pac))["discriminator"]
    group = 0 if family.places_stddev else family.minibatch_stddev
    features = 0
    if family.rotation:
        labels = (torch.zeros(2, dtype=torch.int64),) if family.conditional else ()
        features = feature_size(body, torch.zeros(2, *spec.x.shape), *labels)
    if family.pac == 1 and not group and not features:
        return nets
    return {**nets, "discriminator": Equipped(body, family.pac, group, features)}


def _wide(spec: DataSpec, pac: int) -> DataSpec:
    """The spec of `pac` samples as one."""
    channels, *rest = spec.x.shape
    return DataSpec({**spec.fields, "x": Field(spec.x.kind, (pac * channels, *rest))})


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
