"""Flows in this process, without a server of one's own: Prefect's API on a free port, for as long as we live.

Prefect would start such a server itself. But that one hears Ctrl-C, too, and is gone before a flow can say how it
ended (80 s of retries follow), outlives a process that is killed, and fails where two begin a new database at once.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

import httpx
from prefect.context import refresh_global_settings_context
from prefect.settings import Settings, get_current_settings

from orchestrator.errors import RunFailed

START_SECONDS = 180.0  # a new database takes 10 s, on a machine that does nothing else
END_SECONDS = 10.0


def start_temporary_server() -> Callable[[], None]:
    """Start Prefect's API for the flows of this process, and return what ends it sooner than this process.

    Nothing to do where PREFECT_API_URL names a server. Raises RunFailed, with the reason, where it does not start.
    """
    settings = get_current_settings()
    if settings.api.url is not None:
        return lambda: None
    settings.home.mkdir(parents=True, exist_ok=True)
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        tempfile.TemporaryFile() as log,
        (settings.home / "ganctl.lock").open("w") as lock,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)  # one at a time brings a new database into shape
        process = launch(settings, listener, log)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
        listener.close()
        try:
            httpx.get(f"{url}/health", timeout=START_SECONDS, trust_env=False).raise_for_status()
        except httpx.HTTPError as error:
            end(process)
            log.seek(0)
            said = log.read().decode(errors="replace").strip().splitlines() or [type(error).__name__]
            raise RunFailed(
                f"Prefect's temporary server did not start, with PREFECT_HOME {settings.home}: {said[-1][:300]}"
            ) from error
    os.environ["PREFECT_API_URL"] = url
    refresh_global_settings_context()
    stop = Stop(process)
    atexit.register(stop)
    return stop


class Stop:
    """Ends the server of this process, once, and forgets its address."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def __call__(self) -> None:
        if self.process.poll() is None:
            end(self.process)
            os.environ.pop("PREFECT_API_URL", None)
            refresh_global_settings_context()


def launch(settings: Settings, listener: socket.socket, log: IO[bytes]) -> subprocess.Popen[bytes]:
    """The server's process, which answers on `listener` until its stdin closes."""
    return subprocess.Popen(
        [sys.executable, "-m", "flows.local", str(listener.fileno())],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        pass_fds=[listener.fileno()],
        start_new_session=True,  # Ctrl-C is for the flow
        cwd=Path(__file__).parents[1],
        env=os.environ | settings.to_environment_variables(exclude_unset=True),
    )


def end(process: subprocess.Popen[bytes]) -> None:
    """Close the server's stdin and wait for it."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main(descriptor: int) -> None:
    """Serve Prefect's API on an open socket until stdin closes, as it does when whoever started us is gone."""

    def watch() -> None:
        sys.stdin.buffer.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
    import uvicorn
    from prefect.server.api.server import create_app

    app = create_app(ephemeral=True, final=True)
    config = uvicorn.Config(app, log_level="error", lifespan="on", timeout_graceful_shutdown=2)
    with socket.socket(fileno=descriptor) as listener:
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(int(sys.argv[1]))
