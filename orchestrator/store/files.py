"""Data sets in object storage, as the `Files` of `gans.data.base`.

Data is taken to be immutable while it is read.
"""

from __future__ import annotations

from typing import Any, BinaryIO
from urllib.parse import urlsplit

from gans.data.base import Files, LocalFiles
from gans.errors import DataError
from orchestrator.errors import NotFound
from orchestrator.store.s3 import S3Objects

Paths = list[str]  # named outside of the class, whose method `list` hides the type


class StoreFiles:
    """`Files` below `s3://bucket/…`; a path is a whole url.

    Pickles without its connections, so workers may have it. Raises DataError where there is nothing,
    StoreError where the bucket cannot be reached.
    """

    def __init__(self) -> None:
        self._buckets: dict[str, S3Objects] = {}
        self._sizes: dict[str, int] = {}  # of all that was listed: spares a request for each file

    def __getstate__(self) -> dict[str, Any]:
        return {"_buckets": {}, "_sizes": self._sizes}

    def list(self, url: str) -> Paths:
        """Every object below `url`, or the object at it, sorted."""
        bucket, key = self._locate(url)
        root = f"s3://{bucket.bucket}/"
        sizes = {root + name: size for name, size in bucket.sizes(key).items()}
        if not sizes:
            sizes = {root + key: self.size(url)}
        self._sizes |= sizes
        return sorted(sizes)

    def open(self, path: str) -> BinaryIO:
        """A seekable reader that fetches ahead."""
        bucket, key = self._locate(path)
        try:
            return bucket.open(key, self._sizes.get(path))
        except NotFound:
            raise _nothing(path) from None

    def size(self, path: str) -> int:
        """The object's size in bytes."""
        if path not in self._sizes:
            bucket, key = self._locate(path)
            try:
                self._sizes[path] = bucket.size(key)
            except NotFound:
                raise _nothing(path) from None
        return self._sizes[path]

    def _locate(self, url: str) -> tuple[S3Objects, str]:
        parts = urlsplit(url, allow_fragments=False)
        bucket = self._buckets.setdefault(parts.netloc, S3Objects(parts.netloc, ""))
        return bucket, url.removeprefix(f"s3://{parts.netloc}").strip("/")


def files_for(url: str) -> Files:
    """How to reach the data at `url`: `s3://bucket/…`, or a path on this machine."""
    return StoreFiles() if url.startswith("s3://") else LocalFiles()


def _nothing(path: str) -> DataError:
    return DataError(
        f"data path {path!r} does not exist; give a folder, s3://bucket/folder, or a file that is there"
    )
