"""A host: one process, the first of its own process, mount, network, host-name and IPC namespaces (host.sh).

When it ends, the kernel ends everything in it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

SCRIPT = Path(__file__).with_name("host.sh")
UNSHARE = ("unshare", "--fork", "--kill-child", "--pid", "--mount-proc", "--mount", "--net", "--uts", "--ipc")
END_S = 20.0


@dataclass(frozen=True)
class Host:
    """A host that was started: `pid` is that of the process around it, which began at `started` (seconds since 1970),
    so that a pid that the machine uses again is not mistaken for it."""

    name: str
    address: str
    cable: str
    pid: int
    started: float

    @property
    def process(self) -> psutil.Process | None:
        """The process around the host, while it lives."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < 1
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None

    @property
    def first(self) -> int:
        """Process 1 of the host, as the machine numbers it. Raises RuntimeError where the host has ended."""
        deadline = time.monotonic() + END_S
        while (process := self.process) and time.monotonic() < deadline:
            if children := process.children():
                return children[0].pid
            time.sleep(0.01)
        raise RuntimeError(f"{self.name} ended as soon as it began")

    def processes(self) -> list[psutil.Process]:
        """All processes of the host, the one around it first."""
        try:
            process = self.process
            return [process, *process.children(recursive=True)] if process else []
        except psutil.NoSuchProcess:
            return []

    def memory(self) -> int:
        """Bytes that the host's processes hold, what they share counted once (proportional set size)."""
        held = 0
        for process in self.processes():
            with suppress(psutil.Error):
                held += process.memory_full_info().pss
        return held

    def kill(self) -> None:
        """End every process of the host, as a power cut does, and wait until none is left."""
        processes = self.processes()
        if processes:
            processes[0].kill()
        _, left = psutil.wait_procs(processes, timeout=END_S)
        if left:
            raise RuntimeError(f"processes of {self.name} cannot be ended: {[p.pid for p in left]}")


def start(
    name: str, address: str, cable: str, folder: Path, command: Sequence[str], environment: Mapping[str, str]
) -> Host:
    """Start a host whose supervisor runs `command`; it waits for its cable. Its log is `folder`/log."""
    folder.mkdir(parents=True, exist_ok=True)
    words = [*UNSHARE, "--", str(SCRIPT), name, address, str(folder), *command]
    log = (os.POSIX_SPAWN_OPEN, 1, str(folder / "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    files = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), log, (os.POSIX_SPAWN_DUP2, 1, 2)]
    # Not subprocess: the host outlives us, and nobody holds an object for it.
    pid = os.posix_spawnp(words[0], words, dict(environment), file_actions=files, setsid=True)
    return Host(name, address, cable, pid, psutil.Process(pid).create_time())
