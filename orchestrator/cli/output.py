"""What commands print: tables and lines on stdout, next steps and progress on stderr, or one JSON document.

This is the one module the commands share: it also names the shared options and the guard of `terminal.command`.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import typer
from rich.console import Console

from orchestrator.cli.options import STORE, Force, JsonOption, RunName, StoreOption
from orchestrator.cli.terminal import command
from orchestrator.store import documents

__all__ = [
    "STORE",
    "Column",
    "Force",
    "JsonOption",
    "RunName",
    "StoreOption",
    "cell",
    "command",
    "console",
    "errors",
    "next_steps",
    "print_figures",
    "print_lines",
    "print_table",
    "say",
    "show_json",
    "span",
    "working",
]

NOTHING = "-"
LEAST = 8  # letters of a column's text, however short the room

plain = partial(Console, highlight=False, markup=False, emoji=False)

#: They print text as it is, on what stdout and stderr are at that moment, 80 columns wide where that is no terminal.
console = plain()
errors = plain(stderr=True)


@dataclass(frozen=True)
class Column:
    """A table's column. `whole` is never wrapped; `number` is aligned to the right; `cut` is shortened, not wrapped."""

    name: str
    number: bool = False
    whole: bool = False
    cut: bool = False


def show_json(document: Mapping[str, Any]) -> None:
    """One strict JSON document on stdout; non-finite numbers are null."""
    typer.echo(documents.encode(document).decode())


def say(text: str, quiet: bool = False) -> None:
    """A line on stdout, never wrapped; none when `quiet`."""
    if not quiet:
        typer.echo(text)


def print_table(columns: Sequence[Column | str], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """A table on stdout, without lines; cells as `cell` shows them. Where room is short its lines are longer than the
    terminal is wide: half a number would be another number."""
    from rich.cells import cell_len
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), title=title or None, title_justify="left")
    texts, least = [list(map(cell, row)) for row in rows], 0
    for i, column in enumerate(Column(c) if isinstance(c, str) else c for c in columns):
        unbroken = column.number or column.whole
        widest = max(map(cell_len, [column.name, *(text[i] for text in texts)]))
        least += (widest if unbroken else min(widest, LEAST)) + 1
        table.add_column(
            column.name,
            justify="right" if column.number else "left",
            no_wrap=unbroken,
            overflow="ellipsis" if column.cut else "fold",
        )
    for text in texts:
        table.add_row(*text)
    (console if console.width >= least else plain(width=least)).print(table)


def print_figures(columns: Mapping[str, Mapping[str, float]]) -> None:
    """Figures by name: a row a figure, a column for each set of them, in the order they are first named."""
    names = dict.fromkeys(name for figures in columns.values() for name in figures)
    if names:
        heads: list[Column | str] = ["figure", *(Column(head, number=True) for head in columns)]
        print_table(heads, [[name, *(f.get(name) for f in columns.values())] for name in names])


def print_lines(lines: Mapping[str, object]) -> None:
    """`name  value` lines on stdout, never wrapped, so that a path can be copied; None is left out."""
    width = max(map(len, lines), default=0)
    for name, value in lines.items():
        if value is not None:
            typer.echo(f"{name:<{width}}  {cell(value)}")


def next_steps(store: str, *commands: str) -> None:
    """`next: ganctl ...` lines on stderr, with the store where it is not the default one."""
    where = "" if store == STORE else f" --store {shlex.quote(store)}"
    for step in commands:
        typer.echo(typer.style(f"next: ganctl {step}{where}", dim=True), err=True)


@contextmanager
def working(text: str) -> Iterator[None]:
    """A spinner with `text` on stderr, where that is a terminal."""
    with errors.status(text):
        yield


def cell(value: object) -> str:
    """A value as a table shows it: four significant digits, `-` for nothing."""
    if value is None or value == "":
        return NOTHING
    if isinstance(value, bool) or not isinstance(value, float):
        return str(value)
    if math.isfinite(value) and value == round(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.4g}"


def span(seconds: float) -> str:
    """A length of time in its largest fitting unit: `40 s`, `3 min`, `5 h`, `12 d`."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
