"""Fixture: a cluster of three hosts on this machine, and what a test asks of a run on it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.local.cluster import Cluster, missing
from orchestrator.errors import NotFound
from orchestrator.store.documents import Document, decode
from orchestrator.store.layout import attempt_key
from orchestrator.store.reader import Run
from tests.support.rays import restored_environment, short_folder, token

HOSTS = 3  # of one CPU each: two for two workers, and a spare


@pytest.fixture(scope="module")
def hosts() -> Iterator[Cluster]:
    """A cluster that the environment reaches. Skipped where it cannot be; for root in CI this fails."""
    reason = missing()
    if reason and os.environ.get("CI") and os.geteuid() == 0:
        pytest.fail(f"CI must test on several hosts: {reason}")
    if reason:
        pytest.skip(f"several hosts on one machine: {reason}")
    with restored_environment(), short_folder() as folder:
        os.environ.pop("RAY_ADDRESS", None)
        cluster = Cluster.up(Path(folder), HOSTS, token=token())
        try:
            os.environ.update(cluster.environment())
            yield cluster
        finally:
            cluster.down()


def whole(cluster: Cluster) -> None:
    """Bring every host back, and wait until Ray counts them all."""
    for name, _, state, _, _ in cluster.status():
        if state == "cut":
            cluster.heal(name)
        if state == "ended":
            cluster.add()
    until(lambda: all(view != "dead" for _, _, _, view, _ in cluster.status()), 60)


def until(happened: Callable[[], bool], patience: float) -> float:
    """The seconds until it had happened; fails after `patience`."""
    begun = time.monotonic()
    while not happened():
        assert time.monotonic() - begun < patience, "it did not happen"
        time.sleep(0.1)
    return time.monotonic() - begun


def attempt(run: Run, number: int) -> Document:
    """What attempt `number` said of itself as it began; empty before."""
    try:
        return decode(run.objects.get(attempt_key(run.id, number)))
    except NotFound:
        return {}


def steps_in(run: Run, number: int) -> bool:
    """Whether attempt `number` has made a step, as its heartbeat tells."""
    began, beat = attempt(run, number), run.live() or {}
    return bool(began) and beat.get("attempt") == number and beat["step"] > began["from"]


def view(cluster: Cluster, name: str) -> str:
    """What Ray makes of a host: alive or dead."""
    return next(row[3] for row in cluster.status() if row[0] == name)


def runs_on(cluster: Cluster, name: str, pid: int) -> bool:
    """Whether the process that a host itself numbers `pid` lives."""
    inner = [status(process.pid).get("NSpid", "0").split()[-1] for process in cluster.hosts[name].processes()]
    return str(pid) in inner


def status(pid: int) -> dict[str, str]:
    """/proc/PID/status; empty where the process has gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
