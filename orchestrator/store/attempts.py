"""Who may write a run: one attempt at a time.

`attempts/<n>.json`, created once, names attempt n, its first rank's host and process, how many ranks it has, and the
step of the checkpoint that it goes on from. From then on whatever an earlier attempt says of later steps is void, so
that a machine which was cut off and goes on writing is not seen. Numbers are consecutive: attempt n is over as soon as
n + 1 exists.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence

from orchestrator.errors import NotFound, Superseded
from orchestrator.store import documents
from orchestrator.store.layout import attempt_key, run_key
from orchestrator.store.objects import Objects

Starts = list[int]
"""By attempt, the first one first: the step of the checkpoint it goes on from, 0 for none."""


def newest_attempt(objects: Objects, run_id: str) -> int:
    """The highest attempt number taken, 0 where there is none."""
    keys = objects.list(run_key(run_id, "attempts"))
    return max((int(key.rpartition("/")[2].removesuffix(".json")) for key in keys), default=0)


def starts(objects: Objects, run_id: str) -> Starts:
    """Where every attempt so far started."""
    taken = range(1, newest_attempt(objects, run_id) + 1)
    found = objects.get_many(attempt_key(run_id, number) for number in taken)
    return [int(documents.decode(data)["from"]) for data in found.values()]


def counts(step: int, attempt: int, begun: Sequence[int]) -> bool:
    """Whether what `attempt` says of `step` holds: no later attempt of `begun` started before it."""
    return all(step <= start for start in begun[attempt:])


def begin(objects: Objects, run_id: str, begun: Sequence[int], workers: int) -> None:
    """Take the number of the last attempt of `begun`. Raises AlreadyExists where another process was faster."""
    number = len(begun)
    who = {"attempt": number, "from": begun[-1], "host": socket.gethostname(), "pid": os.getpid()}
    objects.create(
        attempt_key(run_id, number), documents.encode(who | {"workers": workers, "time": time.time()})
    )


def require_newest(objects: Objects, run_id: str, attempt: int) -> None:
    """Raise Superseded where a later attempt has begun."""
    try:
        later = documents.decode(objects.get(attempt_key(run_id, attempt + 1)))
    except NotFound:
        return
    raise Superseded(
        f"attempt {later['attempt']}, on host {later['host']} pid {later['pid']}, has taken run {run_id} over: "
        f"attempt {attempt} writes nothing more"
    )
