"""The two-player game that most families share: one generator, one discriminator, any loss, any penalty.

It knows phases, losses and penalties, and nothing of architectures: a family that builds on it adds networks and
its paper's defaults.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from gans.data.base import Batch, DataSpec
from gans.draws import Draws
from gans.family import Family, Networks, Optimiser, Phase, Step, Terms
from gans.losses import LossName, named
from gans.penalties import clip_weights, gradient_penalty, zero_centred
from gans.remedies import Remedy
from gans.schedule import Schedule, at, scaled

# What remedies lead to (docs/health.md has the runs): lr_d / lr_g after a collapse and after the critic won, the
# weight of a new penalty, and the fastest generator.
AFTER_COLLAPSE, AFTER_VICTORY = 3.0, 2.0
NEW_PENALTY = 0.5
FASTEST = 1e-3


class Adversarial(Family):
    """Hyperparameters of a generator against a discriminator.

    `lr_ratio` is lr_d / lr_g. `warmup` is the number of steps in which the critic trains alone. `r1`, `r2` weigh
    |grad D|^2 / 2 on real and generated rows, `gp` weighs (|grad D| - 1)^2 between them, `clip` bounds the
    critic's weights. `penalty_every` > 1 makes the penalty a lazy phase of its own (Karras et al. 2020, appendix
    B): its learning rate and betas are corrected by c = i / (i + 1), its weight multiplied by the interval.
    """

    conditional: ClassVar[bool] = False
    row_wise: ClassVar[bool] = True
    scalars: ClassVar[frozenset[str]] = frozenset({"lr_g", "lr_ratio", "betas", "r1", "r2", "gp"})

    loss: LossName = "non_saturating"
    lr_g: Schedule = 2e-4
    lr_ratio: float = Field(1.0, gt=0)
    betas: tuple[Schedule, Schedule] = (0.5, 0.999)
    optimiser: Literal["adam", "rmsprop"] = "adam"
    critic_steps: int = Field(1, ge=1)
    warmup: int = Field(0, ge=0)
    r1: Schedule = 0.0
    r2: Schedule = 0.0
    gp: float = Field(0.0, ge=0)
    clip: float = Field(0.0, ge=0)
    penalty_every: int = Field(1, ge=1)
    latent_dim: int = Field(64, ge=1)
    latent: Literal["normal", "uniform"] = "normal"

    @property
    def penalised(self) -> bool:
        """Whether the critic's loss holds a gradient penalty."""
        return any(_counts(weight) for weight in (self.r1, self.r2, self.gp))

    def phases(self) -> tuple[Phase, ...]:
        lazy = self.penalised and self.penalty_every > 1
        generator = Optimiser(self.lr_g, self.betas, self.optimiser)
        critic = replace(generator, lr=scaled(self.lr_g, self.lr_ratio))
        critic = critic.lazy(self.penalty_every) if lazy else critic
        inline = self.penalised and not lazy
        d, g = ("discriminator",), ("generator",)
        phases = [Phase("critic", d, critic, repeats=self.critic_steps, double=inline)]
        if lazy:
            phases.append(Phase("penalty", d, critic, every=self.penalty_every, data="same", double=True))
        phases.append(Phase("generator", g, generator, start=self.warmup, data="same", reuses=True))
        return tuple(phases)

    def latents(self, draws: Draws) -> Tensor:
        """(rows, latent_dim): standard normal, or uniform on [-1, 1)."""
        if self.latent == "normal":
            return draws.normal(self.latent_dim)
        return draws.uniform(self.latent_dim) * 2 - 1

    def generate(self, nets: Networks, z: Tensor, batch: Batch) -> Tensor:
        """Generated rows for latents `z`."""
        return nets["generator"](z, batch["label"]) if self.conditional else nets["generator"](z)

    def judge(self, nets: Networks, x: Tensor, batch: Batch) -> Tensor:
        """One logit a row."""
        logits = nets["discriminator"](x, batch["label"]) if self.conditional else nets["discriminator"](x)
        return logits.float()

    def objective(self, phase: str, nets: Networks, step: Step) -> Terms:
        return {"critic": self._critic, "penalty": self._penalty, "generator": self._generator}[phase](
            nets, step
        )

    def after(self, phase: str, nets: Networks, step: Step) -> None:
        if self.clip and phase == "critic":
            clip_weights(nets["discriminator"].parameters(), self.clip)

    def sample(self, nets: Networks, inputs: Batch, draws: Draws) -> Batch:
        x = self.generate(nets, self.latents(draws), inputs)
        return {"x": x.float(), **{k: inputs[k] for k in self.inputs}}

    def exported(self, nets: Networks, spec: DataSpec) -> tuple[nn.Module, Batch]:
        z = self.latents(Draws(seed=0, num=2, device=torch.device("cpu")))
        label = {"label": torch.arange(2) % (spec.num_classes or 1)} if self.conditional else {}
        return nets["generator"], {"z": z, **label}

    def remedies(self, kind: str) -> tuple[Remedy, ...]:
        """Balance, then penalty, then loss; only balance for a Wasserstein critic, whose bound is its penalty."""
        bounded = self.loss == "wasserstein" and bool(self.clip or self.gp)
        penalty: dict[str, Any] = {} if self.penalised or bounded else {"r1": NEW_PENALTY, "r2": NEW_PENALTY}
        r1, r2 = (w if _counts(w) else NEW_PENALTY for w in (self.r1, self.r2))
        paired = {"loss": "relativistic", "betas": (0.0, 0.9), "r1": r1, "r2": r2}
        loss = {} if self.loss == "relativistic" or bounded else paired
        slower = {"lr_g": scaled(self.lr_g, 0.5)}
        ladders: dict[str, tuple[dict[str, Any], ...]] = {
            "mode collapse": (self._faster_critic(), penalty, loss),
            "partial collapse": (self._faster_critic(), penalty, loss),
            "vanishing gradient": (self._slower_critic(bounded), penalty, loss),
            "discriminator overpowering": (self._slower_critic(bounded), penalty, loss),
            "oscillation": (penalty, slower, loss),
            "diverged": (self._calmer() or slower, penalty, loss),
        }
        return tuple(Remedy(changes) for changes in ladders.get(kind, ()) if changes)

    def _calmer(self) -> dict[str, Any]:
        """A generator whose learning rate begins at `FASTEST` at most."""
        begins = at(self.lr_g, 0.0)
        return {"lr_g": scaled(self.lr_g, FASTEST / begins)} if begins > 2 * FASTEST else {}

    def _faster_critic(self) -> dict[str, Any]:
        return self._calmer() | ({"lr_ratio": AFTER_COLLAPSE} if self.lr_ratio < AFTER_VICTORY else {})

    def _slower_critic(self, bounded: bool) -> dict[str, Any]:
        """The critic keeps its learning rate, the generator catches up: what is left of the budget may be short."""
        changes = self._calmer()
        if self.lr_ratio > AFTER_VICTORY:
            most = FASTEST / at(self.lr_g, 0.0)
            changes["lr_g"] = scaled(self.lr_g, min(self.lr_ratio / AFTER_VICTORY, most))
            changes["lr_ratio"] = AFTER_VICTORY
        if self.critic_steps > 1 and not bounded:
            changes["critic_steps"] = 1
        if self.loss == "minimax":
            changes["loss"] = "non_saturating"
        return changes

    def fake(self, nets: Networks, step: Step) -> Tensor:
        """Generated rows beside those of the batch, in training."""
        return self.generate(nets, self.latents(step.draws), step.batch)

    def _critic(self, nets: Networks, step: Step) -> Terms:
        fake = step.detached("fake", lambda: self.fake(nets, step)).float()
        real = step.batch["x"]
        inline = self.penalised and self.penalty_every == 1
        if inline:
            real, fake = real.detach().requires_grad_(True), fake.requires_grad_(True)
        real_logits = self.judge(nets, real, step.batch)
        fake_logits = self.judge(nets, fake, step.batch)
        loss = named(self.loss).discriminator(real_logits, fake_logits)  # (rows,), as are the reports
        report = {"loss_d": loss.detach(), **_signs(real_logits.detach(), fake_logits.detach())}
        if inline:
            penalty = self._weighted(nets, step, real, fake, real_logits, fake_logits)
            report["penalty"] = penalty.detach()
            loss = loss + penalty
        return loss.mean(), report

    def _penalty(self, nets: Networks, step: Step) -> Terms:
        with torch.no_grad():
            fake = self.fake(nets, step).float()
        real, fake = step.batch["x"].detach().requires_grad_(True), fake.requires_grad_(True)
        real_logits = self.judge(nets, real, step.batch)
        fake_logits = self.judge(nets, fake, step.batch)
        penalty = self.penalty_every * self._weighted(nets, step, real, fake, real_logits, fake_logits)
        return penalty.mean(), {"penalty": penalty.detach()}

    def _weighted(
        self, nets: Networks, step: Step, real: Tensor, fake: Tensor, real_logits: Tensor, fake_logits: Tensor
    ) -> Tensor:
        total = torch.zeros_like(real_logits)
        if _counts(r1 := at(self.r1, step.progress)):
            total = total + r1 * zero_centred(real_logits, real)
        if _counts(r2 := at(self.r2, step.progress)):
            total = total + r2 * zero_centred(fake_logits, fake)
        if _counts(self.gp):
            mix = step.draws.uniform(*(1 for _ in real.shape[1:]))
            between = gradient_penalty(
                lambda x: self.judge(nets, x, step.batch), real.detach(), fake.detach(), mix
            )
            total = total + self.gp * between
        return total

    def _generator(self, nets: Networks, step: Step) -> Terms:
        fake = step.attached("fake", lambda: self.fake(nets, step))
        loss = named(self.loss)
        fake_logits = self.judge(nets, fake, step.batch)
        with torch.no_grad():
            real_logits = self.judge(nets, step.batch["x"], step.batch) if loss.paired else fake_logits
        value = loss.generator(real_logits, fake_logits)
        return value.mean(), {"loss_g": value.detach()}


def _counts(weight: Any) -> bool:
    """Whether a penalty is on: weight zero switches it off; one value a row (packed members) leaves it on."""
    return isinstance(weight, Tensor) or weight != 0.0


def _signs(real: Tensor, fake: Tensor) -> dict[str, Tensor]:
    """Cheap facts about the critic, row by row: whether it is right, sign D(real), and the Wasserstein gap."""
    return {
        "d_accuracy": 0.5 * ((real > 0).float() + (fake < 0).float()),
        "d_pairs": (real > fake).float(),
        "d_sign": real.sign(),
        "d_gap": real - fake,
    }
