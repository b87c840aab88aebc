"""Where trials train: a Ray Tune actor that works off the trials it is given, one or a pack of them.

It tells the driver how they stand and does as it is told. A trial that ends or pauses in a pack makes room for the next
one. It knows nothing of how the driver is reached.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from typing import Any

from gans.packing import Pack
from orchestrator.errors import ConfigError, DataError
from orchestrator.outcome import Turn
from orchestrator.scene import Scene
from orchestrator.store.objects import Objects, open_objects
from orchestrator.sweep.group import group_of
from orchestrator.sweep.member import PAUSED, Document, Member, Solo, announce_trial, experiment_of, failed
from orchestrator.sweep.messages import Answers, Assignment, Beat, Order
from orchestrator.worker import threads

REPORT_SECONDS = 0.5  # between reports that say little: each is a round trip to the driver


Tell = Callable[[list[Beat]], Answers]


class Host:
    """The trials at work in this process. `tell` passes beats on and returns what the driver answers."""

    def __init__(
        self,
        objects: Objects,
        experiment: Document,
        sweep_id: str,
        tell: Tell,
        scene: Scene,
        desk: Any = None,
    ) -> None:
        self._objects, self._experiment, self._sweep_id = objects, experiment, sweep_id
        self._tell, self._scene, self._desk = tell, scene, desk
        self._pack: Pack | None = None
        self._members: list[Member] = []
        self._turns: dict[int, Turn | None] = {}
        self._used: dict[int, float] = {}
        self._waiting: list[Beat] = []
        self._told = 0.0

    def run(self, given: Iterable[Assignment], packed: bool) -> None:
        """Train the trials to their ends, and those that the driver gives in their place."""
        self._pack = Pack() if packed else None
        for assignment in given:
            self._begin(assignment)
        with threads(1):
            while self._members or self._waiting:
                self._round()

    def _begin(self, given: Assignment) -> None:
        try:
            run_id = announce_trial(self._objects, self._experiment, self._sweep_id, given)
            chosen = experiment_of(self._objects, run_id)
            if chosen.scale.workers > 1:
                member: Member = group_of(self._objects, run_id, given.number, self._desk)
            else:
                member = Solo(self._objects, run_id, given.number, self._scene, self._pack)
        except (ConfigError, DataError) as error:
            self._waiting.append(failed(given.number, str(error)))
            return
        self._members.append(member)
        self._used[given.number] = 0.0

    def _round(self) -> None:
        """Every member goes on by a tick; what the driver must hear is told, and its orders are taken."""
        due = self._waiting
        self._waiting = []
        for member in list(self._members):
            begun = time.monotonic()
            beat = member.advance(self._turns.pop(member.number, None))
            # Members of a pack train together, whichever is asked first.
            share = time.monotonic() - begun
            for peer in self._members if self._pack else [member]:
                self._used[peer.number] += share / (len(self._members) if self._pack else 1)
            used = self._used[member.number]
            due.append(replace(beat, devices=beat.devices * used / max(beat.seconds, used, 1e-9)))
            if beat.state != "running":
                self._members.remove(member)
        asked = any(beat.state != "running" or beat.figures for beat in due)
        if asked or time.monotonic() - self._told > REPORT_SECONDS:
            self._told = time.monotonic()
            self._follow(self._tell(due))

    def _follow(self, answers: Answers) -> None:
        for answer in answers:
            if isinstance(answer, Assignment):
                self._begin(answer)
            else:
                number, order = answer
                self._turns[number] = turn_of(order)


def turn_of(order: Order) -> Turn | None:
    """What an order means to the run that it is for."""
    if order.do == "go on":
        return None
    if order.do == "stop":
        return Turn(reason=order.reason)
    if order.do == "pause":
        return Turn(leave=PAUSED)
    return Turn(order.reason, run_id=order.run_id or "", step=order.step or 0, fields=order.changes)


@cache
def scene_of(store: str) -> Scene:
    """The scene that all trials of this actor share, as long as Tune reuses it."""
    return Scene(open_objects(store))
