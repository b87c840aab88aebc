"""Data sets as batches of named tensors. The kinds themselves are imported when they are asked for."""

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
    shuffled,
    to_float,
)
from gans.data.kinds import KINDS, AnyData, data_config
from gans.data.loader import Loader, shard

__all__ = [
    "KINDS",
    "AnyData",
    "Batch",
    "DataConfig",
    "DataSpec",
    "Dataset",
    "Field",
    "Files",
    "Loader",
    "LocalFiles",
    "Modes",
    "Resident",
    "Skipped",
    "Split",
    "chunks",
    "data_config",
    "shard",
    "shuffled",
    "to_float",
]
