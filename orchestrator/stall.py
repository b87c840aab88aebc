"""Says when a run has stopped moving, and which rank it waits for.

A thread beside every rank posts how the rank stands; the one beside rank 0 reads the posts and tells. They are
exchanged through the process group's own key-value store, which works while the ranks are stuck in a collective.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, Self

from torch import Tensor

from gans.loop import Evaluate
from gans.sync import Sync

MOST = 64  # ranks whose pace is told

Tell = Callable[[str, str], None]
"""Is told, every period, what the run is stalled by and what rank 0 is doing by itself; empty where it is neither."""


@dataclass(frozen=True)
class Post:
    """How a rank stands: exchanges begun, whether it waits in one, how fast it goes (`gans.training.PACE`). `number`
    grows as long as its process runs."""

    rank: int
    host: str
    pid: int
    calls: int
    waiting: bool
    number: int
    pace: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Patience:
    """Seconds between posts, and without a tick until a run is called stalled: `times` the usual, `least` at least,
    and `first` before there is any."""

    period: float = 2.0
    least: float = 15.0
    times: float = 10.0
    first: float = 300.0


class Board(Protocol):
    """Where the ranks of a run post."""

    def post(self, rank: int, text: str) -> None: ...

    def posts(self) -> list[str]: ...


class Slate:
    """A board for one rank."""

    def __init__(self) -> None:
        self._text: dict[int, str] = {}

    def post(self, rank: int, text: str) -> None:
        self._text[rank] = text

    def posts(self) -> list[str]:
        return list(self._text.values())


class GroupBoard:
    """The key-value store of torch.distributed's default process group, over a connection of its own."""

    def __init__(self, world: int) -> None:
        from torch.distributed.distributed_c10d import _get_default_store

        self._store, self._world = _get_default_store().clone(), world  # type: ignore[attr-defined]

    def post(self, rank: int, text: str) -> None:
        self._store.set(f"ganctl/{rank}", text)

    def posts(self) -> list[str]:
        keys = [f"ganctl/{rank}" for rank in range(self._world)]
        return [self._store.get(key).decode() for key in keys if self._store.check([key])]


class Watch:
    """Watches one rank, from `with` to its end. `tell` is given on rank 0 alone; `every` are the steps of a tick.

    On rank 0 `ranks` says how fast each rank went at its last tick: of many, those that the others wait for.
    """

    def __init__(self, sync: Sync, tell: Tell | None, every: int, patience: Patience | None = None) -> None:
        self._sync, self._tell, self._every = sync, tell, every
        self._patience = patience or Patience()
        self._board: Board = Slate() if sync.world == 1 else GroupBoard(sync.world)
        self._intervals: deque[float] = deque(maxlen=20)
        self._step, self._ticked = 0, time.monotonic()
        self._doing, self._since = "", 0.0
        self._heard: dict[int, tuple[int, float]] = {}
        self._number = 0
        self._pace: dict[str, float] = {}
        self.ranks: list[dict[str, Any]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join(self._patience.period)  # longer only where the store of the group is gone

    def ticked(self, step: int, pace: Mapping[str, float] | None = None) -> None:
        """The rank has come to `step`, at this `pace`."""
        now = time.monotonic()
        self._pace = dict(pace or {})
        if self._step:
            self._intervals.append(now - self._ticked)
        self._step, self._ticked = step, now

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Meanwhile this rank does something that the others wait for."""
        self._doing, self._since = what, time.monotonic()
        try:
            yield
        finally:
            self._doing = ""

    def _run(self) -> None:
        while not self._over.wait(self._patience.period):
            with suppress(Exception):  # what is wrong with group or store ends the rank itself
                self._number += 1
                sync = self._sync
                host, pace = socket.gethostname(), self._pace
                me = Post(sync.rank, host, os.getpid(), sync.calls, sync.waiting, self._number, pace)
                self._board.post(sync.rank, json.dumps(asdict(me)))
                if self._tell is not None:
                    self._tell(*self._judged())

    def _judged(self) -> tuple[str, str]:
        """What `Tell` is told."""
        posts = [Post(**json.loads(text)) for text in self._board.posts()]
        self.ranks = paces(posts)
        now = time.monotonic()
        for post in posts:
            if self._heard.get(post.rank, (0, 0.0))[0] != post.number:
                self._heard[post.rank] = post.number, now
        doing, since = self._doing, self._since
        busy = f"{doing} for {now - since:.0f} s" if doing and now - since > self._patience.period else ""
        overdue, usual = now - self._ticked, statistics.median(self._intervals or [0.0])
        wait = self._patience
        if overdue < (max(wait.least, wait.times * usual) if self._intervals else wait.first):
            return "", busy
        ages = {rank: now - heard for rank, (_, heard) in self._heard.items()}
        limit = 3 * self._patience.period
        silent = {post.rank for post in posts if ages[post.rank] > limit}
        if busy and not silent:
            return "", busy
        late = f"no step for {overdue:.0f} s" + (f" (usually {usual:.1f} s)" if usual else "")
        return f"{late}: {blame(posts, silent, self._step + self._every)}", busy


def paces(posts: list[Post]) -> list[dict[str, Any]]:
    """How fast each rank goes, by rank. Of more than MOST those that wait the least for others."""
    told = sorted((post for post in posts if post.pace), key=lambda post: post.pace.get("sync_wait", 0.0))
    kept = sorted(told[:MOST], key=lambda post: post.rank)
    return [{"rank": post.rank, "host": post.host, **post.pace} for post in kept]


def blame(posts: list[Post], silent: set[int], step: int) -> str:
    """Which rank the others wait for on their way to `step`: one that does not answer, else the one with the fewest
    exchanges begun, else one that is in none."""
    guilty = [post for post in posts if post.rank in silent]
    if not guilty:
        fewest, most = min(p.calls for p in posts), max(p.calls for p in posts)
        guilty = [p for p in posts if (p.calls == fewest if fewest < most else not p.waiting)]
    if not guilty:
        return "all ranks wait for each other: is the network between their machines up?"
    waiting = [str(post.rank) for post in posts if post not in guilty]
    named = ", ".join(f"rank {post.rank} (host {post.host}, pid {post.pid})" for post in guilty)
    has = "has" if len(guilty) == 1 else "have"
    answer = " and does not answer" if silent else ""
    verb = "rank {} waits" if len(waiting) == 1 else "ranks {} wait"
    others = f"; {verb.format(', '.join(waiting))} for it" if waiting else ""
    return f"{named} {has} not come to step {step}{answer}{others}"


class Announced:
    """An evaluator that says so while it is at work."""

    def __init__(self, evaluate: Evaluate, doing: Callable[[str], Any]) -> None:
        self._evaluate, self._doing = evaluate, doing
        self.num_samples = evaluate.num_samples

    def __call__(self, x: Tensor, labels: Tensor | None = None) -> dict[str, float]:
        with self._doing("evaluating"):
            return self._evaluate(x, labels)
