"""What the documents promise is there: relative links resolve, and every command in a shell block exists."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
SHELL_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(<?([^)>\s]+)>?[^)]*\)")
SEPARATOR = re.compile(r"[;|&()]+")

documents = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def logical_lines(block: str) -> Iterator[str]:
    """The block's lines, with continuations and quotations over several lines joined."""
    pending = ""
    for line in block.replace("\\\n", " ").splitlines():
        pending += line
        try:
            shlex.split(pending, comments=True)
        except ValueError:
            pending += "\n"
        else:
            yield pending
            pending = ""
    assert not pending, f"a quotation is not closed: {pending}"


def commands(block: str) -> Iterator[list[str]]:
    """Every simple command of a shell block as its words, without prompt and leading assignments."""
    for line in logical_lines(block):
        lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars=";|&()<>")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if not SEPARATOR.fullmatch(word):
                words.append(word)
                continue
            while words and re.fullmatch(r"\w+=.*", words[0]):
                words.pop(0)
            if words:
                yield words
            words = []


def unknown_words(words: list[str], command: Any) -> list[str]:
    """Subcommands and options among `words` that the click command does not have."""
    unknown, rest = [], iter(words)
    known = list(command.params)
    for word in rest:
        if word in {"<", ">", ">>", "--"}:
            break
        if word.startswith("-"):
            name, _, value = word.partition("=")
            option = next((p for p in known if name in (*p.opts, *p.secondary_opts)), None)
            if option is None and name != "--help":
                unknown.append(name)
            elif option is not None and not value and not (option.is_flag or option.count):
                next(rest, None)
        elif hasattr(command, "commands"):
            default = command.commands.get(getattr(command, "default", ""))
            if word not in command.commands and default is None:
                return [*unknown, word]
            command = command.commands.get(word, default)
            known += command.params
    return unknown


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def shell_commands(document: Path, program: str) -> list[list[str]]:
    blocks = SHELL_BLOCK.findall(document.read_text())
    found = [words for block in blocks for words in commands(block)]
    return [words[1:] for words in found if Path(words[0]).name == program]


def test_shell_blocks_are_split_into_their_commands() -> None:
    block = (
        "git clone x && cd y  # then\n"
        "$ A=1 ganctl runs \\\n  list | head\n"
        "make demo ARGS='a; b' > log\n"
        'python -c "\nx"\n'
    )
    assert list(commands(block)) == [
        ["git", "clone", "x"],
        ["cd", "y"],
        ["ganctl", "runs", "list"],
        ["head"],
        ["make", "demo", "ARGS=a; b", ">", "log"],
        ["python", "-c", "\nx"],
    ]


@pytest.mark.parametrize(
    ("line", "unknown"),
    [
        ("ganctl runs list --limit 3 --json", []),
        ("ganctl runs --store file:///x list", []),
        ("ganctl runs list --help", []),
        ("ganctl runs list --store=x > log --not-ours", []),
        ("ganctl runs lits", ["lits"]),
        ("ganctl run list", ["run"]),
        ("ganctl runs list --limits 3", ["--limits"]),
        ("ganctl runs --store runs list --jsn", ["--jsn"]),
    ],
)
def test_words_that_a_command_line_does_not_have_are_found(line: str, unknown: list[str]) -> None:
    app, runs = typer.Typer(), typer.Typer()
    app.add_typer(runs, name="runs")

    @runs.callback()
    def common(store: str = "") -> None: ...

    @runs.command("list")
    def list_runs(limit: int = 1, json: bool = False, store: str = "") -> None: ...

    [words] = commands(line)
    assert unknown_words(words[1:], get_command(app)) == unknown


@pytest.mark.parametrize(
    ("line", "unknown"),
    [
        ("ganctl sweep demo width=3 --trials 3", []),
        ("ganctl sweep ls --limit 3", []),
        ("ganctl sweep demo --trails 3", ["--trails"]),
        ("ganctl sweep ls --trials 3", ["--trials"]),
    ],
)
def test_a_command_without_its_name_has_the_options_of_the_groups_default(
    line: str, unknown: list[str]
) -> None:
    [words] = commands(line)
    assert unknown_words(words[1:], get_command(import_module("orchestrator.cli").app)) == unknown


@documents
def test_relative_links_resolve(document: Path) -> None:
    targets = LINK.findall(CODE.sub("", document.read_text()))
    paths = {t.partition("#")[0] for t in targets if not re.match(r"[a-z]+:|#", t)}
    assert {path for path in paths if not (document.parent / path).exists()} == set()


@documents
def test_make_commands_name_existing_targets(document: Path) -> None:
    named = {
        word for words in shell_commands(document, "make") for word in words if re.fullmatch(r"[a-z-]+", word)
    }
    assert named - make_targets() == set()


@documents
def test_ganctl_commands_name_existing_subcommands_and_options(document: Path) -> None:
    if not any((ROOT / "orchestrator" / name).is_file() for name in ("cli.py", "cli/__init__.py")):
        pytest.skip("orchestrator/cli does not exist yet")
    root = get_command(import_module("orchestrator.cli").app)
    unknown = {
        f"ganctl {' '.join(words)}": bad
        for words in shell_commands(document, "ganctl")
        if (bad := unknown_words(words, root))
    }
    assert unknown == {}
