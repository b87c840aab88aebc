"""A folder or a bucket prefix: bytes in, bytes out. It knows nothing of runs.

Every promise the store makes stands on two operations: `create`, which has exactly one winner, and a `get`
that is never stale. Nothing reads, modifies and writes.
"""

from __future__ import annotations

import io
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from orchestrator.errors import AlreadyExists, ConditionalWritesMissing, GanctlError, NotFound, StoreError

PROBES = ".ganctl-probe"


@dataclass(frozen=True)
class Check:
    """One line of `ganctl doctor`: what was tried, how it went, and how to mend it."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


@dataclass(frozen=True)
class Entry:
    """An object as a listing shows it: its size in bytes, and when it was written (Unix s, by the server's clock)."""

    key: str
    size: int
    modified: float


Entries = list[Entry]
Keys = list[str]  # named outside of the class, whose method `list` hides the type
Checks = list[Check]


class Objects(ABC):
    """Objects by key below one url. Keys are relative, `/`-separated paths. Safe to share between threads.

    Every method raises StoreError, in one line with the remedy, where the store cannot be used. Pickles as
    its url.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return open_objects, (self.url,)

    def __repr__(self) -> str:
        return f"Objects({self.url!r})"

    @abstractmethod
    def create(self, key: str, data: bytes) -> None:
        """Write `key` once.

        Of any number of concurrent writers one returns; the others raise AlreadyExists.
        """

    @abstractmethod
    def put(self, key: str, data: bytes) -> None:
        """Write or overwrite `key`; a reader sees the old bytes or the new ones, never a mixture."""

    @abstractmethod
    def get(self, key: str) -> bytes:
        """The object's bytes, as they are now. Raises NotFound."""

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Whether `key` is there now."""

    @abstractmethod
    def list(self, prefix: str) -> Keys:
        """Every key below the folder `prefix`, recursive, sorted, without directory markers."""

    @abstractmethod
    def entries(self, prefix: str) -> Entries:
        """What `list` finds, with sizes and times, in as many requests."""

    @abstractmethod
    def folders(self, prefix: str) -> Keys:
        """Names of the folders directly below `prefix`, sorted: one request a thousand on S3."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove `key`; it may be absent."""

    @abstractmethod
    def local_path(self, key: str) -> str | None:
        """The object's path on this machine, or None on S3."""

    def open(self, key: str) -> BinaryIO:
        """A seekable reader of the object's bytes. Raises NotFound."""
        return io.BytesIO(self.get(key))

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Those of the objects that are there, fetched concurrently, in the order asked for."""

        def fetch(key: str) -> tuple[str, bytes | None]:
            try:
                return key, self.get(key)
            except NotFound:
                return key, None

        with ThreadPoolExecutor(max_workers=16) as pool:
            return {key: data for key, data in pool.map(fetch, keys) if data is not None}

    def require_conditional_writes(self) -> None:
        """Raise ConditionalWritesMissing unless of two creates of a probe object the second is refused."""
        key = f"{PROBES}/{uuid.uuid4().hex}"
        self.create(key, b"first")
        try:
            self.create(key, b"second")
        except AlreadyExists:
            return
        finally:
            self.delete(key)
        raise ConditionalWritesMissing(
            f"store {self.url}: a second create of the same object was not refused, so the server ignores "
            "`If-None-Match: *`; use a store that honours it (AWS S3, Ceph RGW, a local folder)"
        )

    def check(self) -> Checks:
        """Try everything the store is needed for, leaving nothing behind. The first failure ends the list."""
        key, data = f"{PROBES}/{uuid.uuid4().hex}", uuid.uuid4().bytes

        def read_back() -> None:
            if self.get(key) != data:
                raise store_error(self.url, "other bytes were read back than written", "use another store")

        steps: Sequence[tuple[str, Callable[[], object], str]] = [
            ("reachable", lambda: self.folders(""), self.url),
            ("writable", lambda: self.put(key, data), "a probe object was written"),
            ("readable", read_back, "and read back"),
            ("deletable", lambda: self.delete(key), "and deleted"),
            ("conditional writes", self.require_conditional_writes, "a second create was refused"),
        ]
        checks: Checks = []
        for name, step, detail in steps:
            try:
                step()
            except GanctlError as error:
                what, _, remedy = str(error).rpartition("; ")
                return [*checks, Check(name, False, what, remedy)]
            checks.append(Check(name, True, detail))
        return checks


def store_error(url: str, what: str, remedy: str) -> StoreError:
    """The one line a person reads: which store, what went wrong; how to mend it."""
    return StoreError(f"store {url}: {what}; {remedy}")


def clean_key(key: str) -> str:
    """`key` itself when it is a relative path that stays inside. Anything else is our own mistake."""
    parts = key.split("/")
    assert not any(part in ("", ".", "..") for part in parts), f"not a key: {key!r}"
    return key


def open_objects(url: str) -> Objects:
    """The store at `url`: a path, `file:///path` or `s3://bucket/prefix`. Raises StoreError for any other.

    Nothing is touched before the first use. On S3, endpoint and credentials come from the environment alone
    (`AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID`, …), so that no url, pickle or result ever holds a secret.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme == "file":
        from orchestrator.store.local import LocalObjects

        path = Path(rest if separator else url).expanduser()
        if not url or (separator and not rest.startswith("/")):
            raise StoreError(
                f"store {url!r}: not a folder; write /abs/folder, folder, file:///abs/folder or s3://bucket"
            )
        return LocalObjects(path.absolute())
    if scheme != "s3":
        raise StoreError(
            f"store {url!r}: unknown kind {scheme!r}; use a folder, file:///abs/folder or s3://bucket/prefix"
        )
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise StoreError(
            "store s3://…: credentials in the url would end up in results; "
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY and write s3://bucket/prefix"
        )
    prefix = parts.path.strip("/")
    if not parts.netloc or parts.query or parts.fragment or "//" in prefix:
        raise StoreError(f"store {url!r}: not an S3 url; write s3://bucket or s3://bucket/prefix")
    from orchestrator.store.s3 import S3Objects

    return S3Objects(parts.netloc, prefix)
