"""What Prefect's server is told of a retraining, and what the reconciler does about what is gone."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from orchestrator.errors import NotFound
from orchestrator.retrain import rounds, settings
from orchestrator.retrain.retraining import parse
from orchestrator.retrain.round import Round
from orchestrator.retrain.source import look
from orchestrator.store.objects import Objects, open_objects
from orchestrator.store.reader import LOST_AFTER
from tests.support.prefect import Api

WHOLE: dict[str, Any] = {
    "name": "faces",
    "experiment": "vanilla.digits",
    "triggers": {
        "cron": "0 3 * * mon-fri",
        "timezone": "Asia/Kolkata",
        "data": {"at_least": 5, "every": "*/7 * * * *"},
        "events": [{"expect": "upload.done", "match": {"prefect.resource.id": "bucket.faces"}}],
    },
    "overlap": "refuse",
}


@pytest.fixture
def objects(file_store: str) -> Objects:
    return open_objects(file_store)


def deploy(objects: Objects, cluster: str = "", **fields: Any) -> list[str]:
    from flows.retrain_deploy import deploy as tell

    return tell(objects, settings.apply(objects, parse(WHOLE | fields)), cluster)


def deployment(api: Api, name: str) -> dict[str, Any] | None:
    answer = api.client.get(f"deployments/name/{name}")
    return answer.json() if answer.status_code == 200 else None


def automations(api: Api) -> dict[str, Any]:
    return {a["name"]: a for a in api.post("automations/filter")}


def test_a_retraining_becomes_deployments_with_its_cron_limit_form_and_events(
    prefect_api: Api, objects: Objects
) -> None:
    made = deploy(objects, "http://127.0.0.1:8265")
    assert [name.partition("/")[0] for name in made] == [
        "retrain",
        "look-for-data",
        "reconcile",
        "housekeeping",
    ]
    found = deployment(prefect_api, "retrain/faces")
    assert found is not None
    (schedule,) = found["schedules"]
    assert (schedule["schedule"]["cron"], schedule["schedule"]["timezone"]) == (
        "0 3 * * mon-fri",
        "Asia/Kolkata",
    )
    assert schedule["parameters"] == {"trigger": "cron"}
    assert found["global_concurrency_limit"]["limit"] == 1
    assert found["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
    assert found["parameters"] == {"name": "faces", "store": objects.url, "on": "http://127.0.0.1:8265"}
    form = found["parameter_openapi_schema"]["properties"]
    assert list(form) == ["name", "store", "trigger", "force", "on"]
    assert all(field["description"] for field in form.values())
    assert found["work_pool_name"] == "ganctl"
    looking = deployment(prefect_api, "look-for-data/faces")
    assert looking is not None
    assert looking["schedules"][0]["schedule"]["cron"] == "*/7 * * * *"
    on_event = automations(prefect_api)["ganctl faces: upload.done"]
    assert on_event["trigger"]["match"] == {"prefect.resource.id": "bucket.faces"}
    assert on_event["actions"][0]["parameters"] == {"trigger": "event"}


def test_what_changes_in_the_retraining_changes_in_prefect(prefect_api: Api, objects: Objects) -> None:
    deploy(objects)
    deploy(objects, triggers={})
    found = deployment(prefect_api, "retrain/faces")
    assert found is not None
    assert found["schedules"] == []
    assert deployment(prefect_api, "look-for-data/faces") is None
    assert "ganctl faces: upload.done" not in automations(prefect_api)
    from flows.retrain_deploy import deploy as tell

    tell(objects, settings.pause(objects, "faces"))
    assert deployment(prefect_api, "retrain/faces")["paused"]  # type: ignore[index]
    tell(objects, settings.delete(objects, "faces"))
    assert deployment(prefect_api, "retrain/faces") is None


def test_an_unknown_notification_block_is_refused_by_name_before_anything_changes(
    prefect_api: Api, objects: Objects
) -> None:
    with pytest.raises(NotFound, match="notify 'slack-webhook/ops': this Prefect server has no such block"):
        deploy(objects, name="quiet", notify=["slack-webhook/ops"])
    assert deployment(prefect_api, "retrain/quiet") is None


def test_a_round_that_crashed_fails_or_is_late_is_told_through_prefects_blocks(
    prefect_api: Api, objects: Objects
) -> None:
    from prefect.blocks.notifications import SlackWebhook
    from pydantic import SecretStr

    SlackWebhook(url=SecretStr("https://hooks.example.org/x")).save("ops", overwrite=True)
    deploy(objects, notify=["slack-webhook/ops"])
    told = automations(prefect_api)["ganctl faces: crashed, failed or late"]
    assert set(told["trigger"]["expect"]) == {f"prefect.flow-run.{s}" for s in ("Crashed", "Failed", "Late")}
    related = told["trigger"]["match_related"]
    found = deployment(prefect_api, "retrain/faces")
    assert found is not None
    assert found["id"] in str(related)
    (action,) = told["actions"]
    assert action["type"] == "send-notification"


def open_round(api: Api, objects: Objects, state: str | None) -> tuple[Round, str]:
    """A round that a flow run in `state` began; None: by no flow run."""
    deploy(objects, triggers={})
    flow_run = ""
    if state is not None:
        found = deployment(api, "retrain/faces")
        assert found is not None
        flow_run = api.post(f"deployments/{found['id']}/create_flow_run")["id"]
        for each in ("RUNNING", state):
            told = {"type": each, "name": each.title()}
            api.post(f"flow_runs/{flow_run}/set_state", state=told, force=True)
    now = settings.require(objects, "faces")
    version = look(now.retraining.trains())
    return rounds.begin(objects, "faces", "hand", version, now.number, flow_run=flow_run), flow_run


def asked(api: Api) -> list[dict[str, Any]]:
    """Flow runs of the retraining that wait for a worker."""
    scheduled = {"state": {"type": {"any_": ["SCHEDULED"]}}}
    return list(api.post("flow_runs/filter", flow_runs=scheduled, flows={"name": {"any_": ["retrain"]}}))


def look_once(objects: Objects) -> str:
    from flows.reconciling import reconcile

    return str(reconcile(objects.url, return_state=True).message)


def test_a_round_that_is_driven_is_left_alone(prefect_api: Api, objects: Objects) -> None:
    begun, _ = open_round(prefect_api, objects, "RUNNING")
    begun.beat()
    assert look_once(objects) == "all is in order"
    assert begun.end_document() is None


def test_a_round_of_a_cancelled_flow_run_is_ended(prefect_api: Api, objects: Objects) -> None:
    begun, _ = open_round(prefect_api, objects, "CANCELLED")
    assert "its flow run was cancelled" in look_once(objects)
    assert begun.end_document()["outcome"] == "cancelled"  # type: ignore[index]


@pytest.mark.parametrize("state", ["CRASHED", "COMPLETED"])
def test_a_round_whose_flow_run_is_over_is_driven_on_by_one_more_asked_for_once(
    prefect_api: Api, objects: Objects, state: str
) -> None:
    begun, _ = open_round(prefect_api, objects, state)
    before = {run["id"] for run in asked(prefect_api)}
    assert "drives it on" in look_once(objects)
    look_once(objects)
    (successor,) = [run for run in asked(prefect_api) if run["id"] not in before]
    assert successor["parameters"]["trigger"] == "hand"
    assert begun.end_document() is None


def test_a_silent_flow_run_is_marked_crashed_and_its_round_driven_on(
    prefect_api: Api, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, flow_run = open_round(prefect_api, objects, "RUNNING")
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + LOST_AFTER + 5)
    assert "drives it on" in look_once(objects)
    found = prefect_api.client.get(f"flow_runs/{flow_run}").json()
    assert found["state"]["type"] == "CRASHED"
    assert "nothing was heard" in found["state"]["message"]


def test_a_cancel_that_nobody_heeds_is_done_in_its_stead(
    prefect_api: Api, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows import reconciling

    begun, flow_run = open_round(prefect_api, objects, "CANCELLING")
    begun.beat()
    assert look_once(objects) == "all is in order"
    monkeypatch.setattr(reconciling, "CANCEL_SECONDS", 0.0)
    assert "cancelled in its stead" in look_once(objects)
    assert prefect_api.client.get(f"flow_runs/{flow_run}").json()["state"]["type"] == "CANCELLED"
    assert begun.end_document()["outcome"] == "cancelled"  # type: ignore[index]


def test_new_data_asks_for_a_round_once(prefect_api: Api, objects: Objects) -> None:
    from flows.looking import look_for_data

    deploy(objects)
    first = look_for_data("faces", objects.url, return_state=True)
    again = look_for_data("faces", objects.url, return_state=True)
    assert "flow run" in first.message
    assert first.message == again.message, "the same state of the data asks for the same flow run"
    settings.pause(objects, "faces")
    assert look_for_data("faces", objects.url, return_state=True).name == "Skipped"


def test_the_server_is_said_to_be_down_where_it_is(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator.standing import standing

    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    with pytest.raises(httpx.HTTPError):
        httpx.get("http://127.0.0.1:9/api/health", trust_env=False)
    found = standing(objects, None)
    assert {part["what"]: part["state"] for part in found["parts"]} == {
        "store": "up",
        "prefect": "down",
        "ray": "not started",
    }
