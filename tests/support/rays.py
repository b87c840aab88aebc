"""Ray for tests: an instance of our own in this process, and a head of its own that takes jobs over HTTP.

Each has its own folder below /tmp, since a Unix socket's path has at most 107 bytes, and its own ports.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.support.ceph import free_port
from tests.support.guard import end, lives

# The dashboard's processes look for their parent now and then: they are gone after 1 s, at a load of 18 after 5 s.
PATIENCE_SECONDS = 30.0


@contextmanager
def restored_environment() -> Iterator[None]:
    """Undo whatever changes `os.environ` meanwhile."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def token() -> str:
    """The one token of every Ray that this process starts or talks to, from now to its end.

    It is never taken back: a connection that still drains would abort the process where its token is gone.
    """
    from ray._private.authentication_test_utils import reset_auth_token_state

    if "RAY_AUTH_TOKEN" not in os.environ:
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        reset_auth_token_state()
    return os.environ["RAY_AUTH_TOKEN"]


@contextmanager
def short_folder() -> Iterator[str]:
    """A temporary folder with a short path."""
    folder = tempfile.mkdtemp(prefix="gr-", dir="/tmp")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def processes_of(folder: str) -> list[psutil.Process]:
    """Living processes, other than this one, whose command line, environment or open files name `folder`.

    Ray's processes write their titles over their environments, so a marker there would not find them all.
    """
    return [p for p in psutil.process_iter() if p.pid != os.getpid() and lives(p) and _names(p, folder)]


def nothing_left(folder: str, patience: float = PATIENCE_SECONDS) -> None:
    """Fail, and say which, where a process of `folder` outlives `patience` seconds, and end it."""
    deadline = time.monotonic() + patience
    while (left := processes_of(folder)) and time.monotonic() < deadline:
        time.sleep(0.2)
    told = [f"{p.pid} {' '.join(p.cmdline())[:200]}" for p in left]
    end(left)
    assert not told, "\n".join([f"outlived {patience:g} s:", *told])


def _names(process: psutil.Process, folder: str) -> bool:
    try:
        raw = (
            Path(f"/proc/{process.pid}/cmdline").read_bytes()
            + Path(f"/proc/{process.pid}/environ").read_bytes()
        )
        return folder.encode() in raw or any(file.path.startswith(folder) for file in process.open_files())
    except (psutil.Error, OSError):
        return False


@contextmanager
def own_ray() -> Iterator[str]:
    """A Ray of our own, in this process, and its folder; nothing of it is left afterwards."""
    from orchestrator.cluster import connected

    token()
    with restored_environment(), short_folder() as folder:
        os.environ.pop("RAY_ADDRESS", None)
        os.environ["GANCTL_RAY_TMP"] = folder
        with connected("local"):
            yield folder
        nothing_left(folder)


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """One Ray of our own for all of a module: every `--on local` in this process finds it started."""
    with own_ray():
        yield


@dataclass(frozen=True)
class RayHead:
    """A one-node cluster: the address of its Jobs API, and where Ray keeps its files."""

    address: str
    folder: str


@pytest.fixture(scope="module")
def ray_head() -> Iterator[RayHead]:
    """One head for all of a module."""
    with started_head() as head:
        yield head


@contextmanager
def started_head(port: int = 0) -> Iterator[RayHead]:
    """A real `ray start --head` behind this process's token, its Jobs API on `port` or a free one."""
    from orchestrator.cluster import metric_ports

    port = port or free_port()
    secret = token()
    with restored_environment(), short_folder() as folder:
        os.environ.pop("RAY_ADDRESS", None)
        words = {
            "--port": free_port(),
            "--dashboard-port": port,
            "--dashboard-agent-listen-port": 0,  # one that is free when it is bound
            "--temp-dir": folder,
            "--num-cpus": 2,
        }
        options = [f"{name}={value}" for name, value in words.items()]
        log = Path(folder) / "head.log"
        with log.open("wb") as output:
            head = subprocess.Popen(
                [str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", *options],
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0", **metric_ports()},
                start_new_session=True,
            )
        try:
            _answers(port, secret, head, log)
            yield RayHead(f"http://127.0.0.1:{port}", folder)
        finally:
            head.kill()
            head.wait()
            end(processes_of(folder))


def _answers(port: int, token: str, head: subprocess.Popen[bytes], log: Path) -> None:
    """Return once the Jobs API does. Raises RuntimeError with the head's log where it does not."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/jobs/", headers={"Authorization": f"Bearer {token}"}
    )
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and head.poll() is None:
        try:
            urllib.request.urlopen(request, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise RuntimeError(f"Ray did not come up:\n{log.read_text(errors='replace')[-3000:]}")
