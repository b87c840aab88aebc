"""Objects as files of one folder on this machine (or on a file system that it mounts)."""

import errno
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from orchestrator.errors import AlreadyExists, NotFound, StoreError
from orchestrator.store.objects import Entries, Entry, Keys, Objects, clean_key, store_error

TEMPORARY = ".tmp"  # half-written files live here: no reader and no glob for *.parquet meets one
ABANDONED_AFTER = 86400.0  # seconds; then the writer of a half-written file was killed
TRIES = 100  # to write into a folder that others keep emptying

REMEDIES = {
    errno.ENOSPC: ("the disk is full", "free space there or choose another --store"),
    errno.EDQUOT: ("the disk quota is used up", "free space there or choose another --store"),
    errno.EROFS: ("the file system is read-only", "remount it writable or choose another --store"),
    errno.EACCES: ("permission denied", "give this user the right to write there or choose another --store"),
    errno.EPERM: (
        "the file system refuses hard links or writes",
        "choose a --store on an ordinary local disk",
    ),
    errno.ENOTSUP: ("the file system has no hard links", "choose a --store on an ordinary local disk"),
    errno.ENOTDIR: ("a part of the path is a file", "choose a --store that is a folder"),
}


class LocalObjects(Objects):
    """See `Objects`.

    `create` writes a temporary file and hard-links it: one winner, and only whole files are seen.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(f"file://{root}")
        self.root = root
        self._tidied = False

    def create(self, key: str, data: bytes) -> None:
        def link(temporary: Path, path: Path) -> None:
            try:
                os.link(temporary, path)
            except FileExistsError:
                raise AlreadyExists(f"store {self.url}: {key} is there already") from None

        self._write(key, data, link)

    def put(self, key: str, data: bytes) -> None:
        self._write(key, data, os.replace)

    def get(self, key: str) -> bytes:
        with self._explained(f"reading {key}"):
            try:
                return self._path(key).read_bytes()
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                raise NotFound(f"store {self.url}: there is no {key}") from None

    def open(self, key: str) -> BinaryIO:
        with self._explained(f"reading {key}"):
            try:
                return self._path(key).open("rb")
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                raise NotFound(f"store {self.url}: there is no {key}") from None

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def list(self, prefix: str) -> Keys:
        with self._explained(f"listing {prefix or 'it'}"):
            return sorted(path.relative_to(self.root).as_posix() for path in self._files(prefix))

    def entries(self, prefix: str) -> Entries:
        found: Entries = []
        with self._explained(f"listing {prefix or 'it'}"):
            for path in self._files(prefix):
                with suppress(FileNotFoundError):  # deleted meanwhile
                    told = path.stat()
                    found.append(Entry(path.relative_to(self.root).as_posix(), told.st_size, told.st_mtime))
        return sorted(found, key=lambda entry: entry.key)

    def folders(self, prefix: str) -> Keys:
        folder = self._path(prefix) if prefix else self.root
        with self._explained(f"listing {prefix or 'it'}"):
            if not folder.exists():
                return []
            return sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name != TEMPORARY)

    def delete(self, key: str) -> None:
        path = self._path(key)
        with self._explained(f"deleting {key}"):
            path.unlink(missing_ok=True)
            for folder in path.parents:  # as on S3, a folder without objects is not there
                if folder == self.root:
                    break
                try:
                    folder.rmdir()
                except OSError:
                    break

    def local_path(self, key: str) -> str | None:
        return str(self._path(key))

    def _path(self, key: str) -> Path:
        return self.root / clean_key(key)

    def _files(self, prefix: str) -> Iterator[Path]:
        for folder, names, files in os.walk(self._path(prefix) if prefix else self.root):
            if TEMPORARY in names:
                names.remove(TEMPORARY)
            yield from (Path(folder) / name for name in files)

    def _write(self, key: str, data: bytes, publish: Callable[[Path, Path], None]) -> None:
        path = self._path(key)
        temporary = self.root / TEMPORARY / uuid.uuid4().hex
        with self._explained(f"writing {key}"):
            temporary.parent.mkdir(parents=True, exist_ok=True)
            self._tidy()
            try:
                with temporary.open("xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                self._publish(temporary, path, publish)
            finally:
                temporary.unlink(missing_ok=True)

    def _tidy(self) -> None:
        """Before the first write: give back the space of what killed writers left half-written."""
        if self._tidied:
            return
        self._tidied = True
        for left in (self.root / TEMPORARY).iterdir():
            with suppress(FileNotFoundError):
                if time.time() - left.stat().st_mtime > ABANDONED_AFTER:
                    left.unlink()

    @staticmethod
    def _publish(temporary: Path, path: Path, publish: Callable[[Path, Path], None]) -> None:
        for last in (False,) * TRIES + (True,):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except (FileExistsError, FileNotFoundError):
                # A folder was there, and gone when pathlib looked again.
                if last:
                    raise
                continue
            try:
                return publish(temporary, path)
            except FileNotFoundError:  # a concurrent delete took the empty folder away
                if last:
                    raise

    @contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._explain(error, doing) from error

    def _explain(self, error: OSError, doing: str) -> StoreError:
        what, remedy = REMEDIES.get(
            error.errno or 0, (error.strerror or str(error), "choose another --store, or mend this one")
        )
        return store_error(self.url, f"{what} ({doing})", remedy)
