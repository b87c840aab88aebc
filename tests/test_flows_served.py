"""`ganctl serve` against a real Prefect server: cron, form, API, artifacts, Ctrl-C. One sweep on a Ray of our own."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from subprocess import Popen
from typing import Any

import psutil
import pytest

from orchestrator.errors import RunFailed
from orchestrator.store.objects import open_objects
from orchestrator.store.reader import Run
from orchestrator.store.writer import newest_attempt
from tests.support.prefect import Api, server_environment, started, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SHORT = [
    "train.steps=40",
    "train.batch=32",
    "train.evaluate_every=40",
    "train.sample_every=40",
    "train.log_every=10",
]


def serving(server: Api, folder: Path, *words: str) -> AbstractContextManager[Popen[bytes]]:
    """`ganctl serve vanilla.ring` with `words`, on this process's kind of training, results in `folder`/store."""
    command = [sys.executable, "-m", "orchestrator.cli", "serve", "vanilla.ring", *words, "--on", "inline"]
    command += ["--store", str(folder / "store")]
    return started(command, folder / "log", server_environment(folder / "home", server.url))


def deployment(server: Api, flow: str, name: str) -> dict[str, Any] | None:
    response = server.client.get(f"deployments/name/{flow}/{name}")
    return response.json() if response.status_code == 200 else None


@pytest.fixture(scope="module")
def served(prefect_server: Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with `store` and `log` of a deployment train/every-minute."""
    folder = tmp_path_factory.mktemp("served")
    words = [*SHORT, "name=every-minute", "--cron", "* * * * *", "--timezone", "Asia/Kolkata"]
    with serving(prefect_server, folder, *words) as process:
        until(
            lambda: deployment(prefect_server, "train", "every-minute") is not None,
            60,
            process,
            folder / "log",
        )
        yield folder


def served_deployment(server: Api) -> dict[str, Any]:
    found = deployment(server, "train", "every-minute")
    assert found is not None
    return found


def test_the_deployment_has_the_cron_in_its_zone_and_a_form(prefect_server: Api, served: Path) -> None:
    found = served_deployment(prefect_server)
    (schedule,) = found["schedules"]
    assert schedule["active"]
    assert schedule["schedule"]["cron"] == "* * * * *"
    assert schedule["schedule"]["timezone"] == "Asia/Kolkata"
    form = found["parameter_openapi_schema"]["properties"]
    assert list(form) == ["experiment", "store", "on", "overrides", "run_id"]
    assert all(field["description"] for field in form.values())
    assert found["parameters"]["store"] == f"file://{served}/store"
    assert found["parameters"]["experiment"]["train"]["steps"] == 40


def test_a_run_asked_for_through_the_api_takes_overrides_and_shows_its_grid(
    prefect_server: Api, served: Path
) -> None:
    asked = prefect_server.post(
        f"deployments/{served_deployment(prefect_server)['id']}/create_flow_run",
        parameters={"overrides": {"train.steps": 30}},
    )
    flow_run = prefect_server.wait_for(asked["id"], 90, "Completed", "Failed", "Crashed")
    assert flow_run["state_name"] == "Completed", (served / "log").read_text()
    assert flow_run["name"] == "train every-minute train.steps=30"
    shown = prefect_server.artifacts(asked["id"])["samples-every-minute"]["data"]
    assert "](data:image/png;base64,iVBOR" in shown
    store = open_objects(str(served / "store"))
    (run,) = (run for run_id in store.folders("runs") if (run := Run(store, run_id)).id in shown)
    assert run.document()["experiment"]["train"]["steps"] == 30
    assert run.sealed()["step"] == 30  # type: ignore[index]


def test_the_cron_fires_and_leaves_a_sealed_run(prefect_server: Api, served: Path) -> None:
    of_cron = {
        "flow_runs": {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED"]}}},
        "deployments": {"id": {"any_": [served_deployment(prefect_server)["id"]]}},
    }

    def fired() -> list[dict[str, Any]]:
        return [run for run in prefect_server.post("flow_runs/filter", **of_cron) if run["auto_scheduled"]]

    until(lambda: bool(fired()), 100, log=served / "log")
    flow_run = fired()[0]
    assert flow_run["state_name"] == "Completed", flow_run["state"]
    shown = prefect_server.artifacts(flow_run["id"])["samples-every-minute"]["data"]
    store = open_objects(str(served / "store"))
    (run_id,) = (run_id for run_id in store.folders("runs") if run_id in shown)
    sealed = Run(store, run_id).sealed()
    assert sealed is not None
    assert (sealed["state"], sealed["step"]) == ("completed", 40)


def test_ctrl_c_ends_serve_and_its_run_which_a_retry_goes_on_with(
    prefect_server: Api, tmp_path: Path
) -> None:
    words = ["train.steps=1000000", "train.checkpoint_every=50", "train.evaluate_every=0", "name=endless"]
    with serving(prefect_server, tmp_path, *words, "--cron", "0 3 1 1 *") as process:
        until(
            lambda: deployment(prefect_server, "train", "endless") is not None, 60, process, tmp_path / "log"
        )
        found: Any = deployment(prefect_server, "train", "endless")
        asked = prefect_server.post(f"deployments/{found['id']}/create_flow_run", parameters={})
        until(
            lambda: any(tmp_path.glob("store/runs/*/checkpoints/*/commit.json")),
            60,
            process,
            tmp_path / "log",
        )
        family = psutil.Process(process.pid).children(recursive=True)
        begun = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 0, (tmp_path / "log").read_text()
        assert time.monotonic() - begun < 40
    assert family
    assert not psutil.wait_procs(family, timeout=5)[1]
    flow_run = prefect_server.wait_for(asked["id"], 5, "Cancelled")
    assert flow_run["state"]["message"] == "Runner is shutting down."
    paused: Any = deployment(prefect_server, "train", "endless")
    assert paused["paused"]
    store = open_objects(str(tmp_path / "store"))
    (run_id,) = store.folders("runs")
    assert Run(store, run_id).sealed() is None

    # "Retry" in Prefect's UI, once it is served again: another process goes on with the same run.
    with serving(prefect_server, tmp_path, *words, "--cron", "0 3 1 1 *") as process:
        retry = {"type": "SCHEDULED", "name": "AwaitingRetry"}
        prefect_server.post(f"flow_runs/{asked['id']}/set_state", state=retry, force=True)
        until(lambda: newest_attempt(store, run_id) == 2, 60, process, tmp_path / "log")
        unpaused: Any = deployment(prefect_server, "train", "endless")
        assert not unpaused["paused"]
    assert store.folders("runs") == [run_id]


def test_sweep_then_train_shows_its_trials_and_trains_the_best(prefect_api: Api, tmp_path: Path) -> None:
    from flows.jobs import sweep_then_train

    store = str(tmp_path / "store")
    small = {"train.steps": 40, "train.batch": 32, "train.evaluate_every": 40, "train.sample_every": 40}
    result: Any = sweep_then_train(
        "vanilla.ring", store, trials=2, overrides=small, winner={"train.steps": 50}
    )

    best = result["sweep"]["best"]
    winner = Run(open_objects(store), result["run"]["run_id"]).document()
    assert winner["sweep"] == result["sweep"]["sweep_id"]
    assert winner["experiment"]["gan"]["lr_ratio"] == best["params"]["gan.lr_ratio"]
    assert result["run"]["step"] == 50
    shown = prefect_api.artifacts(prefect_api.last_flow_run()["id"])
    assert set(shown) == {"trials-vanilla-ring", "samples-winner"}
    rows = json.loads(shown["trials-vanilla-ring"]["data"])
    assert rows[0]["trial"] == best["number"]
    assert {row["run"] for row in rows} < set(open_objects(store).folders("runs"))


def test_a_sweep_of_which_no_trial_completes_fails_the_flow(prefect_api: Api, tmp_path: Path) -> None:
    from flows.jobs import sweep
    from orchestrator.recipes import load

    doomed = load("vanilla.ring").override(
        {"train.steps": 40, "train.log_every": 10, "train.on_collapse": "stop"}
    )
    document = doomed.document()
    document["search"] = {"gan.lr_g": {"kind": "loguniform", "low": 1e6, "high": 1e7}}
    with pytest.raises(RunFailed, match="no trial completed"):
        sweep(document, str(tmp_path / "store"), trials=2)
    flow_run = prefect_api.last_flow_run()
    assert flow_run["state_name"] == "Failed"
    assert "trial 0 diverged, trial 1 diverged" in flow_run["state"]["message"]
