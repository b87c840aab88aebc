"""The truth of a sweep: a durable Optuna study of what was tried and how each trial ended.

One driver at a time writes to a ledger. Whatever happened to the last one, opening it leaves no trial RUNNING but those
that pause: what was cut off is told FAIL with `reason="interrupted"`, and waits to be asked again. It knows no Ray.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any, NoReturn, Self

from optuna.samplers import CmaEsSampler
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from orchestrator.errors import ConfigError
from orchestrator.sweep import account
from orchestrator.sweep.account import INTERRUPTED, PASSED, PAUSED, REPEATED, finite
from orchestrator.sweep.plan import Direction
from orchestrator.sweep.space import Space
from orchestrator.sweep.study import SAMPLERS, SweepStudy, check_sampler, open_study

__all__ = ["INTERRUPTED", "SAMPLERS", "Direction", "Ledger", "Values", "check_sampler", "open_ledger"]

Values = float | Sequence[float] | None
NO_VERDICT: Mapping[str, Any] = {}
MAX_TRIES = 3  # times that a trial is begun whose process dies while the driver lives


class Ledger:
    """An open study. Close it, or use it as a context manager: what still runs is then marked as interrupted."""

    def __init__(self, study: SweepStudy, storage: BaseStorage, lock: IO[bytes] | None) -> None:
        self._study = study
        self._storage = storage
        self._lock = lock
        self._running: dict[int, int] = {}  # number -> Optuna's id
        self._paused: set[int] = set()  # those of them that wait at a rung
        self._told: dict[int, dict[str, Any]] = {}  # the attributes of those: nobody else writes them
        self._space: Space | None = None
        self._closed = False
        self._reconcile()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> NoReturn:
        raise TypeError("a ledger holds a connection, and perhaps its password: it is never pickled")

    def close(self) -> None:
        """Mark what runs as interrupted and let the next driver in. Closing twice is harmless."""
        if self._closed:
            return
        self._closed = True
        self._running.clear()
        try:
            self._reconcile()
        finally:
            self._storage.remove_session()
            if self._lock is not None:
                self._lock.close()

    @property
    def running(self) -> tuple[int, ...]:
        """Numbers of the trials that were asked here and neither ended nor pause."""
        return tuple(number for number in self._running if number not in self._paused)

    @property
    def paused(self) -> tuple[int, ...]:
        """Numbers of the trials that wait at a rung."""
        return tuple(sorted(self._paused))

    @property
    def waiting(self) -> bool:
        """Whether something is to be asked before anything new is drawn."""
        return any(trial.state == TrialState.WAITING for trial in self.trials())

    @property
    def direction(self) -> Direction:
        """Which way the values kept at rungs are better: the objective's, or of several that of their scalarisation."""
        return "maximize" if self._study.directions == [StudyDirection.MAXIMIZE] else "minimize"

    @property
    def storage(self) -> BaseStorage:
        return self._storage

    def ask(self, space: Space) -> tuple[int, dict[str, Any]]:
        """The next trial's number and the fields it sets; what waits (interrupted, replicates) comes first.

        Raises ConfigError where the study was begun with another space.
        """
        self.bind(space)
        trial = self._study.ask()
        self._running[trial.number] = trial._trial_id
        self._told[trial.number] = trial.user_attrs
        params = space.suggest(trial)
        self.note(trial.number, params=params)
        return trial.number, params

    def bind(self, space: Space) -> None:
        """Search `space` from now on. Raises ConfigError where the study was begun with another."""
        if space == self._space:
            return
        stored = self.kept("space")
        if stored is None:
            self.keep("space", space.model_dump(mode="json"))
        elif (begun := Space.model_validate(stored)) != space:
            was = ", ".join(f"{name}={d}" for name, d in begun.root.items())
            raise ConfigError(
                f"sweep `{self._study.study_name}` was begun with another space: {was}; "
                "give the same one, or the new sweep another name"
            )
        self._space = space

    def attributes(self, number: int) -> Mapping[str, Any]:
        """The JSON attributes of a trial that runs or pauses."""
        return self._told[number]

    def frozen(self, number: int) -> FrozenTrial:
        """A trial that runs or pauses, as Optuna keeps it."""
        return self._storage.get_trial(self._running[number])

    def note(self, number: int, **attributes: Any) -> None:
        """Keep JSON attributes, such as `run_id`, with a trial that runs or pauses."""
        if (trial_id := self._running.get(number)) is not None:
            told = self._told[number]
            for name, value in attributes.items():
                if name not in told or told[name] != value:
                    self._storage.set_trial_user_attr(trial_id, name, value)
                    told[name] = value

    def remember(self, number: int, key: str, value: Any) -> None:
        """Keep JSON with a trial that runs, out of sight in `optuna-dashboard`; `key` begins with account.MEMORY."""
        self._storage.set_trial_system_attr(self._running[number], key, value)

    def report(self, number: int, step: int, values: Values, scalar: float | None = None) -> None:
        """Keep the finite objectives at `step`; a step told before, or a trial that has ended, changes nothing.

        One objective becomes an intermediate value. Of several `scalar` does, and the last vector an attribute.
        """
        told = finite(values, len(self._study.directions))
        if number not in self._running or told is None:
            return
        if len(told) > 1:
            self.note(number, last={"step": step, "values": told})
        kept = told[0] if len(told) == 1 else scalar
        if kept is not None and step not in self.frozen(number).intermediate_values:
            self._storage.set_trial_intermediate_value(self._running[number], step, kept)

    def complete(self, number: int, values: Values, verdict: Mapping[str, Any] = NO_VERDICT) -> None:
        """The trial reached its end with these objectives. A missing, NaN or infinite one makes it FAIL."""
        told = finite(values, len(self._study.directions))
        if told is None:
            return self.fail(
                number, f"the objective is {values!r}; {len(self._study.directions)} finite needed"
            )
        self._end(number, TrialState.COMPLETE, told, **account.noted(verdict))

    def prune(self, number: int, verdict: Mapping[str, Any], reason: str, rung: int | None = None) -> None:
        """The trial was stopped early, at `rung`, or by its health: `verdict` is `gans.health.Verdict.document()`.

        Its value becomes its last reported one where there is one objective. See `account.violation` for what samplers
        make of it.
        """
        if number not in self._running:
            return
        trial, num_objectives = self.frozen(number), len(self._study.directions)
        violation = account.violation(verdict, trial.last_step or 0, num_objectives)
        if violation is not None and not isinstance(self._study.sampler, CmaEsSampler):  # which warns of it
            self._storage.set_trial_system_attr(trial._trial_id, account.CONSTRAINT, violation)
        self._end(number, TrialState.PRUNED, reason=reason, rung=rung, **account.noted(verdict))

    def pause(self, number: int, rung: int) -> None:
        """The trial is to wait at `rung`. Should everything die from here on, it waits all the same."""
        self.note(number, **{PAUSED: rung})

    def park(self, number: int, verdict: Mapping[str, Any] = NO_VERDICT) -> None:
        """The trial, of which `pause` was told, has left its device."""
        self.note(number, **account.noted(verdict))
        self._paused.add(number)

    def go_on(self, number: int, rung: int) -> None:
        """The trial goes on past `rung`, at which it may have paused."""
        self.note(number, **{PASSED: rung + 1})
        if number in self._paused:
            self.note(number, **{PAUSED: None})
            self._paused.discard(number)

    def fail(self, number: int, reason: str) -> None:
        """The trial crashed or ended without an objective."""
        self._end(number, TrialState.FAIL, reason=reason)

    def repeated(self, number: int, of: str) -> None:
        """The trial drew what `of` has tried: it is not run, and counts nowhere."""
        self._end(number, TrialState.FAIL, reason=REPEATED, repeats=of)

    def lost(self, number: int, why: str) -> None:
        """The trial's process died: unless it pauses it is begun again, `MAX_TRIES` times in all, and then failed."""
        if number not in self._running:
            return
        trial = self.frozen(number)
        if account.paused(trial) is not None:
            return self.park(number)
        tries = trial.user_attrs.get("tries", 1)
        if tries >= MAX_TRIES:
            return self.fail(number, f"its process died {tries} times, the last time: {why}")
        self._retry(trial, tries=tries + 1)
        self._end(number, TrialState.FAIL, reason=INTERRUPTED, why=why)

    def enqueue(self, params: Mapping[str, Any], **attributes: Any) -> None:
        """Ask for these values of the space's parameters next."""
        self._study.enqueue_trial(dict(params), user_attrs=attributes)

    def add(self, trials: Iterable[FrozenTrial]) -> int:
        """Add trials of an earlier sweep, each known by its attribute `prior`; those that are there already are not
        added twice. Returns how many are in the study now."""
        there = {trial.user_attrs.get("prior") for trial in self.trials()}
        for trial in (trial for trial in trials if trial.user_attrs["prior"] not in there):
            self._study.add_trial(trial)
        return sum("prior" in trial.user_attrs for trial in self.trials())

    def keep(self, name: str, value: Any) -> None:
        """Keep JSON with the study as a whole."""
        self._study.set_user_attr(name, value)

    def kept(self, name: str) -> Any:
        """What `keep` kept; None where nothing was."""
        return self._study.user_attrs.get(name)

    def remaining(self, total: int) -> int:
        """How many of `total` trials are still to be asked. Running ones count as asked, interrupted ones do not."""
        return max(0, total - sum(account.counts(t) for t in self.trials() if t.state != TrialState.WAITING))

    def trials(self) -> list[FrozenTrial]:
        """Everything in the study, in order; not to be changed."""
        return self._study.told()

    def table(self) -> list[dict[str, Any]]:
        """One row a trial, in order; see `account.row`. What was never run is not in it."""
        return [account.row(trial) for trial in self.trials() if account.ran(trial)]

    def configurations(self) -> list[dict[str, Any]]:
        """See `account.configurations`."""
        return account.configurations(self.trials())

    def costs(self) -> dict[str, Any]:
        """What the sweep cost and saved: see `account.costs`."""
        return account.costs(self.trials())

    def _end(self, number: int, state: TrialState, values: list[float] | None = None, **notes: Any) -> None:
        if number in self._running:
            self.note(number, **{name: value for name, value in notes.items() if value is not None})
            self._study.tell(number, values, state)
            del self._running[number], self._told[number]
            self._paused.discard(number)

    def _retry(self, trial: FrozenTrial, **changes: Any) -> None:
        """Enqueue what was cut off. Nothing where it drew nothing."""
        if (retry := account.retry(trial, **changes)) is not None:
            self._study.add_trial(retry)

    def _reconcile(self) -> None:
        # Enqueued before it is told: a kill in between costs nothing, for the retry is found by its `retry_of`.
        # That a driver died is no fault of its trials: it does not count as a try.
        trials = self.trials()
        retried = {trial.user_attrs.get("retry_of") for trial in trials}
        for trial in [trial for trial in trials if trial.state == TrialState.RUNNING]:
            if account.paused(trial) is not None:
                self._paused.add(trial.number)
                self._running[trial.number] = trial._trial_id
                self._told[trial.number] = dict(trial.user_attrs)
                continue
            if trial.number not in retried:
                self._retry(trial)
            self._storage.set_trial_user_attr(trial._trial_id, "reason", INTERRUPTED)
            self._study.tell(trial.number, state=TrialState.FAIL)


def open_ledger(
    path_or_url: str | os.PathLike[str],
    study_name: str,
    directions: Sequence[Direction],
    sampler: str = "tpe",
    seed: int | None = None,
    names: Sequence[str] = (),
) -> Ledger:
    """Open or begin the ledger `study_name`; arguments and errors are those of `study.open_study`."""
    study, storage, lock = open_study(path_or_url, study_name, directions, sampler, seed, names)
    try:
        return Ledger(study, storage, lock)
    except BaseException:
        if lock is not None:
            lock.close()
        raise
