"""Answers of the API: JSON with ETag and gzip, errors in one line, and a bound on how long the store is waited for."""

from __future__ import annotations

import gzip
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from typing import Any

import anyio
import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from orchestrator.errors import (
    AlreadyExists,
    ConfigError,
    DataError,
    GanctlError,
    NotFound,
    RunFailed,
    StoreError,
)

SECONDS = 20.0  # that an answer may wait for the store
SMALL = 1024  # bytes that are not worth compressing
OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
STATUS: tuple[tuple[type[Exception], int], ...] = (
    (NotFound, 404),
    (AlreadyExists, 409),
    (ConfigError, 400),
    (DataError, 400),
    (StoreError, 503),
    (RunFailed, 409),
    (GanctlError, 400),
)
log = logging.getLogger("ganctl.dashboard")
Endpoint = Callable[[Request], Awaitable[Response]]


def encoded(payload: Any) -> bytes:
    """Strict JSON; what is not finite becomes null. `<` is escaped, so that no viewer takes a name for markup."""
    return orjson.dumps(payload, default=_plain, option=OPTIONS).replace(b"<", b"\\u003c")


def error(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error in one line."""
    return JSONResponse({"error": " ".join(text.split())}, status, headers=dict(headers or {}))


def reply(request: Request, payload: Any, status: int = 200) -> Response:
    """`payload` as JSON; 304 where the client has it already."""
    body = encoded(payload)
    return send(request, body, hashlib.sha1(body).hexdigest(), status=status)


def send(
    request: Request, body: bytes, etag: str, packed: bytes | None = None, status: int = 200
) -> Response:
    """`body`, or `packed` (the same by gzip) where the client takes that."""
    headers = {"ETag": f'W/"{etag}"', "Cache-Control": "private, no-cache", "Vary": "Accept-Encoding"}
    if f'"{etag}"' in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", "") and len(body) > SMALL:
        headers["Content-Encoding"] = "gzip"
        body = packed if packed is not None else gzip.compress(body, 4, mtime=0)
    return Response(body, status, headers, media_type="application/json")


def explained(failure: Exception) -> Response:
    """The answer for what went wrong; nothing of an unforeseen error leaves the server."""
    for kind, status in STATUS:
        if isinstance(failure, kind):
            return error(status, str(failure))
    log.error("unforeseen", exc_info=failure)
    return error(500, "an error of the dashboard itself; its log says more")


def in_thread(work: Callable[[Request], Response], seconds: float = SECONDS) -> Endpoint:
    """An endpoint that runs `work`, which may wait for the store, in a thread, and for `seconds` at most. While the
    store is known not to answer, nobody waits."""

    @wraps(work)
    async def endpoint(request: Request) -> Response:
        if stale := request.app.state.library.stale:
            return error(503, stale)
        return await _bounded(work, request, None, seconds)

    return endpoint


def from_memory(work: Callable[[Request], Response]) -> Endpoint:
    """The same for `work` that needs no store: its threads are not those that wait for a store which hangs."""

    @wraps(work)
    async def endpoint(request: Request) -> Response:
        return await _bounded(work, request, getattr(request.app.state, "spare", None))

    return endpoint


def also_alone(work: Callable[[Request], Response]) -> Endpoint:
    """The same for `work` that needs the store and, while that is known not to answer, does without."""

    @wraps(work)
    async def endpoint(request: Request) -> Response:
        state = request.app.state
        return await _bounded(work, request, getattr(state, "spare", None) if state.library.stale else None)

    return endpoint


async def _bounded(
    work: Callable[[Request], Response],
    request: Request,
    spare: anyio.CapacityLimiter | None,
    seconds: float = SECONDS,
) -> Response:
    try:
        with anyio.fail_after(seconds):
            return await anyio.to_thread.run_sync(work, request, abandon_on_cancel=True, limiter=spare)
    except TimeoutError:
        return error(503, f"no answer within {seconds:g} s; ask again")
    except Exception as failure:
        return explained(failure)


def number(request: Request, name: str, default: int, low: int, high: int) -> int:
    """A whole number of the query, held within its bounds. Raises ConfigError for what is no number."""
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        return min(max(int(text[:12]), low), high)
    except ValueError:
        raise ConfigError(f"{name}={text[:40]!r}: give a whole number from {low} to {high}") from None


def _plain(value: Any) -> Any:
    """What orjson does not know: scalars of other libraries, sets; else its text."""
    if hasattr(value, "item"):
        return value.item()
    return list(value) if isinstance(value, set | frozenset) else str(value)
