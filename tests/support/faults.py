"""An S3 server that misbehaves: an HTTP proxy in front of a real one, which lets a share of the requests fail.

It keeps the Host header, so that signatures stay valid, and serves one request a connection.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

from orchestrator.store import filesystem
from orchestrator.store.objects import Objects, open_objects
from tests.support.ceph import S3Server

KINDS = ("slow down", "error", "reset", "cut upload", "cut download", "stall", "lost acknowledgement")
"""503, 500, a connection reset once the request's head is read, half a request, half an answer, no answer at all
(nor is the body read), and an answer that is dropped once the server has done what was asked."""

REFUSALS = {
    "slow down": ("503 Slow Down", "SlowDown"),
    "error": ("500 Internal Server Error", "InternalError"),
}
LINGER_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of no time at all: closing sends RST


class FaultProxy:
    """Passes requests on to `upstream`, a url, but for a share of them: set `kind` and `share` at any time.

    Which ones is decided by `seed` and the order of arrival. `requests` and `injected` count, the latter by kind.
    """

    def __init__(self, upstream: str, kind: str = "", share: float = 0.0, seed: int = 0) -> None:
        address = urlsplit(upstream)
        self._upstream = (str(address.hostname), int(address.port or 80))
        self.kind, self.share = kind, share
        self.requests = 0
        self.injected: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._port = 0
        self._ended = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.up()

    @property
    def endpoint(self) -> str:
        """The url at which clients reach it."""
        return f"http://127.0.0.1:{self._port}"

    def up(self) -> None:
        """Accept connections, at the same port as ever."""
        self._wait(self._listen())

    def down(self) -> None:
        """Refuse connections and break those that are open, until `up`."""
        self._wait(self._refuse())

    def close(self) -> None:
        """End it, and whatever waits in it."""
        self.down()
        self._wait(self._settle())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait(self, task: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(task, self._loop).result(timeout=30)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._open:
            reset(writer)

    async def _settle(self) -> None:
        self._ended.set()
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._answer(reader, writer)
        finally:
            self._open.discard(writer)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.requests += 1
        fault = self.kind if self._random.random() < self.share else ""
        if fault:
            self.injected[fault] += 1
        if fault == "stall":
            await self._ended.wait()
        if fault in ("stall", "reset"):
            return reset(writer)
        request = one_a_connection(head) + await reader.readexactly(length(head))
        if fault in REFUSALS:
            answer = refusal(*REFUSALS[fault])
        elif fault == "cut upload":
            await self._ask(half(request), whole=False)
            return reset(writer)
        else:
            answer = await self._ask(request)
        if fault == "lost acknowledgement":
            return
        writer.write(half(answer) if fault == "cut download" else answer)
        await writer.drain()

    async def _ask(self, request: bytes, whole: bool = True) -> bytes:
        """The server's whole answer; where the request is not `whole`, none is waited for."""
        reader, writer = await asyncio.open_connection(*self._upstream)
        try:
            writer.write(request)
            await writer.drain()
            return await reader.read() if whole else b""
        finally:
            writer.close()


def reset(writer: asyncio.StreamWriter) -> None:
    """Break a connection as a machine that fails does."""
    if not writer.is_closing():
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
        writer.transport.abort()


def one_a_connection(head: bytes) -> bytes:
    """The request's head, asking the server to close afterwards."""
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
    return b"\r\n".join([lines[0], b"Connection: close", *lines[1:]])


def length(head: bytes) -> int:
    """The bytes of the body that follows a request's head."""
    headers = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:] if b":" in line)
    assert b"transfer-encoding" not in headers, "this proxy reads bodies of a stated length alone"
    return int(headers.get(b"content-length", 0))


def half(message: bytes) -> bytes:
    """A message that breaks off in the middle of its body, or of its head where it has no body."""
    head, end, body = message.partition(b"\r\n\r\n")
    return head + end + body[: len(body) // 2] if body else head[: len(head) // 2]


def refusal(status: str, code: str) -> bytes:
    """What S3 answers when it does not want to."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + body


@contextmanager
def proxy(upstream: str, kind: str = "", share: float = 0.0, seed: int = 0) -> Iterator[FaultProxy]:
    """A `FaultProxy` for the time of a `with`."""
    faults = FaultProxy(upstream, kind, share, seed)
    try:
        yield faults
    finally:
        faults.close()


@dataclass(frozen=True)
class FaultyStore:
    """A fresh store at `url`, which the environment reaches through `proxy`; `direct` reaches it without."""

    url: str
    proxy: FaultProxy
    direct: Objects


@pytest.fixture
def faulty_store(
    ceph_server: S3Server, ceph_store: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FaultyStore]:
    """On Ceph, without faults to begin with, and with time-outs of a second."""
    monkeypatch.setattr(filesystem, "READ_TIMEOUT", 1.0)
    direct = open_objects(ceph_store)
    direct.folders("")  # it connects while the environment leads to the server
    with proxy(ceph_server.endpoint) as faults:
        monkeypatch.setenv("AWS_ENDPOINT_URL", faults.endpoint)
        yield FaultyStore(ceph_store, faults, direct)
