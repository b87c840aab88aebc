"""`ganctl doctor`: what works here, what does not, and how to mend it."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli import output
from orchestrator.cli.output import STORE, JsonOption, StoreOption, command

MARKS = {"ok": ("ok", "green"), "warn": ("warn", "yellow"), "fail": ("fail", "red")}


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("doctor")(command(doctor))


def doctor(
    on: Annotated[
        str, typer.Option("--on", metavar="ADDRESS", help="Also a cluster: http://HEAD:8265.")
    ] = "",
    deep: Annotated[bool, typer.Option("--deep", help="Also start a Ray of our own (some seconds).")] = False,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Check packages, store, Ray, Prefect and devices; exit code 1 where something would fail."""
    from dataclasses import asdict

    from orchestrator.cli import checkup

    with output.working("checking"):
        findings = checkup.findings(store, on, deep)
    well = all(finding.level != "fail" for finding in findings)
    if as_json:
        output.show_json({"ok": well, "checks": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            mark, colour = MARKS[finding.level]
            typer.echo(f"{typer.style(f'{mark:<4}', fg=colour)}  {finding.name:<26}  {finding.detail}")
            if finding.remedy:
                typer.echo(f"      {'':<26}  -> {finding.remedy}")
        typer.echo("all is well" if well else "what fails above has to be mended first", err=True)
    if not well:
        raise typer.Exit(1)
