"""The application on a socket, until SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
import errno
import socket
from pathlib import Path
from types import FrameType

import uvicorn

from orchestrator.dashboard.app import create_app
from orchestrator.dashboard.feed import Hub
from orchestrator.dashboard.settings import Settings
from orchestrator.errors import ConfigError, ResourceError
from orchestrator.store.objects import Objects

GRACE = 2  # seconds that open requests have to end


class Server(uvicorn.Server):
    """uvicorn waits for open streams before the application hears that it is to end: here they end at once."""

    def __init__(self, config: uvicorn.Config, hub: Hub) -> None:
        super().__init__(config)
        self._hub = hub

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called on the main thread, where the event loop runs, too."""
        self._hub.close()
        super().handle_exit(sig, frame)

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    def leave(self) -> None:
        """End; from any thread."""
        self._loop.call_soon_threadsafe(self._hub.close)
        self.should_exit = True


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises ResourceError where the port is taken, ConfigError for no address of ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ResourceError(f"port {port} on {host} is taken; choose another with --port") from None
        raise ConfigError(f"--host {host} --port {port}: {error.strerror or error}") from None


def serve(
    objects: Objects, settings: Settings, listening: socket.socket, certificate: Path | None, key: Path | None
) -> None:
    """Serve until told to end. Requests are not logged: their addresses hold the token once."""
    app = create_app(objects, settings)
    config = uvicorn.Config(
        app,
        access_log=False,
        log_level="warning",
        ws="none",
        server_header=False,
        proxy_headers=bool(settings.origin),
        forwarded_allow_ips="127.0.0.1",
        timeout_graceful_shutdown=GRACE,
        limit_concurrency=1000,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    Server(config, app.state.hub).run([listening])
