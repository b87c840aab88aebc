"""One round: its attempts, its driver's heartbeat, how it ended. Everything about it is in its folder in the store."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from orchestrator.errors import AlreadyExists, Busy, NotFound, StoreError, Superseded
from orchestrator.registry.records import identity
from orchestrator.store import documents
from orchestrator.store.documents import Document
from orchestrator.store.ids import ALPHABET
from orchestrator.store.layout import round_key
from orchestrator.store.objects import Objects
from orchestrator.store.reader import LOST_AFTER

BEAT_SECONDS = 10.0
CHARACTERS = 6  # at the end of an id, beside the time


@dataclass(frozen=True)
class Attempt:
    """Attempt `number` (1, 2, …) of a round to train: the run, its Ray job, what it starts from (`RUN@STEP`, empty for
    anew), and the remedy it applies, in words."""

    number: int
    run_id: str
    submission: str
    start: str
    remedy: str
    time: float


class Round:
    """Round `number` of retraining `name`. `driver`: 1 drives it since it began, more took it over, 0 looks on.

    Raises NotFound at the first use where it was not begun.
    """

    def __init__(self, objects: Objects, name: str, number: int, driver: int = 0) -> None:
        self.objects, self.name, self.number, self.driver = objects, name, number, driver
        self.overtaken = threading.Event()  # set once somebody else drives it on

    @cached_property
    def document(self) -> Document:
        """`begun.json`: trigger, fingerprint, items, settings, by, time, flow_run."""
        return documents.decode(self.objects.get(self.key("begun.json")))

    @property
    def attached(self) -> bool:
        """Whether it was taken over from another driver."""
        return self.driver > 1

    @property
    def folder(self) -> str:
        """Where it lies: `key` without a file, for what writes several."""
        return self.key("begun.json").removesuffix("/begun.json")

    def key(self, file: str) -> str:
        """Where `file` of this round lies."""
        return round_key(self.name, self.number, file)

    def state(self) -> str:
        """`running`; `lost` where its driver has not been heard of for a minute; else the outcome it ended with."""
        end = self.end_document()
        if end is not None:
            return str(end["outcome"])
        return "running" if self._silence() <= LOST_AFTER else "lost"

    def end_document(self) -> Document | None:
        """`end.json`: outcome, time, by, and what `end` was given. None while it has not ended."""
        return self._read("end.json")

    def live(self) -> Document | None:
        """The newest heartbeat."""
        return self._read("beat.json")

    # --- attempts

    def attempts(self) -> list[Attempt]:
        """Those there are, the first one first."""
        found: list[Attempt] = []
        while (document := self._read(f"attempt-{len(found) + 1}.json")) is not None:
            found.append(Attempt(**document))
        return found

    def attempt(self, number: int, start: str = "", remedy: str = "", run_id: str = "") -> Attempt:
        """Attempt `number`, noted before anything is submitted; the one that is there already where there is one.

        Its ids follow from the round and the number, so that who comes after a crash finds the same run and job.
        """
        made = Attempt(
            number, run_id or self.run_id(number), self.submission(number), start, remedy, time.time()
        )
        key = self.key(f"attempt-{number}.json")
        with suppress(AlreadyExists):
            self.objects.create(key, documents.encode(asdict(made)))
        return Attempt(**documents.decode(self.objects.get(key)))

    def run_id(self, attempt: int) -> str:
        """The id of the run of an attempt."""
        began = datetime.fromtimestamp(self.document["time"], UTC)
        return run_id_for(self.name, self.document["fingerprint"], self.number, attempt, began)

    def submission(self, attempt: int) -> str:
        """The submission id of an attempt in Ray's Jobs API, which refuses a repeated one."""
        return submission_id(self.name, self.document["fingerprint"], self.number, attempt)

    # --- who drives it

    def take_over(self, flow_run: str = "") -> Round:
        """This round for a new driver. Raises Busy where the last one lives and is another; AlreadyExists where
        somebody else took over at the same moment."""
        known = self._all_drivers()
        if self._silence() <= LOST_AFTER and not (flow_run and known[-1]["flow_run"] == flow_run):
            raise self._busy(known[-1])
        driver = len(known) + 1
        self.objects.create(self.key(f"driver-{driver}.json"), documents.encode(stamp(flow_run)))
        return Round(self.objects, self.name, self.number, driver)

    def driver_document(self) -> Document:
        """Who drives it now, or drove it last: time, by, flow_run."""
        return self._all_drivers()[-1]

    @property
    def drivers(self) -> int:
        """How many have driven it so far."""
        return len(self._all_drivers())

    def beat(self, **fields: Any) -> None:
        """Say that it is driven, and what else is worth showing. Raises Superseded where somebody else drives it on."""
        self._check()
        told = {"time": time.time(), "driver": self.driver, "by": identity(), **fields}
        self.objects.put(self.key("beat.json"), documents.encode(told))

    @contextmanager
    def attending(self, flow_run: str = "", every: float = BEAT_SECONDS) -> Iterator[Round]:
        """This process drives the round meanwhile: a beat at once and `every` so many seconds, from a thread.

        Raises Superseded at the beginning where it does not any more; later, `overtaken` is set. A store that cannot
        be written is tried again with the next beat.
        """
        self.beat(flow_run=flow_run)
        done = threading.Event()

        def beats() -> None:
            while not done.wait(every):
                try:
                    self.beat(flow_run=flow_run)
                except Superseded:
                    return
                except StoreError:
                    continue

        thread = threading.Thread(target=beats, name=f"round {self.number} of {self.name}", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            done.set()
            thread.join()

    def end(self, outcome: str, **fields: Any) -> Document:
        """Say how it ended, once: `promoted`, `kept`, `collapsed`, `failed`, `cancelled`.

        Returns what `end.json` holds, which is somebody else's where that came first. Raises Superseded where it is
        driven on by somebody else: an onlooker may end it, a driver that was overtaken may not.
        """
        if self.driver:
            self._check()
        told = {"outcome": outcome, "time": time.time(), "by": identity(), "driver": self.driver, **fields}
        with suppress(AlreadyExists):
            self.objects.create(self.key("end.json"), documents.encode(told))
        return documents.decode(self.objects.get(self.key("end.json")))

    def _check(self) -> None:
        """Raise Superseded where somebody else drives it on."""
        assert self.driver, "an onlooker drives no round"
        if self.objects.exists(self.key(f"driver-{self.driver + 1}.json")):
            self.overtaken.set()
            raise Superseded(f"round {self.number} of {self.name} is driven on by another process")

    def _all_drivers(self) -> list[Document]:
        found = [self.document]
        while (document := self._read(f"driver-{len(found) + 1}.json")) is not None:
            found.append(document)
        return found

    def _silence(self) -> float:
        """Seconds since anything was heard of a driver."""
        beat = self.live() or {"time": 0.0}
        return time.time() - float(max(self.driver_document()["time"], beat["time"]))

    def _busy(self, driver: Document) -> Busy:
        since = datetime.fromtimestamp(driver["time"], UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        flow_run = f", flow run {driver['flow_run']}" if driver["flow_run"] else ""
        return Busy(
            f"retraining {self.name}: round {self.number} is under way, driven by {driver['by']}{flow_run} "
            f"since {since}"
        )

    def _read(self, file: str) -> Document | None:
        with suppress(NotFound):
            return documents.decode(self.objects.get(self.key(file)))
        return None


def stamp(flow_run: str) -> Document:
    """Who does something now."""
    return {"time": time.time(), "by": identity(), "flow_run": flow_run}


def run_id_for(name: str, fingerprint: str, number: int, attempt: int, began: datetime) -> str:
    """The id of attempt `attempt` of round `number`: the time it `began`, then a digest of all the others."""
    told = hashlib.sha256(repr((name, fingerprint, number, attempt)).encode()).digest()
    letters = "".join(ALPHABET[byte % len(ALPHABET)] for byte in told[:CHARACTERS])
    return f"{began.astimezone(UTC):%Y%m%d-%H%M%S}-{letters}"


def submission_id(name: str, fingerprint: str, number: int, attempt: int) -> str:
    """The same for Ray's Jobs API. The round is in it: the same data may be trained on in more than one."""
    return f"retrain-{name}-{number:06d}-{fingerprint[:8]}-{attempt}"
