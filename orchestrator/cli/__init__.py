"""The command `ganctl`. Importing it loads the standard library and Typer alone: the rest waits for its command."""

from orchestrator.cli.app import app

__all__ = ["app", "main"]


def main() -> None:
    """Entry point of the command; ends the process with an exit code of `orchestrator/errors.py`."""
    app()
