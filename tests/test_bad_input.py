"""What a person can get wrong: one clear line, an exit code, and nothing half-written."""

from __future__ import annotations

import http.server
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from botocore.exceptions import ClientError
from s3fs.errors import translate_boto_error

from orchestrator.launch import submit
from orchestrator.progress import Event, listening
from orchestrator.recipes import load
from orchestrator.store.filesystem import FileSystem
from orchestrator.store.objects import open_objects
from orchestrator.store.reader import Run
from orchestrator.store.s3 import S3Objects
from tests.support.ceph import free_port
from tests.support.commands import ganctl, refused
from tests.support.pictures import encoded, folder, picture
from tests.support.threads import one_thread

__all__ = ["one_thread"]

CPUS = len(os.sched_getaffinity(0))
GPUS = torch.cuda.device_count()
RING = (
    "vanilla.ring",
    "train.steps=40",
    "train.log_every=10",
    "train.batch=32",
    "gan.width=8",
    "data.num=500",
)


@pytest.fixture(params=["train", "sweep"])
def verb(request: pytest.FixtureRequest) -> str:
    """Both commands that begin something."""
    return str(request.param)


def written(store: str) -> list[str]:
    """Every key in the store; none where there is no such folder."""
    return open_objects(store).list("")


# --- the store


@pytest.mark.parametrize("server", ["moto", "ceph"])
def test_a_missing_bucket(verb: str, server: str, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(f"{server}_store")
    line = refused(verb, *RING, "--store", "s3://no-such-bucket/x", code=4)
    assert "bucket 'no-such-bucket' does not exist" in line
    assert "create it" in line


def test_missing_credentials(
    verb: str, moto_store: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    line = refused(verb, *RING, "--store", moto_store, code=4)
    assert "no credentials" in line
    assert "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in line


def test_wrong_credentials(verb: str, ceph_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-key")
    line = refused(verb, *RING, "--store", ceph_store, code=4)
    assert "refuses these credentials" in line
    assert "not-the-key" not in line


def test_a_store_that_refuses_conditional_writes(
    verb: str, moto_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = FileSystem.call_s3

    def refusing(system: FileSystem, method: str, *args: Any, **kwargs: Any) -> Any:
        if "IfNoneMatch" in kwargs:
            meta = {"HTTPStatusCode": 501}
            said = {"Error": {"Code": "NotImplemented"}, "ResponseMetadata": meta}
            raise translate_boto_error(ClientError(said, "PutObject"))
        return call(system, method, *args, **kwargs)

    monkeypatch.setattr(FileSystem, "call_s3", refusing)
    line = refused(verb, *RING, "--store", moto_store, code=4)
    assert "answered NotImplemented" in line
    assert written(moto_store) == []


def test_a_store_that_ignores_conditional_writes_is_told_of_and_trained_on(
    moto_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(S3Objects, "create", S3Objects.put)
    told: list[Event] = []
    with listening(told.append):
        run = submit(load("vanilla.ring").override({"train.steps": 10, "data.num": 500}), moto_store)
        outcome = run.wait()
    assert outcome.step == 10
    assert "`If-None-Match: *`" in told[0].alarm
    assert "nothing can be promoted" in told[0].alarm


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 96 KiB, which takes a run's first documents and no checkpoint."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_fills_up_during_a_run_which_goes_on_once_there_is_room(small_disk: Path) -> None:
    store = str(small_disk / "store")
    larger = [*RING[:-2], "gan.width=64", "train.checkpoint_every=20", "train.sample_every=20"]
    result = ganctl("train", *larger, "train.on_collapse=ignore", "--store", store, code=4)
    [line] = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert "the disk is full" in line
    assert "free space there" in line
    objects = open_objects(store)
    [run_id] = objects.folders("runs")
    assert not list(small_disk.rglob(".tmp/*"))
    assert Run(objects, run_id).sealed() is None
    assert Run(objects, run_id).checkpoints() == []
    subprocess.run(["mount", "-o", "remount,size=32m", str(small_disk)], check=True)
    ganctl("train", "--resume", run_id, "--store", store)
    assert Run(objects, run_id).metrics()["step"].to_pylist() == [10, 20, 30, 40]


def test_a_disk_that_is_full_already(verb: str, small_disk: Path) -> None:
    with pytest.raises(OSError, match="No space"):
        (small_disk / "ballast").write_bytes(bytes(2**20))
    line = refused(verb, *RING, "--store", small_disk / "store", code=4)
    assert "the disk is full" in line
    assert written(str(small_disk / "store")) == []


# --- the data


def test_an_empty_folder(verb: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    words = ("dcgan.digits", "--data", tmp_path / "data", "--store", tmp_path / "store")
    line = refused(verb, *words, *searching(verb), code=3)
    assert f"no image below data.path '{tmp_path}/data'" in line
    assert ".png" in line
    assert not (tmp_path / "store").exists()


def test_a_folder_that_is_not_there(verb: str, tmp_path: Path) -> None:
    words = ("dcgan.digits", "--data", tmp_path / "nowhere", "--store", tmp_path / "store")
    assert "does not exist" in refused(verb, *words, *searching(verb), code=3)
    assert not (tmp_path / "store").exists()


def test_one_channel_mixed_with_three(verb: str, tmp_path: Path) -> None:
    data = folder(tmp_path / "data", num=20)
    (data / "grey.png").write_bytes(encoded(picture(0, mode="L")))
    words = ("dcgan.digits", "--data", data, "--store", tmp_path / "store")
    line = refused(verb, *words, *searching(verb), code=3)
    assert "mix 1 channel ('grey.png') and 3 channels" in line
    assert "set data.channels=3 or data.channels=1" in line
    assert not (tmp_path / "store").exists()


def test_a_batch_larger_than_the_data_set(verb: str, tmp_path: Path) -> None:
    words = (verb, *RING, "train.batch=501", "--store", tmp_path)
    line = refused(*words, code=3)
    assert "batch 501 is larger than the data set (500 samples): set train.batch ≤ 500" in line
    assert written(str(tmp_path)) == []


def test_a_batch_smaller_than_the_number_of_workers(tmp_path: Path) -> None:
    if CPUS < 2:
        pytest.skip("needs two CPUs")
    line = refused("train", *RING, "train.batch=1", "--workers", 2, "--store", tmp_path, code=3)
    assert "batch 1 leaves some of 2 workers without a sample" in line
    assert written(str(tmp_path)) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("cgan.digits", "data.labelled=false"), "cgan needs labels"),
        (("dcgan.digits", "data.kind=ring"), "(C, H, W)"),
        (("dcgan.digits", "data.size=12"), "12"),
        (("cyclegan.digits", "data.kind=digits"), "use data.kind=domains, digit_domains or photo_domains"),
    ],
)
def test_a_family_that_cannot_train_on_the_data(
    verb: str, words: tuple[str, ...], told: str, tmp_path: Path
) -> None:
    assert told in refused(verb, *words, *searching(verb), "--store", tmp_path, code=2)
    assert written(str(tmp_path)) == []


def test_pictures_of_a_size_that_the_family_cannot_draw(verb: str, tmp_path: Path) -> None:
    data = folder(tmp_path / "data", num=100, size=(12, 12))
    words = ("dcgan.digits", "--data", data, "--store", tmp_path / "store", "train.batch=8")
    line = refused(verb, *words, *searching(verb), code=2)
    assert "pictures of 12 px" in line
    assert "data.size" in line
    assert not (tmp_path / "store").exists()


def searching(verb: str) -> tuple[str, ...]:
    """What `sweep` needs besides, where a recipe names no search space."""
    return ("gan.lr_g=loguniform(1e-4,1e-3)",) if verb == "sweep" else ()


# --- the machine


def test_more_workers_than_processors_with_the_arithmetic_at_once(tmp_path: Path) -> None:
    began = time.monotonic()
    line = refused("train", *RING, "--workers", CPUS + 3, "--store", tmp_path, code=6)
    assert f"{CPUS + 3} workers x 1 CPU = {CPUS + 3} CPUs, there are {CPUS}: lower scale.workers" in line
    assert time.monotonic() - began < 5
    assert written(str(tmp_path)) == []


def test_more_processors_a_trial_than_there_are(tmp_path: Path) -> None:
    line = refused("sweep", *RING, f"scale.cpus_per_worker={CPUS + 1}", "--store", tmp_path, code=6)
    assert f"1 workers x {CPUS + 1} CPU = {CPUS + 1} CPUs, there are {CPUS}" in line
    assert written(str(tmp_path)) == []


def test_more_gpus_than_there_are(tmp_path: Path) -> None:
    words = ("train", *RING, f"scale.gpus_per_worker={GPUS + 1}", "--on", "local", "--store", tmp_path)
    line = refused(*words, code=6)
    assert f"1 workers x {GPUS + 1} GPU = {GPUS + 1} GPUs, there are {GPUS}" in line
    assert written(str(tmp_path)) == []


def test_several_workers_in_this_process(tmp_path: Path) -> None:
    line = refused("train", *RING, "--workers", 2, "--on", "inline", "--store", tmp_path, code=6)
    assert "use --on local" in line
    assert written(str(tmp_path)) == []


def test_an_address_where_nothing_listens(verb: str, tmp_path: Path) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    line = refused(verb, *RING, "--on", address, "--store", tmp_path, code=5)
    assert f"no Ray dashboard answers at {address}" in line
    assert written(str(tmp_path)) == []


def test_an_address_where_something_else_listens(tmp_path: Path) -> None:
    class Nothing(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Nothing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        assert "no Ray dashboard" in refused("train", *RING, "--on", address, "--store", tmp_path, code=5)
        server.shutdown()
    assert written(str(tmp_path)) == []


def test_a_cluster_that_cannot_see_a_folder_of_this_machine(tmp_path: Path) -> None:
    line = refused("train", *RING, "--on", "http://cluster.example:8265", "--store", tmp_path, code=2)
    assert "which http://cluster.example:8265 cannot see: use s3://" in line
    assert written(str(tmp_path)) == []


def test_no_cluster_around_this_process(tmp_path: Path) -> None:
    """In a process of its own: another test may hold a Ray here."""
    words = ["train", *RING, "--on", "auto", "--store", str(tmp_path)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {
        "TMPDIR": str(tmp_path)
    }
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", *words], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 5, done.stderr
    assert "not in a Ray cluster; use --on local, or --on http://HEAD:8265" in done.stderr


# --- names


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("vanilla.rng",), 5, "did you mean 'vanilla.ring'?"),
        (("absent.yaml",), 5, "no file 'absent.yaml'"),
        (("no_such_module:recipe",), 5, "cannot be imported"),
        (("vanilla.ring", "train.stesp=3"), 2, "did you mean `train.steps`?"),
        (("vanilla.ring", "gan.width=wide"), 2, "`gan.width` = 'wide'"),
        (("vanilla.ring", "gan.width"), 2, "field=value"),
        (("vanilla.ring", "--on", "clowd"), 2, "inline, local"),
        ((), 2, "name a recipe"),
    ],
)
def test_a_name_that_means_nothing(words: tuple[str, ...], code: int, told: str, tmp_path: Path) -> None:
    assert told in refused("train", *words, "--store", tmp_path, code=code)
    assert written(str(tmp_path)) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("vanilla.ring", "--sampler", "random_"), "did you mean `random`?"),
        (("vanilla.ring", "--on", "inline"), "--on 'inline'"),
        (("wgan.ring",), "names no search space"),
        (("vanilla.ring", "lr_ratoi=loguniform(0.1,1)"), "did you mean `gan.lr_ratio`?"),
        (("vanilla.ring", "lr_ratio=loguniform(1,0.1)"), "low 1 must be below high 0.1"),
    ],
)
def test_a_sweep_that_means_nothing(words: tuple[str, ...], told: str, tmp_path: Path) -> None:
    assert told in refused("sweep", *words, "--store", tmp_path, code=2)
    assert written(str(tmp_path)) == []


@pytest.mark.parametrize("words", [("train", "--resume"), ("sweep", "--resume"), ("runs", "show")])
@pytest.mark.parametrize("name", ["20200101-000000-aaaaaa", "nonsense"])
def test_an_id_that_does_not_exist(words: tuple[str, str], name: str, tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert f"no {'sweep' if words[0] == 'sweep' else 'run'} '{name}'" in refused(
        *words, name, "--store", store, code=5
    )
    assert not store.exists()


def test_a_run_that_has_ended(tmp_path: Path) -> None:
    experiment = load(RING[0]).override({"train.steps": 10, "train.log_every": 10, "gan.width": 8})
    outcome = submit(experiment, str(tmp_path)).wait()
    before = {key: open_objects(str(tmp_path)).get(key) for key in written(str(tmp_path))}
    line = refused("train", "--resume", outcome.run_id, "--store", tmp_path, code=4)
    assert f"run {outcome.run_id} has ended (completed) and cannot be resumed; start a new one" in line
    assert {key: open_objects(str(tmp_path)).get(key) for key in written(str(tmp_path))} == before
