"""30 % of all requests fail, in each of seven ways: what the store promises holds, and a run ends as if none had."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from orchestrator.errors import AlreadyExists
from orchestrator.launch import submit
from orchestrator.store import s3
from orchestrator.store.objects import Objects, open_objects
from orchestrator.store.reader import Run
from orchestrator.store.s3 import S3Objects
from orchestrator.store.writer import RunWriter
from tests.support.faults import KINDS, FaultyStore, faulty_store
from tests.support.threads import one_thread
from tests.support.whole import check_whole, tiny, undisturbed

__all__ = ["faulty_store", "one_thread", "undisturbed"]

SHARE = 0.3
SIZES = (0, 1, 1_000, 70_000, 300_000, 3_000_000)
Monkeypatch = pytest.MonkeyPatch


@pytest.fixture(params=[pytest.param(k, marks=pytest.mark.slow) if k == "stall" else k for k in KINDS])
def failing(request: pytest.FixtureRequest, faulty_store: FaultyStore) -> Iterator[FaultyStore]:
    """A store of whose requests 30 % fail in one way. The test fails unless about as many did.

    Stalls cost the read time-out each.
    """
    faults = faulty_store.proxy
    faults.kind, faults.share = request.param, SHARE
    yield faulty_store
    assert faults.injected.keys() == {request.param}
    assert faults.injected.total() > 0.1 * faults.requests


def contents(num: int, seed: int) -> dict[str, bytes]:
    """Objects of all sizes, by key."""
    draw = random.Random(seed)
    return {f"o/{n % 7}/{n:03d}": draw.randbytes(SIZES[n % len(SIZES)]) for n in range(num)}


def stored(objects: Objects) -> dict[str, bytes]:
    """All there is, by key."""
    return objects.get_many(objects.list(""))


def test_every_object_is_written_read_listed_and_deleted_as_told(failing: FaultyStore) -> None:
    objects, first, second = open_objects(failing.url), contents(36, seed=1), contents(18, seed=2)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(objects.put, first, first.values()))
        list(pool.map(objects.put, second, second.values()))
        expected = first | second
        assert stored(failing.direct) == expected
        assert stored(objects) == expected
        assert objects.folders("o") == [str(n) for n in range(7)]
        gone = list(expected)[::2]
        list(pool.map(objects.delete, gone))
        assert not any(pool.map(objects.exists, gone))
    assert stored(failing.direct) == {key: data for key, data in expected.items() if key not in gone}


def test_of_several_concurrent_creates_exactly_one_wins(failing: FaultyStore) -> None:
    objects = open_objects(failing.url)

    def write(task: tuple[str, int]) -> tuple[str, bytes] | None:
        key, writer = task
        data = random.Random(writer).randbytes(SIZES[writer % len(SIZES)])
        try:
            objects.create(key, data)
        except AlreadyExists:
            return None
        return key, data

    keys = [f"race/{n}" for n in range(8)]
    with ThreadPoolExecutor(6) as pool:
        winners = [won for won in pool.map(write, ((k, w) for k in keys for w in range(6))) if won]
    assert sorted(key for key, _ in winners) == keys
    assert stored(failing.direct) == dict(winners)


def test_an_object_is_uploaded_in_parts_and_read_in_blocks(
    failing: FaultyStore, monkeypatch: Monkeypatch
) -> None:
    monkeypatch.setattr(s3, "PART", 5 * 2**20)  # the least there may be
    monkeypatch.setattr(s3, "BLOCK", 2**20)
    objects = open_objects(failing.url)
    assert isinstance(objects, S3Objects)
    data = random.Random(0).randbytes(11 * 2**20)
    objects.put("large", b"before")
    objects.put("large", data)
    assert failing.direct.get("large") == data
    with objects.open("large") as file:
        assert b"".join(iter(lambda: file.read(700_000), b"")) == data
        file.seek(5_000_000)
        assert file.read(10) == data[5_000_000:5_000_010]


def test_an_upload_in_parts_that_ended_unheard_is_done_again(
    moto_store: str, monkeypatch: Monkeypatch
) -> None:
    """Some servers answer 404 when an upload is ended a second time; Ceph and moto do not."""
    monkeypatch.setattr(s3, "PART", 5 * 2**20)
    objects = open_objects(moto_store)
    assert isinstance(objects, S3Objects)
    system, unheard = objects.system(), list[str]()
    call = system._call_s3

    async def lose_one(operation: str, **request: Any) -> Any:
        answer = await call(operation, **request)
        if operation == "complete_multipart_upload" and not unheard:
            unheard.append(operation)
            raise FileNotFoundError("NoSuchUpload")
        return answer

    monkeypatch.setattr(system, "_call_s3", lose_one)
    data = random.Random(0).randbytes(11 * 2**20)
    objects.put("large", data)
    assert unheard
    assert objects.get("large") == data


def test_a_run_ends_with_everything_right(
    failing: FaultyStore, undisturbed: dict[str, torch.Tensor], monkeypatch: Monkeypatch
) -> None:
    monkeypatch.setattr(RunWriter, "flush_seconds", 0.0)
    outcome = submit(tiny(), failing.url).wait()
    check_whole(failing.direct, outcome.run_id, undisturbed)
    assert Run(failing.direct, outcome.run_id).metrics()["attempt"].unique().to_pylist() == [1]
