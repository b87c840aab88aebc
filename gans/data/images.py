"""A folder of PNG, JPEG and WebP files, local or wherever the given `Files` reach."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Literal

import numpy as np

from gans.data.base import Files, shuffled
from gans.data.decode import Header, Undecodable, probe
from gans.data.digests import of_texts
from gans.data.encoded import EncodedImages, Source, readers
from gans.data.paths import matching, opened, relative

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp")


class Images(EncodedImages):
    """Every image below `path`; with labels="folder" the class is the name of an image's parent folder."""

    kind: Literal["images"] = "images"
    labels: Literal["none", "folder"] = "none"

    def source(self, files: Files) -> Source:
        return FolderSource(self.path, self.labels == "folder", files)


class FolderSource:
    """One encoded image a file: every one below `path`, or those of `paths`, in their order."""

    def __init__(self, path: str, labelled: bool, files: Files, paths: list[str] | None = None) -> None:
        self._paths = matching(files, path, EXTENSIONS, "image") if paths is None else paths
        self._names = [relative(path, p) for p in self._paths]
        self._files = files
        self.labels: np.ndarray | None = None
        self.num_classes: int | None = None
        if labelled:
            folders = [PurePosixPath(p).parent.name for p in self._paths]
            classes, ids = np.unique(folders, return_inverse=True)
            self.labels, self.num_classes = ids.astype(np.int64), len(classes)

    def __len__(self) -> int:
        return len(self._paths)

    def name(self, position: int) -> str:
        return self._names[position]

    def headers(self) -> Iterator[tuple[int, Header | Undecodable]]:
        return enumerate(readers().map(self._header, self._paths))

    def read(self, positions: np.ndarray) -> list[bytes]:
        return list(readers().map(self._read, [self._paths[p] for p in positions]))

    def order(self, members: np.ndarray, seed: int, epoch: int) -> np.ndarray:
        return shuffled(len(members), seed, epoch)

    def fingerprint(self) -> str:
        return hashlib.sha256(repr(self._told()).encode()).hexdigest()

    def digests(self) -> np.ndarray:
        """Of names and sizes: a picture that is replaced by one of as many bytes is not noticed."""
        return of_texts(f"{size} {name}" for name, size in self._told())

    def _told(self) -> list[tuple[str, int]]:
        return list(zip(self._names, readers().map(self._files.size, self._paths), strict=True))

    def _header(self, path: str) -> Header | Undecodable:
        with opened(self._files, path) as file:
            try:
                return probe(file)
            except Undecodable as reason:
                return reason

    def _read(self, path: str) -> bytes:
        with opened(self._files, path) as file:
            return file.read()
