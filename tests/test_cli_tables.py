"""Tables that are printed: what is cut where the terminal is narrow, and what never is."""

from __future__ import annotations

import pytest
from rich.console import Console

from orchestrator.cli import output
from orchestrator.cli.output import LEAST, Column, print_table

NUMBERS = [f"{i}.12345" for i in range(12)]


@pytest.mark.parametrize("width", [20, 80, 200])
def test_a_number_is_whole_however_narrow_the_terminal_is(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "console", Console(width=width))
    heads = [Column("name", cut=True), *(Column(f"column {i}", number=True) for i in range(12))]
    print_table(heads, [["a-name-of-many-letters", *NUMBERS]])
    first, line, *_ = capsys.readouterr().out.splitlines()
    assert line.split()[1:] == NUMBERS
    assert line.startswith("a-name-of-many-letters"[: LEAST - 1])
    assert first.split()[0] == "name"


def test_text_gives_way_so_that_a_table_fits(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "console", Console(width=60))
    print_table(["what", Column("value", number=True)], [["word " * 20, 1.5]])
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 60 for line in lines)
    assert sum(line.count("word") for line in lines) == 20
