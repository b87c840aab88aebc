"""The supervisor of `ganctl up` with small processes in the place of its servers, and how commands find what runs.

The real parts are in tests/test_retraining_served.py.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from flows.supervisor import Part, Supervisor, plan, port
from orchestrator.background import Background, forget, join, known, note
from orchestrator.errors import AlreadyExists, RunFailed
from tests.support.prefect import until


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("PREFECT_API_URL", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def background(folder: Path, pid: int | None = None) -> Background:
    pid = pid or os.getpid()
    started = psutil.Process(pid).create_time()
    where = "http://127.0.0.1:1/api", "http://127.0.0.1:2", str(folder / "token"), str(folder)
    return Background(pid, started, "store", *where)


def part(name: str, code: str, grace: float = 5.0) -> Part:
    return Part(name, [sys.executable, "-c", code], lambda: True, grace)


SLEEP = "import time; time.sleep(600)"


def test_what_runs_is_found_by_other_commands_and_forgotten_with_its_process(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert known() is None
    note(background(home))
    assert join() == known()
    assert os.environ["PREFECT_API_URL"] == "http://127.0.0.1:1/api"
    monkeypatch.setenv("PREFECT_API_URL", "http://elsewhere/api")
    join()
    assert os.environ["PREFECT_API_URL"] == "http://elsewhere/api", "a server of one's own wins"
    other = Background(**{**vars(background(home)), "started": 1.0})
    note(other)
    assert known() is None, "the pid belongs to somebody else by now"
    forget()
    assert known() is None


def test_a_second_supervisor_is_refused_with_the_addresses_of_the_first(home: Path) -> None:
    note(background(home))
    with pytest.raises(
        AlreadyExists, match=rf"runs already, as pid {os.getpid()}: Prefect http://127.0.0.1:1"
    ):
        plan("store", print)


def test_rays_token_is_this_persons_alone(home: Path) -> None:
    made = plan("store", print).background
    assert os.stat(made.token).st_mode & 0o777 == 0o600
    assert len(Path(made.token).read_text()) == 64


def test_a_port_that_is_taken_is_not_taken_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        assert port(number) != number


def test_parts_are_started_again_and_end_in_the_reverse_order_with_all_below_them(home: Path) -> None:
    told: list[str] = []
    child = (
        f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {SLEEP!r}]); time.sleep(600)"
    )
    supervisor = Supervisor(background(home), [part("server", child), part("worker", SLEEP)], told.append)
    ready: list[int] = []
    supervisor.start(lambda: ready.append(1))
    assert ready == [1]
    server, worker = (p.process for p in supervisor.parts)
    assert server is not None
    assert worker is not None
    running = threading.Thread(target=supervisor.run)
    running.start()
    worker.kill()
    until(lambda: supervisor.parts[1].process is not worker, 20)
    until(lambda: bool(psutil.Process(server.pid).children()), 20)
    family = [psutil.Process(p.process.pid) for p in supervisor.parts if p.process is not None]
    family += psutil.Process(server.pid).children(recursive=True)
    supervisor.ended.set()
    running.join()
    supervisor.end()
    assert not psutil.wait_procs(family, timeout=5)[1]
    assert "worker ended (-9) and is started again" in told


def test_a_part_that_dies_again_and_again_ends_all_with_its_log(home: Path) -> None:
    supervisor = Supervisor(
        background(home), [part("server", SLEEP), part("worker", "raise SystemExit(3)")], print
    )
    try:
        supervisor.start(lambda: None)
        with pytest.raises(RunFailed, match=r"worker ended 6 times; see .*worker.log"):
            supervisor.run()
    finally:
        supervisor.end()


def test_a_part_that_does_not_start_says_why(home: Path) -> None:
    broken = Part("server", [sys.executable, "-c", "raise SystemExit('no database')"], lambda: False, 1.0)
    supervisor = Supervisor(background(home), [broken, part("worker", SLEEP)], print)
    try:
        with pytest.raises(RunFailed, match="server did not start: no database"):
            supervisor.start(lambda: None)
    finally:
        supervisor.end()


def test_children_end_when_the_supervisor_is_killed(home: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.test_supervisor import *\n"
        f"folder = Path({str(home)!r})\n"
        "s = Supervisor(background(folder), [part('server', SLEEP), part('worker', SLEEP)], print)\n"
        "s.start(lambda: None); print(s.parts[0].process.pid, flush=True); s.run()"
    )
    import subprocess

    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        child = psutil.Process(int(lines[-1]))
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
