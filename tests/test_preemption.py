"""Notice that a process or a machine will go away: a checkpoint of the very step, and the run goes on from it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gans.sync import Alone
from orchestrator.driving import terminated
from orchestrator.errors import Preempted
from orchestrator.experiment import Experiment
from orchestrator.launch import announce_run, submit
from orchestrator.recipes import load
from orchestrator.store.objects import open_objects
from orchestrator.store.reader import Run
from orchestrator.worker import work
from tests.support.clusters import simulated_cluster
from tests.support.rays import nothing_left, short_folder
from tests.support.threads import one_thread

__all__ = ["one_thread"]

TINY = {
    "gan.width": 16,
    "data.num": 500,
    "train.log_every": 10,
    "train.evaluate_every": 0,
    "train.sample_every": 0,
    "train.checkpoint_every": 10**6,
}


def long_run(**changes: Any) -> Experiment:
    return load("vanilla.ring").override(TINY | {"train.steps": 10**6} | changes)


def until(holds: Callable[[], Any], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def told_and_saved(run: Run, state: str) -> int:
    """The step that a run was left at, in `state`, which is that of its one checkpoint and of its last row."""
    live = run.live()
    assert live is not None
    assert live["state"] == state
    assert [step for step, _ in run.checkpoints()] == [live["step"]]
    assert run.metrics()["step"].to_pylist() == list(range(10, live["step"] + 1, 10))
    return int(live["step"])


def test_a_rank_that_has_notice_leaves_with_a_checkpoint_of_that_very_step(file_store: str) -> None:
    objects = open_objects(file_store)
    run_id = announce_run(objects, long_run())
    heard: list[int] = []
    with pytest.raises(Preempted, match=r"was preempted at step 30; `ganctl train --resume"):
        work(
            file_store,
            run_id,
            Alone(),
            on_tick=lambda tick: heard.append(tick.step),
            notice=lambda: "preempted" if heard[-1] == 30 else "",
        )
    assert told_and_saved(Run(objects, run_id), "preempted") == 30
    assert heard == [10, 20, 30]


@pytest.fixture
def nobodys_sigterm() -> Iterator[None]:
    """SIGTERM as in a new process: Ray, started in this one by another test, keeps its handler."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("nobodys_sigterm")
def test_a_second_sigterm_and_other_peoples_handlers_are_left_alone() -> None:
    heard = threading.Event()
    with terminated(heard.set):
        os.kill(os.getpid(), signal.SIGTERM)
        assert heard.wait(5)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL

    def mine(number: int, frame: object) -> None: ...

    before = signal.signal(signal.SIGTERM, mine)
    try:
        with terminated(heard.set):
            assert signal.getsignal(signal.SIGTERM) == mine
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_process_that_is_terminated_leaves_its_run_and_ends_with_143(workers: int, file_store: str) -> None:
    fields = [f"{name}={value}" for name, value in (TINY | {"train.steps": 10**6}).items()]
    words = ["train", "vanilla.ring", *fields, "--workers", str(workers), "--store", file_store]
    outer = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "GANCTL_STORE"))}
    objects = open_objects(file_store)
    with short_folder() as folder:
        process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.cli", *words],
            env=outer | {"GANCTL_RAY_TMP": folder},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        until(lambda: process.poll() is not None or objects.folders("runs"))
        assert process.poll() is None, process.communicate()
        run = Run(objects, objects.folders("runs")[0])
        until(lambda: (run.live() or {}).get("step", 0) > 0)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
        nothing_left(folder)
    assert process.returncode == 143, said
    step = told_and_saved(run, "preempted")
    goes_on = f"error: run {run.id} was preempted at step {step}; `ganctl train --resume {run.id}` goes on"
    assert said.strip().splitlines()[-1] == goes_on


@pytest.mark.slow
def test_a_run_whose_node_is_drained_goes_on_elsewhere_by_itself(
    file_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The drain has no deadline: nothing but the notice makes the ranks leave."""
    monkeypatch.setenv("RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S", "0.5")
    with simulated_cluster(nodes=3) as cluster:
        objects = open_objects(file_store)
        experiment = long_run(**{"train.steps": 12000, "scale.workers": 2, "scale.cpus_per_worker": 1})
        job = submit(experiment, file_store, "auto")
        run = Run(objects, job.run_id)
        ended: list[Any] = []
        training = threading.Thread(target=lambda: ended.append(job.wait()))
        training.start()
        try:
            until(lambda: (run.live() or {}).get("step", 0) > 0)
            drain(cluster)
            until(lambda: (run.live() or {}).get("attempt", 0) == 2 or run.sealed(), 120)
        finally:
            training.join(400)
    assert ended
    assert ended[0].step == 12000
    table = run.metrics()
    assert table["step"].to_pylist() == list(range(10, 12001, 10))
    left = table["attempt"].to_pylist().index(2) * 10
    assert 0 < left < 12000


def drain(cluster: Any) -> None:
    """Tell Ray that a node with a rank on it, not the head, will be taken away."""
    from ray._raylet import GcsClient
    from ray.core.generated import autoscaler_pb2
    from ray.util.state import list_actors

    head = cluster.head_node.node_id
    ranks = [a for a in list_actors(detail=True) if a.class_name == "RayTrainWorker" and a.state == "ALIVE"]
    node = next(a.node_id for a in ranks if a.node_id != head)
    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    accepted, why = GcsClient(address=cluster.address).drain_node(node, reason, "taken away", 0)
    assert accepted, why
