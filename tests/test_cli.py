"""What `ganctl` shows, writes and refuses, on a small store made by two real runs."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors import safe_open
from typer.testing import CliRunner, Result

from gans.pictures import SYNTHETIC, read_metadata
from orchestrator.cli import app
from orchestrator.cli.lookup import curve_query
from orchestrator.experiment import from_yaml
from orchestrator.launch import announce_run, submit
from orchestrator.recipes import RECIPES, load
from orchestrator.store.objects import Objects, open_objects
from orchestrator.store.reader import Run
from orchestrator.store.writer import RunWriter

ENVIRONMENT = {"GANCTL_STORE": None, "GANCTL_TRACEBACK": None, "PREFECT_API_URL": None, "COLUMNS": "80"}
TINY = {
    "train.log_every": 10,
    "train.evaluate_every": 0,
    "train.sample_every": 0,
    "train.checkpoint_every": 0,
}


@dataclass(frozen=True)
class Made:
    """A store with two finished runs; `digits` is the newer."""

    store: str
    ring: str
    digits: str

    @property
    def objects(self) -> Objects:
        return open_objects(self.store)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads that wait for each other on a busy machine are twenty times slower than one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Made:
    store = str(tmp_path_factory.mktemp("cli") / "store")
    ring = load("vanilla.ring").override(
        TINY | {"train.steps": 40, "train.batch": 64, "data.num": 500, "gan.width": 16}
    )
    digits = load("cgan.digits").override(
        TINY | {"data.size": 8, "train.steps": 20, "gan.width": 8, "seed": 3}
    )
    return Made(store, submit(ring, store).wait().run_id, submit(digits, store).wait().run_id)


def ganctl(*words: object, code: int = 0) -> Result:
    """The outcome of a command line, which must end with `code`."""
    result = CliRunner(env=ENVIRONMENT).invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def told(*words: object, code: int = 0) -> Any:
    """The one JSON document on stdout."""
    return json.loads(ganctl(*words, "--json", code=code).stdout)


def refused(*words: object, code: int) -> str:
    """The error of a command line: lines on stderr, nothing on stdout, no traceback."""
    result = ganctl(*words, code=code)
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
    return result.stderr


# --- start-up


def test_help_takes_less_than_half_a_second_of_processor_time() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestrator.cli", "--help"], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    assert usage.ru_utime + usage.ru_stime < 0.5


def test_no_arguments_print_the_help_and_a_version_is_told() -> None:
    assert "runs" in ganctl().stdout
    assert ganctl("--version").stdout.startswith("ganctl ")


# --- recipes


def test_recipes_are_listed_with_what_they_are() -> None:
    assert [r["name"] for r in told("recipes")["recipes"]] == list(RECIPES)
    assert all(r["summary"].endswith(".") for r in told("recipes", "list")["recipes"])
    lines = ganctl("recipes").stdout.splitlines()
    assert max(map(len, lines)) <= 80


def test_a_recipe_is_shown_as_yaml_that_gives_the_same_experiment(tmp_path: Path) -> None:
    text = ganctl("recipes", "show", "r3gan.digits").stdout
    assert from_yaml(text) == load("r3gan.digits")
    (tmp_path / "mine.yaml").write_text(text)
    assert told("recipes", "show", tmp_path / "mine.yaml") == load("r3gan.digits").document()


def test_an_unknown_recipe_ends_with_5_and_the_nearest_name() -> None:
    assert "did you mean 'r3gan.digits'" in refused("recipes", "show", "r3gan.digit", code=5)


def test_several_mistakes_are_several_lines(tmp_path: Path) -> None:
    document = load("vanilla.ring").document()
    document["gan"]["wdith"] = 3
    document["train"]["batch"] = 0
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(document))
    lines = refused("recipes", "show", tmp_path / "wrong.yaml", code=2).splitlines()
    assert len(lines) == 2
    assert all(line.startswith("error: ") for line in lines)
    assert "gan.width" in lines[0]
    assert "train.batch" in lines[1]


# --- runs


def test_runs_are_listed_newest_first_within_80_columns(made: Made) -> None:
    lines = ganctl("runs", "--store", made.store).stdout.splitlines()
    assert lines[0].split() == ["run", "name", "family", "state", "step", "FID", "cov", "age"]
    assert [line.split()[0] for line in lines[1:] if line[0].isdigit()] == [made.digits, made.ring]
    assert max(map(len, lines)) <= 80


def test_runs_as_json_carry_figures_and_obey_limit_and_group_options(made: Made) -> None:
    whole = told("runs", "list", "--store", made.store)
    assert [run["id"] for run in whole["runs"]] == [made.digits, made.ring]
    assert whole["runs"][0]["metrics"]["fid"] > 0
    one = json.loads(ganctl("runs", "--store", made.store, "--json", "--limit", 1, "list").stdout)
    assert [run["id"] for run in one["runs"]] == [made.digits]
    assert one["total"] == 2
    assert "1 older runs" in ganctl("runs", "--store", made.store, "--limit", 1).stderr


def test_the_store_may_come_from_the_environment(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    result = CliRunner(env=ENVIRONMENT | {"GANCTL_STORE": made.store}).invoke(app, ["runs"])
    assert made.ring in result.stdout


def test_runs_of_a_sweep_are_those_alone(tmp_path: Path) -> None:
    objects = open_objects(str(tmp_path))
    announce_run(objects, load("demo"))
    mine = announce_run(objects, load("demo"), sweep="20261122-014500-k3v9qa")
    listed = told("runs", "--sweep", "20261122-014500-k3v9qa", "--store", tmp_path)
    assert [run["id"] for run in listed["runs"]] == [mine]
    assert "no runs of a sweep 'other'" in refused("runs", "--sweep", "other", "--store", tmp_path, code=5)


def test_a_store_that_is_not_there_is_said_to_be_empty_and_is_not_made(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    result = ganctl("runs", "--store", nowhere)
    assert result.stdout == ""
    assert "there is no such folder" in result.stderr
    assert told("runs", "--store", nowhere)["runs"] == []
    assert "there is no such folder" in refused("runs", "show", "latest", "--store", nowhere, code=5)
    assert not nowhere.exists()


def test_a_store_of_an_unknown_kind_ends_with_4() -> None:
    assert "unknown kind 'gs'" in refused("runs", "--store", "gs://bucket", code=4)


@pytest.mark.parametrize("part", [slice(None), slice(-6, None), slice(-3, None)])
def test_a_run_is_found_by_its_id_or_the_end_of_it(made: Made, part: slice) -> None:
    assert told("runs", "show", made.ring[part], "--store", made.store)["id"] == made.ring


def test_a_run_is_found_by_latest_and_by_the_beginning_of_its_id(made: Made, tmp_path: Path) -> None:
    assert told("runs", "show", "latest", "--store", made.store)["id"] == made.digits
    alone = announce_run(open_objects(str(tmp_path)), load("demo"))
    assert told("runs", "show", alone[:8], "--store", tmp_path)["id"] == alone


@pytest.mark.parametrize("text", ["nope", "", "20250101-000000-aaaaaa", "../../etc"])
def test_an_unknown_run_ends_with_5_in_one_line(made: Made, text: str) -> None:
    assert len(refused("runs", "show", text, "--store", made.store, code=5).splitlines()) == 1


def test_a_name_that_fits_several_runs_lists_them(made: Made) -> None:
    said = refused("runs", "show", made.ring[:4], "--store", made.store, code=5)
    assert made.ring in said
    assert made.digits in said


def test_a_run_is_shown_with_evidence_floor_and_places(made: Made) -> None:
    text = ganctl("runs", "show", made.ring, "--store", made.store).stdout
    sealed = Run(made.objects, made.ring).sealed()
    assert sealed is not None
    assert sealed["verdict"] in text
    assert sealed["remedy"] in text
    assert "real floor" in text
    shown = told("runs", "show", made.ring, "--store", made.store)
    assert shown["figures"].keys() == shown["floor"].keys()
    assert shown["evidence"] == sealed["evidence"]
    assert all(Path(place["path"]).exists() for place in shown["samples"] + shown["checkpoints"])
    assert shown["samples"][-1]["path"] in text


def test_the_query_that_is_shown_reads_the_metrics(made: Made) -> None:
    query = told("runs", "show", made.ring, "--store", made.store)["query"]
    rows = duckdb.execute(query).fetchall()
    assert [row[0] for row in rows] == [10, 20, 30, 40]


def test_the_query_lets_a_later_attempt_win_from_the_checkpoint_it_goes_on_from(file_store: str) -> None:
    objects = open_objects(file_store)
    run_id = announce_run(objects, load("demo"))
    for attempt, steps in enumerate([(10, 20, 30, 40), (20, 30)], 1):
        writer = RunWriter.attach(objects, run_id)
        for step in steps:
            writer.log(step, {"loss": float(attempt)})
            if step == 10:
                writer.checkpoint(step, {})
        writer.flush()
    rows = duckdb.execute(f"SELECT step, loss FROM ({curve_query(objects, run_id)})").fetchall()
    assert rows == [(10, 1.0), (20, 2.0), (30, 2.0)]
    assert [row[0] for row in rows] == Run(objects, run_id).metrics()["step"].to_pylist()


def test_a_failed_run_says_why(file_store: str) -> None:
    objects = open_objects(file_store)
    run_id = announce_run(objects, load("demo"))
    RunWriter.attach(objects, run_id).seal("failed", {"error": "the disk is full"})
    assert "the disk is full" in ganctl("runs", "show", run_id, "--store", file_store).stdout
    assert told("runs", "--store", file_store)["runs"][0]["state"] == "failed"


def test_comparing_shows_the_fields_that_differ_and_the_figures(made: Made) -> None:
    words = ("runs", "compare", made.ring, "latest", "--store", made.store)
    document = told(*words)
    assert document["differences"]["train.steps"] == {made.ring: 40, made.digits: 20}
    assert document["differences"]["seed"] == {made.ring: 0, made.digits: 3}
    assert "train.log_every" not in document["differences"]
    assert document["figures"][made.digits].keys() > {"fid", "coverage"}
    text = ganctl(*words).stdout
    assert "train.steps" in text
    assert made.ring[-6:] in text


def test_comparing_a_run_with_itself_is_wrong_usage(made: Made) -> None:
    said = refused("runs", "compare", made.ring, made.ring, "--store", made.store, code=2)
    assert "at least two" in said


# --- sample


def test_a_grid_of_samples_says_what_made_it(made: Made, tmp_path: Path) -> None:
    out = tmp_path / "grid.png"
    ganctl("sample", made.digits, "-n", 20, "--seed", 7, "-o", out, "--store", made.store)
    meta = read_metadata(out.read_bytes())
    assert (meta["run"], meta["step"], meta["seed"]) == (made.digits, "20", "7")
    assert meta["DigitalSourceType"] == SYNTHETIC
    assert os.listdir(tmp_path) == ["grid.png"]


def test_equal_seeds_give_equal_samples_and_other_seeds_others(made: Made, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        ganctl("sample", made.ring, "--seed", seed, "-o", tmp_path / f"{name}.npz", "--store", made.store)
    a, b, c = (np.load(tmp_path / f"{name}.npz")["points"] for name in "abc")
    assert (a == b).all()
    assert (a != c).any()


def test_arrays_are_uint8_nhwc_with_labels(made: Made, tmp_path: Path) -> None:
    out = tmp_path / "x.npz"
    document = told("sample", made.digits, "-n", 12, "-o", out, "--store", made.store)
    assert document == {"run": made.digits, "step": 20, "seed": 0, "num": 12, "output": str(out)}
    with np.load(out) as arrays:
        assert set(arrays) == {"images", "labels"}
        assert arrays["images"].shape == (12, 8, 8, 1)
        assert arrays["images"].dtype == np.uint8
        assert arrays["labels"].tolist() == [*range(10), 0, 1]


def test_labels_can_be_chosen_and_are_checked(made: Made, tmp_path: Path) -> None:
    out = tmp_path / "x.npz"
    ganctl("sample", made.digits, "-n", 4, "--label", 3, "--label", 5, "-o", out, "--store", made.store)
    assert np.load(out)["labels"].tolist() == [3, 5, 3, 5]
    other = tmp_path / "y.npz"
    assert "0..9" in refused("sample", made.digits, "--label", 12, "-o", other, "--store", made.store, code=2)
    assert "no labels" in refused(
        "sample", made.ring, "--label", 1, "-o", other, "--store", made.store, code=2
    )
    assert not other.exists()


def test_a_folder_gets_one_picture_a_sample_with_its_label(made: Made, tmp_path: Path) -> None:
    out = tmp_path / "pictures"
    ganctl("sample", made.digits, "-n", 3, "--label", 4, "-o", out, "--store", made.store)
    assert sorted(os.listdir(out)) == ["000000.png", "000001.png", "000002.png"]
    data = (out / "000002.png").read_bytes()
    meta = read_metadata(data)
    assert (meta["run"], meta["sample"], meta["label"]) == (made.digits, "2", "4")
    assert Image.open(io.BytesIO(data)).size == (8, 8)


def test_vectors_make_a_plot_or_arrays_but_no_folder(made: Made, tmp_path: Path) -> None:
    ganctl("sample", made.ring, "-n", 5, "-o", tmp_path / "a.npz", "--store", made.store)
    assert np.load(tmp_path / "a.npz")["points"].shape == (5, 2)
    ganctl("sample", made.ring, "-o", tmp_path / "plot.png", "--store", made.store)
    assert read_metadata((tmp_path / "plot.png").read_bytes())["run"] == made.ring
    assert "not pictures" in refused("sample", made.ring, "-o", tmp_path / "d", "--store", made.store, code=2)
    assert sorted(os.listdir(tmp_path)) == ["a.npz", "plot.png"]


def test_what_is_there_is_replaced_only_by_force(made: Made, tmp_path: Path) -> None:
    out, folder = tmp_path / "x.npz", tmp_path / "folder"
    out.write_bytes(b"mine")
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    for place in (out, folder):
        words = ("sample", made.digits, "-n", 2, "-o", place, "--store", made.store)
        assert "there already" in refused(*words, code=2)
        ganctl(*words, "--force")
    assert np.load(out)["images"].shape[0] == 2
    assert sorted(os.listdir(folder)) == ["000000.png", "000001.png", "mine.txt"]


@pytest.mark.parametrize(("name", "reason"), [("no/grid.png", "does not exist"), ("grid.jpg", ".png")])
def test_a_place_that_cannot_be_written_is_refused_before_any_work(
    tmp_path: Path, name: str, reason: str
) -> None:
    assert reason in refused("sample", "latest", "-o", tmp_path / name, "--store", tmp_path, code=2)


@pytest.mark.parametrize("name", ["grid.png", "folder", "x.npz"])
def test_a_full_disk_is_one_line_and_leaves_nothing(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    said = refused("sample", made.digits, "-o", tmp_path / name, "--store", made.store, code=1)
    assert "No space left" in said
    assert len(said.splitlines()) == 1
    assert os.listdir(tmp_path) == []


def test_a_run_that_has_not_ended_can_be_sampled(made: Made, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(made.store, store)
    (store / "runs" / made.digits / "sealed.json").unlink()
    ganctl("sample", made.digits, "-n", 10, "-o", tmp_path / "x.npz", "--store", store)
    ganctl("sample", made.digits, "-n", 10, "-o", tmp_path / "y.npz", "--store", made.store)
    x, y = (np.load(tmp_path / f"{name}.npz")["images"] for name in "xy")
    assert (x == y).all()


def test_a_family_that_maps_pictures_is_sampled_on_held_out_ones(tmp_path: Path) -> None:
    small = TINY | {"train.steps": 2, "gan.width": 4, "gan.width_d": 4, "gan.blocks": 1}
    store = str(tmp_path / "store")
    experiment = load("cyclegan.digits").override(small | {"train.extractor": "random"})
    run_id = submit(experiment, store).wait().run_id
    ganctl("sample", run_id, "-n", 6, "-o", tmp_path / "x.npz", "--store", store)
    ganctl("sample", run_id, "-n", 6, "-o", tmp_path / "grid.png", "--store", store)
    assert np.load(tmp_path / "x.npz")["images"].shape[:3] == (6, 16, 16)
    assert read_metadata((tmp_path / "grid.png").read_bytes())["step"] == "2"
    assert told("evaluate", run_id, "--store", store)["figures"]["fid"] > 0


def test_a_run_without_a_checkpoint_cannot_be_sampled(file_store: str, tmp_path: Path) -> None:
    run_id = announce_run(open_objects(file_store), load("demo"))
    said = refused("sample", run_id, "-o", tmp_path / "grid.png", "--store", file_store, code=5)
    assert "no checkpoint yet" in said


# --- evaluate, export


def test_evaluating_again_gives_the_figures_the_run_ended_with(made: Made) -> None:
    cached = made.objects.list("cache")
    document = told("evaluate", made.digits, "--store", made.store)
    sealed = Run(made.objects, made.digits).sealed()
    assert sealed is not None
    assert document["figures"] == pytest.approx(sealed["figures"], rel=1e-4)
    assert document["floor"] == pytest.approx(sealed["floor"], rel=1e-4)
    assert made.objects.list("cache") == cached


def test_samples_seed_and_extractor_of_an_evaluation_can_be_chosen(made: Made) -> None:
    words = ("evaluate", made.digits, "--store", made.store, "--samples", 50, "--extractor", "random")
    one, two = told(*words, "--seed", 1), told(*words, "--seed", 2)
    assert one["samples"] == 50
    assert one["extractor"].startswith("random")
    assert one["figures"]["fid"] != two["figures"]["fid"]
    assert "real floor" in ganctl(*words).stdout


def test_an_exported_model_says_what_rebuilds_it(made: Made, tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    document = told("export", made.digits, "-o", out, "--store", made.store)
    assert document == {"run": made.digits, "step": 20, "format": "safetensors", "output": str(out)}
    with safe_open(out, "pt") as file:
        assert file.metadata()["family"] == "cgan"
        assert any(name.startswith("generator.") for name in file.keys())  # noqa: SIM118
    assert "there already" in refused("export", made.digits, "-o", out, "--store", made.store, code=2)


def test_an_onnx_export_runs_and_agrees_with_pytorch(made: Made, tmp_path: Path) -> None:
    import onnxruntime

    out = tmp_path / "m.onnx"
    document = told("export", made.ring, "--format", "onnx", "-o", out, "--store", made.store)
    assert document["difference"] < 1e-4
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    [x] = session.run(None, {"z": np.zeros((5, 2), np.float32)})
    assert x.shape == (5, 2)


# --- errors


def broken(error: BaseException) -> Any:
    def raiser(*args: object) -> None:
        raise error

    return raiser


def test_an_error_nobody_foresaw_is_one_line_and_its_origin_on_demand(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.cli.runs.resolve_run", broken(KeyError("odd")))
    words = ("runs", "show", "latest", "--store", made.store)
    assert refused(*words, code=1).splitlines()[0] == "error: KeyError: 'odd'"
    assert "--traceback" in refused(*words, code=1)
    assert "Traceback" in ganctl(*words, "--traceback", code=1).stderr
    traced = CliRunner(env=ENVIRONMENT | {"GANCTL_TRACEBACK": "1"}).invoke(app, [str(w) for w in words])
    assert "Traceback" in traced.stderr


def test_an_interruption_ends_with_130_and_one_line(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.cli.runs.resolve_run", broken(KeyboardInterrupt()))
    result = ganctl("runs", "show", "latest", "--store", made.store, code=130)
    assert result.output == "interrupted\n"


@pytest.mark.parametrize("words", [("runs", "lsit"), ("sample",), ("runs", "--limit", "x"), ("nope",)])
def test_wrong_usage_ends_with_2_and_names_the_help(words: tuple[str, ...]) -> None:
    error, hint = refused(*words, code=2).splitlines()
    assert hint.startswith("hint: ganctl")
    assert error.startswith("error: ")
