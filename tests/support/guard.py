"""A pytest plugin: the session fails when a process that it started is still alive at its end.

It knows nothing of Ray, Prefect or Ceph: a process belongs to the session when it descends from pytest, or,
once it is a daemon and has another parent, when its environment holds the session's marker.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import psutil
import pytest

MARKER = "GANCTL_TEST_SESSION"
GRACE_S = 10.0  # Ray's and Prefect's helpers notice their parent's end within a second or two.

# Python's own helpers: they live exactly as long as the interpreter that started them.
INTERPRETER_HELPERS = (
    "multiprocessing.resource_tracker",
    "multiprocessing.forkserver",
    "loky.backend.resource_tracker",
)


@pytest.fixture(scope="session", autouse=True)
def no_process_left() -> Iterator[None]:
    """Mark this session; after its last test fail where a process of it survives, and end that process."""
    marker = uuid.uuid4().hex
    outer = os.environ.get(MARKER)
    os.environ[MARKER] = marker
    yield
    if outer is None:
        del os.environ[MARKER]
    else:
        os.environ[MARKER] = outer
    _, left = psutil.wait_procs(survivors(marker), timeout=GRACE_S)
    if left:
        lines = [describe(process) for process in left]
        end(left)
        pytest.fail("processes left by the tests:\n" + "\n".join(lines), pytrace=False)


def survivors(marker: str) -> list[psutil.Process]:
    """Living processes that descend from this one or carry `marker`, save the interpreter's own helpers."""
    mine = psutil.Process()
    found = {process.pid: process for process in mine.children(recursive=True)}
    for process in psutil.process_iter():
        if process.pid != mine.pid and environment(process).get(MARKER) == marker:
            found[process.pid] = process
    return [process for process in found.values() if lives(process) and not is_helper(process, mine)]


def environment(process: psutil.Process) -> dict[str, str]:
    """The environment `process` was started with; empty where it has ended or belongs to someone else."""
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}


def lives(process: psutil.Process) -> bool:
    """Whether `process` runs; a zombie has ended and only waits for its parent to look."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def is_helper(process: psutil.Process, parent: psutil.Process) -> bool:
    """Whether `process` is a direct child of `parent` that Python itself keeps until `parent` ends."""
    try:
        command = " ".join(process.cmdline())
        return process.ppid() == parent.pid and any(name in command for name in INTERPRETER_HELPERS)
    except psutil.Error:
        return False


def describe(process: psutil.Process) -> str:
    """`pid command line`, as far as it can still be read."""
    try:
        return f"{process.pid} {' '.join(process.cmdline())}"
    except psutil.Error:
        return f"{process.pid} (ended meanwhile)"


def end(processes: list[psutil.Process]) -> None:
    """Kill `processes`."""
    for process in processes:
        try:
            process.kill()
        except psutil.Error:
            continue
    psutil.wait_procs(processes, timeout=GRACE_S)
