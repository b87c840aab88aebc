"""Search spaces that several recipes share."""

from __future__ import annotations

from orchestrator.sweep.space import Choice, Distribution, Int, LogUniform, Space


def balance() -> Space:
    """The learning-rate balance alone, the first thing to search."""
    return Space(
        {"gan.lr_ratio": LogUniform(low=0.1, high=10.0), "gan.lr_g": LogUniform(low=2e-4, high=2e-3)}
    )


def balance_and_loss() -> dict[str, Distribution]:
    """Balance, critic steps, loss, and the penalty's weight where the loss wants one."""
    return {
        "gan.lr_ratio": LogUniform(low=0.1, high=10.0),
        "gan.critic_steps": Int(low=1, high=2),
        "gan.loss": Choice(options=("hinge", "non_saturating", "relativistic")),
        "gan.r1": LogUniform(low=0.03, high=3.0, sets=("gan.r2",), when={"gan.loss": ("relativistic",)}),
    }


def conv_space() -> Space:
    """The same for strided convolutions, with width and normalisation."""
    return Space(
        {
            **balance_and_loss(),
            "gan.width": Choice(options=(12, 16, 24)),
            "gan.norm_g": Choice(options=("batch", "none")),
            "gan.norm_d": Choice(options=("none", "spectral")),
        }
    )
