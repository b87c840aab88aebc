"""The contract of the catalogue and its compaction on every kind of store, and that any tool reads the
files.
"""

import io
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from gans.data.base import LocalFiles
from gans.errors import DataError
from orchestrator.errors import NotFound
from orchestrator.store import catalogue, metrics
from orchestrator.store.files import files_for
from orchestrator.store.ids import new_id
from orchestrator.store.layout import live_key
from orchestrator.store.objects import Objects, open_objects
from orchestrator.store.runs import Catalogue, Run, RunWriter
from tests.test_store import at_once

DOCS = Path(__file__).parents[1] / "docs" / "store.md"


@pytest.fixture
def objects(store_url: str) -> Objects:
    return open_objects(store_url)


def sealed_run(objects: Objects, number: int = 0, **row: Any) -> str:
    document = {
        "name": f"run {number}",
        "family": "wgan",
        "sweep": "s1",
        "params": {"lr_d": 1e-3, "norm": "batch"},
    }
    writer = RunWriter.create(objects, new_id(), document)
    writer.log(1, {"loss": float(number)} | row)
    writer.log(2, {"loss": number + 0.5} | row)
    writer.seal("completed", {"verdict": "healthy", "metrics": {"fid": 10.0 + number}})
    return writer.run_id


def states(objects: Objects) -> dict[str, str]:
    return {row["id"]: row["state"] for row in Catalogue(objects).runs()}


def test_every_run_is_listed_at_each_stage_of_its_life(objects: Objects) -> None:
    assert Catalogue(objects).runs() == []
    compacted = sealed_run(objects, 1)
    Catalogue(objects).compact()
    done = sealed_run(objects, 2)
    live = RunWriter.create(objects, new_id(), {"name": "live"}).run_id
    rows = Catalogue(objects).runs()
    assert {row["id"]: row["state"] for row in rows} == {
        compacted: "completed", done: "completed", live: "running",
    }  # fmt: skip
    assert [row["id"] for row in rows] == [live, done, compacted]
    by_id = {row["id"]: row for row in rows}
    same = {"created", "time", "id", "name", "metrics"}
    assert {k: v for k, v in by_id[compacted].items() if k not in same} == {
        k: v for k, v in by_id[done].items() if k not in same
    }
    assert by_id[compacted]["metrics"] == {"loss": 1.5, "fid": 11.0}
    assert by_id[compacted]["params"] == {"lr_d": 1e-3, "norm": "batch"}
    assert (by_id[live]["family"], by_id[live]["metrics"]) == (None, {})


def test_listing_runs_never_lists_their_folder(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed_run(objects)
    Catalogue(objects).compact()
    sealed_run(objects)
    asked: list[str] = []
    real = type(objects).list

    def record(self: Objects, prefix: str) -> list[str]:
        asked.append(prefix)
        return real(self, prefix)

    monkeypatch.setattr(type(objects), "list", record)
    assert len(Catalogue(objects).runs()) == 2
    assert asked == ["live", "done", "snap"]


def test_compaction_keeps_curves_and_clears_what_it_took(objects: Objects) -> None:
    ids = [sealed_run(objects, number, extra="text" if number else 1.0) for number in range(3)]
    snapshot = Catalogue(objects).compact()
    assert snapshot.number == 1
    assert objects.list("done") == objects.list("live") == []
    table = pq.read_table(io.BytesIO(objects.get(snapshot.segments[0].key)))
    assert table.column_names[:4] == ["run", "step", "attempt", "time"]
    for run_id in ids:
        curve = Run(objects, run_id).metrics()
        rows = [row for row in table.to_pylist() if row["run"] == run_id]
        assert [row["loss"] for row in rows] == curve["loss"].to_pylist()
    assert [row["run"] for row in table.to_pylist()] == sorted(id for id in ids for _ in range(2))
    assert Catalogue(objects).compact() == snapshot  # nothing new, nothing written
    assert objects.list("snap") == ["snap/00000001.json"]


def test_without_its_parts_a_run_has_the_very_same_curve(objects: Objects) -> None:
    """Also where runs disagree on a column's type, and through a second compaction, which merges the segments."""
    odd = [0.1, -0.0, 1e22, 5e-324, float("inf"), float("nan")]
    ids = [sealed_run(objects, number, extra=value) for number, value in enumerate(odd)]
    ids += [sealed_run(objects, 9, extra="text", b=True), sealed_run(objects, 8, a="x"), sealed_run(objects)]
    curves = {run_id: Run(objects, run_id).metrics() for run_id in ids}
    Catalogue(objects).compact()
    ids.append(sealed_run(objects, 7, a=1.0))
    Catalogue(objects).compact()
    for run_id, curve in curves.items():
        keys = objects.list(f"runs/{run_id}/m")
        for key in keys:
            objects.delete(key)
        read = Run(objects, run_id).metrics()
        assert read.schema == curve.schema
        assert metrics.to_parquet(read) == metrics.to_parquet(curve)
        assert metrics.same(read, curve)
    late = Run(objects, sealed_run(objects))
    for key in objects.list(f"runs/{late.id}/m"):
        objects.delete(key)
    with pytest.raises(NotFound, match="lacks metric parts"):
        late.metrics()


def test_small_segments_are_merged_and_full_ones_stay(
    file_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "RUNS_PER_GROUP", 2)
    objects = open_objects(file_store)
    ids = []
    for counts in (1, 4, 1):  # 1; 1 + 4 merged and full; 1 beside it
        ids += [sealed_run(objects, number) for number in range(counts)]
        snapshot = Catalogue(objects).compact()
    assert [segment.runs for segment in snapshot.segments] == [5, 1]
    index = pq.read_table(io.BytesIO(objects.get(snapshot.index))).to_pylist()
    assert [row["id"] for row in index] == sorted(ids)
    for row in index:  # a curve is one row group away
        segment = pq.ParquetFile(io.BytesIO(objects.get(row["segment"])))
        assert row["id"] in segment.read_row_group(row["row_group"])["run"].to_pylist()


def test_concurrent_compactors_lose_and_double_nothing(objects: Objects) -> None:
    ids = [sealed_run(objects, number) for number in range(4)]
    numbers = at_once(lambda _: str(Catalogue(open_objects(objects.url)).compact().number), 2)
    ids.append(sealed_run(objects, 9))
    numbers += at_once(lambda _: str(Catalogue(open_objects(objects.url)).compact().number), 2)
    assert numbers == ["1", "1", "2", "2"]
    snapshot = Catalogue(objects).snapshot()
    index = pq.read_table(io.BytesIO(objects.get(snapshot.index)))
    assert index["id"].to_pylist() == sorted(ids)
    assert sum(segment.runs for segment in snapshot.segments) == 5
    assert states(objects) == dict.fromkeys(ids, "completed")
    assert len(objects.list("seg")) == len(objects.list("index")) == 2  # the losers cleaned up


def test_a_run_killed_while_it_was_sealing_is_found(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = sealed_run(objects)
    objects.delete(f"done/{run_id}.json")  # as if killed right after sealed.json
    objects.put(f"live/{run_id}.json", b'{"id": "%s", "time": 0, "state": "running"}' % run_id.encode())
    assert states(objects) == {run_id: "completed"}
    Catalogue(objects).compact()
    assert states(objects) == {run_id: "completed"}
    assert objects.list("live") == []


def test_a_late_heartbeat_does_not_revive_a_compacted_run(objects: Objects) -> None:
    first = RunWriter.create(objects, new_id(), {})
    beat = objects.get(live_key(first.run_id))
    RunWriter.attach(objects, first.run_id).seal("completed", {})
    Catalogue(objects).compact()
    objects.put(live_key(first.run_id), beat)  # cut off, but alive
    assert states(objects) == {first.run_id: "completed"}
    Catalogue(objects).compact()
    assert objects.list("live") == []


# --- any tool


@pytest.fixture
def resumed(file_store: str) -> tuple[Objects, str]:
    """A run in a folder with two attempts, whose parts have different columns."""
    objects = open_objects(file_store)
    first = RunWriter.create(objects, new_id(), {})
    for step in (0, 10, 20):
        first.log(step, {"loss_d": float(step), "verdict": "healthy"})
        if step == 10:
            first.checkpoint(step, {})
    first.flush()
    second = RunWriter.attach(objects, first.run_id)
    for step in (20, 30):
        second.log(step, {"loss_d": 100.0 + step, "fid": 5.0})
    second.seal("completed", {})
    return objects, first.run_id


def snippets(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCS.read_text(), re.S)


@pytest.mark.parametrize("tool", ["duckdb", "pandas", "pyarrow"])
def test_the_documented_queries_give_the_runs_curve(
    tool: str, resumed: tuple[Objects, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    objects, run_id = resumed
    [snippet] = [text for text in snippets("python") if f"import {tool}" in text]
    root = objects.local_path("runs")
    assert root is not None
    monkeypatch.chdir(Path(root).parent)
    names: dict[str, Any] = {}
    exec(snippet.replace("RUN", run_id), names)
    curve: pd.DataFrame = names["curve"]
    expected = Run(objects, run_id).metrics()
    assert curve["step"].tolist() == expected["step"].to_pylist() == [0, 10, 20, 30]
    assert curve["loss_d"].tolist() == expected["loss_d"].to_pylist() == [0.0, 10.0, 120.0, 130.0]
    assert curve["fid"].isna().tolist() == [True, True, False, False]
    assert set(curve.columns) == {"step", "attempt", "time", "loss_d", "verdict", "fid"}


def test_parts_hold_plain_types_and_one_row_a_step(resumed: tuple[Objects, str]) -> None:
    objects, run_id = resumed
    for key in objects.list(f"runs/{run_id}/m"):
        part = pq.read_table(io.BytesIO(objects.get(key)))
        assert part.schema.metadata is None
        assert {str(field.type) for field in part.schema} <= {"int64", "double", "string", "bool"}
        assert len(set(part["step"].to_pylist())) == len(part)


# --- data sets in object storage


@pytest.mark.parametrize("server", ["moto", "ceph"])
def test_data_files_are_listed_sized_and_read(server: str, request: pytest.FixtureRequest) -> None:
    import pickle

    url = request.getfixturevalue(f"{server}_store")
    objects = open_objects(url)
    objects.put("data/b.png", b"bytes of b")
    objects.put("data/sub/a.png", b"a")
    files = files_for(url)
    assert files.list(f"{url}/data") == [f"{url}/data/b.png", f"{url}/data/sub/a.png"]
    assert files.list(f"{url}/data/b.png") == [f"{url}/data/b.png"]
    for reader_ in (files, files_for(url), pickle.loads(pickle.dumps(files))):
        assert reader_.size(f"{url}/data/b.png") == 10
        with reader_.open(f"{url}/data/b.png") as file:
            file.seek(6)
            assert file.read() == b"of b"
    for missing in (files.list, files.open, files.size):
        with pytest.raises(DataError, match="does not exist"):
            missing(f"{url}/none")


def test_local_data_needs_no_store() -> None:
    assert isinstance(files_for("/some/folder"), LocalFiles)
