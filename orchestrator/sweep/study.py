"""Opens the Optuna study of a sweep: where it is kept, for one driver at a time, and by which sampler it searches."""

from __future__ import annotations

import fcntl
import os
import warnings
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from difflib import get_close_matches
from pathlib import Path
from typing import IO

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock, JournalStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from orchestrator.errors import ConfigError, StoreError
from orchestrator.sweep import account
from orchestrator.sweep.plan import Direction

# Name to (seed of the sweep, seed of this opening) -> sampler. A sampler that restarts with the sweep's own seed would
# draw its first trials a second time; only the Sobol sequence keeps its position in the study. TPE alone learns from
# pruned trials; the others see complete ones. NSGA-II draws its first `population_size` at random, by default 50.
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
    "nsgaii": lambda _, s: optuna.samplers.NSGAIISampler(seed=s, population_size=10),
}


class SweepStudy(optuna.Study):
    """A study whose sampler sees a trial that is paused as one that was stopped where it pauses: TPE ranks those by how
    far they came, and takes one that is running for a bad one."""

    def told(self) -> list[FrozenTrial]:
        """Every trial as it is, not to be changed."""
        return super()._get_trials(deepcopy=False)

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        seen = [self._seen(trial) for trial in super()._get_trials(deepcopy, None, use_cache)]
        return [trial for trial in seen if states is None or trial.state in states]

    def _seen(self, trial: FrozenTrial) -> FrozenTrial:
        if account.paused(trial) is None:
            return trial
        trial = copy(trial)
        trial.state = TrialState.PRUNED
        violation = account.violation({}, trial.last_step or 0, len(self.directions))
        if violation is not None:
            trial.system_attrs = {**trial.system_attrs, account.CONSTRAINT: violation}
        return trial


def open_study(
    path_or_url: str | os.PathLike[str],
    study_name: str,
    directions: Sequence[Direction],
    sampler: str = "tpe",
    seed: int | None = None,
    names: Sequence[str] = (),
) -> tuple[SweepStudy, BaseStorage, IO[bytes] | None]:
    """Open or begin a study in a journal file, or in a database where an URL is given; the last is its driver's lock.

    `names` of the objectives are kept with it. Raises ConfigError for an unknown sampler or other objectives than the
    study was begun with, StoreError where it cannot be opened or another driver has it open.
    """
    check_sampler(sampler, directions)
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it announces each study on stderr
    target = os.fspath(path_or_url)
    storage, lock = (_database(target), None) if "://" in target else _journal(Path(target))
    try:
        wanted, name = list(directions), study_name
        optuna.create_study(storage=storage, study_name=name, directions=wanted, load_if_exists=True)
        study = SweepStudy(name, storage)
        begun = [direction.name.lower() for direction in study.directions]
        if begun != wanted:
            raise ConfigError(
                f"sweep `{name}` was begun with directions={begun}, not {wanted}; "
                "give the same ones, or the new sweep another name"
            )
        if names and study.metric_names not in (None, list(names)):
            raise ConfigError(
                f"sweep `{name}` was begun with objectives={study.metric_names}, not {list(names)}; "
                "give the same ones, or the new sweep another name"
            )
        study.sampler = _sampler(sampler, seed, len(study.get_trials(deepcopy=False)))
        if names and study.metric_names is None:
            with _experimental():
                study.set_metric_names(list(names))
        return study, storage, lock
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
    with _experimental():  # TPE's group, QMC
        return SAMPLERS[name](seed, fresh)


@contextmanager
def _experimental() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


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
