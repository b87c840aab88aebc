"""How a command line ends: errors as plain lines and an exit code, never a traceback unless it is asked for."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from orchestrator.errors import GanctlError

INTERRUPTED = 130
TRACEBACK = "--traceback"
TRACEBACK_VARIABLE = "GANCTL_TRACEBACK"


class Ganctl(TyperGroup):
    """The root command. Every error below it is printed as `error: ...` on stderr, one line a mistake."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line and exit: 0, the error's `exit_code`, 1 for what nobody foresaw, 130 for Ctrl-C."""
        words = list(sys.argv[1:] if args is None else args)
        traced = TRACEBACK in words or os.environ.get(TRACEBACK_VARIABLE, "0") not in ("", "0")
        words = [word for word in words if word != TRACEBACK]
        try:
            code = super().main(words, "ganctl", complete_var, False, windows_expand_args, **extra)
        except Exception as error:
            if traced:
                traceback.print_exception(error)
            for line in error_lines(error):
                typer.echo(line, err=True)
            sys.exit(error.exit_code if isinstance(error, GanctlError | typer.TyperException) else 1)
        if code == INTERRUPTED:
            typer.echo("interrupted", err=True)
        sys.exit(code if isinstance(code, int) else 0)


def error_lines(error: Exception) -> list[str]:
    """What a person is told of `error`."""
    if isinstance(error, GanctlError):
        return [f"error: {line}" for line in str(error).splitlines()] or [f"error: {type(error).__name__}"]
    if isinstance(error, typer.TyperException):
        context = getattr(error, "ctx", None)
        hint = [f"hint: {context.command_path} --help"] if context is not None else []
        return [f"error: {' '.join(error.format_message().split())}", *hint]
    if isinstance(error, typer.Abort):
        return ["aborted"]
    said = " ".join(str(error).split())[:500]
    return [
        f"error: {type(error).__name__}{': ' if said else ''}{said}",
        f"hint: add {TRACEBACK} (or {TRACEBACK_VARIABLE}=1) to see where this came from",
    ]
