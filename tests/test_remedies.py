"""Advice of the two-player families: what is tried first, what after that, and what is left out."""

from __future__ import annotations

import pytest

from gans.adversarial import Adversarial
from gans.families.r3gan import R3GAN
from gans.families.vanilla import Vanilla
from gans.families.wgan import WGAN
from gans.families.wgan_gp import WGANGP
from gans.health import Verdict
from gans.schedule import Cosine, at

SICK = [kind for kind in Verdict.KINDS if kind != "healthy"]
FAMILIES: list[Adversarial] = [
    Vanilla(lr_ratio=0.2),
    Vanilla(loss="minimax", critic_steps=5, lr_ratio=20.0),
    Vanilla(loss="relativistic", r1=0.5, r2=0.5, lr_ratio=2.0),
    Vanilla(lr_g=Cosine(start=0.1, end=0.01)),
    WGAN(),
    WGANGP(lr_ratio=0.5),
    R3GAN(),
]


def first(family: Adversarial, kind: str) -> dict[str, object]:
    return dict(family.remedies(kind)[0].changes)


@pytest.mark.parametrize("kind", ["mode collapse", "partial collapse"])
def test_a_collapse_is_answered_by_balance_then_penalty_then_loss(kind: str) -> None:
    family = Vanilla(loss="hinge", lr_ratio=0.2, betas=(0.5, 0.999))
    tried = []
    while advice := family.remedies(kind):
        tried.append(set(advice[0].changes))
        family = family.with_changes(advice[0].changes)
    assert tried == [{"lr_ratio"}, {"r1", "r2"}, {"loss", "betas", "r1", "r2"}]
    assert family.lr_ratio >= 2
    assert (family.loss, family.penalised) == ("relativistic", True)


def test_all_that_may_help_is_listed_least_effort_first() -> None:
    said = [r.said(Vanilla(lr_ratio=0.2)) for r in Vanilla(lr_ratio=0.2).remedies("mode collapse")]
    assert said[:2] == ["raise gan.lr_ratio from 0.2 to 3", "set gan.r1=0.5, set gan.r2=0.5"]
    assert "gan.loss=relativistic" in said[2]


def test_a_healthy_run_gets_no_advice() -> None:
    assert all(family.remedies("healthy") == () for family in FAMILIES)


@pytest.mark.parametrize("kind", SICK)
@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f"{type(f).__name__}-{f.lr_ratio}")
def test_every_remedy_changes_something_and_is_accepted(family: Adversarial, kind: str) -> None:
    for remedy in family.remedies(kind):
        assert family.with_changes(remedy.changes) != family
        assert remedy.said(family)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f"{type(f).__name__}-{f.lr_ratio}")
def test_a_remedy_keeps_the_networks_and_who_is_trained(family: Adversarial) -> None:
    for kind in SICK:
        for remedy in family.remedies(kind):
            changed = family.with_changes(remedy.changes)
            assert {p.trains for p in changed.phases()} == {p.trains for p in family.phases()}
            assert not remedy.changes.keys() & {"width", "depth", "norm_g", "norm_d", "latent_dim"}


def test_weights_of_a_penalty_that_is_there_are_kept() -> None:
    family = Vanilla(lr_ratio=3.0, r1=0.1)
    (loss,) = family.remedies("mode collapse")
    assert (loss.changes["r1"], loss.changes["r2"]) == (0.1, 0.5)


def test_a_generator_that_moves_too_fast_is_slowed_with_its_schedule() -> None:
    family = Vanilla(lr_g=Cosine(start=0.1, end=0.01), lr_ratio=3.0)
    slowed = family.with_changes(first(family, "mode collapse")).lr_g
    assert (at(slowed, 0.0), at(slowed, 1.0)) == pytest.approx((1e-3, 1e-4))


@pytest.mark.parametrize("kind", ["vanishing gradient", "discriminator overpowering"])
def test_after_the_critic_won_the_generator_catches_up(kind: str) -> None:
    before = Vanilla(loss="minimax", critic_steps=5, lr_ratio=20.0, lr_g=5e-5)
    after = before.with_changes(first(before, kind))
    assert (after.loss, after.critic_steps, after.lr_ratio) == ("non_saturating", 1, 2.0)
    assert at(after.lr_g, 0.0) * after.lr_ratio == pytest.approx(5e-5 * 20)


def test_divergence_lowers_the_learning_rate_time_after_time() -> None:
    family = Vanilla(lr_g=0.05)
    rates = []
    for _ in range(3):
        family = family.with_changes(first(family, "diverged"))
        rates.append(at(family.lr_g, 0.0))
    assert rates == pytest.approx([1e-3, 5e-4, 2.5e-4])


@pytest.mark.parametrize("family", [WGAN(lr_ratio=0.5), WGANGP(lr_ratio=0.5)])
def test_a_wasserstein_critic_keeps_its_loss_its_bound_and_its_steps(family: Adversarial) -> None:
    assert first(family, "mode collapse") == {"lr_ratio": 3.0}
    for kind in SICK:
        for remedy in family.remedies(kind):
            assert remedy.changes.keys() <= {"lr_ratio", "lr_g"}
