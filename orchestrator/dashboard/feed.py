"""What changes, told to every open page: one task looks at the store, one hub passes it on, each page has one stream.

A page that does not keep up is dropped: its browser connects again and reads everything anew.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

from anyio import CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from orchestrator.dashboard.alarms import rules_of
from orchestrator.dashboard.library import Library
from orchestrator.dashboard.replies import encoded, error

Document = dict[str, Any]
WAITING = 64  # events that a page may be behind
STREAMS = 200  # open at once
BEAT = 15.0  # seconds between comments that keep the connection
IDLE = 5.0  # seconds between looks while nobody watches
WATCHED = 30.0  # seconds for which somebody who asked counts as watching
SLOW = 10.0  # seconds of rest at most, after looks that take long
log = logging.getLogger("ganctl.dashboard")


class Hub:
    """Streams that are open. Used from the event loop alone."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[bytes | None]] = set()
        self.closed = False
        self.joined = asyncio.Event()  # a page came: it is not to wait for an idle poller

    def __len__(self) -> int:
        return len(self._queues)

    def publish(self, event: str, data: Any) -> None:
        """Pass it on; who is too far behind is dropped."""
        message = _message(event, data)
        for queue in list(self._queues):
            try:
                queue.put_nowait(message)
            except asyncio.QueueFull:
                self._drop(queue)

    async def stream(self, hello: Document, beat: float = BEAT) -> AsyncIterator[bytes]:
        """What one page is sent."""
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(WAITING)
        self._queues.add(queue)
        self.joined.set()
        try:
            yield b"retry: 1000\n" + _message("hello", hello)
            while not self.closed:
                try:
                    message = await asyncio.wait_for(queue.get(), beat)
                except TimeoutError:
                    message = b": still here\n\n"
                if message is None:
                    return
                yield message
        finally:
            self._queues.discard(queue)

    def close(self) -> None:
        """End every stream."""
        self.closed = True
        for queue in list(self._queues):
            self._drop(queue)

    def _drop(self, queue: asyncio.Queue[bytes | None]) -> None:
        self._queues.discard(queue)
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(None)


class Poller:
    """Looks at the store every `poll` seconds while anybody watches, and passes on what changed."""

    def __init__(self, library: Library, hub: Hub, poll: float) -> None:
        self.library, self.hub, self.poll = library, hub, poll
        self._known: dict[str, list[str]] = {}
        self._stale = ""

    async def run(self) -> None:
        """Until cancelled."""
        first, alone = True, CapacityLimiter(1)
        while True:
            began = time.monotonic()
            try:
                await self._look(alone)
                self._tell(self.library.changed(), first)
                first = first and not self.library.seen
            except Exception:
                log.exception("looking at the store")
            now = time.monotonic()
            watched = len(self.hub) or now - self.library.asked < WATCHED
            self.hub.joined.clear()
            rest = max(self.poll if watched else max(IDLE, self.poll), min(4 * (now - began), SLOW))
            if watched:
                await asyncio.sleep(rest)
            else:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.hub.joined.wait(), rest)

    async def _look(self, alone: CapacityLimiter) -> None:
        """Look; that the store hangs is told meanwhile."""
        looking = asyncio.ensure_future(
            to_thread.run_sync(self.library.look, abandon_on_cancel=True, limiter=alone)
        )
        try:
            while not (await asyncio.wait([looking], timeout=1.0))[0]:
                self._tell_stale()
            looking.result()
        finally:
            looking.cancel()

    def _tell(self, changed: Sequence[Document], first: bool) -> None:
        for start in range(0, len(changed), 500):
            self.hub.publish("runs", {"rows": changed[start : start + 500]})
        for row in changed:
            told = rules_of(row)
            if not first:
                for rule in set(told) - set(self._known.get(row["id"], ())):
                    self.hub.publish("alarm", _alarm(row, rule.replace("-", " ")))
            if told or row["id"] in self._known:
                self._known[row["id"]] = told
        self._tell_stale()

    def _tell_stale(self) -> None:
        stale = self.library.stale
        if stale != self._stale:
            self._stale = stale
            self.hub.publish("hello", hello(self.library))


def hello(library: Library) -> Document:
    """What a page is told when it connects, and when the store goes down or comes back."""
    return {"etag": library.table()[0], "stale": library.stale}


async def events(request: Request) -> Response:
    """GET /api/events: changed runs and new alarms as server-sent events."""
    hub: Hub = request.app.state.hub
    if len(hub) >= STREAMS:
        return error(503, f"{STREAMS} pages are open on this dashboard; close some")
    told = await to_thread.run_sync(hello, request.app.state.library)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(hub.stream(told), headers=headers, media_type="text/event-stream")


def _alarm(row: Document, kind: str) -> Document:
    text = (
        row.get("alarm") if kind == "stalled" else f"{row['name'] or row['id']}: {kind} at step {row['step']}"
    )
    return {
        "run": row["id"],
        "name": row["name"],
        "kind": kind,
        "step": row["step"],
        "text": text,
        "time": time.time(),
    }


def _message(event: str, data: Any) -> bytes:
    return b"event: " + event.encode() + b"\ndata: " + encoded(data) + b"\n\n"


routes = [Route("/api/events", events)]
