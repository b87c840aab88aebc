"""Runs that begin and end on one Ray, over and over, leave nothing behind: no process, placement group, file or thread.

Two hundred runs as trials of ten sweeps (GANCTL_SWEEPS) are one part of it. A run with a worker group of its own
starts six processes and takes 8 s on two cores, so of those there are GANCTL_CYCLES (8 unless said); half of them are
stopped half-way. Ray 2.60's head keeps a dead socket of each group, and two of each sweep, however many trials it has
(measured; actors and placement groups of our own making leave none).
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator.errors import Stopped
from orchestrator.experiment import Experiment
from orchestrator.launch import submit
from orchestrator.recipes import load
from orchestrator.sweep.driver import run_sweep
from orchestrator.sweep.plan import Plan
from orchestrator.sweep.space import LogUniform, Space
from tests.support.rays import own_ray, processes_of
from tests.support.threads import one_thread

__all__ = ["one_thread"]


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporary folders of this process lie below the test's own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

GROUPS = int(os.environ.get("GANCTL_CYCLES", "8"))
SWEEPS, TRIALS = int(os.environ.get("GANCTL_SWEEPS", "10")), 20
SETTLING, STILL = 30.0, 6.0


def tiny(**changes: Any) -> Experiment:
    fields = {
        "gan.width": 8,
        "data.num": 200,
        "train.batch": 16,
        "train.steps": 20,
        "train.log_every": 10,
        "train.evaluate_every": 0,
        "train.sample_every": 0,
        "train.checkpoint_every": 0,
    }
    return load("vanilla.ring").override(fields | changes)


def held(folder: str) -> Counter[str]:
    """What there is of everything that could grow. Ray's pool of idle workers is its own."""
    import ray
    from ray.util import placement_group_table
    from ray.util.state import list_actors

    actors = list_actors(ray.get_runtime_context().gcs_address, limit=10_000)
    processes = [p for p in processes_of(folder) if "ray::IDLE" not in " ".join(p.cmdline())]
    files: Counter[str] = Counter()
    for process in (psutil.Process(), *processes):
        name = process.name()
        if name in ("raylet", "gcs_server") or process.pid == os.getpid():
            files[f"files of {'driver' if process.pid == os.getpid() else name}"] += process.num_fds()
    counted = Counter(
        {
            "processes": len(processes),
            "actors": sum(a.state != "DEAD" for a in actors),
            "placement groups": sum(g["state"] != "REMOVED" for g in placement_group_table().values()),
            "threads": threading.active_count(),
            "scratch": len(list(Path(tempfile.gettempdir()).glob("ganctl-*"))),
        }
    )
    return counted + files


def still(folder: str) -> Counter[str]:
    """What there is once it has not changed for STILL seconds, or SETTLING seconds have passed."""
    now, since = held(folder), time.monotonic()
    deadline = since + SETTLING
    while time.monotonic() < min(deadline, since + STILL):
        time.sleep(1)
        if (then := held(folder)) != now:
            now, since = then, time.monotonic()
    return now


def settled(folder: str, before: Counter[str], slack: int) -> Counter[str]:
    """What there is once it is no more than `before`, `slack` apart, or SETTLING seconds have passed."""
    deadline = time.monotonic() + SETTLING
    while (now := held(folder)) and time.monotonic() < deadline:
        if all(now[name] <= before[name] + slack for name in now):
            break
        time.sleep(1)
    return now


def grown(
    before: Counter[str], after: Counter[str], slack: int, groups: int = 0
) -> dict[str, tuple[int, int]]:
    """What there is more of than `slack`: a connection that is opened on first use is no leak."""
    rays = Counter({"files of gcs_server": groups})
    return {
        name: (before[name], after[name]) for name in after if after[name] > before[name] + slack + rays[name]
    }


def test_hundreds_of_runs_of_sweeps_leave_nothing(tmp_path: Path) -> None:
    searched = tiny().model_copy(update={"search": Space({"gan.lr_ratio": LogUniform(low=0.5, high=2.0)})})
    plan = Plan(trials=TRIALS, sampler="random", stop="none", pack=1)
    with own_ray() as folder:
        run_sweep(searched, str(tmp_path / "warm"), plan)
        before = still(folder)
        for number in range(SWEEPS):
            result = run_sweep(searched, str(tmp_path / str(number)), plan)
            assert len(result.trials) == TRIALS
        after = settled(folder, before, 3)
        assert grown(before, after, 3, 2 * SWEEPS) == {}


def test_worker_groups_that_end_or_are_stopped_leave_nothing(tmp_path: Path) -> None:
    def cycle(number: int) -> None:
        if number % 2:
            job = submit(tiny(**{"train.steps": 10**6}), str(tmp_path), "local")
            with pytest.raises(Stopped):
                job.wait(lambda beat: job.stop() if beat["step"] > 0 else None)
        else:
            assert submit(tiny(), str(tmp_path), "local").wait().step == 20

    with own_ray() as folder:
        for number in range(2):
            cycle(number)
        before = still(folder)
        begun = time.monotonic()
        for number in range(GROUPS):
            cycle(number)
        spent = time.monotonic() - begun
        after = settled(folder, before, 3)
        assert grown(before, after, 3, GROUPS) == {}, f"after {GROUPS} cycles in {spent:.0f} s"
