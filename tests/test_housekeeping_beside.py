"""Housekeeping beside others: who promotes, begins, compacts or cleans up meanwhile wins, and loses nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from orchestrator.errors import AlreadyExists, NotFound
from orchestrator.housekeeping import Policy, run, work
from orchestrator.housekeeping.inventory import EXPIRED
from orchestrator.registry import Candidate, Registry
from orchestrator.registry.records import encode as encode_promotion
from orchestrator.store import checkpoints
from orchestrator.store.catalogue import Catalogue
from orchestrator.store.documents import encode
from orchestrator.store.ids import new_id
from orchestrator.store.layout import RUNS
from orchestrator.store.local import LocalObjects
from orchestrator.store.objects import Entry, Objects, open_objects
from orchestrator.store.reader import Run
from orchestrator.store.writer import RunWriter, announce
from tests.support.retention import WEIGHTS, no_grace, sealed_run
from tests.support.world import promotion

__all__ = ["no_grace"]


class Shared(LocalObjects):
    """A store where somebody else acts, once."""

    def __init__(self, root: Path, act: Callable[[Objects], None]) -> None:
        super().__init__(root)
        self.act: Callable[[Objects], None] | None = act

    def let_act(self) -> None:
        if self.act is not None:
            act, self.act = self.act, None
            act(LocalObjects(self.root))


class Hooked(Shared):
    """Somebody else acts when a checkpoint has been taken out of sight."""

    def delete(self, key: str) -> None:
        super().delete(key)
        if key.endswith("/commit.json"):
            self.let_act()


def promoting(run_id: str) -> Callable[[Objects], None]:
    """What a promoter does that has looked at the checkpoint before it went out of sight."""
    data = encode_promotion(promotion("faces", 1, run_id, 20, 1))
    return lambda objects: objects.create("models/faces/000001.json", data)


def beginning(run_id: str) -> Callable[[Objects], None]:
    """A run that starts from the checkpoint, announced meanwhile."""
    document = {"name": "next", "experiment": {"start": f"{run_id}@20"}}
    return lambda objects: announce(objects, new_id(), document)


def rounds(run_id: str) -> Callable[[Objects], None]:
    """A round of a retraining that starts from the checkpoint."""
    begun, attempt = {"fingerprint": "0" * 16}, {"run_id": new_id(), "start": f"{run_id}@20"}

    def act(objects: Objects) -> None:
        objects.create("retrain/faces/rounds/000001/begun.json", encode(begun))
        objects.create("retrain/faces/rounds/000001/attempt-1.json", encode(attempt))

    return act


@pytest.mark.parametrize("actor", [promoting, beginning, rounds])
def test_who_refers_to_a_checkpoint_while_it_is_taken_away_gets_it_back(
    actor: Callable[[str], Callable[[Objects], None]], file_store: str
) -> None:
    root = Path(file_store.removeprefix("file://"))
    objects = LocalObjects(root)
    run_id = sealed_run(objects)
    report = run(Hooked(root, actor(run_id)), Policy(checkpoints_days=0), delete=True)
    assert Run(objects, run_id).checkpoints() == [(20, 1), (30, 1)]
    assert checkpoints.read_span(objects, run_id, (20, 1)) == WEIGHTS
    assert report.restored == [f"runs/{run_id}/checkpoints/000000000020-a0001"]
    assert not [key for key in objects.list("") if key.endswith(EXPIRED)]


def test_what_is_out_of_sight_since_an_earlier_housekeeping_was_killed_comes_back_when_it_is_to_stay(
    file_store: str,
) -> None:
    objects = open_objects(file_store)
    run_id = sealed_run(objects)
    folder = f"runs/{run_id}/checkpoints/000000000010-a0001"
    objects.put(f"{folder}/{EXPIRED}", objects.get(f"{folder}/commit.json"))
    objects.delete(f"{folder}/commit.json")
    assert Run(objects, run_id).checkpoints() == [(20, 1), (30, 1)]
    assert run(objects, Policy()).restored == [folder]
    assert Run(objects, run_id).checkpoints() == [(20, 1), (30, 1)]  # nobody asked to
    run(objects, Policy(), delete=True)
    assert checkpoints.read_span(objects, run_id, (10, 1)) == WEIGHTS


class Listed(Shared):
    """Somebody else acts when the runs have been listed."""

    def entries(self, prefix: str) -> list[Entry]:
        found = super().entries(prefix)
        if prefix == RUNS:
            self.let_act()
        return found


NOTHING, COPIED, HIDDEN, DELETED = range(4)  # how far another housekeeping is with a checkpoint


@pytest.mark.parametrize("before", [NOTHING, COPIED])
@pytest.mark.parametrize("after", [COPIED, HIDDEN, DELETED])
def test_a_checkpoint_that_another_housekeeping_is_deleting_is_not_taken_for_an_unfinished_one(
    file_store: str, before: int, after: int
) -> None:
    objects = open_objects(file_store)
    run_id = sealed_run(objects)
    folder = f"runs/{run_id}/checkpoints/000000000010-a0001"
    weights = f"{folder}/weights.safetensors"

    def other(done: int, until: int) -> None:
        if done < COPIED <= until:
            objects.put(f"{folder}/{EXPIRED}", objects.get(f"{folder}/commit.json"))
        if done < HIDDEN <= until:
            objects.delete(f"{folder}/commit.json")
        if done < DELETED <= until:
            for key in objects.list(folder):
                objects.delete(key)

    other(NOTHING, before)
    listed = Listed(Path(file_store.removeprefix("file://")), lambda _: other(before, after))
    policy, now = Policy(checkpoints_days=None, orphans_days=1), time.time() + 2 * 86_400
    report = run(listed, policy, delete=True, now=now)
    assert report.problems == []
    assert listed.act is None
    assert objects.exists(weights) == (after != DELETED)
    finished = [(10, 1), (20, 1), (30, 1)]
    whole = after != DELETED and COPIED in (before, after)  # what was listed as hidden comes back
    assert Run(objects, run_id).checkpoints() == finished[0 if whole else 1 :]


def test_promoters_compactors_and_runs_that_end_are_not_disturbed(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "GRACE", 1.0)
    objects = open_objects(store_url)
    old = [sealed_run(objects) for _ in range(6)]
    ids = list(old)
    policy, over_ = Policy(checkpoints_days=0, failed_days=0, parts_days=0), threading.Event()
    resumed = RunWriter.create(objects, new_id(), {"name": "resumed", "experiment": {}})
    resumed.log(10, {"loss": 1.0})
    resumed.checkpoint(10, WEIGHTS)
    promoted: list[tuple[str, int]] = []

    def promoter(name: str) -> None:
        registry, number = Registry(open_objects(store_url)), 0
        for run_id in old:
            for step in (10, 20):
                with suppress(NotFound, AlreadyExists):  # out of sight already
                    number = registry.promote(name, Candidate(run_id, step), number, "by hand").number
                    promoted.append((run_id, step))
                time.sleep(0.02)

    def others() -> None:
        mine = open_objects(store_url)
        while not over_.is_set():
            ids.append(sealed_run(mine, (10,)))
            Catalogue(mine).compact()
        RunWriter.attach(mine, resumed.run_id).seal("completed", {})

    threads = [threading.Thread(target=promoter, args=(name,), daemon=True) for name in ("a", "b", "c")]
    threads.append(threading.Thread(target=others, daemon=True))
    keepers = [
        threading.Thread(target=run, args=(open_objects(store_url), policy, True), daemon=True)
        for _ in range(2)
    ]
    for thread in (*threads, *keepers):
        thread.start()
    for thread in (*threads[:3], *keepers):
        thread.join()
    over_.set()
    threads[3].join()
    registry = Registry(objects)
    assert [problem for name in registry.names() for problem in registry.problems(name)] == []
    assert promoted
    for run_id, step in promoted:
        checkpoints.read_span(objects, run_id, (step, 1))
    for run_id in ids:
        curve = Run(objects, run_id).metrics()
        assert curve["loss"].to_pylist() == [1.0 / step for step in curve["step"].to_pylist()]
        assert len(curve) in (1, 3)
    assert Run(objects, resumed.run_id).read_checkpoint(10) == WEIGHTS
    assert not [key for key in objects.list("") if key.endswith(EXPIRED)]
    assert {row["id"] for row in Catalogue(objects).runs()} == {*ids, resumed.run_id}
