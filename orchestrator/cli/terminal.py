"""How a command line ends: errors as plain lines and an exit code, never a traceback unless it is asked for."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import wraps
from typing import Any, ParamSpec

import typer
from typer.core import TyperGroup

from orchestrator.errors import GanctlError

INTERRUPTED = 130
TRACEBACK = "--traceback"
TRACEBACK_VARIABLE = "GANCTL_TRACEBACK"

P = ParamSpec("P")
_traced: ContextVar[bool] = ContextVar("traced", default=False)


class Ganctl(TyperGroup):
    """The root command: `--traceback` may stand anywhere, and usage errors are plain lines."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line and exit: 0, 2 for wrong usage, else the code of the command."""
        words = list(sys.argv[1:] if args is None else args)
        wanted = TRACEBACK in words or os.environ.get(TRACEBACK_VARIABLE, "0") not in ("", "0")
        token = _traced.set(wanted)
        words = [word for word in words if word != TRACEBACK]
        try:
            code = super().main(words, "ganctl", complete_var, False, windows_expand_args, **extra)
        except typer.TyperException as error:
            _report(error)
            sys.exit(error.exit_code)
        finally:
            _traced.reset(token)
        sys.exit(code if isinstance(code, int) else 0)


def command(function: Callable[P, None]) -> Callable[P, None]:
    """`function` as a command: its errors are `error: ...` lines on stderr, one a mistake, and an exit code.

    The code is the GanctlError's own, 1 for what nobody foresaw, 130 for Ctrl-C.
    """

    @wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except (typer.Exit, typer.Abort, typer.TyperException, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            _report(error)
            raise typer.Exit(error.exit_code if isinstance(error, GanctlError) else 1) from None

    return guarded


def _report(error: Exception) -> None:
    if _traced.get():
        traceback.print_exception(error)
    for line in error_lines(error):
        typer.echo(line, err=True)


def error_lines(error: Exception) -> list[str]:
    """What a person is told of `error`."""
    if isinstance(error, GanctlError):
        return [f"error: {line}" for line in str(error).splitlines()] or [f"error: {type(error).__name__}"]
    if isinstance(error, typer.TyperException):
        context = getattr(error, "ctx", None)
        hint = [f"hint: {context.command_path} --help"] if context is not None else []
        return [f"error: {' '.join(error.format_message().split())}", *hint]
    said = " ".join(str(error).split())[:500]
    return [
        f"error: {type(error).__name__}{': ' if said else ''}{said}",
        f"hint: add {TRACEBACK} (or {TRACEBACK_VARIABLE}=1) to see where this came from",
    ]
