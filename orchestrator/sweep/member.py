"""A trial as the host of trials sees it: something that goes on by a tick and says how it stands.

A trial on one worker trains in the host's own process. A data-parallel one has a Ray Train group, which its host
hears from through the desk.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from gans.loop import Tick
from gans.packing import Pack
from gans.sync import Alone
from orchestrator.errors import ConfigError, DataError, Preempted, Stopped, StoreError
from orchestrator.experiment import Experiment, parse
from orchestrator.launch import announce_run
from orchestrator.outcome import Outcome, Turn, outcome_of
from orchestrator.scene import Scene
from orchestrator.store.layout import run_key
from orchestrator.store.objects import Objects
from orchestrator.store.reader import Run
from orchestrator.sweep.messages import Assignment, Beat
from orchestrator.worker import Rank

Document = dict[str, Any]

PAUSED = "paused"  # as a run is left, and as the beat says


class Member(Protocol):
    """One trial at work. `advance` goes on, as told, to the next tick; a beat that is not `running` is the last."""

    number: int

    def advance(self, turn: Turn | None) -> Beat: ...


def announce_trial(objects: Objects, experiment: Document, sweep_id: str, given: Assignment) -> str:
    """The run of a trial, announced unless it was before: then the trial goes on where it was cut off.

    Raises ConfigError where its fields do not fit.
    """
    if given.run_id is not None and objects.exists(run_key(given.run_id, "run.json")):
        return given.run_id
    seed = {} if given.seed is None else {"seed": given.seed}
    chosen = parse(experiment).override({**given.params, **seed, "name": f"trial {given.number}"})
    labels = {"sweep": sweep_id, "trial": given.number, "params": given.params}
    return announce_run(objects, chosen, given.run_id, **labels)


class Solo:
    """A trial on one worker, in this process; perhaps one of a pack."""

    def __init__(self, objects: Objects, run_id: str, number: int, scene: Scene, pack: Pack | None) -> None:
        self.number, self._begun = number, time.monotonic()
        self._run = Run(objects, run_id)
        self._over = self._run.sealed() is not None
        self._last = Beat(number, run_id=run_id)
        if not self._over:
            self._rank = Rank(objects, run_id, Alone(), steered=True, scene=scene, pack=pack)
            self._ticks = self._rank.ticks()

    def advance(self, turn: Turn | None) -> Beat:
        """Raises StoreError where the store is what fails."""
        if self._over:  # it ended, and whoever drove the sweep then did not live to hear of it
            return ended(self.number, outcome_of(self._run), 0.0)
        try:
            self._last = running(self.number, self._run.id, self._ticks.send(turn), self._seconds)
            return self._last
        except StopIteration:
            assert self._rank.outcome is not None
            return ended(self.number, self._rank.outcome, self._seconds)
        except (Stopped, Preempted) as error:
            return left(self._last, error, turn, self._seconds)
        except StoreError:
            raise
        except (ConfigError, DataError) as error:
            return failed(self.number, str(error), self._run.id)
        except Exception as error:
            self._rank.abandon(error)
            return failed(self.number, repr(error), self._run.id)

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._begun


class Grouped:
    """A data-parallel trial, whose group is heard through `hear`: a beat with the box that `answer` is to use, then
    None once the run is sealed, or what went wrong."""

    def __init__(
        self, number: int, run: Run, hear: Callable[[], Any], answer: Callable[[str, Turn | None], None]
    ) -> None:
        self.number, self._run, self._hear, self._answer = number, run, hear, answer
        self._begun = time.monotonic()
        self._asked, self._last = "", Beat(number, run_id=run.id)

    def advance(self, turn: Turn | None) -> Beat:
        """A group that ended before its run did leaves the trial to be taken up again."""
        if self._asked:
            self._answer(self._asked, turn)
        match self._hear():
            case (Beat() as beat, str() as box):
                self._asked, self._last = box, beat
                return beat
            case Exception() as error:
                return left(self._last, error, turn, self._seconds)
        return ended(self.number, outcome_of(self._run), self._seconds)

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._begun


def running(number: int, run_id: str, tick: Tick, seconds: float) -> Beat:
    """How a trial stands at `tick`; figures where it was evaluated."""
    return Beat(
        number,
        "running",
        step=tick.step,
        progress=tick.progress,
        seconds=seconds,
        figures=dict(tick.evaluation or {}) if tick.ended is None else {},
        verdict=tick.verdict.document(),
        run_id=run_id,
        checkpoint=tick.step if tick.checkpoint else None,
    )


def left(last: Beat, error: Exception, turn: Turn | None, seconds: float) -> Beat:
    """That the run was left after its `last` beat: as it was told to, or else to be taken up again."""
    if turn is not None and turn.leave and isinstance(error, Stopped):
        return replace(last, state=PAUSED, seconds=seconds, figures={})
    return replace(last, state="interrupted", seconds=seconds, figures={}, reason=str(error))


def ended(number: int, outcome: Outcome, seconds: float) -> Beat:
    """How a trial ended."""
    return Beat(
        number,
        "complete" if outcome.healthy else outcome.state,
        step=outcome.step,
        progress=1.0,
        seconds=seconds,
        figures=outcome.figures,
        verdict=outcome.verdict,
        run_id=outcome.run_id,
        reason=outcome.reason,
    )


def failed(number: int, reason: str, run_id: str | None = None) -> Beat:
    """A trial that cannot be trained."""
    return Beat(number, "failed", step=0, progress=1.0, seconds=0.0, run_id=run_id, reason=reason)


def experiment_of(objects: Objects, run_id: str) -> Experiment:
    """The experiment of a run."""
    return parse(Run(objects, run_id).document()["experiment"])
