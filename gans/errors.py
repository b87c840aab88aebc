"""Errors meant for people. `orchestrator/errors.py` documents the whole tree."""


class GanctlError(Exception):
    """Root of every error whose message is written for the person who runs ganctl."""

    exit_code = 1


class ConfigError(GanctlError, ValueError):
    """A field of an experiment is unknown, ill-typed or out of range."""

    exit_code = 2


class DataError(GanctlError, ValueError):
    """The data cannot be used: missing, empty, undecodable, or of mixed shapes."""

    exit_code = 3
