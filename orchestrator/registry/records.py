"""A promotion as it is stored: one canonical JSON document that carries its own digest and that of the one before.

Canonical means that the bytes follow from the values, so that any changed byte shows: the document no longer reads,
or is not what its values are written as, or its digest is another.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import socket
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

from orchestrator.errors import StoreError
from orchestrator.store import documents

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Kind = Literal["promotion", "rollback"]
OWN = "sha256"


@dataclass(frozen=True)
class Promotion:
    """Promotion `number` of model `name`: from then on the champion is this checkpoint of this run.

    A version is a checkpoint, numbered when it is promoted for the first time; a rollback names an older one.
    """

    number: int  #: 1, 2, …
    name: str
    version: int  #: 1, 2, …
    kind: Kind
    run_id: str
    step: int
    attempt: int  #: of the run, that wrote the checkpoint
    weights: str  #: SHA-256 of its weights.safetensors, in hex
    decision: str  #: key of the decision document, "" where there is none
    reason: str
    by: str  #: `user@host pid 123`, or a flow run
    time: float  #: Unix seconds
    code: dict[str, str]  #: versions of ganctl and what it stands on
    data: str  #: fingerprint of the training data, "" where it is not known
    previous: str  #: SHA-256 of the bytes of record number - 1, in hex; "" for number 1

    @property
    def span(self) -> tuple[int, int]:
        """(step, attempt) of the checkpoint."""
        return self.step, self.attempt

    @property
    def checkpoint(self) -> tuple[str, int, int, str]:
        """What makes two promotions the same version."""
        return self.run_id, self.step, self.attempt, self.weights

    @property
    def digest(self) -> str:
        """SHA-256 of its record, in hex. Noted elsewhere, it vouches for the record and all before it."""
        return digest(encode(self))


def digest(data: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


def encode(promotion: Promotion) -> bytes:
    """The one way to write this promotion."""
    document = asdict(promotion)
    return documents.encode(document | {OWN: digest(documents.encode(document))})


def decode(data: bytes, name: str, number: int) -> Promotion:
    """The promotion that `encode` wrote as `number` of `name`. Raises StoreError for any other bytes."""
    from pydantic import ValidationError

    record = f"promotion {number} of model {name}"
    try:
        document = documents.decode(data)
        document.pop(OWN, None)
        promotion = _adapter().validate_json(documents.encode(document), strict=True)
    except (ValueError, AssertionError, ValidationError) as error:
        raise StoreError(f"{record} cannot be read: {' '.join(str(error).split())[:200]}") from None
    if encode(promotion) != data:
        raise StoreError(f"{record} was changed after it was written: its bytes do not match its own digest")
    if (promotion.name, promotion.number) != (name, number):
        raise StoreError(f"{record} is a copy of promotion {promotion.number} of model {promotion.name}")
    return promotion


@cache
def _adapter() -> TypeAdapter[Promotion]:
    from pydantic import TypeAdapter

    return TypeAdapter(Promotion)


def identity() -> str:
    """Who this process is, for a record: `user@host pid 123`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()} pid {os.getpid()}"
