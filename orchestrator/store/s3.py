"""Objects of an S3 bucket, through s3fs. The traps it steps around were measured: see docs/store.md.

It calls the S3 operations themselves (`call_s3`) where s3fs's file-system methods would add requests,
consult a cache, or split a conditional write into a multipart upload, which ignores the condition.
"""

import os
import uuid
from collections.abc import Iterator
from threading import Lock
from typing import Any, BinaryIO, cast

from botocore import exceptions as boto
from fsspec.spec import AbstractBufferedFile
from tenacity import (
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)

from orchestrator.errors import AlreadyExists, GanctlError, NotFound, StoreError
from orchestrator.store.filesystem import FAILURES, FileSystem, file_system, response_of
from orchestrator.store.objects import Entries, Entry, Keys, Objects, clean_key, store_error

WRITER = "ganctl-writer"
FIRST_USE = "first use"
PAGE = 1000  # keys a listing request; S3 gives no more
BLOCK = 8 * 2**20  # bytes fetched ahead of a sequential reader
PART = 50 * 2**20  # bytes; objects of two parts and more are uploaded in parts, several at once
DENIED = {
    "AccessDenied",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "403",
}
FULL = {"QuotaExceeded", "InsufficientStorage", "507"}


class Conflict(StoreError):
    """The server saw two conditional writes at once (HTTP 409) and decided for neither: try again."""


class S3Objects(Objects):
    """See `Objects`.

    The first use tries the bucket with little patience; outages after that are waited out (`FileSystem`).
    """

    def __init__(self, bucket: str, prefix: str) -> None:
        super().__init__(f"s3://{bucket}/{prefix}".rstrip("/"))
        self.bucket = bucket
        self.prefix = prefix
        self._lock = Lock()
        self._system: FileSystem | None = None

    def create(self, key: str, data: bytes) -> None:
        writer = uuid.uuid4().hex
        request = {"Body": data, "IfNoneMatch": "*", "Metadata": {WRITER: writer}}
        try:
            for attempt in Retrying(
                retry=retry_if_exception_type(Conflict),
                wait=wait_random_exponential(0.05, max=1),
                stop=stop_after_delay(30),
                reraise=True,
            ):
                with attempt:
                    self._call("put_object", key, **request)
        except AlreadyExists:
            # A retry after a lost acknowledgement is refused because of our own first write.
            if self._call("head_object", key)["Metadata"].get(WRITER) != writer:
                raise

    def put(self, key: str, data: bytes) -> None:
        # Finishing a multipart upload whose acknowledgement was lost finds it gone (404) on some servers.
        again = Retrying(retry=retry_if_exception_type(NotFound), stop=stop_after_attempt(3), reraise=True)
        again(self._do, "pipe_file", key, data, chunksize=PART)

    def get(self, key: str) -> bytes:
        return bytes(self._do("cat_file", key, max_concurrency=1))

    def exists(self, key: str) -> bool:
        try:
            self._call("head_object", key)
        except NotFound:
            return False
        return True

    def list(self, prefix: str) -> Keys:
        return sorted(self.sizes(prefix))

    def sizes(self, prefix: str) -> dict[str, int]:
        """The size in bytes of every object below the folder `prefix`, by key."""
        return {entry.key: entry.size for entry in self.entries(prefix)}

    def entries(self, prefix: str) -> Entries:
        found = (entry for page in self._pages(prefix) for entry in page.get("Contents", ()))
        listed = (
            Entry(e["Key"].removeprefix(self._key("")), e["Size"], e["LastModified"].timestamp())
            for e in found
            if not e["Key"].endswith("/")
        )
        return sorted(listed, key=lambda entry: entry.key)

    def folders(self, prefix: str) -> Keys:
        found = (
            e["Prefix"] for page in self._pages(prefix, Delimiter="/") for e in page.get("CommonPrefixes", ())
        )
        return sorted(folder.rstrip("/").rpartition("/")[2] for folder in found)

    def delete(self, key: str) -> None:
        self._call("delete_object", key)

    def local_path(self, key: str) -> str | None:
        return None

    def size(self, key: str) -> int:
        """The object's size in bytes. Raises NotFound."""
        return int(self._call("head_object", key)["ContentLength"])

    def open(self, key: str, size: int | None = None) -> BinaryIO:
        """A seekable reader; the `size`, where it is known, spares a request. Raises NotFound."""
        return cast(BinaryIO, Reader(self, key, self.size(key) if size is None else size))

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """The object's bytes from `start` up to `end`. Raises NotFound."""
        return bytes(self._do("cat_file", key, start=start, end=end))

    def _key(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    def _pages(self, prefix: str, **request: Any) -> Iterator[dict[str, Any]]:
        request |= {"Prefix": self._key(f"{clean_key(prefix)}/" if prefix else ""), "MaxKeys": PAGE}
        while True:
            page = self._request("list_objects_v2", f"listing {prefix or 'it'}", **request)
            yield page
            if not page.get("IsTruncated"):
                return
            request["ContinuationToken"] = page["NextContinuationToken"]

    def _call(self, operation: str, key: str, **request: Any) -> dict[str, Any]:
        return self._request(operation, key, Key=self._key(clean_key(key)), **request)

    def _request(self, operation: str, subject: str, **request: Any) -> dict[str, Any]:
        system = self.system()
        try:
            return dict(system.call_s3(operation, Bucket=self.bucket, **request))
        except FAILURES as error:
            raise self._explain(error, subject, system) from error

    def _do(self, method: str, key: str, *args: Any, **kwargs: Any) -> Any:
        """A method of the s3fs file system on the object's path."""
        system = self.system()
        try:
            return getattr(system, method)(f"{self.bucket}/{self._key(clean_key(key))}", *args, **kwargs)
        except FAILURES as error:
            raise self._explain(error, key, system) from error

    def system(self) -> FileSystem:
        """The s3fs file system, once the bucket has answered."""
        with self._lock:
            if self._system is None:
                self._system = self._connect()
            return self._system

    def _connect(self) -> FileSystem:
        system = file_system()
        try:
            system.call_s3("list_objects_v2", Bucket=self.bucket, Prefix=self._key(""), MaxKeys=1)
        except (*FAILURES, ValueError) as error:
            raise self._explain(error, FIRST_USE, system) from error
        return system

    def _explain(self, error: Exception, subject: str, system: FileSystem) -> GanctlError:
        return explain(error, self.url, self.bucket, subject, system.silence)


class Reader(AbstractBufferedFile):  # type: ignore[misc]
    """An object as a file that fetches ahead, with the store's patience and errors."""

    def __init__(self, objects: S3Objects, key: str, size: int) -> None:
        super().__init__(None, key, block_size=BLOCK, size=size)
        self._objects = objects

    def _fetch_range(self, start: int, end: int) -> bytes:
        return self._objects.get_range(self.path, start, end)


def explain(error: Exception, url: str, bucket: str, subject: str, silence: float) -> GanctlError:
    """What botocore or s3fs raised while it worked on `subject`, as one of the house's errors.

    `silence` is for how many seconds it was tried.
    """
    response = response_of(error)
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    code = str(response.get("Error", {}).get("Code", status or ""))
    if status == 412 or isinstance(error, FileExistsError):
        return AlreadyExists(f"store {url}: {subject} is there already")
    if status == 409:
        return Conflict(f"store {url}: concurrent writes of {subject}; try again")
    if code == "NoSuchBucket" or (status == 404 and subject == FIRST_USE):
        remedy = f"create it (`aws s3 mb s3://{bucket}`) or correct the url"
        return store_error(url, f"bucket {bucket!r} does not exist on {endpoint()}", remedy)
    if status == 404 or isinstance(error, FileNotFoundError):
        return NotFound(f"store {url}: there is no {subject}")
    return store_error(url, *diagnosis(error, code, subject, f" for {silence:.0f} s" if silence else ""))


def diagnosis(error: Exception, code: str, subject: str, tried: str) -> tuple[str, str]:
    """What went wrong, and the remedy."""
    keys = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError):
        return "no credentials were found", f"set {keys}"
    if code in DENIED:
        return f"{endpoint()} refuses these credentials ({code})", f"check {keys} and what they may do there"
    if code in FULL:
        return f"the store is full or its quota used up ({code}, {subject})", "free space or raise the quota"
    reason = " ".join(str(error).split())
    if not code:
        remedy = "check AWS_ENDPOINT_URL, the network, and that it runs"
        return f"no answer from {endpoint()}{tried} ({reason})", remedy
    return f"{endpoint()} answered {code}{tried} ({subject}: {reason})", "see the server's log"


def endpoint() -> str:
    """Where botocore looks, for messages."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "AWS S3"
