"""Models, alarms and sweeps of the dashboard's API, on stores that real code wrote."""

from __future__ import annotations

import pytest

from orchestrator.dashboard import alarms, sweep_tables
from orchestrator.registry import Registry
from orchestrator.store.ids import new_id
from orchestrator.store.layout import retrain_folder
from orchestrator.store.objects import Objects
from orchestrator.sweep.ranking import front_of
from tests.support.dashboard import SWEEP, Client, client, ill_run, objects, promoted, recorded
from tests.support.models import bare_run
from tests.support.sweeps import Made, make_sweep

__all__ = ["client", "objects", "promoted"]


def test_models_are_listed_with_their_champions(client: Client, promoted: list[str]) -> None:
    (row,) = client.get("/api/models").json()["models"]
    assert row["name"] == "faces"
    assert row["champion"]["run"] == promoted[1]
    assert row["champion"]["version"] == 2
    assert not row["retrained"]
    assert row["next"] is None


def test_a_model_tells_its_history_the_newest_first(client: Client, promoted: list[str]) -> None:
    told = client.get("/api/models/faces").json()
    assert [p["number"] for p in told["promotions"]] == [2, 1]
    assert [e["reason"] for e in told["history"]] == ["the 2.", "the 1."]
    assert [p["version"] for p in told["pictures"]] == [2, 1]
    assert client.get("/api/models/none").status_code == 404
    assert client.get("/api/models/..%2fsnap").status_code in (400, 404)


def test_an_unchanged_answer_is_not_sent_again(client: Client, promoted: list[str]) -> None:
    first = client.get("/api/models/faces")
    again = client.get("/api/models/faces", **{"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304
    assert not again.content


def test_a_damaged_promotion_is_named_and_the_rest_is_shown(
    client: Client, objects: Objects, promoted: list[str]
) -> None:
    objects.put("models/faces/000002.json", b"{}")
    told = client.get("/api/models/faces").json()
    assert told["damaged"] == [2]
    assert told["champion"] is None
    assert [p["number"] for p in told["promotions"]] == [1]
    assert "promotion 2" in client.get("/api/models").json()["models"][0]["problem"]
    back = client.post("/api/models/faces/rollback", {"after": 2})
    assert back.json()["promotion"]["version"] == 1


def test_pictures_of_decisions_are_served_and_nothing_else(
    client: Client, objects: Objects, promoted: list[str]
) -> None:
    folder = f"{retrain_folder('faces', 'rounds')}/000003"
    objects.create(f"{folder}/grids-0123456789ab.png", b"a picture")
    objects.create(f"{folder}/end.json", b"{}")
    served = client.get("/api/models/faces/pictures/3/grids-0123456789ab.png")
    assert served.content == b"a picture"
    assert "immutable" in served.headers["cache-control"]
    for other in ("end.json", "grids-0123456789ac.png", "..%2f..%2fend.json"):
        assert client.get(f"/api/models/faces/pictures/3/{other}").status_code == 404


def test_promote_and_roll_back(client: Client, objects: Objects, promoted: list[str]) -> None:
    back = client.post("/api/models/faces/rollback", {"after": 2, "reason": "worse eyes"}).json()["promotion"]
    assert (back["number"], back["version"], back["kind"], back["reason"]) == (3, 1, "rollback", "worse eyes")
    assert back["by"] == "dashboard operator at 127.0.0.1"
    made = client.post("/api/models/faces/promote", {"run": promoted[1], "after": 3, "step": 2}).json()
    champion = Registry(objects).champion("faces")
    assert champion is not None
    assert champion.number == 4
    assert champion.step == 2
    assert made["promotion"]["digest"] == champion.digest


@pytest.mark.parametrize("action", ["promote", "rollback"])
def test_who_saw_another_champion_is_refused(
    client: Client, objects: Objects, promoted: list[str], action: str
) -> None:
    body = {"after": 1} | ({"run": promoted[0]} if action == "promote" else {})
    answer = client.post(f"/api/models/faces/{action}", body)
    assert answer.status_code == 409
    assert "promotion 2" in answer.json()["error"]
    assert Registry(objects).newest("faces") == 2


# Alarms


def test_an_alarm_tells_rule_evidence_first_step_and_what_was_done(client: Client, objects: Objects) -> None:
    run = ill_run(objects)
    bare_run(objects)
    (alarm,) = client.get("/api/alarms").json()["alarms"]
    assert alarm["id"] == f"{run}.mode-collapse"
    assert alarm["open"]
    assert alarm["evidence"] == "probe_reach 0.05 against 0.2 over 4 ticks at step 30"
    assert alarm["step"] == 30
    assert alarm["action"] == "lr_ratio 1 -> 2 at step 20; run collapsed"
    assert alarm["remedy"]


def test_of_a_run_under_way_the_first_step_is_read_from_its_rows(client: Client, objects: Objects) -> None:
    run = ill_run(objects, "oscillation", sealed=False)
    (alarm,) = client.get("/api/alarms").json()["alarms"]
    assert alarm["id"] == f"{run}.oscillation"
    assert alarm["step"] == 30
    assert alarm["action"] == "goes on"


def test_a_trial_that_its_sweep_dealt_with_is_not_open(client: Client, objects: Objects) -> None:
    ill_run(objects, sweep="20261122-014500-k3v9qa")
    (alarm,) = client.get("/api/alarms").json()["alarms"]
    assert not alarm["open"]
    assert alarm["action"].endswith("its sweep was told, run collapsed")


def test_lost_and_failed_runs_and_stalled_ones_are_alarms() -> None:
    row = {"verdict": "healthy", "state": "lost", "alarm": "waits for rank 1"}
    assert alarms.rules_of(row) == ["lost", "stalled"]
    assert alarms.rules_of({"verdict": "mode collapse", "state": "failed"}) == ["mode-collapse", "failed"]
    assert alarms.rules_of({"verdict": None, "state": "completed"}) == []


def test_an_alarm_is_acknowledged_once(client: Client, objects: Objects) -> None:
    run = ill_run(objects)
    path = f"/api/alarms/{run}.mode-collapse/acknowledge"
    assert client.post(path, {"note": "known"}).json()["note"] == "known"
    assert client.post(path).status_code == 409
    (alarm,) = client.get("/api/alarms").json()["alarms"]
    assert not alarm["open"]
    assert alarm["acknowledged"]["by"] == "dashboard operator at 127.0.0.1"
    assert client.post("/api/alarms/..%2fx/acknowledge").status_code == 404
    assert client.post(f"/api/alarms/{new_id()}.mode-collapse/acknowledge").status_code == 404
    assert client.post(f"/api/alarms/{run}.made-up/acknowledge").status_code == 404


# Sweeps


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Made:
    store = str(tmp_path_factory.mktemp("sweeps"))
    return make_sweep(store, trials=14, objectives=("fid", "coverage"))


def test_a_sweep_is_shown_as_its_result_says(swept: Made) -> None:
    told = Client(swept.objects).get(f"/api/sweeps/{swept.id}").json()
    assert told["front"] == front_of(swept.result.trials, ("fid", "coverage"))
    assert told["best"] == (swept.result.best or {})["number"]
    assert told["costs"] == swept.result.costs
    assert told["importance"] == swept.result.importance
    assert len(told["trials"]) == 14
    assert {row["end"] for row in told["trials"]} >= {
        "complete",
        "mode collapse",
    }
    collapsed = next(row for row in told["trials"] if row["end"] == "mode collapse")
    assert "probe_coverage" in collapsed["evidence"]
    assert collapsed["run"] in told["pictures"]
    first = told["rungs"][0]
    assert first["step"] == 20
    assert first["reached"] == 14
    assert told["rungs"][1]["stopped"] == sum(row["end"] == "mode collapse" for row in told["trials"])


def test_a_running_sweep_has_the_same_shape_and_costs_as_its_result(swept: Made) -> None:
    """The ledger's rows, as `live.json` has them, told the same way as the result that they end in."""
    from orchestrator.sweep.ledger import open_ledger

    path = swept.objects.local_path(f"sweeps/{swept.id}/journal.log")
    assert path is not None
    with open_ledger(path, swept.id, swept.plan.directions, "random", 0, swept.plan.objectives) as ledger:
        rows = [row for row in ledger.table() if row["state"] not in ("RUNNING", "WAITING")]
    objectives = swept.plan.objectives
    live = [sweep_tables.trial(row, objectives) for row in rows]
    ended = [sweep_tables.trial(row, objectives) for row in swept.result.trials]
    same = ("number", "state", "end", "run", "params", "verdict", "evidence", "device_seconds")
    assert [[row[n] for n in same] for row in live] == [[row[n] for n in same] for row in ended]
    assert sweep_tables.costs(rows, live, {}) == swept.result.costs


def test_sweeps_are_listed_and_one_that_ended_cannot_be_stopped(swept: Made) -> None:
    client = Client(swept.objects)
    (row,) = client.get("/api/sweeps").json()["sweeps"]
    assert row["id"] == swept.id
    assert row["state"] == "finished"
    assert row["trials"] == 14
    assert client.get("/api/sweeps/20261122-014500-k3v9qa").status_code == 404
    assert client.post(f"/api/sweeps/{swept.id}/stop").status_code == 409


# The cluster


def test_devices_are_told_with_the_run_or_sweep_that_holds_them(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "node-1")
    monkeypatch.setattr("os.getpid", lambda: 11)
    run = ill_run(objects, "healthy", sealed=False)
    client = Client(objects, ray="http://head:8265")
    monkeypatch.setattr(client.app.state.ray, "_get", recorded)
    told = client.get("/api/cluster").json()
    assert told["ray"]["state"] == "up"
    devices = told["nodes"][0]["devices"]
    assert [[(h["run"], h["sweep"], h["share"]) for h in d["holders"]] for d in devices] == [
        [(run, None, 0.5)],
        [(None, SWEEP, 0.5)],
        [],
    ]
    assert told["waiting"] == [
        {"num": 1, "bundles": [{"CPU": 2.0}, {"CPU": 2.0}]},
        {"num": 2, "bundles": [{"GPU": 1.0}]},
    ]
    assert [(r["id"], r["host"], r["pid"]) for r in told["runs"]] == [(run, "node-1", 11)]


def test_a_cluster_that_is_down_is_said_to_be_and_runs_are_shown(objects: Objects) -> None:
    run = ill_run(objects, sealed=False)
    down = (
        Client(objects, ray="http://127.0.0.1:9", prefect="http://127.0.0.1:9/api").get("/api/cluster").json()
    )
    assert down["ray"]["state"] == down["prefect"]["state"] == "down"
    assert "does not answer" in down["ray"]["why"]
    assert [r["id"] for r in down["runs"]] == [run]
    assert Client(objects).get("/api/cluster").json()["ray"]["state"] == "not started"
