"""`ganctl runs stop`: a run leaves with a checkpoint, or is ended by force; half a minute later none of it is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator.driving import ask, driver_of, hand_over
from orchestrator.errors import AlreadyExists, ConfigError, RunFailed, Stopped
from orchestrator.experiment import Experiment
from orchestrator.launch import announce_run, submit
from orchestrator.recipes import load
from orchestrator.stop import PATIENCE, stop_run
from orchestrator.store.objects import Objects, open_objects
from orchestrator.store.reader import Run
from tests.support.rays import (
    RayHead,
    nothing_left,
    processes_of,
    ray_head,
    restored_environment,
    short_folder,
)
from tests.support.threads import one_thread

__all__ = ["one_thread", "ray_head"]

FOR_EVER = {"train.steps": 10**7, "train.log_every": 10, "train.evaluate_every": 0, "train.sample_every": 0}
TINY = {"gan.width": 16, "data.num": 500, "train.checkpoint_every": 10**6}


def endless(**changes: Any) -> Experiment:
    return load("vanilla.ring").override(FOR_EVER | TINY | changes)


def until(holds: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def under_way(run: Run) -> None:
    """Return once the run has done steps."""
    until(lambda: (run.live() or {}).get("step", 0) > 0)


@contextmanager
def training(folder: str, store: str, *words: str) -> Iterator[tuple[subprocess.Popen[str], Run]]:
    """`ganctl train` of an endless run in a process of its own, once it has done steps."""
    fields = [f"{name}={value}" for name, value in (FOR_EVER | TINY).items()]
    outer = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "GANCTL_STORE"))}
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "orchestrator.cli",
            "train",
            "vanilla.ring",
            *fields,
            *words,
            "--store",
            store,
        ],
        env=outer | {"GANCTL_RAY_TMP": folder},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    objects = open_objects(store)
    try:
        until(lambda: bool(objects.folders("runs")) or process.poll() is not None)
        assert process.poll() is None, process.communicate()
        run = Run(objects, objects.folders("runs")[0])
        under_way(run)
        yield process, run
    finally:
        process.kill()
        process.communicate()


def ganctl_stop(store: str, *words: str) -> tuple[dict[str, Any], float]:
    """What `ganctl runs stop` prints, and how many seconds it took."""
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", "runs", "stop", *words, "--store", store, "--json"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), time.monotonic() - begun


# --- by a wish


def test_a_run_in_this_process_leaves_with_a_checkpoint_of_that_very_step(file_store: str) -> None:
    job = submit(endless(), file_store)
    beats: list[int] = []

    def stop_at_50(beat: dict[str, Any]) -> None:
        beats.append(beat["step"])
        if beat["step"] == 50:
            job.stop()

    with pytest.raises(
        Stopped, match=f"was stopped at step .*; `ganctl train --resume {job.run_id}` goes on"
    ):
        job.wait(stop_at_50)
    run = Run(open_objects(file_store), job.run_id)
    live = run.live()
    assert live is not None
    assert (live["state"], live["step"]) == ("stopped", beats[-1])
    assert [step for step, _ in run.checkpoints()] == [beats[-1]]
    assert run.metrics()["step"].to_pylist() == list(range(10, beats[-1] + 1, 10))
    assert driver_of(run.objects, run.id) is None


def test_a_stopped_run_goes_on_by_the_same_command(file_store: str) -> None:
    objects = open_objects(file_store)
    run_id = announce_run(objects, endless(**{"train.steps": 2000}))
    ask(objects, run_id, "stopped")
    job = submit(endless(), file_store, run_id=run_id)  # which forgets earlier wishes
    with pytest.raises(Stopped):
        job.wait(lambda beat: job.stop() if beat["step"] == 20 else None)
    run = Run(objects, run_id)
    reached = run.checkpoints()[-1][0]
    assert reached < 2000
    assert submit(endless(), file_store, run_id=run_id).wait().step == 2000
    table = run.metrics()
    assert table["step"].to_pylist() == list(range(10, 2001, 10))
    assert table["attempt"].to_pylist().index(2) == reached // 10


def test_what_cannot_be_stopped_says_why(file_store: str) -> None:
    objects = open_objects(file_store)
    trial = announce_run(objects, endless(), sweep="20261122-014500-k3v9qa")
    with pytest.raises(ConfigError, match="`ganctl sweep stop 20261122-014500-k3v9qa`"):
        stop_run(objects, trial)
    ended = submit(endless(**{"train.steps": 10}), file_store).wait().run_id
    with pytest.raises(AlreadyExists, match=r"has ended \(completed\)"):
        stop_run(objects, ended)
    waiting = announce_run(objects, endless())
    assert stop_run(objects, waiting) == "queued"


# --- by force


def driven_elsewhere(objects: Objects, **changes: Any) -> str:
    run_id = announce_run(objects, endless())
    process = psutil.Process()
    hand_over(
        objects,
        run_id,
        {"on": "local", "host": "elsewhere", "pid": process.pid, "started": process.create_time()} | changes,
    )
    return run_id


def test_a_driver_on_another_machine_is_named(file_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = open_objects(file_store)
    with pytest.raises(RunFailed, match=f"pid {os.getpid()} on host elsewhere: give this command there"):
        stop_run(objects, driven_elsewhere(objects), now=True)


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [False, True])
def test_a_process_that_trains_is_stopped(frozen: bool, file_store: str) -> None:
    with short_folder() as folder, training(folder, file_store) as (process, run):
        if frozen:
            process.send_signal(signal.SIGSTOP)
        told, spent = ganctl_stop(file_store, run.id)
        assert told["state"] == "stopped"
        assert process.wait(15) == (-signal.SIGKILL if frozen else 7)
        assert spent < PATIENCE
        assert bool(run.checkpoints()) != frozen
        assert driver_of(run.objects, run.id) is None or frozen


def trainers(folder: str) -> list[psutil.Process]:
    """The processes of the ranks."""
    return [p for p in processes_of(folder) if "RayTrainWorker" in " ".join(p.cmdline())]


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [False, True])
def test_two_workers_on_a_ray_of_their_own_are_stopped(frozen: bool, file_store: str) -> None:
    with short_folder() as folder, training(folder, file_store, "--workers", "2") as (process, run):
        ranks = trainers(folder)
        assert len(ranks) == 2, [p.cmdline() for p in processes_of(folder)]
        if frozen:
            ranks[1].suspend()
        begun = time.monotonic()
        told, spent = ganctl_stop(file_store, run.id)
        assert told["state"] == "stopped"
        assert spent < PATIENCE
        nothing_left(folder, PATIENCE - (time.monotonic() - begun))
        process.wait(15)
        assert bool(run.checkpoints()) != frozen


def actors_of_runs(head: RayHead) -> list[Any]:
    """The cluster's living actors, but for the one that Ray keeps for all jobs to come."""
    from ray.util.state import list_actors

    actors = list_actors(head.address, detail=True)
    return [a for a in actors if a.state != "DEAD" and a.name != "AutoscalingCoordinator"]


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [False, True])
def test_a_job_of_a_cluster_is_stopped(frozen: bool, ray_head: RayHead, file_store: str) -> None:
    from ray.util.state import list_placement_groups

    with restored_environment():
        job = submit(endless(**{"scale.workers": 2}), file_store, ray_head.address)
        run = Run(open_objects(file_store), job.run_id)
        under_way(run)
        processes = [psutil.Process(actor.pid) for actor in actors_of_runs(ray_head)]
        ranks = [p for p in processes if "RayTrainWorker" in " ".join(p.cmdline())]
        assert len(ranks) == 2
        if frozen:
            ranks[1].suspend()
        begun = time.monotonic()
        told, spent = ganctl_stop(file_store, run.id)
        assert told["state"] == "stopped"
        assert spent < PATIENCE

        def left() -> list[Any]:
            groups = [g for g in list_placement_groups(ray_head.address) if g.state != "REMOVED"]
            return [*actors_of_runs(ray_head), *groups, *(p for p in processes if p.is_running())]

        while left() and time.monotonic() < begun + PATIENCE:
            time.sleep(0.5)
        assert left() == []
        assert bool(run.checkpoints()) != frozen


def test_the_command_says_how_to_go_on(file_store: str, tmp_path: Path) -> None:
    from tests.support.commands import ganctl

    run_id = announce_run(open_objects(file_store), endless())
    result = ganctl("runs", "stop", run_id, "--store", file_store)
    assert result.stdout == f"run {run_id} is queued; it has no checkpoint yet\n"
    assert f"next: ganctl train --resume {run_id}" in result.stderr
