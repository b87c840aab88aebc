"""A retraining in words, for tables and pages."""

from __future__ import annotations

from orchestrator.retrain.retraining import Retraining


def triggers(retraining: Retraining) -> list[str]:
    """What fires a retraining, in words."""
    t = retraining.triggers
    said = [f"cron {t.cron} {t.timezone}"] if t.cron else []
    if t.data is not None:
        said.append(f"data: {t.data.at_least} items or more, looked for {t.data.every}")
    return said + [f"event {event.expect}" for event in t.events]


def starts(retraining: Retraining) -> str:
    """What a round begins with, in words."""
    searched = "the winner of a sweep, " if retraining.sweep is not None else ""
    return searched + ("from the champion's weights" if retraining.start == "champion" else "anew")


def budget(retraining: Retraining) -> str | None:
    """What a round may cost, in words; None where there is no limit."""
    b = retraining.budget
    said = [f"{b.hours:g} h a round"] if b.hours is not None else []
    said += [f"{b.rounds_a_day} rounds a day"] if b.rounds_a_day is not None else []
    return ", ".join(said) or None
