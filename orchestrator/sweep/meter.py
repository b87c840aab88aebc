"""What a sweep has used, over all its sessions: wall-clock and device time. Kept in the ledger as it goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.sweep import account
from orchestrator.sweep.ledger import Ledger
from orchestrator.sweep.plan import Plan

#: Times are written at most this often, so that is what a kill forgets.
HEARTBEAT_SECONDS = 10.0


class Meter:
    """The used part of a plan's budget. `clock` tells seconds since the epoch."""

    def __init__(self, ledger: Ledger, plan: Plan, clock: Callable[[], float]) -> None:
        self._ledger = ledger
        self._plan = plan
        self._clock = clock
        self._past: list[list[float]] = ledger.kept("sessions") or []
        self._session = [clock(), clock()]
        self._earlier: dict[int, float] = {}  # device time of processes of a trial before its present one
        self._spent: dict[int, dict[str, Any]] = {}
        self._written: dict[int, float] = {}
        ledger.keep("sessions", [*self._past, self._session])

    def tick(self) -> None:
        """The sweep goes on."""
        now = self._clock()
        if now - self._session[1] >= HEARTBEAT_SECONDS:
            self._session = [self._session[0], now]
            self._ledger.keep("sessions", [*self._past, self._session])

    def hear(self, number: int, seconds: float, devices: float, keep: bool, **told: Any) -> None:
        """Trial `number`, `seconds` after its process began, has held `devices` on average; `told` is kept with it."""
        last = self._spent.get(number)
        if last is not None and seconds < last["seconds"]:  # begun anew
            self._earlier[number] = last["device_seconds"]
        used = self._earlier.get(number, 0.0) + seconds * devices
        self._spent[number] = {**told, "seconds": seconds, "device_seconds": used}
        now = self._clock()
        if keep or now - self._written.get(number, -HEARTBEAT_SECONDS) >= HEARTBEAT_SECONDS:
            self._written[number] = now
            self._ledger.note(number, spent=self._spent[number])

    def resumes(self, number: int) -> None:
        """Trial `number`, which paused, is to go on in another process."""
        spent = self._ledger.attributes(number).get("spent", {"device_seconds": 0.0})
        self._earlier[number] = spent["device_seconds"]
        self._spent[number] = {**spent, "seconds": 0.0}

    def progress(self, number: int) -> float | None:
        """What trial `number` last told of its progress, before it was cut off if not since."""
        spent = self._spent.get(number) or self._ledger.attributes(number).get("spent", {})
        return spent.get("progress")

    @property
    def seconds(self) -> float:
        """Wall-clock of all sessions so far."""
        return sum(seen - begun for begun, seen in self._past) + max(0.0, self._clock() - self._session[0])

    @property
    def device_seconds(self) -> float:
        """Device time of all trials so far, those included that were cut off."""
        kept = {trial.number: account.spent(trial) for trial in self._ledger.trials() if account.ran(trial)}
        live = {number: spent["device_seconds"] for number, spent in self._spent.items()}
        return sum((kept | live).values())

    @property
    def used_up(self) -> bool:
        """Whether the plan's hours or device-hours are over."""
        hours, device_hours = self._plan.hours, self._plan.device_hours
        if hours is not None and self.seconds >= hours * 3600:
            return True
        return device_hours is not None and self.device_seconds >= device_hours * 3600
