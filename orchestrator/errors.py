"""Every error that is written for a person, as one tree. `exit_code` is what `ganctl` ends with.

    GanctlError                1   root
    ├── ConfigError            2   unknown, ill-typed or out-of-range field        (gans)
    ├── DataError              3   missing, empty, undecodable or mixed data       (gans)
    ├── StoreError             4   the results store cannot be reached or written
    │   ├── AlreadyExists          a create-once object is there already
    │   └── ConditionalWritesMissing   the store ignores `If-None-Match`
    ├── NotFound               5   no such run, sweep, recipe or object
    ├── ResourceError          6   more workers, CPUs or GPUs asked for than there are
    ├── RunFailed              7   a run or every trial of a sweep ended unhealthy or crashed
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
    "ResourceError",
    "RunFailed",
    "StoreError",
]


class StoreError(GanctlError):
    """The results store cannot be reached, read or written."""

    exit_code = 4


class AlreadyExists(StoreError):
    """A create-once object is there already: another writer won."""


class ConditionalWritesMissing(StoreError):
    """The store ignores `If-None-Match: *`, so nothing create-once can be trusted on it."""


class NotFound(GanctlError):
    """No such run, sweep, recipe or object."""

    exit_code = 5


class ResourceError(GanctlError):
    """More workers, CPUs or GPUs asked for than the cluster has."""

    exit_code = 6


class RunFailed(GanctlError):
    """A run, or every trial of a sweep, ended unhealthy or crashed."""

    exit_code = 7


class MissingExtra(GanctlError):
    """An optional dependency is needed for this and not installed."""

    exit_code = 8
