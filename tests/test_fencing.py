"""Of two attempts the later one writes the run: what the earlier one goes on writing is not seen by anybody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.errors import AlreadyExists, Superseded
from orchestrator.launch import submit
from orchestrator.recipes import load
from orchestrator.store import attempts, checkpoints
from orchestrator.store.ids import new_id
from orchestrator.store.objects import Objects, open_objects
from orchestrator.store.outbox import Outbox
from orchestrator.store.runs import Catalogue, Run, RunWriter
from tests.support.threads import one_thread

__all__ = ["one_thread"]


@pytest.fixture
def objects(store_url: str) -> Objects:
    return open_objects(store_url)


def train(writer: RunWriter, steps: range) -> None:
    """Log every step; every 20th leaves a checkpoint that names its attempt."""
    for step in steps:
        writer.log(step, {"loss": float(writer.attempt)})
        if step % 20 == 0:
            writer.checkpoint(step, {"w": f"{step} of {writer.attempt}".encode()})


def curve(run: Run) -> list[tuple[int, int]]:
    return [(row["step"], row["attempt"]) for row in run.metrics().to_pylist()]


class Zombie(RunWriter):
    """An attempt whose machine was cut off: it does not learn that another has begun."""

    def _require_newest(self) -> None:
        return None


def test_what_a_zombie_goes_on_writing_is_not_seen(objects: Objects) -> None:
    run_id = RunWriter.create(objects, new_id(), {}).run_id
    zombie = Zombie.attach(objects, run_id)
    zombie.keep_last = 100
    train(zombie, range(10, 50, 10))
    zombie.flush()
    run = Run(objects, run_id)
    second = RunWriter.attach(objects, run_id)
    assert second.start == 40
    train(zombie, range(50, 90, 10))  # a checkpoint at 60 and 80, before the second's first row
    zombie.flush()
    assert run.checkpoints() == [(20, 2), (40, 2)]
    assert curve(run) == [(10, 2), (20, 2), (30, 2), (40, 2)]
    assert run.read_checkpoint() == {"w": b"40 of 2"}

    train(second, range(50, 70, 10))
    second.log(70, {"loss": 3.0})
    second.flush()  # and then it dies
    train(zombie, range(90, 130, 10))
    third = RunWriter.attach(objects, run_id)
    assert third.start == 60
    train(third, range(70, 110, 10))
    third.seal("completed", {})
    with pytest.raises(AlreadyExists):
        zombie.seal("failed", {})
    expected = [(s, 2) for s in (10, 20, 30, 40)] + [(50, 3), (60, 3)] + [(s, 4) for s in (70, 80, 90, 100)]
    assert curve(run) == expected
    assert run.read_checkpoint() == {"w": b"100 of 4"}
    assert run.state() == "completed"
    assert [(row["id"], row["state"], row["step"]) for row in Catalogue(objects).runs()] == [
        (run_id, "completed", 100)
    ]


WRITES: dict[str, Callable[[RunWriter], Any]] = {
    "rows": lambda writer: writer.flush(),
    "a picture": lambda writer: writer.sample(50, b"png"),
    "a file": lambda writer: writer.put_file("notes.json", b"{}"),
    "a checkpoint": lambda writer: writer.checkpoint(50, {"w": b""}),
    "a heartbeat": lambda writer: writer.heartbeat(force=True),
    "how it stands": lambda writer: writer.leave("interrupted"),
    "the end": lambda writer: writer.seal("completed", {}),
}


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_an_attempt_that_was_overtaken_writes_nothing_more(
    write: Callable[[RunWriter], Any], background: bool, file_store: str
) -> None:
    objects = open_objects(file_store)
    run_id = RunWriter.create(objects, new_id(), {}).run_id
    first = RunWriter.attach(objects, run_id, Outbox() if background else None)
    first.log(50, {"loss": 1.0})
    first.drain()
    RunWriter.attach(objects, run_id)
    before = {key: objects.get(key) for key in objects.list("")}

    def write_and_wait() -> None:
        write(first)
        first.drain()

    with pytest.raises(Superseded, match="attempt 3, on host"):
        write_and_wait()
    assert {key: objects.get(key) for key in objects.list("")} == before


def test_a_zombie_that_looked_just_before_deletes_nothing_that_is_needed(objects: Objects) -> None:
    """Each of its writes is preceded by a look, so that at most one whole checkpoint rests on an old answer."""
    first = Zombie.attach(objects, RunWriter.create(objects, new_id(), {}).run_id)
    first.keep_last = 1
    train(first, range(10, 50, 10))
    second = RunWriter.attach(objects, first.run_id)
    first.checkpoint(60, {"w": b"void"})
    assert second.start == 40
    assert Run(objects, first.run_id).read_checkpoint() == {"w": b"40 of 2"}


def test_an_attempt_starts_at_the_newest_checkpoint_that_counts(objects: Objects) -> None:
    run_id = RunWriter.create(objects, new_id(), {}).run_id
    assert attempts.starts(objects, run_id) == [0]
    first = RunWriter.attach(objects, run_id)
    train(first, range(10, 50, 10))
    assert attempts.starts(objects, run_id) == [0, 0]
    assert [RunWriter.attach(objects, run_id).start for _ in range(2)] == [40, 40]
    assert attempts.starts(objects, run_id) == [0, 0, 40, 40]


def test_a_resume_may_not_log_what_its_checkpoint_holds(file_store: str) -> None:
    objects = open_objects(file_store)
    first = RunWriter.create(objects, new_id(), {})
    train(first, range(10, 50, 10))
    second = RunWriter.attach(objects, first.run_id)
    with pytest.raises(ValueError, match="step 40 came after step 40"):
        second.log(40, {"loss": 0.0})


def test_a_run_sealed_just_while_another_attempt_began_is_read_as_it_was_sealed(file_store: str) -> None:
    objects = open_objects(file_store)
    run_id = RunWriter.create(objects, new_id(), {}).run_id
    first = Zombie.attach(objects, run_id)
    train(first, range(10, 50, 10))
    checkpoints_before = Run(objects, run_id).checkpoints()
    train(first, range(50, 70, 10))
    attempts.begin(objects, run_id, [0, 0, 40], workers=1)
    first.seal("completed", {})
    assert checkpoints_before[-1] == (40, 2)
    assert Run(objects, run_id).checkpoints()[-1] == (60, 2)
    assert curve(Run(objects, run_id))[-1] == (60, 2)
    with pytest.raises(AlreadyExists, match="has ended"):
        RunWriter.attach(objects, run_id)


def test_a_marker_without_its_turn_is_no_checkpoint(file_store: str) -> None:
    """A zombie that was half-way through uploading when the next attempt began commits it later."""
    objects = open_objects(file_store)
    first = RunWriter.create(objects, new_id(), {})
    train(first, range(10, 30, 10))
    marker = checkpoints.write(objects, first.run_id, 40, 1, {"w": b"40"})
    assert RunWriter.attach(objects, first.run_id).start == 20
    checkpoints.commit(objects, first.run_id, marker | {"fid": None})
    assert Run(objects, first.run_id).checkpoints() == [(20, 1)]


def test_a_run_that_is_taken_up_elsewhere_ends_here_and_says_where_it_went(
    one_thread: None, file_store: str
) -> None:
    fields = {"gan.width": 16, "data.num": 500, "train.steps": 10**6, "train.log_every": 10}
    rare = {"train.evaluate_every": 0, "train.sample_every": 0, "train.checkpoint_every": 20}
    job = submit(load("vanilla.ring").override(fields | rare), file_store)
    objects = open_objects(file_store)
    run, others = Run(objects, job.run_id), list[RunWriter]()

    def take_over(beat: dict[str, Any]) -> None:
        if not others and run.checkpoints():
            others.append(RunWriter.attach(objects, job.run_id))

    with pytest.raises(Superseded, match=f"attempt 2, on host .*, has taken run {job.run_id} over") as caught:
        job.wait(take_over)
    assert caught.value.exit_code == 7
    assert run.metrics()["step"].to_pylist() == list(range(10, others[0].start + 1, 10))
    assert run.checkpoints()[-1] == (others[0].start, 1)
    live = run.live()
    assert live is not None
    assert (live["attempt"], live["state"]) == (2, "running")
