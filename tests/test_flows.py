"""The flows in this process, against Prefect's temporary server; nothing else runs."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import (
    AlreadyExists,
    ConfigError,
    DataError,
    NotFound,
    ResourceError,
    RunFailed,
    StoreError,
)
from orchestrator.store.objects import open_objects
from orchestrator.store.reader import Run
from orchestrator.store.writer import RunWriter, newest_attempt
from tests.support.ceph import free_port
from tests.support.prefect import Api

SMALL = {
    "train.steps": 40,
    "train.batch": 32,
    "train.log_every": 10,
    "train.checkpoint_every": 10,
    "train.evaluate_every": 40,
    "train.sample_every": 40,
    "train.evaluate_samples": 256,
}
EXPLODES = SMALL | {"gan.lr_g": 1e6, "train.on_collapse": "stop"}
PICTURE = re.compile(r"!\[[^]]*\]\(data:image/png;base64,([A-Za-z0-9+/=]+)\)")


def runs_in(store: str) -> list[str]:
    return open_objects(store).folders("runs")


@pytest.fixture
def no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.steps import train_run

    monkeypatch.setattr(train_run, "retry_delay_seconds", 0)


def test_train_ends_completed_and_its_grid_and_figures_are_an_artifact(
    prefect_api: Api, file_store: str
) -> None:
    from flows.jobs import train

    result: Any = train("vanilla.ring", file_store, on="inline", overrides=SMALL)

    run = Run(open_objects(file_store), result["run_id"])
    assert runs_in(file_store) == [run.id]
    assert result["state"] == run.state() == "completed"
    flow_run = prefect_api.last_flow_run()
    assert flow_run["state_name"] == "Completed"
    shown = prefect_api.artifacts(flow_run["id"])["samples-vanilla-ring"]
    assert shown["type"] == "markdown"
    assert f"| fid | {result['figures']['fid']:.4g} | {result['floor']['fid']:.4g} |" in shown["data"]
    picture = PICTURE.search(shown["data"])
    assert picture is not None
    assert base64.b64decode(picture[1]) == run.objects.get(run.samples()[-1][1])


def test_a_flow_run_is_named_for_what_it_does(prefect_api: Api, file_store: str) -> None:
    from flows.jobs import train

    with pytest.raises(DataError):
        train("vanilla.ring", file_store, on="inline", overrides={"train.steps": 7, "train.batch": 10**6})
    assert prefect_api.last_flow_run()["name"] == "train vanilla.ring train.steps=7 train.batch=1000000"


def test_a_run_that_diverges_fails_the_flow_with_the_reason_and_is_not_tried_again(
    prefect_api: Api, file_store: str
) -> None:
    from flows.jobs import train

    with pytest.raises(RunFailed, match="ended diverged at step"):
        train("vanilla.ring", file_store, on="inline", overrides=EXPLODES)

    (run_id,) = runs_in(file_store)
    flow_run = prefect_api.last_flow_run()
    assert flow_run["state_name"] == "Failed"
    said = flow_run["state"]["message"]
    assert said.startswith(f"run {run_id} ended diverged")
    assert "\n" not in said
    assert newest_attempt(open_objects(file_store), run_id) == 1


def test_a_wrong_field_fails_the_flow_in_one_line_and_leaves_nothing(
    prefect_api: Api, file_store: str
) -> None:
    from flows.jobs import train

    with pytest.raises(ConfigError, match=r"did you mean `gan\.width`"):
        train("vanilla.ring", file_store, on="inline", overrides={"gan.wdith": 3})

    said = prefect_api.last_flow_run()["state"]["message"]
    assert "unknown field `gan.wdith`" in said
    assert "\n" not in said
    assert not Path(file_store.removeprefix("file://"), "runs").exists()


@pytest.mark.parametrize("error", [StoreError("503 Slow Down"), ConnectionResetError("peer")])
@pytest.mark.usefixtures("no_delay")
def test_after_a_fault_that_passes_the_same_run_goes_on_from_its_checkpoint(
    prefect_api: Api, file_store: str, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    from flows.jobs import train

    write, faults = RunWriter.checkpoint, [error]

    def checkpoint(self: RunWriter, step: int, *args: Any, **kwargs: Any) -> None:
        if step == 30 and faults:
            raise faults.pop()
        write(self, step, *args, **kwargs)

    monkeypatch.setattr(RunWriter, "checkpoint", checkpoint)
    result: Any = train("vanilla.ring", file_store, on="inline", overrides=SMALL)

    assert runs_in(file_store) == [result["run_id"]]
    run = Run(open_objects(file_store), result["run_id"])
    assert result["state"] == "completed"
    rows = run.metrics().to_pylist()
    assert [(row["step"], row["attempt"]) for row in rows] == [(10, 1), (20, 1), (30, 2), (40, 2)]


@pytest.mark.usefixtures("no_delay")
def test_what_fails_three_times_fails_the_flow_and_says_how_to_go_on(
    prefect_api: Api, file_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.jobs import train
    from orchestrator.launch import InlineJob

    def wait(self: InlineJob, progress: object = None) -> None:
        RunWriter.attach(self.objects, self.run_id)
        raise RunFailed("run was cut off")

    monkeypatch.setattr(InlineJob, "wait", wait)
    with pytest.raises(RunFailed, match="cut off"):
        train("vanilla.ring", file_store, on="inline", overrides=SMALL)
    (run_id,) = runs_in(file_store)
    assert newest_attempt(open_objects(file_store), run_id) == 3


def test_a_flow_run_that_is_retried_goes_on_with_its_run(
    prefect_api: Api, file_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows import artifacts, jobs

    show, faults = artifacts.show_samples, [OSError("the server is away")]

    def show_samples(*args: Any) -> None:
        if faults:
            raise faults.pop()
        show(*args)

    monkeypatch.setattr(jobs, "show_samples", show_samples)
    retried = jobs.train.with_options(retries=1, retry_delay_seconds=0)
    result: Any = retried("vanilla.ring", file_store, on="inline", overrides=SMALL)
    assert runs_in(file_store) == [result["run_id"]]
    assert newest_attempt(open_objects(file_store), result["run_id"]) == 1


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("field"),
        DataError("folder"),
        ResourceError("CPUs"),
        NotFound("run"),
        AlreadyExists("sealed"),
        RunFailed("collapsed"),
        ZeroDivisionError("ours"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_will_not_pass_is_not_tried_again(prefect_home: Path, error: Exception) -> None:
    from prefect.states import Failed

    from flows.steps import run_trials, train_run

    for task in (train_run, run_trials):
        assert task.retries
        may_pass: Any = task.retry_condition_fn
        assert not may_pass(task, None, Failed(data=error))
        assert may_pass(task, None, Failed(data=StoreError("503 Slow Down")))


def test_the_table_of_trials_has_every_column_in_its_first_row(prefect_api: Api) -> None:
    from prefect import flow

    from flows.artifacts import show_trials

    trial = {"figures": {}, "step": 20, "run_id": "r", "reason": None, "objective": None}
    lost = trial | {
        "number": 0,
        "state": "PRUNED",
        "end": "diverged",
        "params": {"gan.loss": "hinge"},
    }
    won = trial | {
        "number": 1,
        "state": "COMPLETE",
        "end": "complete",
        "params": {"gan.lr_g": 0.00123456},
    }
    won |= {"objective": 2.0, "figures": {"fid": 2.0}}

    @flow
    def showing() -> None:
        show_trials("My demo", {"trials": [lost, won], "best": won, "sweep_id": "s"})

    showing()
    shown = prefect_api.artifacts(prefect_api.last_flow_run()["id"])["trials-my-demo"]
    assert shown["type"] == "table"
    rows = json.loads(shown["data"])
    assert [row["trial"] for row in rows] == [1, 0]
    assert list(rows[0]) == ["trial", "ended", "gan.lr_g", "gan.loss", "fid", "step", "run"]
    assert rows[0]["gan.lr_g"] == "0.001235"
    assert rows[1] == {**rows[1], "ended": "diverged", "gan.loss": "hinge", "gan.lr_g": "", "fid": ""}


def test_the_form_offers_the_samplers_there_are(prefect_home: Path) -> None:
    from flows.jobs import sweep
    from orchestrator.sweep.ledger import SAMPLERS

    form = sweep.parameters.model_dump()["properties"]
    assert form["sampler"]["enum"] == list(SAMPLERS)
    assert form["trials"]["minimum"] == 1


def test_serving_says_what_is_wrong_with_flow_cron_zone_and_server(
    prefect_home: Path, closed_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.deploy import deployment_of, require_server

    with pytest.raises(ConfigError, match="--flow 'tarin': allowed are train, sweep, sweep-then-train"):
        deployment_of("tarin", {}, "name")
    with pytest.raises(ConfigError, match=r"--cron '61 \* \* \* \*'.*Invalid cron"):
        deployment_of("train", {}, "name", cron="61 * * * *")
    with pytest.raises(ConfigError, match=r"Mars/Olympus.*write for instance"):
        deployment_of("train", {}, "name", cron="0 3 * * *", timezone="Mars/Olympus")
    with temporary_settings({PREFECT_API_URL: closed_url}), pytest.raises(NotFound, match=closed_url):
        require_server()
    with (
        temporary_settings(restore_defaults={PREFECT_API_URL}),
        pytest.raises(ConfigError, match="server start"),
    ):
        require_server()


@pytest.fixture
def closed_url() -> str:
    return f"http://127.0.0.1:{free_port()}/api"
