"""The contract of runs, checkpoints and the catalogue, on every kind of store; and that any tool reads the
parts.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from orchestrator.errors import AlreadyExists, NotFound, StoreError, Superseded
from orchestrator.store import checkpoints
from orchestrator.store.ids import check_id, new_id
from orchestrator.store.objects import Objects, open_objects
from orchestrator.store.runs import Catalogue, Run, RunWriter

DOCS = Path(__file__).parents[1] / "docs" / "store.md"


@pytest.fixture
def objects(store_url: str) -> Objects:
    return open_objects(store_url)


def begin(objects: Objects, run_id: str = "", **document: Any) -> RunWriter:
    return RunWriter.create(
        objects, run_id or new_id(), {"name": "r3gan.digits", "family": "r3gan"} | document
    )


def columns(table: pa.Table, *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in table.to_pylist()]


# --- ids


def test_ids_sort_by_time_and_are_unique() -> None:
    moments = [datetime(2026, 11, 22, 1, 45, second, tzinfo=UTC) for second in range(10)]
    ids = [new_id(moment) for moment in moments]
    assert ids == sorted(ids)
    assert ids[0].startswith("20261122-014500-")
    assert [check_id(text) for text in ids] == ids
    assert len({new_id(moments[0]) for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    "text", ["", "../../etc", "20261122-014500-k3v9qa/..", "20261122-014500-K3V9QA", "latest"]
)
def test_what_is_not_an_id_never_becomes_a_path(text: str, file_store: str) -> None:
    objects = open_objects(file_store)
    with pytest.raises(NotFound, match="no run"):
        Run(objects, text)
    with pytest.raises(NotFound, match="no run"):
        RunWriter.attach(objects, text)


# --- what a table of runs shows


def test_a_run_tells_its_seed_its_newest_picture_and_since_when_its_verdict_holds(objects: Objects) -> None:
    writer = begin(objects, seed=7)
    for step, verdict in ((10, "healthy"), (20, "oscillation"), (30, "oscillation"), (40, "mode collapse")):
        writer.log(step, {"verdict": verdict})
        writer.log(step, {"fid": 1.0})
        writer.sample(step, b"png")
        if step == 30:
            writer.checkpoint(step, {"state": b"s"})
    writer.heartbeat(force=True)
    (row,) = Catalogue(objects).runs()
    assert (row["seed"], row["sample"], row["since"]) == (7, 40, 40)
    again = RunWriter.attach(objects, writer.run_id)
    again.log(40, {"verdict": "oscillation"})  # the spell from 40 on is lived again
    again.log(50, {"verdict": "mode collapse"})
    again.checkpoint(60, {"state": b"s"})
    again.heartbeat(force=True)
    last = RunWriter.attach(objects, writer.run_id)
    last.log(70, {"verdict": "mode collapse"})
    last.seal("collapsed", {"verdict": "mode collapse"})
    before = Catalogue(objects).runs()
    assert (before[0]["seed"], before[0]["sample"], before[0]["since"]) == (7, 40, 50)
    Catalogue(objects).compact()
    assert Catalogue(objects).runs() == before


# --- metrics


def test_a_run_reads_back_as_it_was_logged(objects: Objects) -> None:
    writer = begin(objects, sweep="s", params={"lr_d": 1e-3})
    writer.log(0, {"loss_d": 1, "verdict": "healthy", "collapsed": False})
    writer.log(5, {"loss_d": np.float32(0.5), "coverage": np.float64(0.75)})
    writer.log(5, {"fid": 12.0, "note": None})  # an evaluation of the same step joins its row
    writer.flush()
    writer.log(10, {"loss_d": float("nan"), "collapsed": np.bool_(True)})
    writer.seal("collapsed", {"verdict": "mode collapse"})
    run = Run(objects, writer.run_id)
    assert run.document() | {"created": 0} == {
        "id": writer.run_id, "created": 0, "name": "r3gan.digits", "family": "r3gan", "sweep": "s",
        "params": {"lr_d": 1e-3},
    }  # fmt: skip
    table = run.metrics()
    assert columns(table, "step", "attempt", "verdict", "collapsed", "fid") == [
        (0, 1, "healthy", False, None), (5, 1, None, None, 12.0), (10, 1, None, True, None),
    ]  # fmt: skip
    assert np.array_equal(table["loss_d"].to_numpy(), [1.0, 0.5, np.nan], equal_nan=True)
    assert {name: str(table.schema.field(name).type) for name in table.column_names} == {
        "step": "int64", "attempt": "int64", "time": "double", "loss_d": "double", "verdict": "string",
        "collapsed": "bool", "coverage": "double", "fid": "double",
    }  # fmt: skip
    sealed = run.sealed()
    assert sealed is not None
    assert sealed["metrics"] == {
        "loss_d": None, "verdict": "healthy", "collapsed": True, "coverage": 0.75, "fid": 12.0, "note": None,
    }  # fmt: skip


def test_a_run_without_rows_has_an_empty_curve(objects: Objects) -> None:
    writer = begin(objects)
    assert Run(objects, writer.run_id).metrics().column_names == ["step", "attempt", "time"]
    assert len(Run(objects, writer.run_id).metrics()) == 0


def test_rows_are_flushed_when_due_but_never_the_step_that_is_open(file_store: str) -> None:
    objects = open_objects(file_store)
    writer = begin(objects)
    writer.flush_seconds = 0
    writer.log(1, {"a": 1})
    writer.log(1, {"b": 2})
    assert objects.list(f"runs/{writer.run_id}/m") == []
    writer.log(2, {"a": 3})
    assert objects.list(f"runs/{writer.run_id}/m") == [
        f"runs/{writer.run_id}/m/a0001-000000000001-000000000001.parquet"
    ]
    assert columns(Run(objects, writer.run_id).metrics(), "step", "a", "b") == [(1, 1.0, 2.0)]


@pytest.mark.parametrize(
    ("step", "row", "message"),
    [
        (4, {"a": 1.0}, "step 4 came after step 5"),
        (5, {"a": 1.0}, "step 5 came after step 5"),
        (6, {"attempt": 1}, "'attempt': the store writes that column itself"),
        (6, {"a": "text"}, "'a' = 'text'"),
        (6, {"b": [1, 2]}, "'b' = \\[1, 2\\]"),
    ],
)
def test_a_row_that_no_table_could_hold_is_refused(
    step: int, row: dict[str, Any], message: str, file_store: str
) -> None:
    writer = begin(open_objects(file_store))
    writer.log(5, {"a": 1.0})
    writer.flush()
    with pytest.raises(ValueError, match=message):
        writer.log(step, row)


def test_a_later_attempt_wins_from_the_checkpoint_it_goes_on_from(objects: Objects) -> None:
    first = begin(objects)
    for step in (0, 10, 20, 30):
        first.log(step, {"loss": float(step)})
        if step == 10:
            first.checkpoint(10, {"w": b"10"})
    first.flush()
    second = RunWriter.attach(objects, first.run_id)
    assert (first.attempt, second.attempt, second.start) == (1, 2, 10)
    run = Run(objects, first.run_id)
    assert columns(run.metrics(), "step", "attempt") == [(0, 1), (10, 1)]  # also before it has logged
    for step in (20, 30, 40):
        second.log(step, {"loss": 100.0 + step, "new": 1.0})
    second.flush()
    rows = columns(run.metrics(), "step", "attempt", "loss")
    assert rows == [(0, 1, 0.0), (10, 1, 10.0), (20, 2, 120.0), (30, 2, 130.0), (40, 2, 140.0)]


def test_concurrent_attempts_take_different_numbers(objects: Objects) -> None:
    run_id = begin(objects).run_id
    with ThreadPoolExecutor(6) as pool:
        attempts = list(pool.map(lambda _: RunWriter.attach(objects, run_id).attempt, range(6)))
    assert sorted(attempts) == [2, 3, 4, 5, 6, 7]


# --- the end of a run


def test_a_run_is_sealed_once_and_then_closed(objects: Objects) -> None:
    writer = begin(objects)
    writer.seal("completed", {})
    with pytest.raises(AlreadyExists):
        writer.seal("failed", {})
    with pytest.raises(AlreadyExists, match="has ended"):
        RunWriter.attach(objects, writer.run_id)
    with pytest.raises(AlreadyExists):
        begin(objects, writer.run_id)
    run = Run(objects, writer.run_id)
    assert run.state() == "completed"
    assert run.live() is None


def test_an_attempt_that_was_overtaken_may_not_end_the_run(objects: Objects) -> None:
    first = begin(objects)
    second = RunWriter.attach(objects, first.run_id)
    with pytest.raises(Superseded, match=f"attempt 2, on host .* pid .*, has taken run {first.run_id} over"):
        first.seal("failed", {})
    second.seal("completed", {})
    assert Run(objects, first.run_id).state() == "completed"


def test_a_run_is_running_until_its_heartbeat_is_old(
    file_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = open_objects(file_store)
    writer = begin(objects)
    writer.log(7, {"loss": 0.5})
    writer.heartbeat(force=True, verdict="healthy")
    run = Run(objects, writer.run_id)
    live = run.live()
    assert live is not None
    assert (live["step"], live["metrics"], live["verdict"]) == (7, {"loss": 0.5}, "healthy")
    assert run.state() == "running"
    now = time.time()
    monkeypatch.setattr("orchestrator.store.reader.time.time", lambda: now + 61)
    assert run.state() == "lost"
    assert [(row["id"], row["state"]) for row in Catalogue(objects).runs()] == [(writer.run_id, "lost")]


def test_heartbeats_are_at_least_a_second_apart(file_store: str) -> None:
    objects = open_objects(file_store)
    writer = begin(objects)
    run = Run(objects, writer.run_id)
    before = run.live()
    for _ in range(10):
        writer.heartbeat()
    assert run.live() == before
    writer.heartbeat(force=True)
    assert run.live() != before


def test_a_resumed_run_begins_with_what_was_known(file_store: str) -> None:
    objects = open_objects(file_store)
    first = begin(objects)
    first.log(30, {"coverage": 0.9})
    first.heartbeat(force=True)
    second = RunWriter.attach(objects, first.run_id)
    live = Run(objects, first.run_id).live()
    assert live is not None
    assert (live["attempt"], live["step"], live["metrics"]) == (2, 30, {"coverage": 0.9})
    second.seal("stopped", {"metrics": {"fid": 3.0}})
    sealed = Run(objects, first.run_id).sealed()
    assert sealed is not None
    assert (sealed["step"], sealed["metrics"]) == (30, {"coverage": 0.9, "fid": 3.0})


def test_an_unknown_run_is_not_found(objects: Objects) -> None:
    run = Run(objects, new_id())
    for ask in (run.document, run.state, lambda: RunWriter.attach(objects, run.id)):
        with pytest.raises(NotFound, match=f"no run '{run.id}'.*`ganctl runs`"):
            ask()


# --- samples, files and checkpoints


def test_samples_and_files_are_kept_in_the_run(objects: Objects) -> None:
    writer = begin(objects)
    keys = [writer.sample(step, f"png {step}".encode()) for step in (20, 100, 20)]
    assert keys[0] == keys[2]
    assert Run(objects, writer.run_id).samples() == [(20, keys[0]), (100, keys[1])]
    assert objects.get(keys[1]) == b"png 100"
    key = writer.put_file("evaluation.json", b"{}")
    assert key == f"runs/{writer.run_id}/evaluation.json"
    with pytest.raises(AlreadyExists):
        writer.put_file("evaluation.json", b"{}")


def test_a_checkpoint_is_seen_only_once_it_is_committed(objects: Objects) -> None:
    writer = begin(objects)
    writer.log(10, {"loss": 1.0})
    writer.checkpoint(10, {"weights.safetensors": b"ten", "state.pt": b"state"})
    writer.put_file("checkpoints/000000000020-a0001/weights.safetensors", b"twe")  # killed before the marker
    run = Run(objects, writer.run_id)
    assert run.checkpoints() == [(10, 1)]
    assert run.read_checkpoint() == {"weights.safetensors": b"ten", "state.pt": b"state"}
    assert run.read_checkpoint(10)["state.pt"] == b"state"
    assert len(run.metrics()) == 1  # what was logged before survives with it
    with pytest.raises(NotFound, match="no finished checkpoint at step 20"):
        run.read_checkpoint(20)


def test_the_newest_checkpoints_and_the_kept_ones_stay(objects: Objects) -> None:
    writer = begin(objects)
    for step in (10, 20, 30, 40):
        writer.checkpoint(step, {"w": str(step).encode()}, keep=[10])
    run = Run(objects, writer.run_id)
    assert run.checkpoints() == [(10, 1), (30, 1), (40, 1)]
    assert objects.folders(f"runs/{writer.run_id}/checkpoints") == [
        "000000000010-a0001", "000000000030-a0001", "000000000040-a0001",
    ]  # fmt: skip


def test_a_later_attempt_clears_what_an_earlier_one_left_half_written_or_void(objects: Objects) -> None:
    first = begin(objects)
    first.checkpoint(10, {"w": b"10"})
    first.checkpoint(30, {"w": b"30"})
    folder = f"runs/{first.run_id}/checkpoints"
    objects.put(f"{folder}/000000000040-a0001/w", b"half")
    second = RunWriter.attach(objects, first.run_id)
    marker = checkpoints.write(objects, first.run_id, 35, 1, {"w": b"35"})
    checkpoints.commit(objects, first.run_id, marker | {"fid": None})  # by a machine that was cut off
    run = Run(objects, first.run_id)
    assert run.checkpoints() == [(10, 1), (30, 1)]
    second.checkpoint(40, {"w": b"of 2"})
    assert run.checkpoints() == [(30, 1), (40, 2)]
    assert run.read_checkpoint() == {"w": b"of 2"}
    assert objects.folders(folder) == ["000000000030-a0001", "000000000040-a0002"]


def test_the_checkpoint_with_the_best_fid_stays_also_for_a_later_attempt(objects: Objects) -> None:
    first = begin(objects)
    first.keep_best = True
    for step, fid in ((10, 9.0), (20, 3.0), (30, None), (40, 5.0), (50, None)):
        first.checkpoint(step, {"w": b""}, fid=fid)
    run = Run(objects, first.run_id)
    assert run.checkpoints() == [(20, 1), (40, 1), (50, 1)]
    assert run.best_checkpoint() == (20, 1)
    second = RunWriter.attach(objects, first.run_id)
    second.keep_best = True
    second.checkpoint(60, {"w": b""}, fid=4.0)
    second.checkpoint(70, {"w": b""}, fid=2.0)
    second.checkpoint(80, {"w": b""}, fid=7.0)
    assert run.checkpoints() == [(70, 2), (80, 2)]
    assert run.best_checkpoint() == (70, 2)


def test_a_damaged_checkpoint_is_refused(objects: Objects) -> None:
    writer = begin(objects)
    writer.checkpoint(10, {"w": b"ten"})
    objects.put(f"runs/{writer.run_id}/checkpoints/000000000010-a0001/w", b"net")
    with pytest.raises(StoreError, match="damaged"):
        Run(objects, writer.run_id).read_checkpoint()
