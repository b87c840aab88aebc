"""64-bit digests of a data set's items, so that two states of it can be compared without either being at hand."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np

Digests = np.ndarray  # uint64, an item each

_CHUNK = 4_096  # rows digested at a time


def of_texts(texts: Iterable[str]) -> Digests:
    """A digest of each text."""
    blobs = (hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(b"".join(blobs), dtype="<u8").astype(np.uint64)


def of_group(text: str, num: int) -> Digests:
    """Digests (num,) of the items of a group that is known as a whole alone: all change when `text` does."""
    return mixed(of_texts([text]) + np.arange(1, num + 1, dtype=np.uint64))


def of_fields(fields: Mapping[str, np.ndarray]) -> Digests:
    """Digests (N,) of rows that have these fields, each array (N, ...); rows of equal content have equal ones."""
    num = len(next(iter(fields.values())))
    digests = np.zeros(num, np.uint64)
    for name in sorted(fields):
        key = of_texts([f"{name} {fields[name].dtype} {fields[name].shape[1:]}"])
        for start in range(0, num, _CHUNK):
            rows = slice(start, start + _CHUNK)
            digests[rows] = mixed(digests[rows] ^ key ^ _of_rows(fields[name][rows]))
    return digests


def mixed(words: np.ndarray) -> np.ndarray:
    """A bijection of uint64 in which every bit depends on every bit (splitmix64's finaliser; Steele et al. 2014)."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def _of_rows(rows: np.ndarray) -> Digests:
    """One word a row of (N, ...): the sum of its 8-byte words, each mixed with its place."""
    blobs = np.ascontiguousarray(rows).reshape(len(rows), -1).view(np.uint8).reshape(len(rows), -1)
    padded = np.zeros((len(rows), -(-blobs.shape[1] // 8) * 8), np.uint8)
    padded[:, : blobs.shape[1]] = blobs
    words = padded.view("<u8").astype(np.uint64)
    places = mixed(np.arange(1, words.shape[1] + 1, dtype=np.uint64))
    total: np.ndarray = mixed(words ^ places).sum(axis=1, dtype=np.uint64)
    return mixed(total)
