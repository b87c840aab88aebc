"""StarGAN (Choi et al. 2018): one generator G(x, c) translates pictures into every domain; one discriminator tells
real from generated and names the domain.

Section 3: the discriminator learns L_adv + lambda_cls L_cls on real pictures, the generator fools it, is to be
classified as what was asked, and is to lead back: |x - G(G(x, c), c')|, c' the original domain (eq. 1-6). The
adversarial loss is Wasserstein's with a gradient penalty (eq. 7), five critic steps, Adam(1e-4, 0.5, 0.999). Section
3.2: several label sets, of which each picture knows one, are trained jointly with a mask vector, the one-hot number of
the set, beside the labels; what a picture does not know is 0 and is not classified.

Appendix 7.2: instance norm in the generator only, PatchGAN without norm and LeakyReLU(0.01) in the discriminator.
Departures: an attribute is a class of two or more (the paper's hair colour), never an independent bit; the target is
drawn uniformly instead of shuffling the batch's labels; the critic's value of a picture is the mean of its patches.
`identity` keeps a small generator from leading back out of anything: pictures that only a computer would recognise.
"""

from __future__ import annotations

from itertools import chain, pairwise
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, l1_loss, one_hot

from gans.data.base import Batch, DataSpec
from gans.draws import Draws
from gans.family import Networks, Optimiser, Phase, Step, Terms
from gans.judged import Judged
from gans.losses import LOSSES, AdversarialLoss
from gans.nn import picture_problems
from gans.penalties import gradient_penalty
from gans.schedule import Schedule, scaled

SMALLEST = 8
SET = "set"  # the field that says which label set a row knows


class StarGAN(Judged):
    """`sets` names the label fields, set by set: one set is the common case, with more every row's set is the data
    field `set`. `width` channels at full resolution and `blocks` residual blocks in the generator.

    A sample is a row translated to a class drawn uniformly in an attribute drawn likewise, its other attributes kept,
    which is why the rows' own labels are inputs where there is more than one attribute. A grid shows each row and its
    translations into every class of every attribute.
    """

    sets: tuple[tuple[str, ...], ...] = Field(
        (("label",),), description="label fields, set by set (section 3.2 trains two)"
    )
    lr_g: Schedule = Field(1e-4, description="learning rate of the generator (section 4)")
    lr_ratio: float = Field(1.0, gt=0, description="lr_d / lr_g")
    betas: tuple[Schedule, Schedule] = Field((0.5, 0.999), description="of Adam (section 4)")
    critic_steps: int = Field(5, ge=1, description="critic updates a generator update (section 4)")
    classification: float = Field(1.0, ge=0, description="lambda_cls of eq. 5 and 6")
    reconstruction: float = Field(10.0, ge=0, description="lambda_rec of eq. 6")
    identity: float = Field(
        0.0, ge=0, description="weight of |x - G(x, c')|, as CycleGAN's identity loss (not in the paper)"
    )
    gp: float = Field(10.0, ge=0, description="lambda_gp of eq. 7")
    width: int = Field(64, ge=1, description="channels at full resolution (appendix 7.2)")
    blocks: int = Field(6, ge=0, description="residual blocks of the generator (appendix 7.2)")
    width_d: int = Field(64, ge=1, description="channels of the discriminator's first layer (appendix 7.2)")

    @model_validator(mode="after")
    def _sets(self) -> Self:
        names = self.attributes
        if not self.sets or not all(self.sets) or len(set(names)) < len(names):
            raise ValueError(f"sets {self.sets}: one or more sets of label fields, each field once")
        if "label" in names and len(names) > 1:
            raise ValueError(
                f"sets {self.sets}: `label` may only be the one attribute there is; name the others' fields "
                "(data.attributes, data.sets)"
            )
        return self

    @property
    def game(self) -> AdversarialLoss:
        return LOSSES["wasserstein"]

    @property
    def attributes(self) -> tuple[str, ...]:
        """The label fields of all sets."""
        return tuple(chain.from_iterable(self.sets))

    @property
    def joint(self) -> bool:
        """Whether there are several label sets."""
        return len(self.sets) > 1

    @property
    def inputs(self) -> tuple[str, ...]:
        """The rows to translate and, with several attributes, what they are."""
        if len(self.attributes) == 1:
            return ("x",)
        return ("x", *self.attributes, *((SET,) if self.joint else ()))

    def check(self, spec: DataSpec) -> list[str]:
        problems = picture_problems(spec.x.shape) or super().check(spec)
        if not problems and spec.x.shape[1] < SMALLEST:
            problems.append(f"stargan needs pictures of {SMALLEST} px or more, these have {spec.x.shape[1]}")
        wanted = [*self.attributes, *((SET,) if self.joint else ())]
        missing = [n for n in wanted if n not in spec.fields or spec.fields[n].kind != "label"]
        if missing:
            labels = ", ".join(n for n, f in spec.fields.items() if f.kind == "label") or "none"
            problems.append(
                f"stargan translates between the classes of label fields, and this data lacks {', '.join(missing)} "
                f"(labels: {labels}): set gan.sets, or data.labels, data.attributes, data.sets"
            )
        elif self.joint and spec.fields[SET].num_classes != len(self.sets):
            problems.append(
                f"gan.sets names {len(self.sets)} label sets and the data has {spec.fields[SET].num_classes}: "
                "set gan.sets as data.sets"
            )
        return problems

    def networks(self, spec: DataSpec) -> Networks:
        classes = {name: _num_classes(spec, name) for name in self.attributes}
        code = sum(classes.values()) + (len(self.sets) if self.joint else 0)
        channels, size, _ = spec.x.shape
        return {
            "generator": Generator(channels, code, size, self.width, self.blocks),
            "discriminator": Discriminator(channels, classes, size, self.width_d),
        }

    def phases(self) -> tuple[Phase, ...]:
        generator = Optimiser(self.lr_g, self.betas)
        critic = Optimiser(scaled(self.lr_g, self.lr_ratio), self.betas)
        repeats, double = self.critic_steps, self.gp > 0
        return (
            Phase("critic", ("discriminator",), critic, repeats=repeats, double=double),
            Phase("generator", ("generator",), generator, data="same"),
        )

    def objective(self, phase: str, nets: Networks, step: Step) -> Terms:
        return {"critic": self._critic, "generator": self._generator}[phase](nets, step)

    def after(self, phase: str, nets: Networks, step: Step) -> None:
        if phase == "critic":
            self.follow(nets, step)

    def targets(self, rows: Batch, draws: Draws, classes: dict[str, int]) -> Batch:
        """A target for every attribute, uniform; a row's own set decides which of them count."""
        drawn = {name: draws.integers(num) for name, num in classes.items()}
        return drawn | ({SET: rows[SET]} if self.joint else {})

    def code(self, labels: Batch, classes: dict[str, int]) -> Tensor:
        """c~ = [c_1, ..., c_n, m] of eq. 8: (N, sum of classes + sets) one-hots; unknown labels are zero."""
        parts = []
        for name, num in classes.items():
            known = self._known(name, labels)
            parts.append(one_hot(labels[name], num) * known.unsqueeze(1))
        if self.joint:
            parts.append(one_hot(labels[SET], len(self.sets)))
        return torch.cat(parts, 1).float()

    def asked(self, rows: Batch, name: str, target: Tensor, classes: dict[str, int]) -> Tensor:
        """The code that asks for class `target` (N,) of attribute `name` and otherwise for what a row is.

        Attributes of the same set that a row does not know are asked for as class 0.
        """
        labels = {n: torch.zeros_like(target) if len(self.attributes) == 1 else rows[n] for n in classes}
        labels[name] = target
        if self.joint:
            labels[SET] = torch.full_like(target, self._set_of(name))
        return self.code(labels, classes)

    def sample(self, nets: Networks, inputs: Batch, draws: Draws) -> Batch:
        """`x`, translated to a target class drawn for one attribute; `label` or `to_<attribute>`, which class that is
        (-1: another attribute's turn); `every` (N, domains, C, H, W), the row in every class of every attribute."""
        critic, x = nets["discriminator"], inputs["x"]
        assert isinstance(critic, Discriminator)
        classes = critic.classes
        turn, drawn = draws.integers(len(self.attributes)), {n: draws.integers(k) for n, k in classes.items()}
        codes = torch.stack([self.asked(inputs, n, drawn[n], classes) for n in classes])
        made: Batch = {"x": nets["generator"](x, codes[turn, torch.arange(len(x), device=x.device)]).float()}
        for i, name in enumerate(classes):
            key = "label" if name == "label" else f"to_{name}"
            made[key] = torch.where(turn == i, drawn[name], -1)
        every = [
            nets["generator"](x, self.asked(inputs, n, torch.full_like(turn, target), classes)).float()
            for n, k in classes.items()
            for target in range(k)
        ]
        return {**made, "every": torch.stack(every, 1)}

    def pictures(self, inputs: Batch, samples: Batch) -> list[Tensor]:
        """Per sample: the picture, and its translation into every class of every attribute."""
        return [inputs["x"], *samples["every"].unbind(1)]

    def exported(self, nets: Networks, spec: DataSpec) -> tuple[nn.Module, Batch]:
        """The translation of (picture, code)."""
        draws, generator = Draws(seed=0, num=2, device=torch.device("cpu")), nets["generator"]
        assert isinstance(generator, Generator)
        x = draws.uniform(*spec.x.shape) * 2 - 1
        return generator, {"picture": x, "code": one_hot(torch.arange(2), generator.code).float()}

    def _set_of(self, name: str) -> int:
        return next(i for i, names in enumerate(self.sets) if name in names)

    def _known(self, name: str, labels: Batch) -> Tensor:
        """1 for rows that carry the attribute's label."""
        if not self.joint:
            return torch.ones_like(labels[name])
        return (labels[SET] == self._set_of(name)).long()

    def _classified(self, logits: dict[str, Tensor], labels: Batch) -> Tensor:
        """-log D_cls of the known labels, (N,)."""
        return torch.stack(
            [
                cross_entropy(rows.float(), labels[name], reduction="none") * self._known(name, labels)
                for name, rows in logits.items()
            ]
        ).sum(0)

    def _critic(self, nets: Networks, step: Step) -> Terms:
        x, critic = step.batch["x"], nets["discriminator"]
        assert isinstance(critic, Discriminator)
        with torch.no_grad():
            target = self.targets(step.batch, step.draws, critic.classes)
            fake = nets["generator"](x, self.code(target, critic.classes)).float()
        seen, seen_fake = self.shown(nets, x, step), self.shown(nets, fake, step)
        real_logits, classes = self._told(critic, x, seen)
        fake_logits, _ = critic(seen_fake)
        adversarial = self.game.discriminator(real_logits, fake_logits)
        known = self._classified(classes, step.batch)
        report = {
            "loss_d": adversarial.detach(),
            "d_gap": (real_logits - fake_logits).detach(),
            "d_pairs": (real_logits > fake_logits).float(),
            "cls_real": known.detach(),
        }
        loss = adversarial + self.classification * known
        if self.gp:
            mix = step.draws.uniform(1, 1, 1)
            penalty = gradient_penalty(lambda rows: critic(self.shown(nets, rows, step))[0], x, fake, mix)
            loss = loss + self.gp * penalty
            report["penalty"] = penalty.detach()
        sides = (seen, real_logits), (seen_fake, fake_logits)
        for name, term in self.regularised(nets, step, *sides, lambda rows: critic(rows)[0]).items():
            loss, report[name] = loss + term, term.detach()
        return loss.mean(), report | self.probabilities(nets)

    def _generator(self, nets: Networks, step: Step) -> Terms:
        x, generator, critic = step.batch["x"], nets["generator"], nets["discriminator"]
        assert isinstance(critic, Discriminator)
        target = self.targets(step.batch, step.draws, critic.classes)
        fake = generator(x, self.code(target, critic.classes))
        logits, classes = self._told(critic, fake, self.shown(nets, fake, step))
        adversarial = self.game.generator(logits.float(), logits.float())
        asked = self._classified(classes, target)
        own = self.code(step.batch, critic.classes)
        lost = _distance(generator(fake, own), x)
        loss = adversarial + self.classification * asked + self.reconstruction * lost
        report = {"loss_adversarial": adversarial, "cls_fake": asked, "reconstruction": lost}
        if self.identity:
            report["identity"] = _distance(generator(x, own), x)
            loss = loss + self.identity * report["identity"]
        report["loss_g"] = loss
        return loss.mean(), {name: value.detach() for name, value in report.items()}

    def _told(self, critic: Discriminator, x: Tensor, seen: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """D_src of rows as they are shown and D_cls of them as they are: a transformation may change the class."""
        logits, classes = critic(seen)
        return logits, classes if seen is x else critic(x)[1]


def _distance(made: Tensor, x: Tensor) -> Tensor:
    """Mean absolute difference of each picture, (N,)."""
    return l1_loss(made.float(), x, reduction="none").flatten(1).mean(1)


def _num_classes(spec: DataSpec, name: str) -> int:
    num = spec.fields[name].num_classes
    assert num is not None
    return num


class Residual(nn.Module):
    """x + IN(conv(relu(IN(conv(x)))))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.InstanceNorm2d(width, affine=True),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.InstanceNorm2d(width, affine=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Generator(nn.Module):
    """x (N, C, S, S), code (N, K) → (N, C, S, S) in [-1, 1]; the code joins x as constant planes (table 4).

    From 32 px up 7x7 convolutions at both ends and two halvings as in the paper, below 3x3 and one.
    """

    def __init__(self, channels: int, code: int, size: int, width: int, blocks: int) -> None:
        super().__init__()
        self.code = code
        kernel, halvings = (7, 2) if size >= 32 else (3, 1)
        widths = [width * 2**i for i in range(halvings + 1)]
        layers = _normed(nn.Conv2d(channels + code, width, kernel, padding=kernel // 2, bias=False), width)
        for a, b in pairwise(widths):
            layers += _normed(nn.Conv2d(a, b, 4, 2, 1, bias=False), b)
        layers += [Residual(widths[-1]) for _ in range(blocks)]
        for a, b in pairwise(reversed(widths)):
            layers += _normed(nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False), b)
        picture = nn.Conv2d(width, channels, kernel, padding=kernel // 2, bias=False)
        self.body = nn.Sequential(*layers, picture, nn.Tanh())

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        planes = code.to(x.dtype)[:, :, None, None].expand(-1, -1, *x.shape[2:])
        return self.body(torch.cat([x, planes], 1))


class Discriminator(nn.Module):
    """x (N, C, S, S) → D_src (N,), the mean of its 2x2 patches, and D_cls: logits (N, K) by attribute (table 5)."""

    def __init__(self, channels: int, classes: dict[str, int], size: int, width: int) -> None:
        super().__init__()
        self.classes = classes
        strided = size.bit_length() - 2  # down to 2 px
        widths = [channels, *(width * 2**i for i in range(strided))]
        layers: list[nn.Module] = []
        for a, b in pairwise(widths):
            layers += [nn.Conv2d(a, b, 4, 2, 1), nn.LeakyReLU(0.01)]
        self.body = nn.Sequential(*layers)
        self.source = nn.Conv2d(widths[-1], 1, 3, padding=1, bias=False)
        self.named = nn.Conv2d(widths[-1], sum(classes.values()), 2, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        h = self.body(x)
        logits = self.named(h).flatten(1).split(list(self.classes.values()), 1)
        return self.source(h).flatten(1).mean(1).float(), dict(zip(self.classes, logits, strict=True))


def _normed(layer: nn.Module, width: int) -> list[nn.Module]:
    return [layer, nn.InstanceNorm2d(width, affine=True), nn.ReLU()]
