"""The oracle of housekeeping: the policy's text once more, judged from the facts of a made-up store; a small run."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.housekeeping import Policy, work
from orchestrator.store.ids import new_id
from orchestrator.store.objects import Objects
from orchestrator.store.writer import RunWriter
from tests.support.world import Checkpoint, Made, World


@pytest.fixture(autouse=True)
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "GRACE", 0.0)


WEIGHTS = {"weights.safetensors": b"weights", "state.json": b"{}"}


def over(age: float, days: float | None) -> bool:
    return days is not None and age >= days


def protected(world: World, policy: Policy, made: Made, checkpoint: Checkpoint) -> bool:
    if (made.id, checkpoint.step, checkpoint.attempt) in world.promoted:
        return True
    if (made.id, checkpoint.step) in world.steps:
        return True
    if checkpoint.kind != "finished":
        return False
    for sweep_id, sweep in world.sweeps.items():
        few = sweep["finished"] and over(sweep["age"], policy.sweeps_days)
        if made.id in (sweep["best"] if few else sweep["runs"]) or (made.sweep == sweep_id and not few):
            return True
    return made.id in world.whole


def expired(policy: Policy, made: Made, checkpoint: Checkpoint) -> bool:
    if checkpoint.kind != "finished":
        return over(checkpoint.age, policy.orphans_days)
    if made.state != "completed":
        return over(made.ended, policy.failed_days)
    newest = max(made.finished, key=lambda c: (c.step, c.attempt))
    scored = [c for c in made.finished if c.fid is not None]
    best = min((c.fid for c in scored), default=None)
    if checkpoint is newest or (best is not None and checkpoint.fid == best):
        return over(made.ended, policy.last_checkpoints_days)
    return over(made.ended, policy.checkpoints_days)


def must_go(world: World, policy: Policy, compacted: bool) -> set[str]:
    """Every key that housekeeping is to delete; `compacted` where it compacts first."""
    gone: set[str] = set()
    for made in world.runs:
        if made.kind == "unannounced":
            referred = made.id in world.whole
            gone |= (
                set(made.keys)
                if over(min(made.keys.values()), policy.orphans_days) and not referred
                else set()
            )
        if made.kind != "sealed":
            continue
        for checkpoint in made.checkpoints:
            if expired(policy, made, checkpoint) and not protected(world, policy, made, checkpoint):
                gone |= set(checkpoint.keys)
        merged = world.elapsed if made.merged is None and compacted else made.merged
        if merged and over(merged, policy.parts_days):
            gone |= set(made.parts)
        if compacted:
            gone |= {f"done/{made.id}.json", f"live/{made.id}.json"} & set(world.ages)
    gone |= {
        key for key, last in world.digests.items() if over(world.ages[key], policy.digests_days) and not last
    }
    gone |= {
        key for key in world.ages if key.startswith(".ganctl") and over(world.ages[key], policy.orphans_days)
    }
    return gone | replaced(world, policy, compacted)


def replaced(world: World, policy: Policy, compacted: bool) -> set[str]:
    """Snapshots that were replaced long enough ago, and segments and indexes that have been named by none since.

    A compaction replaces the last of them now, `world.elapsed` days after it was made.
    """
    gone: set[str] = set()
    ends = [age for _, age, _ in world.snapshots[1:]] + ([world.elapsed] if compacted else [])
    for key in world.ages.keys() | {name for _, _, names in world.snapshots for name in names}:
        if not key.startswith(("seg/", "index/")):
            continue
        naming = [place for place, (_, _, names) in enumerate(world.snapshots) if key in names]
        if not naming:
            gone |= {key} if over(world.ages[key], policy.orphans_days) else set()
        elif naming[-1] < len(ends) and over(ends[naming[-1]], policy.orphans_days):
            gone.add(key)
    return gone | {
        key for (key, _, _), end in zip(world.snapshots, ends, strict=False) if over(end, policy.orphans_days)
    }


def sealed_run(objects: Objects, steps: tuple[int, ...] = (10, 20, 30), **head: Any) -> str:
    """A run that completed, with a checkpoint at each step."""
    writer = RunWriter.create(objects, new_id(), {"name": "made", "experiment": {"start": None}} | head)
    writer.keep_last = 10
    for step in steps:
        writer.log(step, {"loss": 1.0 / step})
        writer.checkpoint(step, WEIGHTS)
    writer.seal("completed", {})
    return writer.run_id
