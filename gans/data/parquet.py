"""Encoded images in a column of Parquet files, as Hugging Face lays them out."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from gans.data.base import Files
from gans.data.decode import Header, Undecodable, probe
from gans.data.digests import of_group
from gans.data.encoded import EncodedImages, Source
from gans.data.paths import matching, opened, relative
from gans.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

WINDOW = 4  # row groups whose rows are shuffled among each other


class Parquet(EncodedImages):
    """Images of `column` (binary, or Hugging Face's struct<bytes, path>) of one or more Parquet files.

    `label` names an integer or string column; class ids number its sorted distinct values.
    """

    kind: Literal["parquet"] = "parquet"
    column: str = "image"
    label: str | None = None

    def source(self, files: Files) -> Source:
        return ParquetSource(self, files)


class RowGroup(NamedTuple):
    """One row group: its file, its number there, and its first row's number in that file."""

    path: str
    name: str
    number: int
    first_row: int
    num_rows: int
    num_bytes: int
    metadata: Any


class ParquetSource:
    """Rows of Parquet files, read a row group at a time; the groups last read are kept."""

    def __init__(self, config: Parquet, files: Files) -> None:
        self._config = config
        self._files = files
        self._paths = matching(files, config.path, (".parquet",), "Parquet file")
        self._groups: list[RowGroup] = []
        labels = [self._scan(path) for path in self._paths]
        self._starts = np.cumsum([0, *(g.num_rows for g in self._groups)])
        if not len(self):
            raise DataError(f"the Parquet files of data.path {config.path!r} have no rows")
        self.labels, self.num_classes = _class_ids(labels, config)
        # Two windows: a batch, or the one prefetched after it, may reach into the next window.
        self._column = lru_cache(maxsize=2 * WINDOW)(self._read_group)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def name(self, position: int) -> str:
        number = int(self._group_of(np.array([position]))[0])
        group = self._groups[number]
        return f"{group.name}#{group.first_row + position - int(self._starts[number])}"

    def headers(self) -> Iterator[tuple[int, Header | Undecodable]]:
        """Of all rows, or of each file's first row group where all are more bytes than may be resident."""
        every = sum(g.num_bytes for g in self._groups) <= self._config.resident_bytes
        for number, group in enumerate(self._groups):
            if not every and group.number > 0:
                continue
            for row, blob in enumerate(self._column(number)):
                try:
                    yield int(self._starts[number]) + row, probe(io.BytesIO(blob.as_py() or b""))
                except Undecodable as reason:
                    yield int(self._starts[number]) + row, reason

    def read(self, positions: np.ndarray) -> list[bytes]:
        blobs = [b""] * len(positions)
        groups = self._group_of(positions)
        for number in np.unique(groups).tolist():  # group by group, so that none is read twice
            column = self._column(number)
            for i in np.flatnonzero(groups == number).tolist():
                blobs[i] = column[int(positions[i] - self._starts[number])].as_py() or b""
        return blobs

    def order(self, members: np.ndarray, seed: int, epoch: int) -> np.ndarray:
        """Row groups are shuffled, then the rows within each window of them."""
        rng = np.random.default_rng([seed, epoch])
        edges = np.flatnonzero(np.diff(self._group_of(members))) + 1
        pieces = np.split(np.arange(len(members)), edges)
        turn = rng.permutation(len(pieces))
        windows = [turn[i : i + WINDOW] for i in range(0, len(turn), WINDOW)]
        return np.concatenate([rng.permutation(np.concatenate([pieces[i] for i in w])) for w in windows])

    def fingerprint(self) -> str:
        told = [(relative(self._config.path, p), self._files.size(p)) for p in self._paths]
        return hashlib.sha256(repr((told, self._config.column, self._config.label)).encode()).hexdigest()

    def digests(self) -> np.ndarray:
        """Rows count as changed together with their row group: its place, number of rows, and its columns' sizes and
        ranges, which stand in the file's footer."""
        return np.concatenate([of_group(self._footer(group), group.num_rows) for group in self._groups])

    def _footer(self, group: RowGroup) -> str:
        metadata = group.metadata.row_group(group.number)
        chunks = [metadata.column(number) for number in range(metadata.num_columns)]
        wanted = {name for name in (self._config.column, self._config.label) if name}
        told = [
            (c.path_in_schema, c.num_values, c.total_compressed_size, c.total_uncompressed_size, _range(c))
            for c in chunks
            if c.path_in_schema.partition(".")[0] in wanted
        ]
        return repr((group.name, group.number, group.num_rows, told))

    def _group_of(self, positions: np.ndarray) -> np.ndarray:
        return np.searchsorted(self._starts, positions, side="right") - 1

    def _scan(self, path: str) -> pa.ChunkedArray | None:
        """Note the file's row groups; return its label column, where one is asked for."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        with opened(self._files, path) as handle:
            try:
                file = pq.ParquetFile(handle)
            except pa.ArrowInvalid as error:
                raise DataError(f"{path!r} is not a Parquet file: {str(error).splitlines()[0]}") from error
            self._check_columns(path, file.schema_arrow)
            first_row, name = 0, relative(self._config.path, path)
            for number in range(file.num_row_groups):
                group = file.metadata.row_group(number)
                size = group.total_byte_size
                self._groups.append(
                    RowGroup(path, name, number, first_row, group.num_rows, size, file.metadata)
                )
                first_row += group.num_rows
            label = self._config.label
            return file.read(columns=[label])[label] if label else None

    def _check_columns(self, path: str, schema: pa.Schema) -> None:
        for field, column in (("data.column", self._config.column), ("data.label", self._config.label)):
            if column is not None and column not in schema.names:
                known = ", ".join(schema.names)
                raise DataError(f"{path!r} has no column {column!r} ({field}); its columns: {known}")
        if _blob_field(schema, self._config.column) is None:
            found = schema.field(self._config.column).type
            raise DataError(
                f"column {self._config.column!r} (data.column) of {path!r} is {found}; it must be binary, or "
                "struct<bytes: binary, path: string> as Hugging Face writes images"
            )

    def _read_group(self, number: int) -> pa.ChunkedArray:
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        group = self._groups[number]
        with opened(self._files, group.path) as handle:
            file = pq.ParquetFile(handle, metadata=group.metadata)
            field = _blob_field(file.schema_arrow, self._config.column)
            column = file.read_row_group(group.number, columns=[field])[self._config.column]
        return column if field == self._config.column else pc.struct_field(column, "bytes")


def _range(chunk: Any) -> tuple[Any, ...] | None:
    """Least and largest value of a column chunk and its nulls, where its writer noted them."""
    noted = chunk.statistics
    return None if noted is None or not noted.has_min_max else (noted.min, noted.max, noted.null_count)


def _blob_field(schema: pa.Schema, column: str) -> str | None:
    """The dotted name under which the encoded bytes lie, or None."""
    import pyarrow.types as types

    kind = schema.field(column).type
    if types.is_binary(kind) or types.is_large_binary(kind):
        return column
    if types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        return f"{column}.bytes"
    return None


def _class_ids(
    columns: list[pa.ChunkedArray | None], config: Parquet
) -> tuple[np.ndarray | None, int | None]:
    values = [value for column in columns if column is not None for value in column.to_pylist()]
    if config.label is None:
        return None, None
    kinds = {type(value) for value in values}
    if kinds not in ({int}, {str}):
        found = ", ".join(sorted("null" if k is type(None) else k.__name__ for k in kinds))
        raise DataError(
            f"column {config.label!r} (data.label) of {config.path!r} holds {found}; a label column holds "
            "integers only or strings only"
        )
    classes, ids = np.unique(np.array(values), return_inverse=True)
    return ids.astype(np.int64), len(classes)
