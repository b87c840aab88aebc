"""A page a family: it says what its fields and phases are, its commands run, and docs/families is what is printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gans.families import FAMILIES, family_class
from orchestrator.handbook import headline, index, page, recipes_of
from orchestrator.recipes import RECIPES

PAGES = Path(__file__).parents[1] / "docs/families"


@pytest.mark.parametrize("tag", FAMILIES)
def test_the_page_in_the_docs_is_the_one_that_is_printed(tag: str) -> None:
    assert (PAGES / f"{tag}.md").read_text() == page(tag), "run: make docs"


def test_the_list_in_the_docs_is_up_to_date_and_there_are_no_other_pages() -> None:
    assert (PAGES / "README.md").read_text() == index(), "run: make docs"
    assert {path.stem for path in PAGES.glob("*.md")} == {"README", *FAMILIES}


@pytest.mark.parametrize("tag", FAMILIES)
def test_every_field_says_what_it_is(tag: str) -> None:
    fields = family_class(tag).model_fields
    assert [name for name, info in fields.items() if not info.description] == []


@pytest.mark.parametrize("tag", FAMILIES)
def test_a_page_names_its_paper_its_phases_and_its_recipes(tag: str) -> None:
    text = page(tag)
    assert re.search(r"\d{4}", headline(tag)), "the first sentence names the paper and its year"
    for phase in family_class(tag)().phases():
        assert f"| {phase.name} |" in text
    assert recipes_of(tag)
    for recipe in recipes_of(tag):
        assert f"ganctl train {recipe}" in text


def test_every_recipe_stands_on_one_page() -> None:
    assert sorted(name for tag in FAMILIES for name in recipes_of(tag)) == sorted(RECIPES)


def test_a_familys_own_fields_come_before_those_that_it_shares_and_options_last() -> None:
    names = family_class("dcgan").field_names()
    assert sorted(names) == sorted(family_class("dcgan").model_fields)
    assert names.index("width") < names.index("lr_g") < names.index("augment")
