"""`ganctl models`, and models by name wherever a run is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gans.pictures import read_metadata
from orchestrator.registry import Candidate, Registry
from orchestrator.store.layout import promotion_key
from orchestrator.store.objects import Objects, open_objects
from tests.support.commands import ganctl, refused
from tests.support.models import bare_run, trained_run
from tests.support.threads import one_thread

__all__ = ["one_thread"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A store with a run of a model of digits, promoted as `faces` at step 2 of 4."""
    store = str(tmp_path_factory.mktemp("models") / "store")
    run_id = trained_run(open_objects(store))
    Registry(open_objects(store)).promote("faces", Candidate(run_id, 2), 0, "by hand", by="ann@host pid 1")
    return store, run_id


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    """A store with three promotions of `faces`, the last of them a rollback, and one of `shoes`."""
    objects = open_objects(str(tmp_path / "store"))
    registry = Registry(objects)
    for after in range(2):
        registry.promote("faces", Candidate(bare_run(objects)), after, f"reason {after}", by="ann@host pid 1")
    registry.rollback("faces", reason="artefacts", by="bob@host pid 2")
    registry.promote("shoes", Candidate(bare_run(objects), 2), 0, "first")
    return objects


def told(*words: object, code: int = 0) -> Any:
    """The one JSON document on stdout."""
    return json.loads(ganctl(*words, "--json", code=code).stdout)


def arrays(path: Path) -> np.ndarray:
    with np.load(path) as found:
        return np.asarray(found["images"])


# --- looking


def test_models_are_listed_with_their_champions(objects: Objects) -> None:
    rows = told("models", "--store", objects.url)["models"]
    assert [(r["name"], r["version"], r["number"], r["step"]) for r in rows] == [
        ("faces", 1, 3, 4), ("shoes", 1, 1, 2),
    ]  # fmt: skip
    assert rows[0]["by"] == "bob@host pid 2"
    assert told("models", "list", "--store", objects.url)["models"] == rows
    shown = ganctl("models", "--store", objects.url)
    assert rows[0]["run"] in shown.stdout
    assert "bob@" in shown.stdout
    assert "next: ganctl models show faces" in shown.stderr


def test_a_store_without_models_says_how_to_make_one(tmp_path: Path) -> None:
    result = ganctl("models", "--store", tmp_path)
    assert result.stdout == ""
    assert "there are no models" in result.stderr
    assert "ganctl retrain promote" in result.stderr


def test_a_model_is_shown_with_its_whole_history(objects: Objects) -> None:
    told_ = told("models", "show", "faces", "--store", objects.url)
    assert [(p["number"], p["version"], p["kind"], p["reason"]) for p in told_["history"]] == [
        (3, 1, "rollback", "artefacts"), (2, 2, "promotion", "reason 1"), (1, 1, "promotion", "reason 0"),
    ]  # fmt: skip
    assert told_["champion"] == told_["history"][0]
    assert told_["damaged"] == []
    champion = Registry(objects).require("faces")
    shown = ganctl("models", "show", "faces", "--store", objects.url).stdout
    for word in (
        "faces version 1",
        champion.run_id,
        "bob@host pid 2",
        "artefacts",
        champion.digest,
        champion.weights,
    ):
        assert word in shown


def test_an_unknown_model_and_a_wrong_name_are_refused(objects: Objects) -> None:
    assert "did you mean `faces`" in refused("models", "show", "face", "--store", objects.url, code=5)
    assert "model name 'Faces'" in refused("models", "show", "Faces", "--store", objects.url, code=2)


def test_verify_is_content_with_a_whole_history_and_names_every_problem_of_another(objects: Objects) -> None:
    whole = ganctl("models", "verify", "--store", objects.url).stdout
    assert "faces: 3 promotions, whole" in whole
    assert "shoes: 1 promotions, whole" in whole
    digest = Registry(objects).require("faces").digest
    assert digest in whole
    ganctl("models", "verify", "faces", "--digest", digest, "--store", objects.url)
    objects.put(promotion_key("faces", 2), b"{}")
    result = ganctl("models", "verify", "faces", "--digest", "0" * 64, "--store", objects.url, code=4)
    lines = result.stderr.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("error: promotion 2 of model faces cannot be read")
    assert lines[1].startswith("error: promotion 3 of model faces was made after another promotion 2")
    assert lines[2] == f"error: no promotion of model faces has the digest {'0' * 64}"
    report = told("models", "verify", "--store", objects.url, code=4)["models"]
    assert [len(row["problems"]) for row in report] == [2, 0]
    assert "--digest" in refused("models", "verify", "--digest", digest, "--store", objects.url, code=2)


def test_what_is_left_of_a_damaged_history_is_shown(objects: Objects) -> None:
    objects.put(promotion_key("faces", 3), b"{}")
    result = ganctl("models", "show", "faces", "--store", objects.url)
    assert "reason 1" in result.stdout
    assert "damaged, and not shown: promotion 3" in result.stderr
    assert told("models", "show", "faces", "--store", objects.url)["champion"] is None
    rows = told("models", "--store", objects.url)["models"]
    assert "promotion 3 of model faces cannot be read" in rows[0]["problem"]
    assert rows[1]["problem"] is None
    assert "cannot be read" in refused("sample", "faces", "-o", "x.npz", "--store", objects.url, code=4)


# --- using


def test_a_model_is_sampled_at_its_promoted_step(made: tuple[str, str], tmp_path: Path) -> None:
    store, run_id = made
    by_name, by_run = tmp_path / "name.npz", tmp_path / "run.npz"
    document = told("sample", "faces", "-o", by_name, "-n", 8, "--store", store)
    assert document | {"output": ""} == {
        "run": run_id, "model": "faces", "version": 1, "promotion": 1, "step": 2, "seed": 0, "num": 8, "output": "",
    }  # fmt: skip
    newest = told("sample", run_id, "-o", by_run, "-n", 8, "--store", store)
    assert (newest["step"], "model" in newest) == (4, False)
    assert arrays(by_name).shape == (8, 8, 8, 1)
    assert not np.array_equal(arrays(by_name), arrays(by_run))
    from orchestrator import registry

    faces = registry.load("faces", store)
    assert np.array_equal(arrays(by_name), faces.to_uint8(faces.sample(8)))
    line = ganctl("sample", "faces", "-o", tmp_path / "grid.png", "-n", 4, "--store", store).stdout
    assert line.startswith(f"4 samples of faces version 1, run {run_id} at step 2: ")
    assert read_metadata((tmp_path / "grid.png").read_bytes())["step"] == "2"


def test_a_model_is_exported_and_scored_at_its_promoted_step(made: tuple[str, str], tmp_path: Path) -> None:
    store, run_id = made
    exported = told("export", "faces", "-o", tmp_path / "faces.safetensors", "--store", store)
    assert (exported["run"], exported["model"], exported["step"]) == (run_id, "faces", 2)
    other = told("export", run_id, "-o", tmp_path / "run.safetensors", "--store", store)
    assert (other["step"], "model" in other) == (4, False)
    assert (tmp_path / "faces.safetensors").read_bytes() != (tmp_path / "run.safetensors").read_bytes()
    scored = told("evaluate", "faces", "--samples", 32, "--extractor", "random", "--store", store)
    assert (scored["run"], scored["model"], scored["version"], scored["step"]) == (run_id, "faces", 1, 2)


def test_a_name_goes_before_a_part_of_an_id_and_an_id_and_latest_before_a_name(objects: Objects) -> None:
    registry = Registry(objects)
    champion = registry.require("shoes").run_id
    other = bare_run(objects)
    part = other[-3:]
    assert told("runs", "show", part, "--store", objects.url)["id"] == other
    registry.promote(part, Candidate(champion), 0, "a name that ends a run's id")
    assert told("runs", "show", part, "--store", objects.url)["id"] == champion
    assert told("runs", "show", other, "--store", objects.url)["id"] == other
    assert told("runs", "show", "latest", "--store", objects.url)["id"] == other
    said = refused("runs", "show", "feces", "--store", objects.url, code=5)
    assert said.endswith(f"models: {', '.join(sorted(['faces', 'shoes', part]))}")
