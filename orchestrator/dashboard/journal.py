"""What people had the dashboard do: asked before it is done, outcome after, both created once in the store.

An idempotency key stands for one action of one person on one thing: the same key returns the same outcome, also after
the server has started again, and is never done twice.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from orchestrator.dashboard.replies import STATUS
from orchestrator.errors import AlreadyExists, GanctlError, NotFound
from orchestrator.store import documents
from orchestrator.store.ids import new_id
from orchestrator.store.layout import AUDIT, audit_key, idempotency_key
from orchestrator.store.objects import Objects

Document = dict[str, Any]

KEY = re.compile(r"[A-Za-z0-9_-]{8,64}")
PATIENCE, POLL_SECONDS = 40.0, 0.2  # of who asks again while the first is still at it
MOST = 200


@dataclass(frozen=True)
class Action:
    """What is asked for, of what, by whom (role, address)."""

    what: str
    arguments: Mapping[str, Any]
    who: Mapping[str, str]


def once(objects: Objects, key: str, action: Action, do: Callable[[], Document]) -> tuple[int, Document]:
    """(status, outcome) of `action`, which is done unless this key has had it done.

    Raises AlreadyExists where the key was used for something else, or whoever had it done has not finished; StoreError.
    """
    told = {"what": action.what, "arguments": dict(action.arguments)}
    place = idempotency_key(hashlib.sha256(f"{action.what} {key}".encode()).hexdigest())
    action_id = new_id()
    try:
        objects.create(place, documents.encode({"id": action_id, **told}))
    except AlreadyExists:
        return _again(objects, documents.decode(objects.get(place)), told)
    objects.create(
        audit_key(action_id, "asked"),
        documents.encode({"id": action_id, "time": time.time(), **asdict(action)}),
    )
    status, outcome = 200, {}
    try:
        outcome = do()
    except GanctlError as error:
        status = next(status for kind, status in STATUS if isinstance(error, kind))
        outcome = {"error": " ".join(str(error).split())}
    except BaseException as error:
        _tell(
            objects,
            action_id,
            500,
            {"error": f"{type(error).__name__}: it broke off; look before asking again"},
        )
        raise
    return status, _tell(objects, action_id, status, outcome)


def _tell(objects: Objects, action_id: str, status: int, outcome: Document) -> Document:
    """Write what came of it; returns it as everybody who asks again will read it."""
    told = documents.encode({"id": action_id, "time": time.time(), "status": status, "outcome": outcome})
    objects.create(audit_key(action_id, "outcome"), told)
    answer: Document = documents.decode(told)["outcome"]
    return answer | {"action": action_id}


def _again(objects: Objects, first: Document, told: Document) -> tuple[int, Document]:
    if {name: first.get(name) for name in told} != documents.decode(documents.encode(told)):
        raise AlreadyExists("this idempotency key was used for another action; send a new one")
    deadline = time.monotonic() + PATIENCE
    while True:
        with suppress(NotFound):
            ended = documents.decode(objects.get(audit_key(first["id"], "outcome")))
            return int(ended["status"]), ended["outcome"] | {"action": first["id"]}
        if time.monotonic() > deadline:
            raise AlreadyExists(
                f"action {first['id']} was begun and has not ended; look at what it was to do, then ask anew"
            )
        time.sleep(POLL_SECONDS)


def newest(objects: Objects, most: int = MOST) -> list[Document]:
    """The newest actions, the newest first: what was asked, with `status` and `outcome`, None where it did not end."""
    asked = [key for key in objects.list(AUDIT) if key.endswith("-asked.json")][-most:]
    keys = {key: key.replace("-asked.json", "-outcome.json") for key in reversed(asked)}
    found = objects.get_many([*keys, *keys.values()])
    rows = []
    for key, end in keys.items():
        if key in found:
            ended = documents.decode(found[end]) if end in found else {}
            rows.append(documents.decode(found[key]) | {n: ended.get(n) for n in ("status", "outcome")})
    return sorted(rows, key=lambda row: -row["time"])  # an id tells the second
