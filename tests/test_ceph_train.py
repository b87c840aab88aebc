"""`ganctl train --workers 2` onto a real S3 server, as a person runs it, and Ctrl-C in the middle of it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pyarrow.fs
import pytest

from gans.pictures import SYNTHETIC, read_metadata
from orchestrator.store.objects import open_objects
from orchestrator.store.reader import Run
from tests.support.ceph import ACCESS_KEY, SECRET_KEY, S3Server
from tests.support.rays import nothing_left, short_folder

pytestmark = pytest.mark.slow

STEPS = 40
RECIPE = ("r3gan.digits", "gan.width=8", "data.size=8", f"train.steps={STEPS}", "train.batch=32")
CADENCE = (
    "train.log_every=10",
    "train.evaluate_every=20",
    "train.sample_every=20",
    "train.checkpoint_every=20",
)


def environ(folder: str) -> dict[str, str]:
    """The environment of a `ganctl` whose Ray lives in `folder`."""
    outer = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "GANCTL_STORE"))}
    return outer | {"GANCTL_RAY_TMP": folder}


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "orchestrator.cli", *words]


def ganctl(folder: str, *words: str) -> Any:
    """The JSON that a command prints."""
    done = subprocess.run(
        command(*words, "--json"), env=environ(folder), capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_two_workers_train_onto_ceph_and_any_tool_reads_the_bucket(
    ceph_server: S3Server, ceph_store: str, tmp_path: Path
) -> None:
    with short_folder() as folder:
        outcome = ganctl(folder, "train", *RECIPE, *CADENCE, "--workers", "2", "--store", ceph_store)
        nothing_left(folder)
        listed = ganctl(folder, "runs", "list", "--store", ceph_store)
        grid = tmp_path / "grid.png"
        ganctl(folder, "sample", "latest", "-n", "9", "-o", str(grid), "--store", ceph_store)
    assert (outcome["state"], outcome["step"]) == ("completed", STEPS)
    [row] = listed["runs"]
    assert (row["id"], row["state"], row["step"]) == (outcome["run_id"], "completed", STEPS)
    assert read_metadata(grid.read_bytes())["run"] == outcome["run_id"]

    objects = open_objects(ceph_store)
    run = Run(objects, outcome["run_id"])
    assert [step for step, _ in run.checkpoints()] == [20, STEPS]
    assert "weights.safetensors" in run.read_checkpoint()
    pictures = [objects.get(key) for _, key in run.samples()]
    assert [SYNTHETIC in read_metadata(png).values() for png in pictures] == [True, True]

    parts = f"{ceph_store}/runs/{run.id}/m"
    by_pandas = pd.concat(
        pd.read_parquet(io.BytesIO(objects.get(key))) for key in objects.list(f"runs/{run.id}/m")
    )
    system = pyarrow.fs.S3FileSystem(
        access_key=ceph_server.access_key,
        secret_key=ceph_server.secret_key,
        endpoint_override=ceph_server.endpoint,
        region=ceph_server.region,
    )
    by_pyarrow = ds.dataset(parts.removeprefix("s3://"), filesystem=system, format="parquet").to_table()
    assert by_pandas["step"].tolist() == by_pyarrow["step"].to_pylist() == [10, 20, 30, 40]
    assert np.isfinite(by_pandas["loss_d"]).all()
    assert by_pandas["fid"].dropna().iloc[-1] == outcome["figures"]["fid"]

    for key in objects.list(""):
        data = objects.get(key)
        assert ACCESS_KEY.encode() not in data, key
        assert SECRET_KEY.encode() not in data, key


def test_ctrl_c_leaves_no_process_and_the_same_command_goes_on(file_store: str) -> None:
    cadence = ("train.steps=6000", "train.log_every=10", "train.checkpoint_every=100", "data.num=500")
    words = ("train", "vanilla.ring", "gan.width=16", *cadence, "--workers", "2", "--store", file_store)
    objects = open_objects(file_store)
    with short_folder() as folder:
        begun = subprocess.Popen(
            command(*words),
            env=environ(folder),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        deadline = time.monotonic() + 120
        while not any(Run(objects, run_id).checkpoints() for run_id in objects.folders("runs")):
            assert time.monotonic() < deadline
            assert begun.poll() is None, begun.communicate()
            time.sleep(0.1)
        os.killpg(begun.pid, signal.SIGINT)  # as a terminal does it
        _, said = begun.communicate(timeout=60)
        assert begun.returncode == 130, said
        assert said.splitlines()[-1] == "interrupted"
        assert "Traceback" not in said
        nothing_left(folder)

        [run_id] = objects.folders("runs")
        run = Run(objects, run_id)
        assert run.sealed() is None
        outcome = ganctl(folder, "train", "--resume", run_id, "--store", file_store)
        nothing_left(folder)
    assert (outcome["state"], outcome["step"]) == ("completed", 6000)
    table = run.metrics()
    assert table["step"].to_pylist() == list(range(10, 6001, 10))
    assert set(table["attempt"].to_pylist()) == {1, 2}
