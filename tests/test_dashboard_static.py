"""What the dashboard sends to browsers, as it lies on the disk: nothing that its content security policy forbids."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator.dashboard import pages

FOLDER = Path(pages.__file__).parent
STATIC = FOLDER / "static"
SCRIPTS = sorted((STATIC / "js").rglob("*.js"))
TEMPLATES = sorted((FOLDER / "templates").glob("*.html"))
BUDGET = 300  # lines of a file


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_make_text_and_never_markup(path: Path) -> None:
    text = path.read_text()
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "http://",
        "https://",
    ):
        assert word not in text, word
    assert len(text.splitlines()) <= BUDGET


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_what_scripts_import_is_there(path: Path) -> None:
    for name in re.findall(r'(?:from|import) "([./][^"]+)"', path.read_text()):
        there = STATIC / name.removeprefix("/static/") if name.startswith("/static/") else path.parent / name
        assert there.is_file(), name


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_templates_hold_no_script_and_no_style_of_their_own(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", text)
    for script in re.findall(r"<script[^>]*>[^<]*", text):
        assert re.search(r'src="/static/', script), script
        assert script.endswith(">"), script
    for link in re.findall(r'(?:src|href)="(/static/[^"]+)"', text):
        assert (STATIC / link.removeprefix("/static/")).is_file(), link


def test_styles_ask_for_nothing() -> None:
    for path in (STATIC / "css").glob("*.css"):
        assert not re.search(r"url\(|@import", path.read_text()), path.name


def test_every_link_of_the_header_is_a_route() -> None:
    paths = {route.path for route in pages.routes}
    assert {path for path, _ in pages.NAVIGATION} <= paths
