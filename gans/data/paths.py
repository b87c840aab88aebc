"""Finding and opening the files of a data set, by local path or URL, with errors that say what was sought."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import BinaryIO

from gans.data.base import Files
from gans.errors import DataError


def matching(files: Files, url: str, extensions: tuple[str, ...], what: str) -> list[str]:
    """The paths below `url` that end in one of `extensions`, hidden files left out. DataError: none does."""
    paths = [
        p
        for p in files.list(url)
        if p.lower().endswith(extensions) and not PurePosixPath(p).name.startswith(".")
    ]
    if not paths:
        raise DataError(f"no {what} below data.path {url!r}: looked for {', '.join(extensions)}")
    return paths


def relative(url: str, path: str) -> str:
    """`path` relative to the folder `url`, with or without a scheme on either; a single file's own name."""
    root, full = (_without_scheme(u) for u in (url, path))
    return full.removeprefix(root + "/") if full != root else PurePosixPath(full).name


def _without_scheme(url: str) -> str:
    _, scheme, rest = url.rpartition("://")
    return rest.rstrip("/") if scheme else Path(url).expanduser().as_posix()


def opened(files: Files, path: str) -> BinaryIO:
    """Open one file. Raises DataError where it is gone or may not be read."""
    try:
        return files.open(path)
    except (FileNotFoundError, PermissionError) as error:
        raise DataError(f"cannot read {path!r} of the data set: {error.strerror or error}") from error
