"""Data sets of encoded images, whatever holds them: probing, splitting, decoding, in memory or streamed.

A `Source` hands out encoded bytes by position and knows nothing of pixels; what becomes of them is here.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import ClassVar, Literal, Protocol

import numpy as np
import pydantic
import torch

from gans.data.base import (
    Batch,
    DataConfig,
    Dataset,
    DataSpec,
    Field,
    Files,
    LocalFiles,
    Modes,
    Resident,
    Skipped,
    Split,
    chunks,
)
from gans.data.decode import Header, Undecodable, decode
from gans.errors import DataError

_NAMED = 5  # undecodable images told by name
_CHUNK = 512  # images decoded at a time when a set becomes resident


@cache
def readers() -> ThreadPoolExecutor:
    """The process's threads for reading files: they wait for disks and networks."""
    return ThreadPoolExecutor(16, thread_name_prefix="read")


@cache
def decoders() -> ThreadPoolExecutor:
    """The process's threads for decoding, during which Pillow frees the interpreter; one core is left."""
    return ThreadPoolExecutor(max(1, (os.cpu_count() or 1) - 1), thread_name_prefix="decode")


class Source(Protocol):
    """Encoded images by position, in an order that does not change, of both splits together."""

    labels: np.ndarray | None  # int64 (len,)
    num_classes: int | None

    def __len__(self) -> int: ...

    def name(self, position: int) -> str:
        """What the image is called, relative to the data's path: decides its split."""
        ...

    def headers(self) -> Iterable[tuple[int, Header | Undecodable]]:
        """(position, header) of every image, or of a part where reading all is too dear."""
        ...

    def read(self, positions: np.ndarray) -> list[bytes]:
        """The encoded bytes at `positions`; b"" where there are none."""
        ...

    def order(self, members: np.ndarray, seed: int, epoch: int) -> np.ndarray:
        """A permutation of range(len(members)), a pure function of (seed, epoch), that is cheap to read."""
        ...

    def fingerprint(self) -> str:
        """A hex digest of the names and sizes of the files."""
        ...

    def digests(self) -> np.ndarray:
        """uint64 (len,): what tells each image apart from others, and from itself after a change, undecoded."""
        ...


class EncodedImages(DataConfig):
    """Options that every set of encoded images has.

    path: a local path, or a URL that the `Files` given to `load` understands.
    size: scale the shorter side to `size` and crop the centre; None: all images must have one size.
    channels: 1 or 3 converts; "auto" takes what the images have and refuses a mixture.
    held_out: share held out, by a hash of each image's name, so that adding images moves none.
    max_skipped: share of undecodable images above which loading or fetching stops with DataError.
    resident_bytes: decoded data up to this size is kept in memory; above, images are decoded on demand.
    """

    path: str
    size: int | None = pydantic.Field(None, ge=1)
    channels: Literal["auto", 1, 3] = "auto"
    held_out: float = pydantic.Field(0.1, ge=0, lt=1)
    max_skipped: float = pydantic.Field(0.05, ge=0, le=1)
    resident_bytes: int = pydantic.Field(2 * 2**30, ge=0)

    def source(self, files: Files) -> Source:
        """Where the encoded bytes are. Raises DataError where there are none."""
        raise NotImplementedError

    def decoder(self, source: Source) -> Decoder:
        """What makes rows of the images of `source`. Raises DataError as `load` does."""
        return Decoder(self, source)

    def load(self, split: Split, files: Files | None = None) -> Dataset:
        """Open the split. Raises DataError: no images, mixed sizes or channels, too many undecodable."""
        source = self.source(files or LocalFiles())
        decoder = self.decoder(source)
        members = self._members(source, split)
        members = members[~np.isin(members, list(decoder.bad))]
        if not len(members):
            raise decoder.nothing_left()
        if decoder.num_bytes(len(members)) <= self.resident_bytes:
            return _resident(decoder, members)
        return Streamed(decoder, members, split)

    def _members(self, source: Source, split: Split) -> np.ndarray:
        held = np.fromiter((_fraction(source.name(i)) < self.held_out for i in range(len(source))), bool)
        members = np.flatnonzero(held if split == "held_out" else ~held)
        if not len(members):
            raise DataError(
                f"no image of {self.path!r} falls in the {split} split ({len(source)} images, "
                f"data.held_out={self.held_out}): add images or change data.held_out"
            )
        return members


def _fraction(name: str) -> float:
    """A uniform number in [0, 1) that depends on `name` alone."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64


class Decoder:
    """Decodes positions of a source to one common shape, and counts and names what it cannot decode.

    across: pictures of equal width that each image holds. beside: a decoder of the same positions in another source, of
    which one is as good as undecodable where the other is.
    """

    across: ClassVar[int] = 1

    def __init__(self, config: EncodedImages, source: Source, beside: Decoder | None = None) -> None:
        self.config = config
        self.source = source
        self.skipped: Skipped = beside.skipped if beside else Skipped()
        self.bad: set[int] = beside.bad if beside else set()
        self._lock: threading.Lock = beside._lock if beside else threading.Lock()
        self.shape = self._common_shape()

    def num_bytes(self, num: int) -> int:
        """Size of `num` decoded images."""
        return num * int(np.prod(self.shape))

    def spec(self) -> DataSpec:
        """`x`, and `label` where the source is labelled."""
        fields = {"x": Field("image", self.shape)}
        if self.source.labels is not None:
            fields["label"] = Field("label", (), self.source.num_classes)
        return DataSpec(fields)

    def rows(self, pixels: np.ndarray) -> Batch:
        """The fields of decoded images, uint8 (N, *shape); labels apart."""
        return {"x": torch.from_numpy(pixels)}

    def told(self) -> str:
        """What of the content depends on the source and on how it is decoded, beyond the spec."""
        return self.source.fingerprint()

    def decode(self, positions: np.ndarray) -> list[np.ndarray | None]:
        """uint8 (C, H, W) for each position, None where it is undecodable. Raises DataError: too many are."""
        wanted = [int(p) for p in positions if int(p) not in self.bad]
        blobs = self.source.read(np.array(wanted, dtype=np.int64))
        decoded = dict(zip(wanted, decoders().map(self._one, wanted, blobs), strict=True))
        return [decoded.get(int(p)) for p in positions]

    def nothing_left(self) -> DataError:
        """The error for a split of which no image can be decoded."""
        return DataError(f"no image of {self.config.path!r} can be decoded: {', '.join(self.skipped.named)}")

    def _one(self, position: int, blob: bytes) -> np.ndarray | None:
        channels = None if self.config.channels == "auto" else self.config.channels
        try:
            pixels = decode(blob, channels, self.config.size, self.across)
        except Undecodable as reason:
            self._skip(position, reason)
            return None
        if pixels.shape != self.shape:
            raise DataError(
                f"image {self.source.name(position)!r} is {_shape(pixels.shape)} where the data set is "
                f"{_shape(self.shape)}: set data.size and data.channels to bring all to one shape"
            )
        return pixels

    def _skip(self, position: int, reason: Undecodable) -> None:
        with self._lock:
            if position in self.bad:
                return
            self.bad.add(position)
            self.skipped.count += 1
            if len(self.skipped.named) < _NAMED:
                self.skipped.named.append(f"{self.source.name(position)} ({reason})")
            if self.skipped.count > self.config.max_skipped * len(self.source):
                raise DataError(
                    f"{self.skipped.count} of {len(self.source)} images of {self.config.path!r} cannot be "
                    f"decoded, more than data.max_skipped={self.config.max_skipped}: "
                    + ", ".join(self.skipped.named)
                )

    def _common_shape(self) -> tuple[int, ...]:
        size, channels = self.config.size, self.config.channels
        if size is not None and channels != "auto":
            return (channels * self.across, size, size)
        headers: dict[int, Header] = {}
        broken: dict[int, Undecodable] = {}
        for position, header in self.source.headers():
            if isinstance(header, Header):
                headers[position] = header
            else:
                broken[position] = header
        for position, reason in broken.items():
            self._skip(position, reason)
        if not headers:
            raise self.nothing_left()
        depth = self._common_channels(headers) if channels == "auto" else channels
        height, width = (size, size) if size is not None else self._common_size(headers)
        return (depth * self.across, height, width if size is not None else width // self.across)

    def _common_channels(self, headers: dict[int, Header]) -> int:
        example = {header.channels: position for position, header in headers.items()}
        if len(example) > 1:
            raise DataError(
                f"images of {self.config.path!r} mix 1 channel ({self.source.name(example[1])!r}) "
                f"and 3 channels ({self.source.name(example[3])!r}): set data.channels=3 or data.channels=1"
            )
        return next(iter(example))

    def _common_size(self, headers: dict[int, Header]) -> tuple[int, int]:
        seen = Counter((header.height, header.width) for header in headers.values())
        if len(seen) > 1:
            listed = ", ".join(f"{w}x{h} ({num} images)" for (h, w), num in seen.most_common(6))
            more = f" and {len(seen) - 6} more" if len(seen) > 6 else ""
            raise DataError(
                f"images of {self.config.path!r} have {len(seen)} sizes: {listed}{more}: set data.size=N "
                "to scale and crop all to NxN"
            )
        return next(iter(seen))


def _shape(shape: tuple[int, ...]) -> str:
    channels, height, width = shape
    return f"{width}x{height} with {channels} channel{'s' * (channels > 1)}"


def _resident(decoder: Decoder, members: np.ndarray) -> Resident:
    pixels = np.empty((len(members), *decoder.shape), dtype=np.uint8)
    kept: list[int] = []
    for rows in chunks(len(members), _CHUNK):
        for row, image in zip(rows, decoder.decode(members[rows]), strict=True):
            if image is not None:
                pixels[len(kept)] = image
                kept.append(int(members[row]))
    if not kept:
        raise decoder.nothing_left()
    tensors = decoder.rows(pixels[: len(kept)])
    if decoder.source.labels is not None:
        tensors["label"] = torch.from_numpy(decoder.source.labels[kept])
    return Resident(tensors, decoder.spec(), skipped=decoder.skipped)


class Streamed:
    """Images decoded when they are fetched. The next decodable one stands in for an undecodable one."""

    modes: Modes | None = None

    def __init__(self, decoder: Decoder, members: np.ndarray, split: Split) -> None:
        self.spec = decoder.spec()
        self.skipped = decoder.skipped
        self._decoder = decoder
        self._members = members
        self._split = split

    def __len__(self) -> int:
        return len(self._members)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        return self._decoder.source.order(self._members, seed, epoch)

    def fetch(self, indices: np.ndarray) -> Batch:
        pixels = np.empty((len(indices), *self._decoder.shape), dtype=np.uint8)
        positions = self._members[indices]
        for row, image in enumerate(self._decoder.decode(positions)):
            if image is None:
                positions[row], image = self._next_decodable(int(indices[row]))
            pixels[row] = image
        batch = self._decoder.rows(pixels)
        if (labels := self._decoder.source.labels) is not None:
            batch["label"] = torch.from_numpy(labels[positions])
        return batch

    def _next_decodable(self, index: int) -> tuple[int, np.ndarray]:
        for position in np.roll(self._members, -index - 1):
            if (image := self._decoder.decode(np.array([position]))[0]) is not None:
                return int(position), image
        raise self._decoder.nothing_left()

    def fingerprint(self) -> str:
        told = (self._decoder.told(), self._split, self._decoder.config.held_out, self.spec)
        return hashlib.sha256(repr(told).encode()).hexdigest()[:16]
