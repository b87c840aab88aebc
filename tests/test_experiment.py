"""An experiment as a value: JSON and back, overrides, and every mistake told at once."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from gans.data.digits import Digits
from gans.data.points import Ring
from gans.families.vanilla import Vanilla
from gans.families.wgan import WGAN
from orchestrator.errors import ConfigError, NotFound
from orchestrator.experiment import Experiment, flatten, from_yaml, parse, read_assignments
from orchestrator.recipes import RECIPES, load


def mistakes(document: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(document)
    return str(caught.value).splitlines()


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_survives_json_and_yaml(name: str) -> None:
    experiment = load(name)
    document = experiment.document()
    assert parse(json.loads(json.dumps(document))) == experiment
    assert from_yaml(yaml.safe_dump(document)) == experiment
    assert experiment.name == name


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_searches_only_fields_that_it_has(name: str) -> None:
    experiment = load(name)
    assert set(experiment.search.fields) <= flatten(experiment.document()).keys()


def test_overrides_replace_fields_and_leave_the_rest() -> None:
    before = load("vanilla.ring")
    after = before.override({"gan.width": 64, "train.steps": 7, "seed": 3})
    changed = {k for k, v in flatten(after.document()).items() if flatten(before.document())[k] != v}
    assert changed == {"gan.width", "train.steps", "seed"}
    assert (after.gan.model_dump()["width"], after.train.steps, after.seed) == (64, 7, 3)
    assert before == load("vanilla.ring")


def test_another_family_starts_from_its_own_defaults_and_leaves_the_space_behind() -> None:
    experiment = load("vanilla.ring").override({"gan.family": "wgan", "gan.clip": 0.5})
    assert experiment.gan == WGAN(clip=0.5)
    assert experiment.search.root == {}
    assert experiment.data == Ring()


def test_another_kind_of_data_starts_from_its_own_defaults() -> None:
    experiment = load("vanilla.ring").override({"data.kind": "digits", "data.size": 8})
    assert experiment.data == Digits(size=8)
    assert experiment.gan == load("vanilla.ring").gan


def test_the_same_family_named_again_changes_nothing() -> None:
    experiment = load("vanilla.ring")
    assert experiment.override({"gan.family": "vanilla", "data.kind": "ring"}) == experiment


def test_every_mistake_is_told_at_once_with_the_nearest_names() -> None:
    document = load("wgan_gp.digits").document()
    document["gan"] |= {"widht": 3, "critic_steps": "many"}
    document["train"] |= {"bacth": 2, "steps": -1}
    document["data"]["size"] = "large"
    document["sed"] = 1
    told = mistakes(document)
    assert len(told) == 6, told
    for words in (
        ("unknown field `gan.widht`", "did you mean `gan.width`?", "critic_steps"),
        ("`gan.critic_steps` = 'many'", "valid integer"),
        ("unknown field `train.bacth`", "did you mean `train.batch`?", "evaluate_every"),
        ("`train.steps` = -1", "greater than or equal to 1"),
        ("`data.size` = 'large'",),
        ("unknown field `sed`", "did you mean `seed`?"),
    ):
        assert any(all(word in line for word in words) for line in told), (words, told)


def test_a_missing_part_and_a_missing_tag_are_named() -> None:
    told = mistakes({"data": {"kind": "ring"}})
    assert sorted(line[:12] for line in told) == ["field `gan` ", "field `name`"]
    told = mistakes({"name": "x", "gan": {"width": 3}, "data": {}})
    assert [line[:20] for line in told] == ["gan needs a field `f", "data needs a field `"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gan.family": "vanila"}, ("gan.family", "'vanila'", "did you mean 'vanilla'?", "cyclegan")),
        ({"data.kind": "digit"}, ("data.kind", "'digit'", "did you mean `digits`?", "parquet")),
        ({"gan.family": "no_such_module:GAN"}, ("no_such_module:GAN", "cannot be imported")),
        ({"gan.family": "pathlib:Path"}, ("pathlib:Path", "not a subclass of gans.Family")),
        ({"train.steps": None}, ("train", "budget", "train.seconds")),
        ({"scale.workers": 0}, ("scale.workers", "greater than or equal to 1")),
    ],
)
def test_a_wrong_value_is_told_with_what_is_allowed(change: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        load("vanilla.ring").override(change)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)


def test_assignments_are_read_as_yaml_scalars() -> None:
    words = ["a.b=1", "c=1.5e-3", "d=none", "e=null", "f=[1, 2]", "g=true", "h="]
    values = {"a.b": 1, "c": 1.5e-3, "d": "none", "e": None, "f": [1, 2], "g": True, "h": ""}
    assert read_assignments(words) == values


@pytest.mark.parametrize("word", ["train.steps", "=3"])
def test_an_assignment_without_a_field_or_a_sign_is_refused(word: str) -> None:
    with pytest.raises(ConfigError, match="field=value"):
        read_assignments([word])


@pytest.mark.parametrize("text", ["a: [1", "- a\n- b\n", "3"])
def test_text_that_is_no_experiment_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_yaml(text)
    assert "\n" not in str(caught.value)


OWN = """
from gans.data.points import Ring
from gans.families.vanilla import Vanilla
from orchestrator.experiment import Experiment

class Mine(Vanilla):
    sharpness: float = 2.0

def recipe():
    return Experiment(name="mine", gan=Mine(width=8, sharpness=3.0), data=Ring())

def number():
    return 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module with recipes in the current folder."""
    (tmp_path / "own_recipes.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_recipes", raising=False)
    return "own_recipes"


def test_a_recipe_of_ones_own_with_a_family_of_ones_own_survives_json(own: str) -> None:
    experiment = load(f"{own}:recipe")
    document = json.loads(json.dumps(experiment.document()))
    assert document["gan"]["family"] == f"{own}:Mine"
    again = parse(document)
    assert isinstance(again.gan, Vanilla)
    assert again == experiment
    assert (
        "did you mean `gan.sharpness`" in mistakes({**document, "gan": {**document["gan"], "sharpnes": 1}})[0]
    )


def test_a_recipe_of_ones_own_that_is_none_is_refused(own: str) -> None:
    with pytest.raises(ConfigError, match="returned int, not an Experiment"):
        load(f"{own}:number")
    for name in (f"{own}:absent", "no_such_module:recipe"):
        with pytest.raises(NotFound, match="cannot be imported"):
            load(name)


def test_an_unknown_recipe_is_refused_with_the_nearest_and_all_others() -> None:
    with pytest.raises(NotFound) as caught:
        load("r3gan.digit")
    assert "did you mean 'r3gan.digits'?" in str(caught.value)
    assert all(name in str(caught.value) for name in RECIPES)


def test_an_experiment_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load("vanilla.ring").seed = 3  # type: ignore[misc]
    assert isinstance(load("vanilla.ring"), Experiment)
