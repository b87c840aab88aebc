"""JSON documents: plain, strict, readable by any tool."""

import json
import math
from collections.abc import Mapping
from typing import Any

Document = dict[str, Any]


def encode(document: Mapping[str, Any]) -> bytes:
    """Strict JSON, UTF-8, indented. Non-finite numbers become null: JSON has no other way to say them."""
    return json.dumps(_plain(document), indent=1, allow_nan=False, ensure_ascii=False).encode()


def decode(data: bytes) -> Document:
    """The document that `encode` wrote."""
    document = json.loads(data)
    assert isinstance(document, dict)
    return document


def _plain(value: Any) -> Any:
    """JSON's own types; numpy and torch scalars by their `.item()`."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
