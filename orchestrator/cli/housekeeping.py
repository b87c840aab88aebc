"""`ganctl housekeeping`: what the store need not keep any longer; deletes it only when told to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli import output
from orchestrator.cli.output import STORE, Column, JsonOption, StoreOption, command

if TYPE_CHECKING:
    from orchestrator.housekeeping import Policy, Report

UNITS = ("B", "KB", "MB", "GB", "TB")


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("housekeeping")(command(housekeeping))


def housekeeping(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Fields of the policy: failed_days=3 last_checkpoints_days=180, null for never."),
    ] = None,
    policy: Annotated[Path | None, typer.Option(metavar="FILE", help="A policy as YAML.")] = None,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete it; else it is only said what would be.")
    ] = False,
    keys: Annotated[bool, typer.Option("--keys", help="Every object that would go, and why.")] = False,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Compact the store and delete expired checkpoints, old metric parts and orphans; says first what that would be."""
    import time

    from orchestrator.cli.drawing import drawing
    from orchestrator.errors import ConfigError
    from orchestrator.housekeeping import plan, run
    from orchestrator.store.objects import open_objects

    chosen = _policy(policy, overrides or [])
    if keys and delete:
        raise ConfigError("--keys shows what would go; give it without --delete")
    objects = open_objects(store)
    if keys:
        items = plan(objects, chosen, time.time()).items
        if as_json:
            output.show_json({"store": objects.url, "items": [vars(item) for item in items]})
        else:
            for item in items:
                typer.echo(f"{item.key}  {item.rule}: {item.why}")
        return
    with drawing(quiet=as_json):
        report = run(objects, chosen, delete)
    if as_json:
        output.show_json(_document(report))
        return
    _print(report)
    if not delete and (report.rules or report.waiting):
        words = [*([f"--policy {policy}"] if policy else []), *(overrides or [])]
        output.next_steps(store, " ".join(["housekeeping", *words, "--delete"]))


def _policy(file: Path | None, overrides: list[str]) -> Policy:
    """The policy of a file with overrides. Raises ConfigError."""
    from orchestrator.assignments import read_assignments
    from orchestrator.errors import ConfigError
    from orchestrator.housekeeping.policy import fields_of, parse_policy

    fields: dict[str, Any] = {}
    if file is not None:
        try:
            fields = fields_of(file.read_text())
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--policy {file}: {getattr(error, 'strerror', None) or error}") from None
    return parse_policy(fields | read_assignments(overrides, "failed_days=3"))


def _document(report: Report) -> dict[str, Any]:
    rules = {rule: vars(tally) for rule, tally in report.rules.items()}
    return vars(report) | {"rules": rules, "total": vars(report.total)}


def _print(report: Report) -> None:
    rows = [[rule, tally.objects, size(tally.bytes)] for rule, tally in report.rules.items()]
    total = report.total
    head = "deleted" if report.deleted else "would go"
    if rows:
        rows.append(["together", total.objects, size(total.bytes)])
        output.print_table([head, Column("objects", number=True), Column("bytes", number=True)], rows)
    else:
        typer.echo("nothing was to be deleted" if report.deleted else "nothing would go")
    if report.waiting and not report.deleted:
        typer.echo(f"{report.waiting} sealed runs wait to be compacted, which --delete does first", err=True)
    if report.kept:
        most = sorted(report.kept.items(), key=lambda kept: (-kept[1], kept[0]))
        some = ", ".join(f"{count} by {why}" for why, count in most[:3])
        more = f" and {len(most) - 3} others" if len(most) > 3 else ""
        typer.echo(f"kept though expired: {sum(report.kept.values())}, referred to: {some}{more}", err=True)
    if report.restored:
        typer.echo(f"{len(report.restored)} checkpoints that were to go stay: they are referred to", err=True)
    for problem in report.problems:
        typer.echo(f"left alone: {problem}", err=True)


def size(count: int) -> str:
    """Bytes in their largest fitting unit: `512 B`, `1.5 MB`."""
    amount, unit = float(count), UNITS[0]
    for larger in UNITS[1:]:
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.3g} {unit}"
