"""Writing to the store without waiting for it: one thread that executes writes in the order they were given."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

Write = Callable[[], None]


class Direct:
    """Writes at once, in the caller's thread."""

    def put(self, write: Write, large: bool = False) -> None:
        write()

    def latest(self, write: Write) -> None:
        write()

    def drain(self) -> None:
        return None

    def close(self) -> None:
        return None


class Outbox(Direct):
    """Writes in the background. Of `large` ones at most `most` are held in memory: one more waits for room.

    The first error ends it: no later write is executed, for order is a promise, and `put`, `latest` and `drain` raise
    it. What was put is written even when the interpreter exits meanwhile. Once closed it writes at once. Threads may
    share it.
    """

    def __init__(self, most: int = 2) -> None:
        self._pool = ThreadPoolExecutor(1, "outbox")  # which is joined at exit
        self._room = threading.BoundedSemaphore(most)
        self._lock = threading.Lock()
        self._newest: Write | None = None
        self._error: BaseException | None = None
        self._closed = False

    def put(self, write: Write, large: bool = False) -> None:
        """Have `write` executed after all that were put before. Raises what an earlier one raised."""
        if large:
            self._room.acquire()
        self._check()
        if self._closed:
            self._execute(write, large)
            self._check()
        else:
            self._pool.submit(self._execute, write, large)

    def latest(self, write: Write) -> None:
        """Have `write` executed unless a newer one comes first, which then takes its place, or it is closed."""
        self._check()
        if self._closed:
            return
        with self._lock:
            waiting, self._newest = self._newest is not None, write
        if not waiting:
            self._pool.submit(self._execute, self._execute_newest, False)

    def drain(self) -> None:
        """Wait until all is written. Raises what a write raised."""
        if not self._closed:
            self._pool.submit(lambda: None).result()
        self._check()

    def close(self) -> None:
        """Wait until all is written, and end the thread."""
        self._closed = True
        self._pool.shutdown()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _execute_newest(self) -> None:
        with self._lock:
            write, self._newest = self._newest, None
        assert write is not None
        write()

    def _execute(self, write: Write, large: bool) -> None:
        try:
            if self._error is None:
                write()
        except BaseException as error:
            self._error = error
        finally:
            if large:
                self._room.release()
