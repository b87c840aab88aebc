"""Fixtures: Prefect without a server, with a home of its own; and a real server as a process.

Nothing here imports Prefect before its home is set: it makes that folder when it is imported.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from tenacity import retry, retry_if_exception, stop_after_delay, wait_fixed

from tests.support.ceph import free_port

SETTINGS = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_LOGGING_LEVEL": "ERROR"}
START_SECONDS = 120.0


def _busy(error: BaseException) -> bool:
    """A server whose SQLite is locked answers 503, which Prefect's own client tries again."""
    return isinstance(error, httpx.HTTPStatusError) and error.response.status_code == 503


class Api:
    """Prefect's REST API at `url`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = httpx.Client(base_url=f"{url}/", timeout=30, trust_env=False)

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    @retry(retry=retry_if_exception(_busy), wait=wait_fixed(1), stop=stop_after_delay(60), reraise=True)
    def post(self, path: str, **body: Any) -> Any:
        response = self.client.post(path, json=body)
        response.raise_for_status()
        return response.json()

    def artifacts(self, flow_run_id: str) -> dict[str, dict[str, Any]]:
        """The artifacts of a flow run, by key."""
        found = self.post("artifacts/filter", artifacts={"flow_run_id": {"any_": [flow_run_id]}})
        return {artifact["key"]: artifact for artifact in found}

    def last_flow_run(self) -> dict[str, Any]:
        """The flow run that was started last."""
        run: dict[str, Any] = self.post("flow_runs/filter", sort="START_TIME_DESC", limit=1)[0]
        return run

    def wait_for(self, flow_run_id: str, seconds: float, *states: str) -> dict[str, Any]:
        """The flow run once it is in one of `states`; AssertionError when it is not within `seconds`."""
        deadline = time.monotonic() + seconds
        while True:
            answer = self.client.get(f"flow_runs/{flow_run_id}")
            run: dict[str, Any] = (
                answer.json() if answer.is_success else {"name": flow_run_id, "state": answer.text}
            )
            if run.get("state_name") in states:
                return run
            assert time.monotonic() < deadline, f"{run['name']} is {run['state']} after {seconds} s"
            time.sleep(0.3)


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home for Prefect in this process and its children, and no server named."""
    home = tmp_path_factory.mktemp("prefect")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PREFECT_")]:
            patch.delenv(name)
        own = {"PREFECT_HOME": str(home), "PREFECT_LOGGING_TO_API_ENABLED": "false"}
        for name, value in (SETTINGS | own).items():
            patch.setenv(name, value)
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()
        yield home
    refresh_global_settings_context()


@pytest.fixture(scope="session")
def prefect_api(prefect_home: Path) -> Iterator[Api]:
    """The API that flows of this process speak to: the temporary server's."""
    from flows.local import start_temporary_server

    stop = start_temporary_server()
    try:
        with Api(os.environ["PREFECT_API_URL"]) as api:
            yield api
    finally:
        stop()


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A real Prefect server: `prefect server start` on a free port, on SQLite."""
    home, port = tmp_path_factory.mktemp("prefect-server"), free_port()
    url = f"http://127.0.0.1:{port}/api"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with started(command, home / "log", server_environment(home, url)) as process:
        until(lambda: answers(url), START_SECONDS, process, home / "log")
        with Api(url) as api:
            yield api


def server_environment(home: Path, url: str) -> dict[str, str]:
    """The environment of a process that speaks to the server at `url`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    quick = {"PREFECT_RUNNER_POLL_FREQUENCY": "2"}
    return inherited | SETTINGS | quick | {"PREFECT_HOME": str(home), "PREFECT_API_URL": url}


@contextmanager
def started(command: list[str], log: Path, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """`command` as a process group of its own, which is ended on the way out, with what it started."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=log.parent, env=env, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
            process.send_signal(signal.SIGINT)
            _, left = psutil.wait_procs(family, timeout=20)
            for survivor in left:
                survivor.kill()
        process.wait()


def until(
    ready: Callable[[], bool],
    seconds: float,
    process: subprocess.Popen[bytes] | None = None,
    log: Path | None = None,
) -> None:
    """Return once `ready`; AssertionError, with the log's end, when that takes `seconds` or `process` ends."""
    deadline = time.monotonic() + seconds
    while not ready():
        ended = process is not None and process.poll() is not None
        said = log.read_text(errors="replace")[-3000:] if log is not None else ""
        assert not ended, f"ended with {process.returncode}:\n{said}"  # type: ignore[union-attr]
        assert time.monotonic() < deadline, f"not within {seconds} s:\n{said}"
        time.sleep(0.2)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
