"""Writing without waiting: order, what is bounded, what is coalesced, and how an error comes back."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from orchestrator.errors import StoreError
from orchestrator.store.ids import new_id
from orchestrator.store.local import LocalObjects
from orchestrator.store.objects import open_objects
from orchestrator.store.outbox import Outbox
from orchestrator.store.runs import Run, RunWriter

PATIENCE = 10.0


class Gate:
    """A write that waits until it may go on."""

    def __init__(self) -> None:
        self.reached, self.open = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.reached.set()
        assert self.open.wait(PATIENCE)


def test_writes_are_made_in_order_without_waiting() -> None:
    outbox, gate, done = Outbox(), Gate(), []
    outbox.put(gate)
    for number in range(100):
        outbox.put(lambda number=number: done.append(number))
    assert done == []
    gate.open.set()
    outbox.drain()
    assert done == list(range(100))
    outbox.close()


def test_of_heartbeats_only_the_newest_waits() -> None:
    outbox, gate, done = Outbox(), Gate(), []
    outbox.put(gate)
    for number in range(10):
        outbox.latest(lambda number=number: done.append(number))
    gate.open.set()
    outbox.drain()
    outbox.latest(lambda: done.append(10))
    outbox.close()
    assert done == [9, 10]


def test_a_third_large_write_waits_for_room() -> None:
    outbox, gate, third = Outbox(most=2), Gate(), threading.Event()
    outbox.put(gate, large=True)
    outbox.put(lambda: None, large=True)

    def put() -> None:
        outbox.put(lambda: None, large=True)
        third.set()

    waiting = threading.Thread(target=put)
    waiting.start()
    assert not third.wait(0.2)
    gate.open.set()
    assert third.wait(PATIENCE)
    waiting.join()
    outbox.close()


def test_an_error_ends_it_and_is_raised_by_the_next_call() -> None:
    outbox, gate, done = Outbox(), Gate(), []

    def fail() -> None:
        raise StoreError("the disk is full")

    outbox.put(gate)
    outbox.put(fail, large=True)
    outbox.put(lambda: done.append("after"), large=True)
    gate.open.set()
    for call in (outbox.drain, lambda: outbox.put(print), lambda: outbox.latest(print), outbox.drain):
        with pytest.raises(StoreError, match="the disk is full"):
            call()
    outbox.close()
    assert done == []


def test_what_was_put_is_written_when_the_interpreter_exits(tmp_path: Path) -> None:
    program = (
        "import sys, time, pathlib\n"
        "from orchestrator.store.outbox import Outbox\n"
        "outbox = Outbox()\n"
        "outbox.put(lambda: time.sleep(0.5))\n"
        "outbox.put(lambda: pathlib.Path(sys.argv[1]).write_text('whole'))\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "late")], check=True, timeout=60)
    assert (tmp_path / "late").read_text() == "whole"


# --- a run's writer behind one


class Slow(LocalObjects):
    """A store that takes its time over every write, and may break."""

    broken = False

    def create(self, key: str, data: bytes) -> None:
        self._wait(key)
        super().create(key, data)

    def put(self, key: str, data: bytes) -> None:
        self._wait(key)
        super().put(key, data)

    def _wait(self, key: str) -> None:
        time.sleep(0.05)
        if self.broken and "/checkpoints/" in key:
            raise StoreError("store: out of reach")


@pytest.fixture
def slow(file_store: str) -> Slow:
    return Slow(Path(file_store.removeprefix("file://")))


def test_a_run_does_not_wait_for_its_store_and_loses_nothing(slow: Slow) -> None:
    run_id = RunWriter.create(slow, new_id(), {}).run_id
    writer = RunWriter.attach(slow, run_id, Outbox())
    begun = time.monotonic()
    for step in range(1, 21):
        writer.log(step, {"loss": float(step)})
        writer.flush()
        writer.heartbeat(force=True)
    spent = time.monotonic() - begun
    writer.seal("completed", {})
    waited = time.monotonic() - begun - spent
    assert spent < 0.5 < 1.0 <= waited  # 20 parts of 50 ms
    assert Run(slow, run_id).metrics()["step"].to_pylist() == list(range(1, 21))
    assert slow.list("live") == []


def test_rows_are_in_the_store_before_the_checkpoint_that_they_led_to(slow: Slow) -> None:
    run_id = RunWriter.create(slow, new_id(), {}).run_id
    writer = RunWriter.attach(slow, run_id, Outbox())
    run = Run(slow, run_id)
    for step in range(10, 60, 10):
        writer.log(step, {"loss": 0.0})
        writer.checkpoint(step, {"w": b"weights"})
        for reached, _ in run.checkpoints():
            assert run.metrics()["step"].to_pylist()[-1] >= reached
    writer.leave("stopped")
    assert run.state() == "stopped"
    assert run.checkpoints() == [(40, 2), (50, 2)]


def test_a_failed_write_ends_the_attempt_and_what_came_after_is_not_written(slow: Slow) -> None:
    run_id = RunWriter.create(slow, new_id(), {}).run_id
    writer = RunWriter.attach(slow, run_id, Outbox())
    writer.log(10, {"loss": 0.0})
    writer.checkpoint(10, {"w": b"weights"})
    writer.drain()
    slow.broken = True
    writer.checkpoint(20, {"w": b"weights"})
    writer.log(30, {"loss": 0.0})
    with pytest.raises(StoreError, match="out of reach"):
        writer.drain()
    with pytest.raises(StoreError, match="out of reach"):
        writer.heartbeat(force=True)
    with pytest.raises(StoreError, match="out of reach"):
        writer.leave("interrupted", error="out of reach")
    run = Run(open_objects(slow.url), run_id)
    live = run.live()
    assert live is not None
    assert (live["state"], live["error"]) == ("interrupted", "out of reach")
    assert run.checkpoints() == [(10, 2)]
    assert run.metrics()["step"].to_pylist() == [10]
