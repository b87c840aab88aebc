"""What a game of two players tries for a verdict: balance, then penalty, then loss (docs/health.md has the runs)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from gans.remedies import Remedy
from gans.schedule import at, scaled

if TYPE_CHECKING:
    from gans.adversarial import Adversarial

# What remedies lead to: lr_d / lr_g after a collapse and after the critic won, the weight of a new penalty, and the
# fastest generator.
AFTER_COLLAPSE, AFTER_VICTORY = 3.0, 2.0
NEW_PENALTY = 0.5
FASTEST = 1e-3


def counts(weight: Any) -> bool:
    """Whether a penalty is on: weight zero switches it off; one value a row (packed members) leaves it on."""
    return isinstance(weight, Tensor) or weight != 0.0


def remedies(family: Adversarial, kind: str) -> tuple[Remedy, ...]:
    """Balance, then penalty, then loss; only balance for a Wasserstein critic, whose bound is its penalty."""
    bounded = family.loss == "wasserstein" and bool(family.clip or family.gp)
    penalty: dict[str, Any] = {} if family.penalised or bounded else {"r1": NEW_PENALTY, "r2": NEW_PENALTY}
    r1, r2 = (w if counts(w) else NEW_PENALTY for w in (family.r1, family.r2))
    paired = {"loss": "relativistic", "betas": (0.0, 0.9), "r1": r1, "r2": r2}
    loss = {} if family.loss == "relativistic" or bounded else paired
    slower = {"lr_g": scaled(family.lr_g, 0.5)}
    ladders: dict[str, tuple[dict[str, Any], ...]] = {
        "mode collapse": (_faster_critic(family), penalty, loss),
        "partial collapse": (_faster_critic(family), penalty, loss),
        "vanishing gradient": (_slower_critic(family, bounded), penalty, loss),
        "discriminator overpowering": (_slower_critic(family, bounded), penalty, loss),
        "oscillation": (penalty, slower, loss),
        "diverged": (_calmer(family) or slower, penalty, loss),
    }
    return tuple(Remedy(changes) for changes in ladders.get(kind, ()) if changes)


def _calmer(family: Adversarial) -> dict[str, Any]:
    """A generator whose learning rate begins at `FASTEST` at most."""
    begins = at(family.lr_g, 0.0)
    return {"lr_g": scaled(family.lr_g, FASTEST / begins)} if begins > 2 * FASTEST else {}


def _faster_critic(family: Adversarial) -> dict[str, Any]:
    return _calmer(family) | ({"lr_ratio": AFTER_COLLAPSE} if family.lr_ratio < AFTER_VICTORY else {})


def _slower_critic(family: Adversarial, bounded: bool) -> dict[str, Any]:
    """The critic keeps its learning rate, the generator catches up: what is left of the budget may be short."""
    changes = _calmer(family)
    if family.lr_ratio > AFTER_VICTORY:
        most = FASTEST / at(family.lr_g, 0.0)
        changes["lr_g"] = scaled(family.lr_g, min(family.lr_ratio / AFTER_VICTORY, most))
        changes["lr_ratio"] = AFTER_VICTORY
    if family.critic_steps > 1 and not bounded:
        changes["critic_steps"] = 1
    if family.loss == "minimax":
        changes["loss"] = "non_saturating"
    return changes
