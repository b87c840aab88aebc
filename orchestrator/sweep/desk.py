"""Where the driver of a sweep leaves its orders: Ray Tune carries what trials report, and nothing the other way."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Desk:
    """Named boxes of plain values, first in, first out. A Ray actor; it holds nothing that a restart would miss."""

    def __init__(self) -> None:
        self._boxes: defaultdict[str, asyncio.Queue[Any]] = defaultdict(asyncio.Queue)

    async def put(self, box: str, value: Any) -> None:
        """Leave `value` in a box."""
        self._boxes[box].put_nowait(value)

    async def take(self, box: str, seconds: float | None = None) -> Any:
        """The oldest value of a box, once there is one; None where none came within `seconds`."""
        try:
            value = await asyncio.wait_for(self._boxes[box].get(), seconds)
        except TimeoutError:
            return None
        if self._boxes[box].empty():
            del self._boxes[box]
        return value


@contextmanager
def open_desk() -> Iterator[Any]:
    """A desk on the node of this driver, lest another one take it along: a handle that trials may carry with them."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    actor: Any = ray.remote(Desk)
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    desk = actor.options(num_cpus=0, max_concurrency=1000, scheduling_strategy=here).remote()
    try:
        yield desk
    finally:
        ray.kill(desk)


def orders_of(trial_id: str) -> str:
    """The box of orders for Tune trial `trial_id`."""
    return f"orders/{trial_id}"
