"""Prefect's temporary server: alone with its database, deaf to Ctrl-C, and gone with the process it is for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from orchestrator.store.objects import open_objects
from orchestrator.store.reader import Run
from tests.support.prefect import until

ALONE = """
import os, time
from flows.local import start_temporary_server
start_temporary_server()
print(os.environ["PREFECT_API_URL"], flush=True)
time.sleep(60)
"""


@pytest.mark.usefixtures("prefect_api")
def test_a_process_that_is_killed_leaves_no_server() -> None:
    env = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    with subprocess.Popen(
        [sys.executable, "-c", ALONE], env=env, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() != os.environ["PREFECT_API_URL"]
        servers = psutil.Process(process.pid).children()
        process.kill()
    assert servers
    assert not psutil.wait_procs(servers, timeout=10)[1]


TRAINING = """
import sys
from flows.local import start_temporary_server
start_temporary_server()
from flows.jobs import train
train("vanilla.ring", sys.argv[1], on="inline", overrides={"train.steps": int(sys.argv[2]), "train.evaluate_every": 0,
      "train.sample_every": 0, "train.checkpoint_every": 10, "train.log_every": 10, "train.batch": 32})
"""


def states(store: str) -> list[str]:
    objects = open_objects(store)
    return [Run(objects, run_id).state() for run_id in objects.folders("runs")]


@pytest.mark.slow
def test_two_processes_begin_a_new_database_at_once_in_silence(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    env |= {"PREFECT_HOME": str(tmp_path / "home"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    env |= {"PREFECT_LOGGING_LEVEL": "WARNING"}
    store = str(tmp_path / "store")
    both = [
        subprocess.Popen(
            [sys.executable, "-c", TRAINING, store, "20"], env=env, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=180)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert said == ["", ""]
    assert [Run(open_objects(store), run_id).state() for run_id in open_objects(store).folders("runs")] == [
        "completed"
    ] * 2


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_api")
def test_ctrl_c_in_a_terminal_ends_flow_and_server_and_leaves_a_run_to_resume(
    prefect_home: Path, tmp_path: Path
) -> None:
    env = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    store = str(tmp_path / "store")
    command = [sys.executable, "-c", TRAINING, store, "1000000"]
    with subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        try:
            until(lambda: any(Path(store).glob("runs/*/checkpoints/*/commit.json")), 300, process)
            family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
            begun = time.monotonic()
            os.killpg(process.pid, signal.SIGINT)
            process.wait(60)
            assert time.monotonic() - begun < 30
        finally:
            process.kill()
    assert len(family) > 1
    assert not psutil.wait_procs(family, timeout=10)[1]
    assert [Run(open_objects(store), run_id).state() for run_id in open_objects(store).folders("runs")] == [
        "interrupted"
    ]
