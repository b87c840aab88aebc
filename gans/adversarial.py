"""The two-player game that most families share: one generator, one discriminator, any loss, any penalty.

It knows phases, losses and penalties, and nothing of architectures: a family that builds on it adds networks and
its paper's defaults. Options that any such family has are in gans/judged.py and gans/techniques.py.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from gans import advice, techniques
from gans.advice import counts
from gans.data.base import Batch, DataSpec
from gans.draws import Draws
from gans.family import Networks, Optimiser, Phase, Step, Terms
from gans.judged import Judged
from gans.losses import AdversarialLoss, LossName, named
from gans.penalties import clip_weights, gradient_penalty, zero_centred
from gans.remedies import Remedy
from gans.schedule import Schedule, at, scaled


class Adversarial(Judged):
    """Hyperparameters of a generator against a discriminator.

    With `penalty_every` > 1 the penalty is a lazy phase of its own (Karras et al. 2020, appendix B): its learning rate
    and betas are corrected by c = i / (i + 1), its weight multiplied by the interval. The fields from
    `minibatch_stddev` on are options of any such family, off by default, as are those of `Judged`.
    """

    conditional: ClassVar[bool] = False
    row_wise: ClassVar[bool] = True
    places_stddev: ClassVar[bool] = False
    """Whether the discriminator itself finds the place of `minibatch_stddev`."""
    scalars: ClassVar[frozenset[str]] = frozenset({"lr_g", "lr_ratio", "betas", "r1", "r2", "gp"})

    loss: LossName = Field("non_saturating", description="the adversarial loss (gans/losses.py)")
    lr_g: Schedule = Field(2e-4, description="learning rate of the generator")
    lr_ratio: float = Field(1.0, gt=0, description="lr_d / lr_g")
    betas: tuple[Schedule, Schedule] = Field((0.5, 0.999), description="Adam's betas")
    optimiser: Literal["adam", "rmsprop"] = Field("adam", description="of both players")
    critic_steps: int = Field(1, ge=1, description="critic updates a generator update")
    warmup: int = Field(0, ge=0, description="steps in which the critic trains alone")
    r1: Schedule = Field(0.0, description="weight of |grad D|^2 / 2 on real rows (Mescheder et al. 2018)")
    r2: Schedule = Field(0.0, description="weight of |grad D|^2 / 2 on generated rows")
    gp: float = Field(
        0.0, ge=0, description="weight of (|grad D| - 1)^2 between them (Gulrajani et al. 2017)"
    )
    clip: float = Field(
        0.0, ge=0, description="bound of the critic's weights, 0: none (Arjovsky et al. 2017)"
    )
    penalty_every: int = Field(1, ge=1, description="steps from one penalty to the next; above 1 it is lazy")
    latent_dim: int = Field(64, ge=1, description="entries of the latent z")
    latent: Literal["normal", "uniform"] = Field(
        "normal", description="its distribution; uniform: on [-1, 1)"
    )
    minibatch_stddev: int = Field(
        0,
        ge=0,
        description="rows of a group whose deviation D sees, 4; 0: none (Karras et al. 2018, section 3)",
    )
    pac: int = Field(1, ge=1, description="rows that D judges as one (PacGAN, Lin et al. 2018)")
    unrolled: int = Field(0, ge=0, description="critic steps that G looks ahead (Metz et al. 2017)")
    unrolled_lr: float = Field(0.05, gt=0, description="learning rate of these steps of gradient descent")
    rotation: float = Field(0.0, ge=0, description="weight of D's rotation task, 1 (SSGAN, Chen et al. 2019)")
    rotation_g: float = Field(0.2, ge=0, description="weight of G's, where D has one (SSGAN, section 3)")
    truncation: float | None = Field(
        None, ge=0, description="bound of normal latents in sampling (Brock et al. 2019); none: no bound"
    )

    @property
    def game(self) -> AdversarialLoss:
        return named(self.loss)

    @property
    def unit(self) -> int:
        return self.pac * (self.minibatch_stddev or 1)

    @property
    def coupled(self) -> bool:
        return super().coupled or self.unrolled > 0

    @property
    def penalised(self) -> bool:
        """Whether the critic's loss holds a gradient penalty."""
        return any(counts(weight) for weight in (self.r1, self.r2, self.gp))

    def check(self, spec: DataSpec) -> list[str]:
        return super().check(spec) + techniques.problems(self, spec)

    def built(self, spec: DataSpec) -> Networks:
        return techniques.equip(self, self.networks(spec), spec) | self.helpers(spec)

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
        ahead = self.unrolled > 0
        phases.append(
            Phase("generator", g, generator, start=self.warmup, data="same", double=ahead, reuses=not ahead)
        )
        return tuple(phases)

    def latents(self, draws: Draws) -> Tensor:
        """(rows, latent_dim): standard normal, or uniform on [-1, 1)."""
        if self.latent == "normal":
            return draws.normal(self.latent_dim)
        return draws.uniform(self.latent_dim) * 2 - 1

    def sampled_latents(self, draws: Draws) -> Tensor:
        """(rows, latent_dim): those that samples are made of, cut off as `truncation` says."""
        if self.truncation is None:
            return self.latents(draws)
        return techniques.truncated_normal(draws.uniform(self.latent_dim), self.truncation)

    def generate(self, nets: Networks, z: Tensor, batch: Batch) -> Tensor:
        """Generated rows for latents `z`."""
        return nets["generator"](z, batch["label"]) if self.conditional else nets["generator"](z)

    def judge(self, nets: Networks, x: Tensor, batch: Batch) -> Tensor:
        """One logit a row, or a pack of `pac` rows."""
        logits = nets["discriminator"](x, batch["label"]) if self.conditional else nets["discriminator"](x)
        return logits.float()

    def critic_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """The critic's loss without penalties, one value a row."""
        return named(self.loss).discriminator(real_logits, fake_logits)

    def objective(self, phase: str, nets: Networks, step: Step) -> Terms:
        return {"critic": self._critic, "penalty": self._penalty, "generator": self._generator}[phase](
            nets, step
        )

    def after(self, phase: str, nets: Networks, step: Step) -> None:
        if self.clip and phase == "critic":
            clip_weights(nets["discriminator"].parameters(), self.clip)
        if phase == "critic":
            self.follow(nets, step)

    def sample(self, nets: Networks, inputs: Batch, draws: Draws) -> Batch:
        x = self.generate(nets, self.sampled_latents(draws), inputs)
        return {"x": x.float(), **{k: inputs[k] for k in self.inputs}}

    def exported(self, nets: Networks, spec: DataSpec) -> tuple[nn.Module, Batch]:
        z = self.latents(Draws(seed=0, num=2, device=torch.device("cpu")))
        label = {"label": torch.arange(2) % (spec.num_classes or 1)} if self.conditional else {}
        return nets["generator"], {"z": z, **label}

    def remedies(self, kind: str) -> tuple[Remedy, ...]:
        return advice.remedies(self, kind)

    def fake(self, nets: Networks, step: Step) -> Tensor:
        """Generated rows beside those of the batch, in training."""
        return self.generate(nets, self.latents(step.draws), step.batch)

    def _critic(self, nets: Networks, step: Step) -> Terms:
        fake = step.detached("fake", lambda: self.fake(nets, step)).float()
        real = step.batch["x"]
        inline = self.penalised and self.penalty_every == 1
        if inline:
            real, fake = real.detach().requires_grad_(True), fake.requires_grad_(True)
        seen_real, seen_fake = self.shown(nets, real, step), self.shown(nets, fake, step)
        real_logits = self.judge(nets, seen_real, step.batch)
        fake_logits = self.judge(nets, seen_fake, step.batch)
        loss = self.critic_loss(real_logits, fake_logits)  # (rows,), as are the reports
        report = {"loss_d": loss.detach(), **_signs(real_logits.detach(), fake_logits.detach())}
        if self.loss == "wasserstein":
            report["wasserstein"] = report["d_gap"]  # eq. 2 of Arjovsky et al. 2017, up to a factor
        if inline:
            penalty = self._weighted(nets, step, real, fake, real_logits, fake_logits)
            report["penalty"] = penalty.detach()
            loss = loss + penalty
        sides = (seen_real, real_logits), (seen_fake, fake_logits)
        added = self.regularised(nets, step, *sides, lambda x: self.judge(nets, x, step.batch))
        if self.rotation:
            added["rotation"] = self.rotation * techniques.rotation_loss(self, nets, step, step.batch["x"])
        for name, term in added.items():
            report[name] = term.detach()
            loss = loss + term
        return loss.mean(), report | self.probabilities(nets)

    def _penalty(self, nets: Networks, step: Step) -> Terms:
        with torch.no_grad():
            fake = self.fake(nets, step).float()
        judged = counts(at(self.r2, step.progress))
        real, fake = step.batch["x"].detach().requires_grad_(True), fake.requires_grad_(judged)
        real_logits = self.judge(nets, self.shown(nets, real, step), step.batch)
        seen_fake = self.shown(nets, fake, step)  # judged or not, so that later draws stay what they are
        fake_logits = self.judge(nets, seen_fake, step.batch) if judged else None
        penalty = self.penalty_every * self._weighted(nets, step, real, fake, real_logits, fake_logits)
        return penalty.mean(), {"penalty": penalty.detach()}

    def _weighted(
        self,
        nets: Networks,
        step: Step,
        real: Tensor,
        fake: Tensor,
        real_logits: Tensor,
        fake_logits: Tensor | None,
    ) -> Tensor:
        total = torch.zeros_like(real_logits)
        if counts(r1 := at(self.r1, step.progress)):
            total = total + r1 * zero_centred(real_logits, real)
        if counts(r2 := at(self.r2, step.progress)):
            assert fake_logits is not None
            total = total + r2 * zero_centred(fake_logits, fake)
        if counts(self.gp):
            mix = step.draws.uniform(*(1 for _ in real.shape[1:]))
            if self.pac > 1:  # one point between two packs
                mix = mix[:: self.pac].repeat_interleave(self.pac, 0)
            between = gradient_penalty(
                lambda x: self.judge(nets, self.shown(nets, x, step), step.batch),
                real.detach(),
                fake.detach(),
                mix,
            )
            total = total + self.gp * between
        return total

    def _generator(self, nets: Networks, step: Step) -> Terms:
        fake = step.attached("fake", lambda: self.fake(nets, step))
        value, report = self.generator_loss(nets, step, fake)
        return value.mean(), report

    def generator_loss(self, nets: Networks, step: Step, fake: Tensor) -> Terms:
        """The generator's loss, one value a row, of `fake` rows with their graph; and what to report."""
        loss = named(self.loss)
        seen = self.shown(nets, fake, step)
        real = self.shown(nets, step.batch["x"], step) if loss.paired or self.unrolled else seen
        judges = techniques.ahead(self, nets, step, real, seen) if self.unrolled else nets
        fake_logits = self.judge(judges, seen, step.batch)
        with torch.set_grad_enabled(self.unrolled > 0):
            real_logits = self.judge(judges, real, step.batch) if loss.paired else fake_logits
        value = loss.generator(real_logits, fake_logits)
        report = {"loss_g": value.detach()}
        if self.rotation and self.rotation_g:
            term = self.rotation_g * techniques.rotation_loss(self, nets, step, fake.float())
            value, report["rotation_g"] = value + term, term.detach()
        return value, report


def _signs(real: Tensor, fake: Tensor) -> dict[str, Tensor]:
    """Cheap facts about the critic, row by row: whether it is right, sign D(real), and the Wasserstein gap."""
    return {
        "d_accuracy": 0.5 * ((real > 0).float() + (fake < 0).float()),
        "d_pairs": (real > fake).float(),
        "d_sign": real.sign(),
        "d_gap": real - fake,
    }
