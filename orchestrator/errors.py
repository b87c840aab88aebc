"""Every error that is written for a person, as one tree. `exit_code` is what `ganctl` ends with.

    GanctlError                1   root
    ├── ConfigError            2   unknown, ill-typed or out-of-range field        (gans)
    ├── DataError              3   missing, empty, undecodable or mixed data       (gans)
    ├── StoreError             4   the results store cannot be reached or written
    │   ├── AlreadyExists          a create-once object is there already
    │   ├── ConditionalWritesMissing   the store ignores `If-None-Match`
    │   └── Superseded         7   a later attempt has taken the run over
    ├── NotFound               5   no such run, sweep, recipe or object
    ├── ResourceError          6   more workers, CPUs or GPUs asked for than there are
    ├── RunFailed              7   a run or every trial of a sweep ended unhealthy or crashed
    │   ├── Stopped                it was asked to stop, and can be resumed
    │   └── Preempted        143   its process or its machine was to go away, and it can be resumed
    └── MissingExtra           8   an optional dependency is not installed

130 is Ctrl-C.
"""

from gans.errors import ConfigError, DataError, GanctlError

__all__ = [
    "AlreadyExists",
    "ConditionalWritesMissing",
    "ConfigError",
    "DataError",
    "GanctlError",
    "MissingExtra",
    "NotFound",
    "Preempted",
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


class ConditionalWritesMissing(StoreError):
    """The store ignores `If-None-Match: *`, so nothing create-once can be trusted on it."""


class Superseded(StoreError):
    """A later attempt has taken the run over: this one writes nothing more."""

    exit_code = 7


class NotFound(GanctlError):
    """No such run, sweep, recipe or object."""

    exit_code = 5


class ResourceError(GanctlError):
    """More workers, CPUs or GPUs asked for than the cluster has."""

    exit_code = 6


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
