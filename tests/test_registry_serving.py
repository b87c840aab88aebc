"""What a serving process gets: exactly the promoted checkpoint, and word of each new champion."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from gans.checkpoint import WEIGHTS
from gans.generator import Model
from orchestrator import registry
from orchestrator.errors import ConfigError, NotFound, StoreError
from orchestrator.experiment import parse
from orchestrator.registry import Candidate, Promotion, Registry, candidates
from orchestrator.store import filesystem
from orchestrator.store.layout import promotion_key
from orchestrator.store.objects import Objects, open_objects
from orchestrator.store.reader import Run
from tests.support.ceph import S3Server
from tests.support.faults import proxy
from tests.support.models import bare_run, trained_run
from tests.support.runs import tiny
from tests.support.threads import one_thread

__all__ = ["one_thread"]

Monkeypatch = pytest.MonkeyPatch


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A store with a run of a conditional model, promoted as `faces` at step 2 of 4."""
    store = str(tmp_path_factory.mktemp("serving") / "store")
    run_id = trained_run(open_objects(store))
    Registry(open_objects(store)).promote("faces", Candidate(run_id, 2), 0, "by hand")
    return store, run_id


def expected(objects: Objects, run_id: str, step: int, num: int, **how: object) -> torch.Tensor:
    """Samples of the run's checkpoint at `step`, drawn from its files directly."""
    run = Run(objects, run_id)
    gan, dataset = parse(run.document()["experiment"]).gan, tiny("cgan")[1]
    return Model.restore(gan, dataset.spec, run.read_checkpoint(step)).sample(num, **how)["x"]  # type: ignore[arg-type]


def test_the_weights_a_promotion_vouches_for_are_those_that_are_loaded() -> None:
    assert candidates.WEIGHTS == WEIGHTS


def test_the_promoted_checkpoint_is_loaded_and_not_the_newest(made: tuple[str, str]) -> None:
    store, run_id = made
    faces = registry.load("faces", store)
    drawn = faces.sample(6, seed=3).cpu()
    objects = open_objects(store)
    assert torch.equal(drawn, expected(objects, run_id, 2, 6, seed=3))
    assert not torch.equal(drawn, expected(objects, run_id, 4, 6, seed=3))
    assert (faces.promotion.version, faces.promotion.step) == (1, 2)
    assert faces.experiment.name == "cgan.digits"
    labelled = faces.sample(2, labels=[7]).cpu()
    assert torch.equal(labelled, expected(objects, run_id, 2, 2, labels=[7]))
    pictures = faces.to_uint8(faces.sample(6, seed=3))
    assert (pictures.shape, pictures.dtype) == ((6, 8, 8, 1), np.uint8)
    with pytest.raises(ConfigError, match="labels"):
        faces.sample(2, labels=[99])


def test_a_model_loads_from_s3(moto_store: str) -> None:
    objects = open_objects(moto_store)
    run_id = trained_run(objects)
    Registry(objects).promote("faces", Candidate(run_id), 0, "by hand")
    drawn = registry.load("faces", moto_store).sample(3).cpu()
    assert torch.equal(drawn, expected(objects, run_id, 4, 3))


def test_the_store_is_that_of_the_environment_else_that_of_the_command_line(
    made: tuple[str, str], tmp_path: Path, monkeypatch: Monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANCTL_STORE", made[0])
    assert registry.load("faces").promotion.run_id == made[1]
    monkeypatch.delenv("GANCTL_STORE")
    with pytest.raises(NotFound, match=f"no model 'faces' in file://{tmp_path}/ganctl-store"):
        registry.load("faces")
    shutil.copytree(made[0], tmp_path / "ganctl-store")
    assert registry.load("faces").promotion.run_id == made[1]


def test_weights_that_were_exchanged_are_not_served(made: tuple[str, str], tmp_path: Path) -> None:
    store = shutil.copytree(made[0], tmp_path / "store")
    folder = store / "runs" / made[1] / "checkpoints"
    shutil.rmtree(folder / "000000000002-a0001")
    shutil.copytree(folder / "000000000004-a0001", folder / "000000000002-a0001")
    with pytest.raises(StoreError, match="is not what was promoted; roll back"):
        registry.load("faces", str(store))
    shutil.rmtree(folder / "000000000002-a0001")
    with pytest.raises(NotFound, match="no finished checkpoint at step 2 of attempt 1"):
        registry.load("faces", str(store))


def test_importing_the_registry_and_reading_it_loads_no_torch(made: tuple[str, str]) -> None:
    code = (
        "import sys\nfrom orchestrator import registry\nfrom orchestrator.store.objects import open_objects\n"
        "assert registry.Registry(open_objects(sys.argv[1])).require('faces').version == 1\n"
        "assert next(registry.watch('faces', sys.argv[1])).version == 1\n"
        "assert not {'torch', 'ray', 'pyarrow'} & set(sys.modules)\n"
    )
    root = Path(__file__).parents[1]
    subprocess.run([sys.executable, "-c", code, made[0]], cwd=root, check=True, timeout=60)


# --- watching


class Watcher:
    """A serving process's thread: it collects what `watch` tells until it is ended."""

    def __init__(self, name: str, store: str) -> None:
        self.told: list[Promotion] = []
        self._stop = threading.Event()
        self._watch = registry.watch(name, store, every=0.05, stop=self._stop)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        for promotion in self._watch:
            self.told.append(promotion)

    def numbers(self, last: int, seconds: float = 20.0) -> list[int]:
        """The numbers told, once `last` is among them or the time is over."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and last not in [p.number for p in self.told]:
            time.sleep(0.02)
        return [promotion.number for promotion in self.told]

    def end(self) -> None:
        self._stop.set()
        self._thread.join(20)
        assert not self._thread.is_alive()


@pytest.fixture
def watchers() -> Iterator[list[Watcher]]:
    """What is put in is ended with the test."""
    watching: list[Watcher] = []
    yield watching
    for watcher in watching:
        watcher.end()


def test_a_server_hears_of_the_present_champion_and_of_each_that_follows(
    store_url: str, watchers: list[Watcher]
) -> None:
    objects = open_objects(store_url)
    runs, models = [bare_run(objects), bare_run(objects)], Registry(objects)
    watchers.append(Watcher("m", store_url))
    [watcher] = watchers
    assert watcher.numbers(1, seconds=0.3) == []  # there is no such model yet
    models.promote("m", Candidate(runs[0]), 0, "")
    assert watcher.numbers(1) == [1]
    models.promote("m", Candidate(runs[1]), 1, "")
    assert watcher.numbers(2) == [1, 2]
    models.rollback("m")
    assert watcher.numbers(3) == [1, 2, 3]
    assert watcher.told == models.history("m")
    late = Watcher("m", store_url)
    watchers.append(late)
    assert late.numbers(3) == [3]


def test_an_outage_of_the_server_is_survived(
    moto_server: S3Server, moto_store: str, monkeypatch: Monkeypatch, caplog: pytest.LogCaptureFixture
) -> None:
    direct = open_objects(moto_store)
    runs, models = [bare_run(direct), bare_run(direct)], Registry(direct)
    models.promote("m", Candidate(runs[0]), 0, "")
    monkeypatch.setattr(filesystem, "PATIENCE", 0.5)
    with proxy(moto_server.endpoint) as faults:
        monkeypatch.setenv("AWS_ENDPOINT_URL", faults.endpoint)
        watcher = Watcher("m", moto_store)
        assert watcher.numbers(1) == [1]
        faults.down()
        until = time.monotonic() + 20
        while "looking on" not in caplog.text and time.monotonic() < until:
            time.sleep(0.05)
        models.promote("m", Candidate(runs[1]), 1, "")
        assert watcher.numbers(2, seconds=0.3) == [1]
        faults.up()
        assert watcher.numbers(2) == [1, 2]
        watcher.end()
    assert caplog.text.count("WARNING") == 1
    assert "no answer from" in caplog.text


def test_a_damaged_record_is_passed_over_and_the_next_champion_told(
    file_store: str, watchers: list[Watcher]
) -> None:
    objects = open_objects(file_store)
    runs, models = [bare_run(objects), bare_run(objects)], Registry(objects)
    models.promote("m", Candidate(runs[0]), 0, "")
    objects.put(promotion_key("m", 1), b"not a record")
    watchers.append(Watcher("m", file_store))
    [watcher] = watchers
    assert watcher.numbers(1, seconds=0.3) == []
    models.promote("m", Candidate(runs[1]), 1, "")
    assert watcher.numbers(2) == [2]


def test_watching_ends_when_it_is_closed(made: tuple[str, str]) -> None:
    stop = threading.Event()
    patience = threading.Timer(20, stop.set)  # should it tell nothing
    patience.start()
    watching = registry.watch("faces", made[0], every=60, stop=stop)
    assert next(watching).number == 1
    patience.cancel()
    watching.close()  # type: ignore[attr-defined]
    assert list(watching) == []


def test_watching_what_cannot_be_a_name_is_refused(made: tuple[str, str]) -> None:
    with pytest.raises(ConfigError, match="model name 'No Name'"):
        next(registry.watch("No Name", made[0]))
