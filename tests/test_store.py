"""The contract of the results store, the same on a folder, on moto and on a real Ceph RADOS Gateway."""

import os
import pickle
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from orchestrator.errors import AlreadyExists, NotFound
from orchestrator.store import s3
from orchestrator.store.objects import Objects, open_objects
from orchestrator.store.s3 import S3Objects

Monkeypatch = pytest.MonkeyPatch
Request = pytest.FixtureRequest

NUM_WRITERS = 24


@pytest.fixture
def objects(store_url: str) -> Objects:
    return open_objects(store_url)


def at_once(task: Callable[[int], str], num: int) -> list[str]:
    """task(0..num-1), all released at the same moment, each in a thread of its own."""
    barrier = threading.Barrier(num)

    def run(number: int) -> str:
        barrier.wait()
        return task(number)

    with ThreadPoolExecutor(num) as pool:
        return list(pool.map(run, range(num)))


# --- objects


def test_an_object_reads_back_as_it_was_written(objects: Objects) -> None:
    objects.create("a/b", b"\x00first")
    objects.put("a/c", b"second")
    objects.put("a/c", b"third")
    assert objects.get("a/b") == b"\x00first"
    assert objects.get("a/c") == b"third"
    assert objects.exists("a/b")
    assert not objects.exists("a")
    assert objects.get_many(["a/c", "a/none", "a/b"]) == {"a/c": b"third", "a/b": b"\x00first"}


def test_a_second_create_is_refused_and_changes_nothing(objects: Objects) -> None:
    for data in (b"once", b""):
        key = f"once/{len(data)}"
        objects.create(key, data)
        with pytest.raises(AlreadyExists, match=key):
            objects.create(key, b"twice")
        with pytest.raises(AlreadyExists):
            objects.create(key, data)  # the same bytes by another writer are still another writer's
        assert objects.get(key) == data


def test_who_writes_into_a_folder_that_others_empty_meets_no_error(objects: Objects) -> None:
    def come_and_go(thread: int) -> None:
        for turn in range(10 if isinstance(objects, S3Objects) else 300):
            objects.create(f"a/b/{thread}-{turn}", b"x")
            objects.delete(f"a/b/{thread}-{turn}")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(come_and_go, range(6)))
    assert objects.list("a") == []


def test_of_24_concurrent_creates_exactly_one_wins(objects: Objects) -> None:
    for number in range(3):
        key = f"race/{number}"

        def write(writer: int, key: str = key) -> str:
            try:
                objects.create(key, f"writer {writer}".encode() * 500)
            except AlreadyExists:
                return "lost"
            return f"writer {writer}"

        ends = Counter(at_once(write, NUM_WRITERS))
        winner = next(end for end in ends if end != "lost")
        assert ends == {"lost": NUM_WRITERS - 1, winner: 1}
        assert objects.get(key) == winner.encode() * 500


def test_a_reader_sees_old_or_new_bytes_and_never_a_mixture(objects: Objects) -> None:
    versions = [bytes([n]) * 200_000 for n in range(6)]
    objects.put("k", versions[0])
    done = threading.Event()

    def read() -> set[bytes]:
        seen = set()
        while not done.is_set():
            seen.add(objects.get("k"))
        return seen

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for version in versions:
            objects.put("k", version)
        done.set()
        assert set().union(*(reader.result() for reader in readers)) <= set(versions)


def test_an_absent_object_is_not_found_and_may_be_deleted(objects: Objects) -> None:
    with pytest.raises(NotFound, match="no a/b"):
        objects.get("a/b")
    objects.delete("a/b")
    objects.put("a/b", b"x")
    objects.delete("a/b")
    assert not objects.exists("a/b")
    assert objects.list("") == []
    assert objects.folders("") == []


def test_list_is_recursive_sorted_and_within_the_folder(objects: Objects) -> None:
    for key in ("r/b/2", "r/a", "r/b/1", "r2/x", "r/c.json"):
        objects.put(key, b"x")
    assert objects.list("r") == ["r/a", "r/b/1", "r/b/2", "r/c.json"]
    assert objects.list("r/b") == ["r/b/1", "r/b/2"]
    assert objects.list("none") == []
    assert objects.list("") == ["r/a", "r/b/1", "r/b/2", "r/c.json", "r2/x"]
    assert objects.folders("") == ["r", "r2"]
    assert objects.folders("r") == ["b"]
    assert objects.folders("none") == []


def test_entries_are_what_is_listed_with_sizes_and_times(objects: Objects) -> None:
    begun = time.time()
    for key, data in {"r/b/2": b"four", "r/a": b"", "r2/x": b"x"}.items():
        objects.put(key, data)
    assert [(e.key, e.size) for e in objects.entries("r")] == [("r/a", 0), ("r/b/2", 4)]
    assert [e.key for e in objects.entries("")] == objects.list("")
    assert objects.entries("none") == []
    assert all(
        begun - 2 < e.modified < time.time() + 2 for e in objects.entries("")
    )  # S3 gives whole seconds


def test_an_object_is_opened_as_a_seekable_file(objects: Objects) -> None:
    objects.put("k", b"0123456789")
    with objects.open("k") as file:
        file.seek(-3, 2)
        assert file.read() == b"789"
        file.seek(2)
        assert file.read(2) == b"23"
    with pytest.raises(NotFound, match="no none"):
        objects.open("none")


@pytest.mark.parametrize("server", ["moto", "ceph"])
def test_directory_markers_of_other_writers_are_not_listed(server: str, request: Request) -> None:
    objects = open_objects(request.getfixturevalue(f"{server}_store"))
    assert isinstance(objects, S3Objects)
    objects.put("r/a", b"x")
    for marker in ("ganctl/r/", "ganctl/r/empty/"):  # as pyarrow's S3 file system leaves them
        objects.system().call_s3("put_object", Bucket=objects.bucket, Key=marker, Body=b"")
    assert objects.list("r") == ["r/a"]
    assert objects.get_many(objects.list("")) == {"r/a": b"x"}


def test_a_listing_of_several_pages_is_whole(objects: Objects, monkeypatch: Monkeypatch) -> None:
    monkeypatch.setattr(s3, "PAGE", 3)
    keys = [f"many/{n:04d}/x" for n in range(10)]
    for key in keys:
        objects.put(key, b"x")
    assert objects.list("many") == keys
    assert objects.folders("many") == [f"{n:04d}" for n in range(10)]


def test_a_store_passes_its_own_check_and_is_left_as_it_was(objects: Objects) -> None:
    checks = objects.check()
    assert [check.name for check in checks] == [
        "reachable", "writable", "readable", "deletable", "conditional writes",
    ]  # fmt: skip
    assert all(check.ok for check in checks)
    assert objects.list("") == []


def test_objects_travel_as_their_url(objects: Objects) -> None:
    objects.put("k", b"x")
    text = pickle.dumps(objects)
    assert os.environ.get("AWS_SECRET_ACCESS_KEY", "no secret here").encode() not in text
    assert pickle.loads(text).get("k") == b"x"
