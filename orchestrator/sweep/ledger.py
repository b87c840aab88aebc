"""The truth of a sweep: a durable Optuna study of what was tried and how each trial ended.

One driver at a time writes to a ledger. Whatever happened to the last one, opening the ledger leaves no trial RUNNING:
those that were cut off are told FAIL with `reason="interrupted"`, and their parameters wait to be asked again.
It knows nothing of Ray.
"""

from __future__ import annotations

import fcntl
import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import IO, Any, Literal, NoReturn, Self

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock, JournalStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from orchestrator.errors import ConfigError, StoreError
from orchestrator.sweep.space import Space

INTERRUPTED = "interrupted"

Direction = Literal["minimize", "maximize"]
Values = float | Sequence[float] | None

# Name to (seed of the sweep, seed of this opening) -> sampler. A sampler that restarts with the sweep's own seed would
# draw its first trials a second time; only the Sobol sequence keeps its position in the study.
SAMPLERS: dict[str, Callable[[int | None, int | None], BaseSampler]] = {
    "tpe": lambda _, s: optuna.samplers.TPESampler(seed=s, multivariate=True, group=True, constant_liar=True),
    "random": lambda _, s: optuna.samplers.RandomSampler(seed=s),
    "cmaes": lambda _, s: optuna.samplers.CmaEsSampler(seed=s, warn_independent_sampling=False),
    "qmc": lambda first, s: optuna.samplers.QMCSampler(
        scramble=True,
        seed=first,
        independent_sampler=optuna.samplers.RandomSampler(seed=s),
        warn_independent_sampling=False,
    ),
    "gp": lambda _, s: optuna.samplers.GPSampler(seed=s, warn_independent_sampling=False),
    "nsgaii": lambda _, s: optuna.samplers.NSGAIISampler(seed=s),
}


class Ledger:
    """An open study. Close it, or use it as a context manager: what still runs is then marked as interrupted."""

    def __init__(self, study: optuna.Study, storage: BaseStorage, lock: IO[bytes] | None) -> None:
        self._study = study
        self._storage = storage
        self._lock = lock
        self._asked: dict[int, optuna.Trial] = {}
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
        """Mark what still runs as interrupted and let the next driver in. Closing twice is harmless."""
        if self._closed:
            return
        self._closed = True
        self._asked.clear()
        try:
            self._reconcile()
        finally:
            self._storage.remove_session()
            if self._lock is not None:
                self._lock.close()

    def ask(self, space: Space) -> tuple[int, dict[str, Any]]:
        """The next trial's number and the fields it sets; interrupted configurations come first.

        Raises ConfigError where the study was begun with another space.
        """
        if space != self._space:
            self._bind(space)
        trial = self._study.ask()
        self._asked[trial.number] = trial
        params = space.suggest(trial)
        trial.set_user_attr("params", params)
        return trial.number, params

    def note(self, number: int, **attributes: Any) -> None:
        """Keep JSON attributes, such as `run_id`, with a trial that runs."""
        if trial := self._asked.get(number):
            for name, value in attributes.items():
                if trial.user_attrs.get(name) != value:
                    trial.set_user_attr(name, value)

    def report(self, number: int, step: int, values: Values) -> None:
        """Keep the finite objective at `step`; a step told before, or a trial that has ended, changes nothing.

        With several objectives only the last is kept, as an attribute: Optuna has no intermediate values for them.
        """
        trial, told = self._asked.get(number), self._finite(values)
        if trial is None or told is None:
            return
        if len(told) > 1:
            self.note(number, last={"step": step, "values": told})
        elif step not in self._storage.get_trial(trial._trial_id).intermediate_values:
            trial.report(told[0], step)

    def complete(self, number: int, values: Values) -> None:
        """The trial reached its end with these objectives. A missing, NaN or infinite one makes it FAIL."""
        told = self._finite(values)
        if told is None:
            return self.fail(
                number, f"the objective is {values!r}; {len(self._study.directions)} finite needed"
            )
        self._end(number, TrialState.COMPLETE, told)

    def prune(self, number: int, verdict: Mapping[str, Any], reason: str) -> None:
        """The trial was stopped early. `verdict` is `gans.health.Verdict.document()`, or empty.

        Its value becomes its last reported one. TPE ranks a pruned trial below every complete one and, among pruned
        ones, by how far it came (optuna/samplers/_tpe/sampler.py, `_get_pruned_trial_score`).
        """
        self._end(number, TrialState.PRUNED, reason=reason, **_verdict_attributes(verdict))

    def fail(self, number: int, reason: str) -> None:
        """The trial crashed or ended without an objective."""
        self._end(number, TrialState.FAIL, reason=reason)

    def remaining(self, total: int) -> int:
        """How many of `total` trials are still to be asked. Running ones count as asked, interrupted ones do not."""
        begun = [trial for trial in self._trials() if trial.state != TrialState.WAITING]
        return max(0, total - sum(trial.user_attrs.get("reason") != INTERRUPTED for trial in begun))

    def table(self) -> list[dict[str, Any]]:
        """One row a trial, in order: number, state, params, values, verdict, evidence, step, run_id, reason, duration.

        `state` is Optuna's name for it, `duration` is in seconds; what is not known is None.
        """
        return [_row(trial) for trial in self._trials()]

    def _trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _bind(self, space: Space) -> None:
        stored = self._study.user_attrs.get("space")
        if stored is None:
            self._study.set_user_attr("space", space.model_dump(mode="json"))
        elif (begun := Space.model_validate(stored)) != space:
            was = ", ".join(f"{name}={d}" for name, d in begun.root.items())
            raise ConfigError(
                f"sweep `{self._study.study_name}` was begun with another space: {was}; "
                "give the same one, or the new sweep another name"
            )
        self._space = space

    def _finite(self, values: Values) -> list[float] | None:
        told = values if isinstance(values, Sequence) else [values]
        if len(told) != len(self._study.directions):
            return None
        if not all(isinstance(value, int | float | np.number) and math.isfinite(value) for value in told):
            return None
        return [float(value) for value in told if value is not None]

    def _end(self, number: int, state: TrialState, values: list[float] | None = None, **notes: Any) -> None:
        if trial := self._asked.get(number):
            self.note(number, **notes)
            self._study.tell(trial, values, state)
            del self._asked[number]

    def _reconcile(self) -> None:
        # Enqueued before it is told: a kill in between costs nothing, for the retry is found by its `retry_of`.
        trials = self._trials()
        retried = {trial.user_attrs.get("retry_of") for trial in trials}
        for trial in trials:
            if trial.state != TrialState.RUNNING:
                continue
            params = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
            if params and trial.number not in retried:
                self._study.enqueue_trial(params, user_attrs={"retry_of": trial.number})
            self._storage.set_trial_user_attr(trial._trial_id, "reason", INTERRUPTED)
            self._study.tell(trial.number, state=TrialState.FAIL)


def open_ledger(
    path_or_url: str | os.PathLike[str],
    study_name: str,
    directions: Sequence[Direction],
    sampler: str = "tpe",
    seed: int | None = None,
) -> Ledger:
    """Open or begin the study `study_name` in a journal file, or in a database where an URL is given.

    `directions`: "minimize" or "maximize" for each objective. Raises ConfigError for an unknown sampler or other
    directions than the study was begun with, StoreError where it cannot be opened or another driver has it open.
    """
    check_sampler(sampler, directions)
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it announces each study on stderr
    target = os.fspath(path_or_url)
    storage, lock = (_database(target), None) if "://" in target else _journal(Path(target))
    try:
        wanted, name = list(directions), study_name
        study = optuna.create_study(storage=storage, study_name=name, directions=wanted, load_if_exists=True)
        begun = [direction.name.lower() for direction in study.directions]
        if begun != wanted:
            raise ConfigError(
                f"sweep `{name}` was begun with directions={begun}, not {wanted}; "
                "give the same ones, or the new sweep another name"
            )
        study.sampler = _sampler(sampler, seed, len(study.get_trials(deepcopy=False)))
        return Ledger(study, storage, lock)
    except BaseException:
        if lock is not None:
            lock.close()
        raise


def check_sampler(sampler: str, directions: Sequence[Direction]) -> None:
    """Raise ConfigError for an unknown sampler, or directions that it cannot search in."""
    if sampler not in SAMPLERS:
        nearest = get_close_matches(sampler, SAMPLERS, n=1)
        hint = f"; did you mean `{nearest[0]}`?" if nearest else ";"
        raise ConfigError(f"unknown sampler `{sampler}`{hint} samplers: {', '.join(SAMPLERS)}")
    wrong = [direction for direction in directions if direction not in ("minimize", "maximize")]
    if wrong or not directions:
        raise ConfigError(f"directions={list(directions)}: each objective is `minimize` or `maximize`")
    if sampler == "cmaes" and len(directions) > 1:
        raise ConfigError(f"sampler `cmaes` knows 1 objective, not {len(directions)}; use tpe, nsgaii or gp")


def _sampler(name: str, seed: int | None, num_trials: int) -> BaseSampler:
    fresh = None if seed is None else int(np.random.SeedSequence([seed, num_trials]).generate_state(1)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # TPE's group, QMC
        return SAMPLERS[name](seed, fresh)


def _journal(path: Path) -> tuple[BaseStorage, IO[bytes]]:
    """The journal at `path`, and the lock of its one driver, which the kernel releases when the driver dies."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = open(f"{path}.driver", "wb")  # noqa: SIM115 - held open until the ledger is closed
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise StoreError(f"ledger {path} is open in another driver; wait for it, or stop it") from None
        _drop_torn_line(path)
        # A driver killed while it appends leaves the file lock behind; Optuna breaks it after the grace period.
        backend = JournalFileBackend(str(path), lock_obj=JournalFileSymlinkLock(str(path), grace_period=3))
        return JournalStorage(backend), lock
    except OSError as error:
        raise StoreError(f"cannot open ledger {path}: {error.strerror or error}") from None


def _drop_torn_line(path: Path) -> None:
    """Cut off a record of which a kill let only a part reach the file: Optuna cannot read past it."""
    if path.exists():
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)


def _database(url: str) -> BaseStorage:
    try:
        shown = make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        raise ConfigError("unreadable ledger URL; write dialect://user:password@host/database") from None
    try:
        return RDBStorage(url)
    except (SQLAlchemyError, ImportError) as error:
        said = str(error).splitlines()[0]
        raise StoreError(f"cannot open ledger {shown}: {said}; give a path or a database's URL") from None


def _verdict_attributes(verdict: Mapping[str, Any]) -> dict[str, Any]:
    """`verdict` (its kind), `evidence`, and the `step` of the evidence, as far as they are given."""
    evidence = verdict.get("evidence")
    step = verdict.get(
        "step", max((entry["step"] for entry in evidence or () if "step" in entry), default=None)
    )
    attributes = {"verdict": verdict.get("kind"), "evidence": evidence, "step": step}
    return {name: value for name, value in attributes.items() if value is not None}


def _row(trial: FrozenTrial) -> dict[str, Any]:
    told = {name: trial.user_attrs.get(name) for name in ("verdict", "evidence", "step", "run_id", "reason")}
    params = trial.user_attrs.get("params") or trial.params or trial.system_attrs.get("fixed_params", {})
    duration = trial.duration.total_seconds() if trial.duration else None
    row = {"number": trial.number, "state": trial.state.name, "params": dict(params), "values": trial.values}
    return {**row, **told, "duration": duration}
