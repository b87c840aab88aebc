"""Runs and sweeps in other people's tools: real event files, a real MLflow store, real W&B files, read back."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from orchestrator.launch import submit
from orchestrator.recipes import load
from orchestrator.store.objects import Objects, open_objects
from orchestrator.store.reader import Run
from orchestrator.sweep.folder import run_ids, sweep_ids
from orchestrator.tracking import follower, tools
from orchestrator.tracking.tools import Document, Tools, Trial, open_tools
from tests.support.commands import ganctl, refused
from tests.support.rays import RayHead, ray_head, restored_environment
from tests.support.threads import one_thread

__all__ = ["one_thread", "ray_head"]

FIELDS: dict[str, Any] = {
    "gan.width": 16,
    "data.num": 500,
    "train.steps": 60,
    "train.batch": 32,
    "train.log_every": 10,
    "train.evaluate_every": 30,
    "train.sample_every": 30,
    "train.checkpoint_every": 20,
    "train.on_collapse": "ignore",
}
WORDS = [f"{name}={value}" for name, value in FIELDS.items()]
STEPS = [10, 20, 30, 40, 50, 60]
PREFIX = "ray/tune/"


@pytest.fixture
def objects(file_store: str) -> Objects:
    return open_objects(file_store)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "LOOK_SECONDS", 0.2)


class Board:
    """What TensorBoard would show of a folder."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        self.read = EventAccumulator(str(folder), size_guidance={"tensors": 0, "images": 0, "scalars": 0})
        self.read.Reload()

    def curves(self) -> dict[str, dict[int, float]]:
        """Values by step of every metric; a step that is told twice fails."""
        found = {}
        for tag in self.read.Tags()["scalars"]:
            events = self.read.Scalars(tag)
            values = {event.step: event.value for event in events}
            assert len(values) == len(events), tag
            found[tag.removeprefix(PREFIX)] = values
        return found

    def texts(self) -> dict[str, list[str]]:
        return {
            tag.removesuffix("/text_summary"): [
                event.tensor_proto.string_val[0].decode() for event in self.read.Tensors(tag)
            ]
            for tag in self.read.Tags()["tensors"]
        }

    def grids(self) -> dict[int, np.ndarray[Any, Any]]:
        return {
            event.step: pixels(event.encoded_image_string) for event in self.read.Images(f"{PREFIX}samples")
        }


def pixels(data: bytes) -> np.ndarray[Any, Any]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def stored(run: Run) -> dict[str, dict[int, float]]:
    """The numbers among a run's metrics, by step."""
    found: dict[str, dict[int, float]] = {}
    for row in run.metrics().to_pylist():
        for name, value in row.items():
            if isinstance(value, int | float) and name not in ("step", "time"):
                found.setdefault(name, {})[row["step"]] = value
    return found


def check_board(folder: Path, run: Run) -> None:
    """TensorBoard shows what the store has: every number of every step once, every grid, and how it ended."""
    board, numbers = Board(folder), stored(run)
    curves = board.curves()
    assert curves.keys() == numbers.keys()
    for name, values in numbers.items():
        assert curves[name] == pytest.approx(values, rel=1e-6), name
    grids = board.grids()
    assert grids.keys() == {step for step, _ in run.samples()} == {30, 60}
    for step, key in run.samples():
        assert np.array_equal(grids[step], pixels(run.objects.get(key)))
    sealed = run.sealed()
    assert sealed is not None
    told = board.texts()
    assert told["verdict"][-1] == sealed["verdict"]
    assert f"state: {sealed['state']}" in told["end"][0]


def train(objects: Objects, *words: object) -> Run:
    ganctl("train", *words, "--store", objects.url)
    (folder,) = objects.folders("runs")
    return Run(objects, folder)


# --- TensorBoard


def test_a_run_here_is_shown_in_tensorboard(objects: Objects, tmp_path: Path) -> None:
    run = train(objects, "vanilla.ring", *WORDS, "--tensorboard", tmp_path / "board")
    check_board(tmp_path / "board" / run.id, run)


def test_a_run_that_is_resumed_is_shown_once(objects: Objects, tmp_path: Path) -> None:
    """First without the tool, then cut off with it, then to its end: no step lacks and none is there twice."""

    def stop_at(step: int) -> Any:
        def stop(beat: dict[str, Any]) -> None:
            if beat["step"] == step:
                raise RuntimeError("stop")

        return stop

    job = submit(load("vanilla.ring").override(FIELDS), objects.url)
    with pytest.raises(RuntimeError, match="stop"):
        job.wait(stop_at(30))
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    asked = Tools(tensorboard=str(tmp_path / "board"), mlflow=uri)
    warned: list[str] = []
    following = follower.following(
        objects, lambda: [job.run_id], open_tools(asked, "vanilla.ring"), asked.tensorboard, warned.append
    )
    with pytest.raises(RuntimeError, match="stop"), following:
        submit(load("vanilla.ring"), objects.url, run_id=job.run_id).wait(stop_at(50))
    assert max(Board(tmp_path / "board" / job.run_id).curves()["loss_d"]) == 50
    run = train(objects, "--resume", job.run_id, "--tensorboard", asked.tensorboard, "--mlflow", uri)
    assert warned == []
    assert run.metrics()["attempt"].to_pylist() == [1, 1, 2, 2, 3, 3]
    check_board(tmp_path / "board" / run.id, run)
    history = mlflow_history(uri, run.id, "loss_d")
    assert [step for step, _ in history] == STEPS
    assert dict(history) == pytest.approx(stored(run)["loss_d"])


@pytest.mark.slow
def test_workers_on_a_ray_and_on_a_cluster_are_shown_the_same(
    ray_head: RayHead, file_store: str, tmp_path: Path
) -> None:
    objects = open_objects(file_store)
    with restored_environment():
        words = [*WORDS, "--workers", 2, "--on", ray_head.address, "--store", file_store]
        ganctl("train", "vanilla.ring", *words, "--tensorboard", tmp_path)
    (run_id,) = objects.folders("runs")
    check_board(tmp_path / run_id, Run(objects, run_id))


@pytest.mark.slow
def test_trials_of_a_sweep_are_shown_below_it_with_what_was_searched_over(
    ray_head: RayHead, file_store: str, tmp_path: Path
) -> None:
    objects, uri = open_objects(file_store), f"sqlite:///{tmp_path}/mlflow.db"
    board = tmp_path / "board"
    space = ["gan.lr_ratio=loguniform(0.5,2)", "--trials", 2, "--sampler", "random", "--stop", "none"]
    space += ["--on-collapse", "ignore", "--on", ray_head.address]
    with restored_environment():
        words = [*WORDS, *space, "--store", file_store, "--tensorboard", board, "--mlflow", uri]
        ganctl("sweep", "vanilla.ring", *words)
    (sweep,) = sweep_ids(objects)
    ids = run_ids(objects, sweep)
    assert len(ids) == 2
    for run_id in ids:
        run = Run(objects, run_id)
        document = run.document()
        folder = board / sweep / f"trial-{document['trial']}"
        check_board(folder, run)
        assert searched_over(folder) == {**document["params"], "ended": "completed"}
        found = mlflow_run(uri, run_id)
        assert found.data.tags["ganctl.sweep"] == sweep
        assert float(found.data.params["gan.lr_ratio"]) == document["params"]["gan.lr_ratio"]


def searched_over(folder: Path) -> dict[str, Any]:
    """The hyperparameters of TensorBoard's table."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    read = Board(folder).read.SummaryMetadata("_hparams_/session_start_info")
    started = HParamsPluginData.FromString(read.plugin_data.content).session_start_info
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in started.hparams.items()}


# --- MLflow


def mlflow_run(uri: str, run_id: str) -> Any:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    (found,) = client.search_runs(experiments, f"tags.`ganctl.run` = '{run_id}'")
    return found


def mlflow_history(uri: str, run_id: str, name: str) -> list[tuple[int, float]]:
    from mlflow.tracking import MlflowClient

    history = MlflowClient(tracking_uri=uri).get_metric_history(mlflow_run(uri, run_id).info.run_id, name)
    return [(point.step, point.value) for point in history]


def test_a_run_is_logged_to_mlflow(objects: Objects, tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    run = train(objects, "vanilla.ring", *WORDS, "--mlflow", uri)
    found, numbers, sealed = mlflow_run(uri, run.id), stored(run), run.sealed()
    assert sealed is not None
    assert found.info.status == "FINISHED"
    assert found.data.params["train.steps"] == "60"
    assert found.data.params["gan.family"] == "vanilla"
    assert (found.data.tags["state"], found.data.tags["verdict"]) == (sealed["state"], sealed["verdict"])
    assert found.data.metrics.keys() == numbers.keys() | {"step"}
    for name in ("loss_d", "fid", "images_per_second"):
        assert dict(mlflow_history(uri, run.id, name)) == pytest.approx(numbers[name])


# --- W&B


def test_a_run_is_logged_to_wandb(objects: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    for name, value in {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_SILENT": "true"}.items():
        monkeypatch.setenv(name, value)
    run = train(objects, "vanilla.ring", *WORDS, "--wandb", "gans")
    wandb.teardown()  # its service lives as long as this process otherwise
    (written,) = tmp_path.glob(f"wandb/offline-run-*-{run.id}/run-{run.id}.wandb")
    history, summary, config = wandb_file(written)
    assert [row["_step"] for row in history] == STEPS
    assert [row["loss_d"] for row in history] == pytest.approx(list(stored(run)["loss_d"].values()))
    assert [row["_step"] for row in history if any(name.startswith("samples") for name in row)] == [30, 60]
    assert (summary["state"], config["train.steps"]) == ((run.sealed() or {})["state"], 60)
    assert len(list(written.parent.glob("files/media/images/samples_*.png"))) == 2


def wandb_file(path: Path) -> tuple[list[Document], Document, Document]:
    """History, summary and config of W&B's own record of a run."""
    from wandb.proto.wandb_internal_pb2 import Record

    history: list[Document] = []
    summary: Document = {}
    config: Document = {}
    for record in map(Record.FromString, logged(path.read_bytes())):
        if record.HasField("history"):
            history.append(told(record.history.item))
        if record.HasField("summary"):
            summary |= told(record.summary.update)
        if record.HasField("run"):
            config |= told(record.run.config.update)
    return history, summary, config


def told(items: Any) -> Document:
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


def logged(data: bytes) -> Iterator[bytes]:
    """The records of a file in LevelDB's log format, whose blocks of 32 KiB come after 7 bytes of W&B's."""
    at, record = 7, b""
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or its last piece
            yield record
            record = b""


# --- what lacks, and what fails


def test_tools_that_are_not_installed_are_named_before_anything_begins(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "find_spec", lambda name: None)
    words = ["--mlflow", "sqlite:///x.db", "--wandb", "gans", "--store", objects.url]
    said = refused("train", "vanilla.ring", *WORDS, *words, code=8)
    assert "--mlflow, --wandb: not installed; `pip install 'ganctl[mlflow,wandb]'`" in said
    refused("sweep", "demo", *words, code=8)
    assert objects.list("") == []


def test_a_tool_that_refuses_us_is_told_before_anything_begins(
    objects: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    (tmp_path / "file").write_text("")
    for words in (
        ["--mlflow", "http://127.0.0.1:9"],
        ["--mlflow", "nonsense://x"],
        ["--tensorboard", tmp_path / "file" / "board"],
    ):
        said = refused("train", "vanilla.ring", *WORDS, *words, "--store", objects.url, code=2)
        assert said.startswith(f"error: {words[0]} {words[1]}: ")
    assert objects.list("") == []


class Moody:
    """A tool that fails while it is `ill`, and waits for `gate`."""

    def __init__(self, ill: int = 0) -> None:
        self.ill, self.steps, self.ends = ill, [], []  # type: ignore[var-annotated]
        self.gate = threading.Event()
        self.gate.set()

    def setup(self) -> None:
        """Nothing."""

    def reached(self, trial: Trial) -> int:
        return -1

    def log_trial_start(self, trial: Trial) -> None:
        self.gate.wait()

    def log_trial_result(self, iteration: int, trial: Trial, result: Document) -> None:
        if self.ill and iteration == 30:
            self.ill -= 1
            raise OSError("No space left on device")
        self.steps.append(iteration)

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        self.ends.append((trial.sealed or {}).get("state"))


def followed(objects: Objects, asked: Mapping[str, Any]) -> tuple[str, list[str]]:
    """A run that trains meanwhile, and the warnings."""
    warned: list[str] = []
    job = submit(load("vanilla.ring").override(FIELDS), objects.url)
    with follower.following(objects, lambda: [job.run_id], asked, "", warned.append):
        state = job.wait().state
        for _ in range(20):  # looks go on as long as anybody waits
            threading.Event().wait(0.1)
    return state, warned


def test_a_tool_that_fails_for_a_while_is_warned_of_once_and_gets_the_rest(objects: Objects) -> None:
    tool = Moody(ill=3)
    state, warned = followed(objects, {"moody": tool})
    assert state == "completed"
    assert tool.steps == STEPS
    assert tool.ends == ["completed"]
    said = "moody fails (No space left on device); training goes on, and it is told again from where it was"
    assert warned == [said]


def test_a_tool_that_always_fails_costs_two_warnings_and_nothing_else(objects: Objects) -> None:
    tool, other = Moody(ill=10**9), Moody()
    state, warned = followed(objects, {"moody": tool, "other": other})
    assert state == "completed"
    assert other.steps == STEPS
    assert [line.partition(" (")[0] for line in warned] == [
        "moody fails",
        f"moody has not got all of run {objects.folders('runs')[0]}",
    ]


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[Moody]:
    """A tool that never answers."""
    monkeypatch.setattr(follower, "PATIENCE", 0.3)
    tool = Moody()
    tool.gate.clear()
    yield tool
    tool.gate.set()


def test_a_tool_that_hangs_is_given_up(objects: Objects, stuck: Moody) -> None:
    state, warned = followed(objects, {"stuck": stuck})
    assert (state, warned) == ("completed", ["stuck: not all was taken within 0.3 s; the store has it"])
