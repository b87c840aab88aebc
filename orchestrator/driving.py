"""Which process or job drives a run, and how it is told to let go. All of it is in the store.

`driver.json` is there while a run is driven; `stop.json` is a wish that rank 0 finds with its heartbeat.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil

from orchestrator.errors import NotFound, StoreError
from orchestrator.store.documents import decode, encode
from orchestrator.store.layout import driver_key, wish_key
from orchestrator.store.objects import Objects

Document = dict[str, Any]


def ask(objects: Objects, run_id: str, why: str) -> None:
    """Have the run end at its next tick, resumable: because it is `stopped`, or because it is `preempted`."""
    wish = {"why": why, "time": time.time(), "by": f"{socket.gethostname()} pid {os.getpid()}"}
    objects.put(wish_key(run_id), encode(wish))


def asked(objects: Objects, run_id: str) -> str:
    """What `ask` was told, empty where nobody did."""
    with suppress(NotFound):
        return str(decode(objects.get(wish_key(run_id)))["why"])
    return ""


def driver_of(objects: Objects, run_id: str) -> Document | None:
    """What drives the run; None where nothing does."""
    with suppress(NotFound):
        return decode(objects.get(driver_key(run_id)))
    return None


def hand_over(objects: Objects, run_id: str, driver: Document) -> None:
    """`driver` is to drive the run from now on: earlier wishes are forgotten."""
    objects.delete(wish_key(run_id))
    objects.put(driver_key(run_id), encode(driver | {"time": time.time()}))


@contextmanager
def driving(objects: Objects, run_id: str, on: str) -> Iterator[None]:
    """This process drives the run meanwhile."""
    me = {"on": on, "host": socket.gethostname(), "pid": os.getpid()}
    me |= {"started": psutil.Process().create_time()}
    hand_over(objects, run_id, me)
    try:
        yield
    finally:
        with suppress(StoreError):  # the run has said so already
            now = driver_of(objects, run_id)
            if now is not None and {name: now.get(name) for name in me} == me:
                objects.delete(driver_key(run_id))


@contextmanager
def terminated(do: Callable[[], None]) -> Iterator[None]:
    """At the first SIGTERM `do` is called, in a thread; a second one ends the process.

    Nothing is changed outside of the main thread, or where somebody other than Ray handles SIGTERM.
    """
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    rays = getattr(before, "__module__", None) or ""
    if not main or not (before == signal.SIG_DFL or rays.startswith("ray.")):
        yield
        return

    def heard(number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        threading.Thread(target=do, daemon=True).start()

    signal.signal(signal.SIGTERM, heard)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
