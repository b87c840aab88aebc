"""What the processes of a run say, kept in the store: its last MiB each, there when machine and cluster are gone.

A process that has something to say has an object of its own, `runs/<id>/logs/<time>-<who>-<host>-<pid>.txt`, and
overwrites it, seconds apart, while there is news. It never holds training up: a thread writes, and a store that does
not answer is tried again later. What looks like a secret is masked before it leaves the process.
"""

from __future__ import annotations

import os
import re
import socket
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, TextIO

from orchestrator.errors import StoreError
from orchestrator.masking import masked
from orchestrator.store.layout import log_folder, log_key
from orchestrator.store.objects import Objects

BYTES = 1024 * 1024  # of one process's log
LINE = 4000  # characters
MOST = 50  # logs that are shown of a run, the newest
SECONDS = 2.0  # between two writes
LAST_SECONDS = 10.0  # for the last one
BYTES_PER_SECOND = 64 * 1024  # a long log is written less often
CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")
HEAD = re.compile(r"(?P<who>\S+) on (?P<where>.*?)(?:; (?P<dropped>\d+) earlier lines are left out)?")


class Log:
    """What this process says of one run. Nothing is written before the first line. Threads may share it."""

    def __init__(self, objects: Objects, run_id: str, who: str) -> None:
        host, pid = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:60], os.getpid()
        self.key = log_key(run_id, f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{who}-{host}-{pid}")
        self._objects, self._who = objects, f"{who} on {host} pid {pid}"
        self._lines: deque[str] = deque()
        self._bytes = self._dropped = 0
        self._open = ""
        self._fresh = False
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._writer: threading.Thread | None = None

    def say(self, text: str) -> None:
        """Add whole lines."""
        self.write(text.rstrip("\n") + "\n")

    def write(self, text: str) -> None:
        """Add text as it is printed: a line is taken up once it is whole."""
        with self._lock:
            *whole, self._open = (self._open + text).split("\n")
            self._open = self._open.rpartition("\r")[2][-LINE:]
            for line in whole:
                self._add(line)
            if whole and self._writer is None and not self._done.is_set():
                self._writer = threading.Thread(target=self._write_on, name="log", daemon=True)
                self._writer.start()

    @contextmanager
    def capturing(self) -> Iterator[None]:
        """Take up what is printed meanwhile, which is printed all the same."""
        tees = {name: Tee(getattr(sys, name), self) for name in ("stdout", "stderr")}
        for name, tee in tees.items():
            setattr(sys, name, tee)
        try:
            yield
        finally:
            for name, tee in tees.items():
                tee.log = None
                if getattr(sys, name) is tee:  # else somebody put another one over it, who takes that away
                    setattr(sys, name, tee.rich_proxied_file)

    def close(self) -> None:
        """Write what is new, and wait `LAST_SECONDS` for it. Nothing is raised where the store does not take it."""
        with self._lock:
            if self._open:
                self._add(self._open)
                self._open = ""
        self._done.set()
        if self._writer is not None:
            self._writer.join(LAST_SECONDS)
        if self._writer is None or not self._writer.is_alive():
            self._flush()

    def _add(self, line: str) -> None:
        line = masked(CONTROL.sub("", line.rstrip("\r").rpartition("\r")[2]))[:LINE]
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime())} {line}"
        self._lines.append(line)
        self._bytes += len(line.encode()) + 1
        self._fresh = True
        while self._bytes > BYTES:
            self._bytes -= len(self._lines.popleft().encode()) + 1
            self._dropped += 1

    def _write_on(self) -> None:
        over = False
        while not over:
            over = self._done.wait(max(SECONDS, self._bytes / BYTES_PER_SECOND))
            self._flush()

    def _flush(self) -> None:
        with self._lock:
            if not self._fresh:
                return
            self._fresh = False
            more = f"; {self._dropped} earlier lines are left out" if self._dropped else ""
            text = "\n".join([self._who + more, *self._lines, ""])
        try:
            self._objects.put(self.key, text.encode(errors="replace"))
        except StoreError:  # the run meets it, too, and says so
            self._fresh = True


class Tee:
    """A stream that passes everything on, and what is written to `log` as well, while it has one.

    `rich_proxied_file` is what rich draws its bars on: they are no lines of a log.
    """

    def __init__(self, stream: TextIO, log: Log) -> None:
        self.rich_proxied_file = stream
        self.log: Log | None = log

    def write(self, text: str) -> int:
        """As the stream."""
        if self.log is not None:
            self.log.write(text)
        return self.rich_proxied_file.write(text)

    def writelines(self, lines: Any) -> None:
        """As the stream."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)


@contextmanager
def recorded(objects: Objects, run_id: str, who: str) -> Iterator[Log]:
    """Keep what this process prints meanwhile, and the traceback it ends with, in the log of a run."""
    log = Log(objects, run_id, who)
    try:
        with log.capturing():
            yield log
    except BaseException as error:
        log.say(trace_of(error))
        raise
    finally:
        log.close()


def keep(objects: Objects, run_id: str, who: str, text: str) -> None:
    """Keep `text`, which somebody else printed, in the log of a run."""
    log = Log(objects, run_id, who)
    with suppress(StoreError):
        log.say(text)
    log.close()


def trace_of(error: BaseException) -> str:
    """The traceback of an error."""
    return "".join(traceback.format_exception(error)).rstrip()


class Kept(NamedTuple):
    """One process's log: `total` counts its lines since it began, `lines` are the last of them."""

    who: str
    total: int
    lines: list[str]


def logs_of(objects: Objects, run_id: str) -> dict[str, Kept]:
    """The newest logs of a run by name, in the order in which they began. Raises StoreError."""
    keys = objects.list(log_folder(run_id))[-MOST:]
    found = {}
    for key, data in objects.get_many(keys).items():
        head, *lines = data.decode(errors="replace").splitlines() or [""]
        told = HEAD.fullmatch(head)
        dropped = int(told["dropped"] or 0) if told else 0
        found[key.rpartition("/")[2].removesuffix(".txt")] = Kept(head, dropped + len(lines), lines)
    return found
