"""The data's state as the triggers see it: a fingerprint, and by how many items two states differ."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gans.data import encoded
from gans.data.digests import of_fields, of_group, of_texts
from orchestrator.errors import DataError
from orchestrator.experiment import Experiment
from orchestrator.recipes import load as load_recipe
from orchestrator.retrain import source
from orchestrator.retrain.source import DataVersion, changed, look
from orchestrator.store.objects import open_objects


def experiment(**data: Any) -> Experiment:
    document = load_recipe("vanilla.digits").document() | {"data": data}
    from orchestrator.experiment import parse

    return parse(document)


def picture(path: Path, value: int, size: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(value).integers(0, 256, (size, size), np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(12):
        picture(tmp_path / "data" / "ab"[number % 2] / f"{number}.png", number, 8 + number)
    return tmp_path / "data"


def of_folder(folder: Path, **fields: Any) -> DataVersion:
    return look(experiment(kind="images", path=str(folder), **fields))


def test_a_folder_that_stays_and_one_of_the_same_content_elsewhere_are_one_state(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object) -> None:
        raise AssertionError("a picture was decoded")

    monkeypatch.setattr(encoded, "decode", read)
    first = of_folder(folder)
    assert first.items == len(first.digests) == 12
    assert len(first.fingerprint) == 16
    assert first.digests.dtype == np.uint64
    assert np.all(np.diff(first.digests.astype(object)) > 0)
    shutil.copytree(folder, tmp_path / "elsewhere" / "copy")
    copy = of_folder(tmp_path / "elsewhere" / "copy")
    assert (copy.fingerprint, changed(first, copy)) == (first.fingerprint, 0)
    assert of_folder(folder, labels="folder", held_out=0.5).fingerprint == first.fingerprint
    assert changed(None, first) == 12


def test_added_removed_replaced_and_moved_pictures_are_counted(folder: Path) -> None:
    first = of_folder(folder)
    picture(folder / "a" / "new.png", 99)
    picture(folder / "b" / "new.png", 99)
    added = of_folder(folder)
    assert (changed(first, added), changed(added, first), added.items) == (2, 2, 14)
    (folder / "a" / "new.png").unlink()
    (folder / "b" / "new.png").unlink()
    assert of_folder(folder).fingerprint == first.fingerprint
    (folder / "a" / "0.png").unlink()
    assert changed(first, removed := of_folder(folder)) == 1
    picture(folder / "a" / "2.png", 7, size=40)  # replaced: one gone, one new
    replaced = of_folder(folder)
    assert (changed(removed, replaced), changed(first, replaced)) == (2, 3)
    (folder / "a" / "4.png").rename(folder / "b" / "4.png")  # another label
    assert changed(replaced, moved := of_folder(folder)) == 2
    assert len({v.fingerprint for v in (first, added, removed, replaced, moved)}) == 5


def table(start: int, num: int) -> pa.Table:
    return pa.table(
        {
            "image": [np.random.default_rng(start + i).bytes(20 + i) for i in range(num)],
            "label": list(range(num)),
            "other": [start] * num,
        }
    )


def test_rows_of_parquet_are_told_by_their_row_group(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()

    def write(name: str, *groups: pa.Table) -> None:
        with pq.ParquetWriter(data / name, groups[0].schema) as writer:
            for group in groups:
                writer.write_table(group)

    def state(**fields: Any) -> DataVersion:
        return look(experiment(kind="parquet", path=str(data), **fields))

    write("one.parquet", table(0, 5), table(100, 7))
    first = state()
    assert (first.items, changed(None, first)) == (12, 12)
    write("two.parquet", table(200, 4))
    assert changed(first, state()) == 4
    (data / "two.parquet").unlink()
    write(
        "one.parquet", table(0, 5), table(100, 7), table(300, 3)
    )  # appended: the groups before are what they were
    assert (changed(first, appended := state()), appended.items) == (3, 15)
    write("one.parquet", table(0, 5), table(150, 7))  # as many rows and bytes, other content
    assert changed(first, state()) == 14
    write(
        "one.parquet", table(0, 5), table(100, 7).set_column(2, "other", [[9] * 7])
    )  # a column that is not used
    assert changed(first, state()) == 0
    assert changed(state(label="label"), state()) == 24


def test_data_made_in_memory_is_told_by_its_rows() -> None:
    whole, some = (look(experiment(kind="digits", classes=c)) for c in (None, [0, 1, 2, 3, 4]))
    assert whole.items == 1797
    assert changed(some, whole) == whole.items - some.items  # the first classes keep their labels
    assert look(experiment(kind="digits")).fingerprint == whole.fingerprint
    assert look(experiment(kind="digits", size=16)).fingerprint != whole.fingerprint
    assert look(experiment(kind="digits", labelled=False)).fingerprint != whole.fingerprint
    ring = look(load_recipe("vanilla.ring").override({"data.num": 500}))
    assert ring.items == 1000


def test_both_parts_of_a_data_set_of_two_are_looked_at(folder: Path) -> None:
    a = {"kind": "images", "path": str(folder / "a")}
    b = {"kind": "images", "path": str(folder / "b")}
    two = load_recipe("cyclegan.digits").document()

    def state(a: dict[str, str], b: dict[str, str]) -> DataVersion:
        from orchestrator.experiment import parse

        return look(parse(two | {"data": {"kind": "domains", "a": a, "b": b}}))

    both = state(a, b)
    assert both.items == 12
    assert changed(both, state(b, a)) == 24  # each is in the other's place
    picture(folder / "a" / "new.png", 5)
    assert changed(both, state(a, b)) == 1
    assert look(load_recipe("cyclegan.digits")).items == 1797
    low = {"kind": "lowres", "factor": 2, "of": a}
    assert look(experiment(**low)).items == 7  # its pictures are those of `of`, looked at as files


@pytest.mark.parametrize("server", ["file", "moto", "ceph"])
def test_a_bucket_is_looked_at_and_the_digests_are_kept(
    server: str, request: pytest.FixtureRequest, folder: Path
) -> None:
    url = request.getfixturevalue(f"{server}_store")
    objects = open_objects(url)
    for path in sorted(folder.rglob("*.png")):
        objects.put(f"data/{path.relative_to(folder).as_posix()}", path.read_bytes())
    place = objects.local_path("data") or f"{url}/data"
    there = look(experiment(kind="images", path=place))
    assert there.fingerprint == of_folder(folder).fingerprint
    assert source.load(objects, "faces", there.fingerprint) is None
    source.save(objects, "faces", there)
    source.save(objects, "faces", there)
    kept = source.load(objects, "faces", there.fingerprint)
    assert kept is not None
    assert (kept.fingerprint, changed(kept, there)) == (there.fingerprint, 0)
    objects.put("data/a/new.png", b"x")
    assert changed(kept, look(experiment(kind="images", path=place))) == 1


def test_no_data_is_an_error_of_the_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        of_folder(tmp_path / "none")


# --- digests


def test_equal_rows_have_equal_digests_and_others_others() -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (5000, 3, 5), np.uint8)  # 15 bytes: not a whole number of words
    digests = of_fields({"x": rows})
    assert len(set(digests.tolist())) == 5000
    order = rng.permutation(5000)
    assert (of_fields({"x": rows[order]}) == digests[order]).all()
    for place in range(15):  # every byte counts
        other = rows.copy()
        other.reshape(5000, 15)[:, place] ^= 1
        assert not np.isin(of_fields({"x": other}), digests).any()
    assert not np.isin(of_fields({"y": rows}), digests).any()
    assert not np.isin(of_fields({"x": rows.reshape(5000, 5, 3)}), digests).any()
    swapped = rows.reshape(5000, 15).copy()
    words = np.concatenate([swapped, swapped[:, :1]], axis=1)
    assert (of_fields({"x": words}) != of_fields({"x": np.roll(words, 8, axis=1)})).all()
    labelled = of_fields({"x": rows, "label": np.zeros(5000, np.int64)})
    assert not np.isin(labelled, of_fields({"x": rows, "label": np.ones(5000, np.int64)})).any()


def test_digests_are_the_same_on_every_machine_and_in_every_version() -> None:
    assert of_texts(["a", "b"]).tolist() == [3405396810240292928, 8453121595177857668]
    assert of_group("a", 2).tolist() == [14627716053912326962, 12370602153405683157]
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert of_fields({"x": rows}).tolist() == [7237680654948589838, 8489712305384250796]


def test_repeated_items_count_as_often_as_they_are_there() -> None:
    one, two = (DataVersion.of(np.array(d, np.uint64)) for d in ([5, 5, 7], [5, 7, 7, 9]))
    assert (changed(one, two), changed(two, one), changed(one, one)) == (3, 3, 0)
    nothing = DataVersion.of(np.empty(0, np.uint64))
    assert (changed(nothing, nothing), changed(one, nothing), changed(None, one)) == (0, 3, 3)
