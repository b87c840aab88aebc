"""Housekeeping deletes what its policy says and nothing else, whenever it is killed."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from orchestrator.errors import ConfigError
from orchestrator.housekeeping import Policy, parse_policy, plan, run
from orchestrator.store import checkpoints, summaries
from orchestrator.store.catalogue import Catalogue
from orchestrator.store.ids import new_id
from orchestrator.store.layout import (
    acknowledgement_key,
    audit_key,
    deck_key,
    idempotency_key,
    judgements_key,
)
from orchestrator.store.local import LocalObjects
from orchestrator.store.metrics import same
from orchestrator.store.objects import Objects, open_objects
from orchestrator.store.reader import Run
from orchestrator.store.writer import announce
from tests.support.retention import must_go, no_grace, protected, sealed_run
from tests.support.world import Checkpoint, Made, World

__all__ = ["no_grace"]


def contents(objects: Objects) -> dict[str, str]:
    return {
        k: hashlib.sha256(objects.get(k)).hexdigest() for k in objects.list("") if not k.startswith("live/")
    }


POLICIES = {
    "default": Policy(),
    "all": Policy(last_checkpoints_days=20, failed_days=0, sweeps_days=15, parts_days=0, checkpoints_days=3),
    "nothing": Policy.model_validate(dict.fromkeys(Policy.model_fields)),
}


@pytest.mark.parametrize(("num", "seed", "name"), [(500, 1, "default"), (120, 2, "all"), (60, 3, "nothing")])
def test_exactly_what_the_policy_says_is_deleted(
    file_store: str, num: int, seed: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects, policy = open_objects(file_store), POLICIES[name]
    world = World(objects, num, seed, monkeypatch)
    before, curves = contents(objects), {made.id: Run(objects, made.id).metrics() for made in world.sealed()}
    here = set(objects.list(""))
    planned = [item.key for item in plan(objects, policy, world.now).items]
    assert set(planned) == must_go(world, policy, compacted=False)
    assert len(planned) == len(set(planned))
    assert set(objects.list("")) == here  # a plan deletes nothing
    wanted = must_go(world, policy, compacted=True)
    report = run(objects, policy, delete=True, now=world.now)
    after = set(objects.list(""))
    assert here - after == wanted
    assert report.problems == []
    made = {key.partition("/")[0] for key in after - here}
    assert made == {"seg", "index", "snap"}  # the compaction
    assert len(after - here) == 3
    left = contents(objects)
    assert {k: v for k, v in left.items() if k in before} == {k: v for k, v in before.items() if k in after}
    assert {
        run_id for run_id, curve in curves.items() if not same(curve, Run(objects, run_id).metrics())
    } == set()
    assert len(Catalogue(objects).runs()) == sum(made.kind != "unannounced" for made in world.runs) + len(
        [m for m in world.runs if m.kind == "unannounced" and f"live/{m.id}.json" in after]
    )
    assert run(objects, policy, delete=True, now=world.now).total.objects == 0


@pytest.mark.parametrize("days", [2.5, 40.5])
@pytest.mark.parametrize("server", ["moto", "ceph"])
def test_exactly_what_the_policy_says_is_deleted_from_a_bucket(
    server: str, days: float, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = open_objects(request.getfixturevalue(f"{server}_store"))
    policy = POLICIES["all"]
    world = World(objects, 15, 4, monkeypatch)
    world.elapse(days)
    here = set(objects.list(""))
    planned = {item.key for item in plan(objects, policy, world.now).items}
    assert planned == must_go(world, policy, compacted=False)
    report = run(objects, policy, delete=True, now=world.now)
    assert here - set(objects.list("")) == must_go(world, policy, compacted=True)
    assert report.problems == []


# --- killed


class Killed(BaseException):
    """The process is gone."""


class Mortal(LocalObjects):
    """A store whose user is killed before its `left`-th change."""

    def __init__(self, root: Path, left: int) -> None:
        super().__init__(root)
        self.left = left

    def create(self, key: str, data: bytes) -> None:
        self._live()
        super().create(key, data)

    def put(self, key: str, data: bytes) -> None:
        self._live()
        super().put(key, data)

    def delete(self, key: str) -> None:
        self._live()
        super().delete(key)

    def _live(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed


def held(world: World) -> list[tuple[Made, Checkpoint]]:
    nothing = Policy()
    return [(m, c) for m in world.sealed() for c in m.finished if protected(world, nothing, m, c)]


def runs_of(objects: Objects) -> dict[str, Any]:
    """All but what a compaction names anew each time."""
    return {k: v for k, v in contents(objects).items() if not k.startswith(("seg/", "index/", "snap/"))}


def test_killed_at_any_point_the_next_housekeeping_finishes_and_nothing_referred_to_is_lost(
    file_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, policy = Path(file_store.removeprefix("file://")), POLICIES["all"]
    world = World(open_objects(file_store), 20, 5, monkeypatch)
    curves = {made.id: Run(world.objects, made.id).metrics() for made in world.sealed()}
    whole = LocalObjects(tmp_path / "whole")
    shutil.copytree(root, whole.root)
    changes = Mortal(whole.root, 10**6)
    run(changes, policy, delete=True, now=world.now)
    wanted, most = runs_of(whole), 10**6 - changes.left
    for left in range(0, most, max(most // 12, 1)):
        mortal = Mortal(tmp_path / f"killed-{left}", left)
        shutil.copytree(root, mortal.root)
        with pytest.raises(Killed):
            run(mortal, policy, delete=True, now=world.now)
        after = LocalObjects(mortal.root)
        assert all(same(curve, Run(after, run_id).metrics()) for run_id, curve in curves.items())
        run(after, policy, delete=True, now=world.now)
        assert runs_of(after) == wanted
        for made, checkpoint in held(world):
            checkpoints.read_span(after, made.id, (checkpoint.step, checkpoint.attempt))
        assert all(same(curve, Run(after, run_id).metrics()) for run_id, curve in curves.items())
    assert most > 50
    assert held(world)


# --- what is left alone


def test_a_promotion_that_cannot_be_read_keeps_every_checkpoint(file_store: str) -> None:
    objects = open_objects(file_store)
    run_id = sealed_run(objects)
    objects.put("models/faces/000001.json", b'{"number": 1')
    report = run(objects, Policy(checkpoints_days=0), delete=True)
    assert len(Run(objects, run_id).checkpoints()) == 3
    assert "promotion 1 of model faces cannot be read" in report.problems[0]


def test_parts_stay_where_the_segment_tells_another_curve(file_store: str) -> None:
    objects = open_objects(file_store)
    run_id, other = sealed_run(objects), sealed_run(objects)
    Catalogue(objects).compact()
    key = objects.list(f"runs/{run_id}/m")[0]
    objects.put(key, objects.get(objects.list(f"runs/{other}/m")[1]))
    before = objects.list(f"runs/{run_id}/m")
    report = run(objects, Policy(parts_days=0), delete=True)
    assert objects.list(f"runs/{run_id}/m") == before
    assert objects.list(f"runs/{other}/m") == []
    assert report.problems == [f"parts of run {run_id} stay: its segment tells another curve than they do"]


def test_curves_of_runs_compacted_by_an_older_version_are_read_from_segments(
    file_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = open_objects(file_store)
    run_id = sealed_run(objects)
    with monkeypatch.context() as patch:
        patch.setattr(summaries, "PLACE", {"segment": pa.string(), "row_group": pa.int64()})
        patch.setattr(summaries, "_flatten", _without_columns(summaries._flatten))
        Catalogue(objects).compact()
    curve = Run(objects, run_id).metrics()
    report = run(objects, Policy(parts_days=0), delete=True)
    assert (objects.list(f"runs/{run_id}/m"), report.problems) == ([], [])
    assert same(curve, Run(objects, run_id).metrics())


def _without_columns(flatten: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda summary: {k: v for k, v in flatten(summary).items() if k not in ("columns", "merged")}


def test_what_people_said_of_a_run_stays_as_long_as_the_run_does(file_store: str) -> None:
    objects = open_objects(file_store)
    kept, compacted, gone = new_id(), sealed_run(objects), new_id()
    Catalogue(objects).compact()
    for key in objects.list(f"runs/{compacted}"):
        objects.delete(key)
    announce(objects, kept, {"name": "kept"})
    said = {
        i: {acknowledgement_key(i, "mode-collapse"), judgements_key(i, new_id()), deck_key(i, new_id())}
        for i in (kept, compacted, gone)
    }
    audited = {audit_key(gone, "asked"), audit_key(gone, "outcome"), idempotency_key("0" * 64)}
    for key in set().union(*said.values(), audited):
        objects.put(key, b"{}")
    now = time.time() + 2 * 86_400
    assert run(objects, Policy(), delete=True, now=now - 86_400 * 1.5).total.objects == 0
    report = run(objects, Policy(), delete=True, now=now)
    there = set(objects.list("alarms") + objects.list("rate") + objects.list("audit"))
    assert there == said[kept] | said[compacted] | audited
    assert report.problems == []


def test_every_mistake_in_a_policy_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_policy({"failed_day": 1, "parts_days": -1, "orphans_days": 0})
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert "did you mean `failed_days`?" in str(caught.value)
    assert parse_policy({"failed_days": None}).failed_days is None
