"""What one person needs on one machine, under one supervisor: Prefect's server, a Ray head, the dashboard and a worker.
Whatever dies is started again; all of it ends with this process.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from orchestrator.background import Background, forget, home, known, note
from orchestrator.cluster import QUIET, metric_ports
from orchestrator.errors import AlreadyExists, RunFailed

START_SECONDS = 180.0
POLL_SECONDS = 1.0
RESTARTS = 5  # within RESTART_SECONDS; then all of it ends
RESTART_SECONDS = 600.0
JOB_STOP_SECONDS = "30"  # that Ray gives a job to write its checkpoint
Tell = Callable[[str], None]


@dataclass
class Part:
    """One process: its command, how it is asked whether it answers, and how many seconds it has to end."""

    name: str
    command: Sequence[str]
    answers: Callable[[], bool]
    grace: float
    interrupt: signal.Signals = signal.SIGTERM
    process: subprocess.Popen[bytes] | None = None
    family: dict[int, psutil.Process] = field(default_factory=dict)
    began: list[float] = field(default_factory=list)


class Supervisor:
    """Starts the parts in order, keeps them alive, and ends them in the reverse order."""

    def __init__(self, background: Background, parts: Sequence[Part], tell: Tell) -> None:
        self.background, self.parts, self.tell = background, parts, tell
        self.ended = threading.Event()

    def start(self, ready: Callable[[], None]) -> None:
        """Start every part but the last, call `ready`, then start that one: the worker. Raises RunFailed."""
        *first, worker = self.parts
        for part in first:
            self._launch(part)
        for part in first:
            self._wait(part)
        ready()
        self._launch(worker)
        self._wait(worker)

    def run(self) -> None:
        """Keep the parts alive until told to end. Raises RunFailed where one dies again and again."""
        while not self.ended.wait(POLL_SECONDS):
            for part in self.parts:
                assert part.process is not None
                part.family |= {p.pid: p for p in _below(part.process.pid)}
                if (code := part.process.poll()) is not None and not self.ended.is_set():
                    part.began = [t for t in part.began if t > time.monotonic() - RESTART_SECONDS]
                    if len(part.began) > RESTARTS:
                        raise RunFailed(f"{part.name} ended {len(part.began)} times; see {self._log(part)}")
                    self.tell(f"{part.name} ended ({code}) and is started again")
                    for left in part.family.values():  # they may hold a port that the next one needs
                        _kill(left)
                    part.family.clear()
                    self._launch(part)

    def end(self) -> None:
        """End all parts, the last one first, and whatever is below them."""
        for part in reversed(self.parts):
            if part.process is None or part.process.poll() is not None:
                continue
            family = [psutil.Process(part.process.pid), *_below(part.process.pid)]
            part.process.send_signal(part.interrupt)
            _, left = psutil.wait_procs(family, timeout=part.grace)
            for process in left:
                _kill(process)
            part.process.wait()

    def _launch(self, part: Part) -> None:
        part.began.append(time.monotonic())
        with self._log(part).open("ab") as log:
            part.process = subprocess.Popen(
                part.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(self.background),
                cwd=self.background.logs,
                start_new_session=True,  # Ctrl-C is for the supervisor
                preexec_fn=_die_with_parent,
            )

    def _wait(self, part: Part) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not part.answers():
            assert part.process is not None
            if part.process.poll() is not None or time.monotonic() > deadline or self.ended.is_set():
                said = self._log(part).read_text(errors="replace").strip().splitlines()
                raise RunFailed(f"{part.name} did not start: {said[-1][:300] if said else 'no log'}")
            time.sleep(POLL_SECONDS)
        self.tell(f"{part.name} is up")

    def _log(self, part: Part) -> Path:
        return Path(self.background.logs) / f"{part.name}.log"


def plan(store: str, tell: Tell, cpus: int | None = None) -> Supervisor:
    """The supervisor of everything, on ports that are free. Raises AlreadyExists where one runs already."""
    if (other := known()) is not None:
        raise AlreadyExists(
            f"`ganctl up` runs already, as pid {other.pid}: Prefect {other.prefect}, Ray {other.ray}"
        )
    folder = home()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    token, key = _secret(folder / "ray-token"), _secret(folder / "dashboard-token")
    prefect, ray, dashboard = port(4200), port(8265), port(8080)
    background = Background(
        os.getpid(),
        psutil.Process().create_time(),
        store,
        f"http://127.0.0.1:{prefect}/api",
        f"http://127.0.0.1:{ray}",
        str(token),
        str(folder),
        f"http://127.0.0.1:{dashboard}",
        str(key),
    )
    here = [sys.executable, "-m"]
    server = [*here, "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(prefect)]
    options = {"--port": port(6379), "--dashboard-port": ray}
    options |= {"--dashboard-agent-listen-port": 0}  # a free one at each start: without it no job is taken
    options |= {"--ray-client-server-port": port(10001), "--num-cpus": cpus or len(os.sched_getaffinity(0))}
    if short := os.environ.get("GANCTL_RAY_TMP"):
        options["--temp-dir"] = short  # type: ignore[assignment]
    head = [
        str(Path(sys.executable).parent / "ray"),
        "start",
        "--head",
        "--block",
        "--dashboard-host=127.0.0.1",
    ]
    worker = [
        *here,
        "prefect",
        "worker",
        "start",
        "--pool",
        "ganctl",
        "--type",
        "process",
        "--name",
        "ganctl-up",
    ]
    pages = [*here, "orchestrator.cli", "dashboard", "--store", store, "--port", str(dashboard)]
    pages += ["--token-file", str(key)]
    parts = [
        Part("prefect", server, lambda: _answers(f"{background.prefect}/health"), 15.0, signal.SIGINT),
        Part(
            "ray",
            [*head, *(f"{n}={v}" for n, v in options.items())],
            lambda: _answers(f"{background.ray}/api/version", token),
            15.0,
        ),
        Part("dashboard", pages, lambda: _answers(f"{background.dashboard}/login"), 5.0, signal.SIGINT),
        Part("worker", worker, lambda: True, 60.0, signal.SIGINT),
    ]
    return Supervisor(background, parts, tell)


def supervise(store: str, tell: Tell, ready: Callable[[Background], None], cpus: int | None = None) -> None:
    """Run everything until SIGINT or SIGTERM. `ready` is called once Prefect and Ray answer, before the worker starts.

    Raises AlreadyExists where a supervisor runs already, RunFailed where a part does not start or does not stay.
    """
    supervisor = plan(store, tell, cpus)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: supervisor.ended.set())
    try:
        note(supervisor.background)
        supervisor.start(lambda: ready(supervisor.background))
        supervisor.run()
    finally:
        tell("ending")
        supervisor.end()
        forget()


def environment(background: Background) -> Mapping[str, str]:
    """The environment of every part."""
    own = background.environment() | {
        "RAY_JOB_STOP_WAIT_TIME_S": JOB_STOP_SECONDS,
        "RAY_USAGE_STATS_ENABLED": "0",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PYTHONUNBUFFERED": "1",
    }
    return QUIET | os.environ | own | metric_ports()


def port(wanted: int) -> int:
    """`wanted` where nobody listens there, else a free one."""
    for number in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", number))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise AssertionError


def _answers(url: str, token: Path | None = None) -> bool:
    headers = {} if token is None else {"Authorization": f"Bearer {token.read_text()}"}
    try:
        return httpx.get(url, timeout=5, trust_env=False, headers=headers).status_code == 200
    except httpx.HTTPError:
        return False


def _secret(path: Path) -> Path:
    """A file with a fresh token that only this person can read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
    return path


def _die_with_parent() -> None:
    """Have Linux send SIGTERM to this child when the supervisor is gone, even by SIGKILL (prctl(2))."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _below(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.Error:
        return
