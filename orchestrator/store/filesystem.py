"""s3fs as we need it: no caches, every wait bounded, and one patience with a store that fails.

Neither botocore nor s3fs tries anything again here: their retries nest, are counted in attempts, and botocore's share
a quota that an outage uses up. Instead every request and every body is tried again until `PATIENCE` is over.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any

import s3fs
from aiobotocore.session import AioSession
from aiohttp import ClientError
from botocore import exceptions as boto
from botocore.handlers import add_expect_header
from botocore.loaders import Loader, create_loader
from botocore.parsers import ResponseParserError
from fsspec.asyn import sync_wrapper
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

PATIENCE = 180.0  # seconds for which a store that has answered before may fail
HASTE = 3.0  # the same before its first answer, but FIRST_TRIES at least
FIRST_TRIES = 4
CONNECT_TIMEOUT = 2.0
READ_TIMEOUT = 10.0  # seconds without a byte; for an answer once the request is sent, too
PAUSE = 2.0  # seconds between tries at most

FAILURES = (OSError, boto.BotoCoreError, ClientError, ResponseParserError)
"""What s3fs raises. Answers of the server are OSErrors, caused by botocore's error, which holds the answer."""

LOST = (
    TimeoutError,
    boto.ConnectionError,
    boto.HTTPClientError,
    boto.IncompleteReadError,
    ClientError,
    ResponseParserError,
)
BUSY = {429, 500, 502, 503, 504}
DAMAGED = {
    "RequestTimeout",
    "IncompleteBody",
    "BadDigest",
    "XAmzContentSHA256Mismatch",
}  # on its way to the server

# pyarrow's own S3 writer, in this process and in those it starts: RGW answers 411 to its streaming checksums.
PLAIN_CHECKSUMS = {
    "AWS_REQUEST_CHECKSUM_CALCULATION": "WHEN_REQUIRED",
    "AWS_RESPONSE_CHECKSUM_VALIDATION": "WHEN_REQUIRED",
}


def response_of(error: BaseException) -> dict[str, Any]:
    """What the server answered; empty where it did not."""
    return getattr(error.__cause__ or error, "response", None) or {}


def passing(error: BaseException) -> bool:
    """Whether the same request may well succeed a moment later."""
    response = response_of(error)
    if not response:
        return isinstance(error, LOST)
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status in BUSY or response.get("Error", {}).get("Code") in DAMAGED


@cache
def service_models() -> Loader:
    """botocore's description of S3: 60 ms of JSON, parsed once a process instead of once a client."""
    return create_loader()


def bounded_socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket that breaks when the peer takes nothing for `READ_TIMEOUT`: aiohttp has no time-out for sending."""
    made = socket.socket(*address[:3])
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(READ_TIMEOUT * 1000))
    return made


class FileSystem(s3fs.S3FileSystem):  # type: ignore[misc]
    """s3fs with what RGW and failing servers need, set up anew wherever it is unpickled (Ray workers).

    A request is tried again while the store fails: for `HASTE` before the first answer, so that a wrong address is told
    soon; for `PATIENCE` afterwards. That is counted from the first failure since an answer, over all requests: what
    follows on a store that is given up (tidying, last words) is tried once.
    """

    retries = 1  # s3fs's own
    _answered = False
    _failing_since: float | None = None  # time.monotonic()

    @property
    def silence(self) -> float:
        """Seconds since the store began to fail; 0 while it answers."""
        return 0.0 if self._failing_since is None else time.monotonic() - self._failing_since

    async def set_session(self, refresh: bool = False, kwargs: dict[str, Any] | None = None) -> Any:
        """Connect. PUTs do not wait for `100 Continue`: no time-out would end that."""
        before = self._s3
        if before is None:
            for name, value in PLAIN_CHECKSUMS.items():
                os.environ.setdefault(name, value)
            self.session = AioSession()
            self.session.register_component("data_loader", service_models())
        client = await super().set_session(refresh, kwargs or {})
        if client is not before:
            client.meta.events.unregister("before-call.s3", add_expect_header)
        return client

    connect = sync_wrapper(set_session)

    async def _call_s3(self, *args: Any, **kwargs: Any) -> Any:
        return await self._patiently(super()._call_s3, *args, **kwargs)

    call_s3 = sync_wrapper(_call_s3)

    async def _cat_file(self, *args: Any, **kwargs: Any) -> bytes:
        return bytes(await self._patiently(super()._cat_file, *args, **kwargs))

    async def _patiently(self, call: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
        async def heard() -> Any:
            try:
                result = await call(*args, **kwargs)
            except FAILURES as error:
                self._note(failed=passing(error))
                raise
            self._note(failed=False)
            return result

        retrying = AsyncRetrying(
            retry=retry_if_exception(passing),
            wait=wait_random_exponential(0.1, max=PAUSE),
            stop=self._given_up,
            reraise=True,
        )
        return await retrying(heard)

    def _note(self, failed: bool) -> None:
        if not failed:
            self._answered, self._failing_since = True, None
        elif self._failing_since is None:
            self._failing_since = time.monotonic()

    def _given_up(self, tries: RetryCallState) -> bool:
        """Whether it failed for too long: the store as a whole, or this request alone."""
        if not self._answered:
            return tries.attempt_number >= FIRST_TRIES and self.silence >= HASTE
        return max(self.silence, tries.seconds_since_start or 0.0) >= PATIENCE


def file_system() -> FileSystem:
    """Keys and endpoint come from the environment."""
    config = {
        "connect_timeout": CONNECT_TIMEOUT,
        "read_timeout": READ_TIMEOUT,
        "max_pool_connections": 32,
        "retries": {"mode": "standard", "total_max_attempts": 1},
        "connector_args": {"socket_factory": bounded_socket},
    }
    return FileSystem(config_kwargs=config, skip_instance_cache=True, use_listings_cache=False)
