"""Decides what a sweep does next: which trial, which goes on, pauses or is stopped, which takes over another's weights.

Everything it knows is in the ledger, so that it decides the same after a kill. It knows neither Ray nor the store, and
is called from one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import asdict

from orchestrator.errors import ConfigError
from orchestrator.store.ids import new_id
from orchestrator.sweep import account
from orchestrator.sweep.account import PAUSED
from orchestrator.sweep.ledger import Ledger
from orchestrator.sweep.messages import Assignment, Beat, Order
from orchestrator.sweep.meter import Meter
from orchestrator.sweep.plan import Plan
from orchestrator.sweep.population import Population
from orchestrator.sweep.space import Space
from orchestrator.sweep.stopping import Halving, Judged, Stop, decide

#: Draws for one trial, where those before were of configurations that an earlier sweep has tried.
DRAWS = 4

#: Why a trial was stopped that ran when the budget was spent.
BUDGET = "budget"

#: States of a last beat of a trial that its health ended.
UNHEALTHY = ("collapsed", "diverged", "unhealthy")


class Conductor:
    """The decisions of one sweep over an open ledger.

    `seed` is the experiment's: replicates get the seeds after it. `tunable` are the fields that may change while a
    trial trains (PBT). Raises ConfigError where the ledger was begun with another space.
    """

    def __init__(
        self,
        ledger: Ledger,
        space: Space,
        plan: Plan,
        *,
        seed: int = 0,
        tunable: Collection[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        if plan.seeds > 1 and "seed" in space.fields:
            raise ConfigError("the space draws `seed`, and plan.seeds asks for several of each configuration")
        ledger.bind(space)
        self._ledger = ledger
        self._space = space
        self._plan = plan
        self._seed = seed
        self._meter = Meter(ledger, plan, clock)
        self._wish = ""
        self._orders: dict[int, Order] = {}
        self._population = Population(ledger, space, tunable, seed) if plan.population else None

    @property
    def running(self) -> tuple[int, ...]:
        """Numbers of the trials handed out that neither ended nor pause."""
        return self._ledger.running

    @property
    def over(self) -> bool:
        """Nothing runs or pauses, and nothing is left to hand out."""
        return not self.running and not self._ledger.paused and not self._more()

    def next(self) -> Assignment | None:
        """The next trial to run. None: there is none now, though one that is lost may come back; see `over`.

        A paused one that may go on comes before a new one. Where there will be none, those that pause have ended.
        """
        self._meter.tick()
        more = self._more()
        if more:
            self._want_seed()
        kept = more and self._keeps_seeds
        number = self._resumed(drawn=kept or not more)
        if number is not None:
            return self._assigned(number)
        if self._ledger.paused and not more and not self.running:
            self._end_paused()
        return self._assigned(self._draw()) if more and not (kept and self.running) else None

    def _assigned(self, number: int) -> Assignment:
        told = self._ledger.attributes(number)
        run_id = told.get("run_id") or new_id()
        self._ledger.note(number, run_id=run_id)  # before the run is begun, which so is never lost sight of
        return Assignment(number, told["params"], run_id, told.get("seed"))

    def hear(self, beat: Beat) -> Order:
        """Keep what a trial tells, and say what it does next. A trial that has ended is told to stop."""
        number = beat.number
        self._meter.tick()
        if number not in self.running:
            return Order("stop", "this trial has ended")
        if beat.run_id is not None or beat.state == "failed":  # perhaps before its run was begun
            self._ledger.note(number, run_id=beat.run_id)
        values = self._plan.values(beat.figures)
        if self._population is not None and beat.state not in ("failed", "interrupted"):
            self._population.goes_on(number)
        self._spend(beat, keep=values is not None or beat.state != "running")
        if values is not None and beat.state != "failed":
            self._ledger.report(number, beat.step, values, self._plan.kept(values))
        if beat.state != "running":
            self._end(beat, values)
            return Order()
        order = self._order(beat, values is not None)
        if order.do == "stop":
            self._orders[number] = order
        return order

    def lost(self, number: int, why: str) -> None:
        """The process of a trial died: it is handed out again, if it was not to pause, or after three tries failed."""
        self._ledger.lost(number, why)

    def stop(self, reason: str) -> None:
        """Hand out nothing more, and stop what runs."""
        self._wish = reason

    def _more(self) -> bool:
        if self._wish or self._meter.used_up:
            return False
        if self._plan.trials is not None:
            return self._ledger.remaining(self._plan.trials) > 0
        return not account.hopeless(self._ledger.trials())

    def _spend(self, beat: Beat, keep: bool) -> None:
        progress: float | None = beat.progress
        if beat.state not in ("running", "complete"):  # what it had come to, not that it is over
            progress = self._meter.progress(beat.number)
        self._meter.hear(beat.number, beat.seconds, beat.devices, keep, step=beat.step, progress=progress)

    def _order(self, beat: Beat, rung: bool) -> Order:
        if self._wish:
            return Order("stop", self._wish)
        told = self._ledger.attributes(beat.number)
        if decided := told.get("stop"):
            return Order("stop", decided["reason"])  # before a kill
        if told.get(PAUSED) is not None:
            return Order("pause")
        if rung and self._meter.used_up:
            return Order("stop", BUDGET)
        if self._population is not None and (order := self._course(self._population, beat, rung)):
            return order
        match decide(self._ledger, self._plan, beat.number) if rung else None:
            case Stop() as stop:
                self._ledger.note(beat.number, stop=asdict(stop))
                return Order("stop", stop.reason)
            case Judged(at, goes_on=False):
                self._ledger.pause(beat.number, at)
                return Order("pause")
            case Judged(at):
                self._ledger.go_on(beat.number, at)
        return Order()

    def _resumed(self, drawn: bool) -> int | None:
        """A paused trial that goes on. Once all are `drawn`, the best does where otherwise none would complete."""
        if not self._ledger.paused or self._wish or self._meter.used_up:
            return None
        halving = Halving(self._ledger, self._plan, drawn)
        number = next(filter(halving.worthy, halving.waiting()), None)
        if number is None and drawn and not self.running and not account.completed(self._ledger.trials()):
            number = next(halving.waiting(), None)
        if number is not None:
            self._meter.resumes(number)
            self._ledger.go_on(number, halving.highest[number])
        return number

    def _end_paused(self) -> None:
        """Nobody is to come: who pauses has ended at its rung."""
        halving = Halving(self._ledger, self._plan)
        for number in self._ledger.paused:
            trial = self._ledger.frozen(number)
            reason = (self._wish or BUDGET) if halving.worthy(number) else halving.why(trial)
            verdict = trial.user_attrs.get("verdict_document", {})
            self._ledger.prune(number, verdict, reason, halving.highest[number])

    def _course(self, population: Population, beat: Beat, rung: bool) -> Order | None:
        """What the population makes of a beat. None: nothing."""
        if not rung:
            return None
        sick = account.sick(beat.verdict)
        population.arrive(beat.number, beat.step, not sick, beat.checkpoint)
        find = population.rescue if sick else population.judge
        exploit = find(beat.number, beat.step)
        reason = str(beat.verdict["kind"]) if sick else "in the worst quarter"
        if exploit is not None:
            return Order("exploit", reason, exploit.run_id, exploit.step, exploit.changes)
        return Order("stop", reason) if sick else None

    def _end(self, beat: Beat, values: list[float] | None) -> None:
        number, order = beat.number, self._orders.pop(beat.number, Order())
        if beat.state == "complete":
            self._ledger.complete(number, values, beat.verdict)
        elif beat.state == "failed":
            self._ledger.fail(number, beat.reason or "the trial failed and did not say why")
        elif beat.state == "interrupted":
            self._ledger.lost(number, beat.reason or "its run was interrupted")
        elif beat.state == "pruned":
            rung = (self._ledger.attributes(number).get("stop") or {}).get("rung")
            self._ledger.prune(number, beat.verdict, order.reason or beat.reason or "stopped", rung)
        elif beat.state == "paused":
            self._ledger.park(number, beat.verdict)
        elif beat.state in UNHEALTHY:
            self._ledger.prune(number, beat.verdict or {"kind": beat.state}, beat.state)
        else:
            self._ledger.fail(number, f"the trial ended as {beat.state!r}, which says nothing")

    @property
    def _keeps_seeds(self) -> bool:
        """Whether the trials that are left are for the seeds of a configuration that pauses or runs, if any is."""
        if self._plan.seeds == 1 or self._plan.trials is None or not self._ledger.paused:
            return False
        return self._ledger.remaining(self._plan.trials) < self._plan.seeds and not self._ledger.waiting

    def _want_seed(self) -> None:
        """Enqueue a completed configuration that lacks seeds, unless something waits already."""
        if self._plan.seeds == 1 or self._ledger.waiting:
            return
        wanted = account.lacking_seed(self._ledger.trials(), self._plan.seeds)
        if wanted is not None:
            trial, replicate = wanted
            self._ledger.enqueue(
                trial.params, replicate_of=trial.number, replicate=replicate, seed=self._seed + replicate
            )

    def _draw(self) -> int:
        """A trial whose parameters no earlier sweep has tried, as far as a few draws find one."""
        for _ in range(DRAWS - 1):
            number, _ = self._ledger.ask(self._space)
            tried = account.tried(self._ledger.trials(), self._ledger.frozen(number))
            if tried is None:
                return number
            self._ledger.repeated(number, of=tried)
        return self._ledger.ask(self._space)[0]
