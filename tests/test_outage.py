"""The store is away for a while: before a run, in the middle of it, and for longer than anybody waits."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from orchestrator.errors import StoreError
from orchestrator.launch import submit
from orchestrator.store import filesystem, s3
from orchestrator.store.objects import open_objects
from orchestrator.store.reader import Run
from tests.support.ceph import S3Server
from tests.support.faults import FaultProxy, FaultyStore, faulty_store
from tests.support.threads import one_thread
from tests.support.whole import check_whole, tiny, undisturbed, writes_often

__all__ = ["faulty_store", "one_thread", "undisturbed", "writes_often"]

Monkeypatch = pytest.MonkeyPatch


pytestmark = pytest.mark.usefixtures("writes_often")


def at_step(step: int, act: Callable[[], None]) -> Callable[[dict[str, Any]], None]:
    """A progress callback that does `act` once, at `step`."""

    def hear(beat: dict[str, Any]) -> None:
        if beat["step"] == step:
            act()

    return hear


def one_line(error: BaseException) -> str:
    assert "\n" not in str(error)
    return str(error)


@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_a_run_goes_on_by_itself_once_the_store_is_back(
    seconds: int, faulty_store: FaultyStore, undisturbed: dict[str, torch.Tensor]
) -> None:
    def away() -> None:
        faulty_store.proxy.down()
        threading.Timer(seconds, faulty_store.proxy.up).start()

    began = time.monotonic()
    outcome = submit(tiny(), faulty_store.url).wait(at_step(50, away))
    assert time.monotonic() - began > seconds
    check_whole(faulty_store.direct, outcome.run_id, undisturbed)
    table = Run(faulty_store.direct, outcome.run_id).metrics()
    assert table["attempt"].unique().to_pylist() == [1]


def test_a_store_that_is_away_at_the_start_is_told_within_seconds(faulty_store: FaultyStore) -> None:
    faulty_store.proxy.down()
    began = time.monotonic()
    with pytest.raises(StoreError) as caught:
        submit(tiny(), faulty_store.url)
    assert time.monotonic() - began < 4 * filesystem.HASTE
    said = one_line(caught.value)
    assert said.startswith(f"store {faulty_store.url}: no answer from {faulty_store.proxy.endpoint}")
    assert "check AWS_ENDPOINT_URL" in said
    assert faulty_store.direct.list("") == []


def test_a_store_that_stays_away_ends_the_run_and_the_same_run_goes_on_later(
    faulty_store: FaultyStore, undisturbed: dict[str, torch.Tensor], monkeypatch: Monkeypatch
) -> None:
    monkeypatch.setattr(filesystem, "PATIENCE", 3.0)
    left: list[float] = []

    def away() -> None:
        faulty_store.proxy.down()
        left.append(time.monotonic())

    job = submit(tiny(), faulty_store.url)
    with pytest.raises(StoreError) as caught:
        job.wait(at_step(50, away))
    assert 3 < time.monotonic() - left[0] < 20
    said = one_line(caught.value)
    assert said.startswith(f"store {faulty_store.url}: no answer from {faulty_store.proxy.endpoint} for ")
    assert "check AWS_ENDPOINT_URL, the network, and that it runs" in said
    run = Run(faulty_store.direct, job.run_id)
    assert run.sealed() is None
    faulty_store.proxy.up()
    submit(tiny(), faulty_store.url, run_id=job.run_id).wait()
    check_whole(faulty_store.direct, job.run_id, undisturbed)
    assert run.metrics()["attempt"].unique().to_pylist() == [1, 2]


def test_a_store_that_was_given_up_is_tried_once_by_whatever_follows(
    faulty_store: FaultyStore, monkeypatch: Monkeypatch
) -> None:
    monkeypatch.setattr(filesystem, "PATIENCE", 2.0)
    objects = open_objects(faulty_store.url)
    objects.put("k", b"x")
    faulty_store.proxy.down()
    took = []
    for _ in range(2):
        began = time.monotonic()
        with pytest.raises(StoreError, match="no answer"):
            objects.get("k")
        took.append(time.monotonic() - began)
    assert took[0] > 2 > took[1]
    faulty_store.proxy.up()
    assert objects.get("k") == b"x"


def test_an_upload_in_parts_that_is_given_up_leaves_the_object_as_it_was(
    faulty_store: FaultyStore, monkeypatch: Monkeypatch
) -> None:
    monkeypatch.setattr(s3, "PART", 5 * 2**20)
    monkeypatch.setattr(filesystem, "PATIENCE", 1.0)
    objects = open_objects(faulty_store.url)
    assert isinstance(objects, s3.S3Objects)
    objects.put("k", b"before")
    system = objects.system()
    call = system._call_s3

    async def go_away_before_the_end(operation: str, **request: Any) -> Any:
        if operation == "complete_multipart_upload":
            faulty_store.proxy.down()
        return await call(operation, **request)

    monkeypatch.setattr(system, "_call_s3", go_away_before_the_end)
    with pytest.raises(StoreError, match="no answer"):
        objects.put("k", bytes(11 * 2**20))
    assert faulty_store.proxy.requests > 3
    assert faulty_store.direct.get("k") == b"before"
    assert faulty_store.direct.list("") == ["k"]


def test_a_server_that_takes_no_bytes_is_no_endless_wait(monkeypatch: Monkeypatch) -> None:
    """Far more than the buffers hold, so that the request itself never ends."""
    for name, value in (("READ_TIMEOUT", 1.0), ("HASTE", 0.0), ("FIRST_TRIES", 1)):
        monkeypatch.setattr(filesystem, name, value)
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        for variable, text in S3Server(endpoint, "key", "secret", "region").environment().items():
            monkeypatch.setenv(variable, text)
        began = time.monotonic()
        with pytest.raises(filesystem.FAILURES):
            filesystem.file_system().call_s3("put_object", Bucket="bucket", Key="k", Body=bytes(30 * 2**20))
        assert time.monotonic() - began < 20


def test_connections_that_break_when_the_store_goes_are_made_anew(faulty_store: FaultyStore) -> None:
    """What is under way when it goes, too: the answer is awaited while the server is taken away."""
    objects, proxy = open_objects(faulty_store.url), faulty_store.proxy
    objects.put("k", b"x")
    proxy.kind, proxy.share = "stall", 1.0
    threading.Timer(0.3, lambda: come_back(proxy)).start()
    assert objects.get("k") == b"x"
    assert proxy.injected["stall"]


def come_back(proxy: FaultProxy) -> None:
    """Go away and come back in order."""
    proxy.down()
    proxy.kind, proxy.share = "", 0.0
    time.sleep(0.5)
    proxy.up()
