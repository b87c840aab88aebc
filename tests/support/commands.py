"""`ganctl` as the tests call it, in this process."""

from __future__ import annotations

from typer.testing import CliRunner, Result

from orchestrator.cli import app

ENVIRONMENT = {"GANCTL_STORE": None, "GANCTL_TRACEBACK": None, "PREFECT_API_URL": None, "COLUMNS": "80"}


def ganctl(*words: object, code: int = 0) -> Result:
    """The outcome of a command line, which must end with `code`."""
    result = CliRunner(env=ENVIRONMENT).invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def refused(*words: object, code: int) -> str:
    """The one line of a command line that ends with an error: on stderr, nothing on stdout, no traceback."""
    result = ganctl(*words, code=code)
    lines = result.stderr.splitlines()
    assert result.stdout == ""
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    return lines[0]
