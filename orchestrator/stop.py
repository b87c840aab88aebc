"""Stopping a run that somebody else drives: first by a wish, then by force, within half a minute in all."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import psutil

from orchestrator.driving import ask, driver_of
from orchestrator.errors import AlreadyExists, ConfigError, RunFailed
from orchestrator.store.documents import encode
from orchestrator.store.layout import live_key
from orchestrator.store.objects import Objects
from orchestrator.store.reader import Run

PATIENCE = 30.0  # seconds until nothing of the run may be left
GRACE = 12.0  # of these, for a step and a checkpoint
TERM = 4.0  # and for a process that was told to end
POLL_SECONDS = 0.25


class Driver(Protocol):
    """What drives a run. `over`: it has let go and holds nothing. `end` makes it so, by force; it returns whether it
    did before `deadline` (monotonic)."""

    def over(self) -> bool: ...

    def end(self, deadline: float) -> bool: ...


def stop_run(objects: Objects, run_id: str, now: bool = False) -> str:
    """Stop run `run_id`, with a checkpoint unless `now`, and free what it holds. Returns the state it is left in.

    Raises AlreadyExists where it has ended, ConfigError for a trial of a sweep, RunFailed where it cannot be ended
    from here.
    """
    run = Run(objects, run_id)
    document, sealed, deadline = run.document(), run.sealed(), time.monotonic() + PATIENCE
    if sealed is not None:
        raise AlreadyExists(f"run {run_id} has ended ({sealed['state']})")
    if document.get("sweep"):
        raise ConfigError(
            f"run {run_id} is a trial of sweep {document['sweep']}: `ganctl sweep stop {document['sweep']}`"
        )
    known = driver_of(objects, run_id)
    if known is None:
        return run.state()
    driver = _driver(objects, run_id, known)
    if driver.over():
        _mark(run, "its process had ended")
        return run.state()
    now = now or run.state() == "queued"  # there is nothing to save
    if not now:
        ask(objects, run_id, "stopped")
    if now or not _wait(driver.over, deadline - PATIENCE + GRACE):
        if not driver.end(deadline):
            raise RunFailed(f"run {run_id}: {known} still holds something; see `ray list actors`")
        _mark(run, "ended by force: `ganctl runs stop`")
    return run.state()


def _wait(over: Callable[[], bool], deadline: float) -> bool:
    while not (done := over()) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return done


def _mark(run: Run, error: str) -> None:
    """Say in the heartbeat of a run that did not say so itself that nobody is at it."""
    live = run.live()
    if run.sealed() is None and live is not None and live["state"] not in ("stopped", "preempted"):
        run.objects.put(
            live_key(run.id), encode(live | {"state": "stopped", "error": error, "time": time.time()})
        )


def _driver(objects: Objects, run_id: str, known: dict[str, Any]) -> Driver:
    if "submission" in known:
        from orchestrator.jobs import JobDriver

        return JobDriver(known["on"], known["submission"], objects)
    return ProcessDriver(objects, run_id, known)


class ProcessDriver:
    """A process of this machine, and those below it: a Ray of its own."""

    def __init__(self, objects: Objects, run_id: str, known: dict[str, Any]) -> None:
        self.objects, self.run_id, self.known = objects, run_id, known
        self._family: dict[int, psutil.Process] = {}
        self._process = self._find()
        self._look()

    def over(self) -> bool:
        """Whether it drives the run no more, and, where the process has ended, those below it have."""
        self._look()
        if self._process is None or not _lives(self._process):
            return not self._left() and self._here
        return driver_of(self.objects, self.run_id) != self.known

    def end(self, deadline: float) -> bool:
        """SIGTERM, then SIGKILL to the process and all below it. Raises RunFailed on another machine."""
        if not self._here:
            raise RunFailed(
                f"run {self.run_id} is driven by pid {self.known['pid']} on host {self.known['host']}: "
                f"give this command there"
            )
        if self._process is not None and _lives(self._process):
            with suppress(psutil.Error):
                self._process.terminate()
            _wait(lambda: not _lives(self._process), time.monotonic() + TERM)
        while (left := self._left()) and time.monotonic() < deadline:
            for process in left:
                with suppress(psutil.Error):
                    process.kill()
            time.sleep(POLL_SECONDS)
        return not left

    @property
    def _here(self) -> bool:
        return bool(self.known["host"] == socket.gethostname())

    def _find(self) -> psutil.Process | None:
        with suppress(psutil.Error):
            process = psutil.Process(self.known["pid"])
            if self._here and abs(process.create_time() - self.known["started"]) < 1.0:
                return process
        return None

    def _look(self) -> None:
        """Remember what is below the process: once it has ended, nobody knows any more."""
        if self._process is not None:
            with suppress(psutil.Error):
                self._family |= {p.pid: p for p in self._process.children(recursive=True)}

    def _left(self) -> list[psutil.Process]:
        self._look()
        family = list(self._family.values())
        if self._process is not None:
            family.append(self._process)
        return [process for process in family if _lives(process)]


def _lives(process: psutil.Process | None) -> bool:
    with suppress(psutil.Error):
        return process is not None and process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
