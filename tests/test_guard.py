"""The guard of tests/support/guard.py, seen from outside: a small pytest session in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]

CONFTEST = """
import tests.support.guard
tests.support.guard.GRACE_S = 0.3
"""

HEAD = """
import os, subprocess, sys

SLEEP = [sys.executable, "-c", "import time; time.sleep(300)"]

def test_passes(tmp_path):
"""

# A daemon: its parent ends at once, so that it is no longer a descendant of pytest.
DAEMON = """
    code = "import subprocess, sys; print(subprocess.Popen(sys.argv[1:], start_new_session=True).pid)"
    out = subprocess.run([sys.executable, "-c", code, *SLEEP], stdout=open("pid", "w"), check=True)
"""

CHILD_WITHOUT_MARKER = """
    env = {k: v for k, v in os.environ.items() if k != "GANCTL_TEST_SESSION"}
    child = subprocess.Popen(SLEEP, env=env)
    open("pid", "w").write(str(child.pid))
"""

TIDY = """
    child = subprocess.Popen(SLEEP)
    child.kill()
    child.wait()
"""


def run_session(folder: Path, body: str) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_inner.py").write_text(HEAD + body)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.support.guard", "-p", "no:cacheprovider"]
    command += ["-W", "ignore::ResourceWarning"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60)


def assert_found_and_ended(folder: Path, result: subprocess.CompletedProcess[str]) -> None:
    pid = int((folder / "pid").read_text())
    assert result.returncode == 1, result.stdout
    assert "1 passed, 1 error" in result.stdout
    assert f"{pid} {sys.executable} -c import time; time.sleep(300)" in result.stdout
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_daemon_that_survives_fails_the_session_and_is_named_and_ended(tmp_path: Path) -> None:
    assert_found_and_ended(tmp_path, run_session(tmp_path, DAEMON))


def test_a_child_that_dropped_the_marker_is_found_as_a_descendant(tmp_path: Path) -> None:
    assert_found_and_ended(tmp_path, run_session(tmp_path, CHILD_WITHOUT_MARKER))


def test_a_session_that_ended_its_processes_passes(tmp_path: Path) -> None:
    result = run_session(tmp_path, TIDY)
    assert result.returncode == 0, result.stdout
    assert "1 passed" in result.stdout
