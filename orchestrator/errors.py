"""Every error that is written for a person, as one tree. `exit_code` is what `ganctl` ends with.

    GanctlError                1   root
    ├── ConfigError            2   unknown, ill-typed or out-of-range field        (gans)
    ├── DataError              3   missing, empty, undecodable or mixed data       (gans)
    ├── StoreError             4   the results store cannot be reached or written
    │   ├── AlreadyExists          a create-once object is there already
    │   │   ├── Outrun             another promotion of the model was faster
    │   │   └── Busy               a round of this retraining is under way
    │   ├── ConditionalWritesMissing   the store ignores `If-None-Match`
    │   └── Superseded         7   a later attempt has taken the run over
    ├── NotFound               5   no such run, sweep, recipe or object
    │   └── RayAway                no Ray answers, or it was started anew and forgot the job
    ├── ResourceError          6   more workers, CPUs or GPUs asked for than there are
    │   └── OverBudget             a retraining has had the rounds it may have today
    ├── RunFailed              7   a run or every trial of a sweep ended unhealthy or crashed
    │   ├── Stopped                it was asked to stop, and can be resumed
    │   └── Preempted        143   its process or its machine was to go away, and it can be resumed
    ├── MissingExtra           8   an optional dependency is not installed
    └── NothingNew             9   the data has not changed enough for a round

130 is Ctrl-C.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gans.errors import ConfigError, DataError, GanctlError

if TYPE_CHECKING:
    from orchestrator.registry.records import Promotion

__all__ = [
    "AlreadyExists",
    "Busy",
    "ConditionalWritesMissing",
    "ConfigError",
    "DataError",
    "GanctlError",
    "MissingExtra",
    "NotFound",
    "NothingNew",
    "Outrun",
    "OverBudget",
    "Preempted",
    "RayAway",
    "ResourceError",
    "RunFailed",
    "Stopped",
    "StoreError",
    "Superseded",
]


class StoreError(GanctlError):
    """The results store cannot be reached, read or written."""

    exit_code = 4


class AlreadyExists(StoreError):
    """A create-once object is there already: another writer won."""


class Outrun(AlreadyExists):
    """Another promotion of the model was faster: `winner`. Look at the new champion and decide again."""

    def __init__(self, message: str, winner: Promotion) -> None:
        super().__init__(message, winner)
        self.winner = winner

    def __str__(self) -> str:
        return str(self.args[0])


class Busy(AlreadyExists):
    """A round of this retraining is under way: the message says since when and who drives it."""


class ConditionalWritesMissing(StoreError):
    """The store ignores `If-None-Match: *`, so nothing create-once can be trusted on it."""


class Superseded(StoreError):
    """A later attempt has taken the run over: this one writes nothing more."""

    exit_code = 7


class NotFound(GanctlError):
    """No such run, sweep, recipe or object."""

    exit_code = 5


class RayAway(NotFound):
    """No Ray answers there, or one that was started anew and knows nothing of the job. Either may pass: the work goes
    on from its last checkpoint when it is handed over again."""


class ResourceError(GanctlError):
    """More workers, CPUs or GPUs asked for than the cluster has."""

    exit_code = 6


class OverBudget(ResourceError):
    """A retraining has had the rounds it may have within a day."""


class RunFailed(GanctlError):
    """A run, or every trial of a sweep, ended unhealthy or crashed."""

    exit_code = 7


class Stopped(RunFailed):
    """The run was asked to stop; it can be resumed."""


class Preempted(RunFailed):
    """The run's process or machine was to go away; the run can be resumed."""

    exit_code = 143


class MissingExtra(GanctlError):
    """An optional dependency is needed for this and not installed."""

    exit_code = 8


class NothingNew(GanctlError):
    """The data of a retraining has not changed enough since its last round."""

    exit_code = 9
