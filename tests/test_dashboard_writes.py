"""Actions of the dashboard's API: once a key, audited, by who may; launching and rating."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from orchestrator.dashboard import journal, launching, rating
from orchestrator.dashboard.settings import Settings
from orchestrator.errors import AlreadyExists, ConfigError, NotFound, RunFailed
from orchestrator.recipes import load
from orchestrator.registry import Registry
from orchestrator.store.documents import decode
from orchestrator.store.ids import new_id
from orchestrator.store.layout import deck_key
from orchestrator.store.objects import Objects
from orchestrator.store.reader import Run
from orchestrator.store.writer import RunWriter
from tests.support.dashboard import ORIGIN, TOKEN, Client, client, ill_run, objects, promoted
from tests.support.models import bare_run

__all__ = ["client", "objects", "promoted"]


# What all actions have in common


def test_the_same_key_does_it_once_also_on_another_server(
    client: Client, objects: Objects, promoted: list[str]
) -> None:
    first = client.post("/api/models/faces/rollback", {"after": 2}, key="pressed-twice")
    again = Client(objects).post("/api/models/faces/rollback", {"after": 2}, key="pressed-twice")
    assert first.json() == again.json()
    assert Registry(objects).newest("faces") == 3
    other = client.post("/api/models/faces/rollback", {"after": 3}, key="pressed-twice")
    assert other.status_code == 409
    assert "another action" in other.json()["error"]


def test_a_refusal_is_an_outcome_too(client: Client, promoted: list[str]) -> None:
    first = client.post("/api/models/faces/rollback", {"after": 7}, key="refused-key")
    again = client.post("/api/models/faces/rollback", {"after": 7}, key="refused-key")
    assert first.status_code == again.status_code == 409
    assert first.json() == again.json()


def test_many_at_once_with_one_key_do_it_once(objects: Objects) -> None:
    done, told = [], []

    def once() -> dict[str, Any]:
        done.append(1)
        return {"n": len(done)}

    def press() -> None:
        told.append(journal.once(objects, "one-key-for-all", journal.Action("test", {}, {}), once))

    threads = [threading.Thread(target=press) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 1
    assert len(told) == 8
    assert all(each == told[0] for each in told)


def test_what_was_begun_and_never_ended_is_not_done_again(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "PATIENCE", 0.3)
    action = journal.Action("test", {}, {})

    def killed() -> dict[str, Any]:
        monkeypatch.setattr(journal, "_tell", lambda *_: {})
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        journal.once(objects, "cut-off-key", action, killed)
    with pytest.raises(AlreadyExists, match="has not ended"):
        journal.once(objects, "cut-off-key", action, killed)
    assert journal.newest(objects)[0]["status"] is None


def test_actions_are_audited_with_who_what_and_outcome(
    client: Client, objects: Objects, promoted: list[str]
) -> None:
    client.post("/api/models/faces/rollback", {"after": 2, "reason": "why"})
    client.post("/api/models/faces/rollback", {"after": 2})
    second, first = client.get("/api/audit").json()["actions"]
    assert first["what"] == "rollback"
    assert first["who"] == {"role": "operator", "address": "127.0.0.1"}
    assert first["arguments"] == {"name": "faces", "to": None, "after": 2, "reason": "why"}
    assert first["status"] == 200
    assert first["outcome"]["promotion"]["number"] == 3
    assert second["status"] == 409
    assert "promotion 3" in second["outcome"]["error"]
    asked = [key for key in objects.list("audit") if key.endswith("-asked.json")]
    assert asked == sorted(asked)
    assert len(asked) == 2
    assert TOKEN.encode() not in b"".join(map(objects.get, asked))


WRITES = [
    "/api/models/faces/rollback",
    "/api/models/faces/promote",
    "/api/runs/20261122-014500-k3v9qa/stop",
    "/api/runs/20261122-014500-k3v9qa/resume",
    "/api/sweeps/20261122-014500-k3v9qa/stop",
    "/api/alarms/20261122-014500-k3v9qa.mode-collapse/acknowledge",
    "/api/rate/20261122-014500-k3v9qa",
    "/api/rate/20261122-014500-k3v9qa/deck",
    "/api/launch",
]


@pytest.mark.parametrize("path", WRITES)
def test_a_viewer_and_a_page_without_csrf_change_nothing(objects: Objects, path: str) -> None:
    for settings in ({"role": "viewer"}, {"read_only": True}):
        assert Client(objects, **settings).post(path).status_code == 403
    browser = Client(objects)
    browser.headers = {}
    entered = browser.ask("GET", f"/?token={TOKEN}", follow_redirects=False)
    cookie = entered.headers["set-cookie"].partition(";")[0]
    assert browser.post(path, Cookie=cookie, Origin=ORIGIN).status_code == 403
    assert browser.post(path).status_code == 401
    assert not objects.list("audit")


@pytest.mark.parametrize("path", WRITES)
def test_a_body_of_another_shape_is_refused(client: Client, path: str) -> None:
    assert client.post(path, {"unknown": 1}).status_code == 400
    assert client.post(path, [1]).status_code == 400
    for body in (
        b"\xff{",
        b"[" * 60_000,
        b'{"reason": "\\ud800", "after": 1}',
        b'{"after": 1e400}',
        b"1",
        b"{",
    ):
        assert client.ask("POST", path, content=body).status_code == 400
    assert not client.app.state.objects.list("audit")


def test_an_action_needs_a_key(client: Client, promoted: list[str]) -> None:
    answer = client.ask("POST", "/api/models/faces/rollback", json={"after": 2})
    assert answer.status_code == 400
    assert "Idempotency-Key" in answer.json()["error"]


# Runs


def test_what_cannot_be_stopped_or_resumed_says_why(client: Client, objects: Objects) -> None:
    run = bare_run(objects)
    assert client.post(f"/api/runs/{run}/stop").status_code == 409
    assert "nothing to resume" in client.post(f"/api/runs/{run}/resume").json()["error"]
    trial = ill_run(objects, sealed=False, sweep="20261122-014500-k3v9qa")
    assert "is a trial of sweep" in client.post(f"/api/runs/{trial}/stop").json()["error"]
    assert client.post("/api/runs/..%2f..%2fetc/stop").status_code == 404
    assert client.post(f"/api/runs/{new_id()}/stop").status_code == 404


# Launching


def test_the_form_has_every_plain_field_and_an_estimate_from_earlier_runs(
    client: Client, objects: Objects
) -> None:
    writer = RunWriter.create(objects, new_id(), {"name": "vanilla.ring", "family": "vanilla"})
    writer.log(100, {"seconds": 5.0})
    writer.seal("completed", {})
    told = client.get("/api/launch/schema?recipe=vanilla.ring").json()
    fields = {field["path"]: field for field in told["fields"]}
    assert fields["train.steps"]["kind"] == "integer"
    assert fields["seed"]["value"] == 0
    assert fields["train.on_collapse"]["choices"] == ["stop", "remedy", "ignore"]
    assert "gan.family" not in fields
    assert told["places"] == ["inline", "local"]
    assert told["pace"] == {"seconds_per_step": 0.05, "runs": 1, "like": "recipe"}
    assert client.get("/api/launch/schema?recipe=os:system").status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {"recipe": "os:system"},
        {"recipe": "../x.yaml"},
        {"recipe": "--resume"},
        {"recipe": "vanilla.ring", "overrides": {"--store": "x"}},
        {"recipe": "vanilla.ring", "overrides": {"train.steps": 5}},
        {"recipe": "vanilla.ring", "on": "http://elsewhere:8265"},
    ],
)
def test_only_recipes_and_fields_can_be_launched(client: Client, body: Any) -> None:
    assert client.post("/api/launch", body).status_code == 400


def test_a_file_of_the_server_is_no_recipe(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("own.json", "own.yaml"):
        (tmp_path / name).write_text(json.dumps(load("vanilla.ring").document()))
        answer = client.post("/api/launch", {"recipe": name, "overrides": {"train.steps": "1"}})
        assert answer.status_code == 404
        assert f"no recipe '{name}'" in answer.json()["error"]
        assert client.get(f"/api/launch/schema?recipe={name}").status_code == 404


def test_the_command_is_the_one_that_a_person_would_type() -> None:
    asked = launching.Launch(recipe="vanilla.ring", overrides={"gan.widths": "[8, 8]"}, on="cluster")
    words = launching.words_of(asked, "runs", "http://head:8265")
    said = "ganctl train vanilla.ring 'gan.widths=[8, 8]' --on http://head:8265 --store runs"
    assert launching.command_of(words) == said
    with pytest.raises(ConfigError, match="no cluster"):
        launching.words_of(asked, "runs", "")


def test_a_launch_that_cannot_begin_says_what_the_command_said(objects: Objects) -> None:
    asked = launching.Launch(recipe="vanilla.ring", overrides={"train.stepps": "5"}, on="inline")
    with pytest.raises(RunFailed, match=r"train\.steps"):
        launching.launch(objects, Settings(TOKEN), asked)


@pytest.mark.slow
def test_a_run_is_launched_stopped_and_resumed(client: Client, objects: Objects) -> None:
    body = {"recipe": "vanilla.ring", "overrides": {"train.steps": "200000"}, "on": "inline"}
    begun = client.post("/api/launch", body, key="launch-of-test").json()
    assert client.post("/api/launch", body, key="launch-of-test").json() == begun
    run = Run(objects, begun["run"])
    for kind in ("stop", "resume", "stop"):
        told = client.post(f"/api/runs/{run.id}/{kind}").json()
        if kind == "stop":
            assert told["state"] == run.state() == "stopped"
            assert told["driven"] is None
    assert run.checkpoints()


# Rating


@pytest.fixture
def deck(objects: Objects) -> tuple[str, str]:
    """A run and a deck of four pictures, of which the first two are real."""
    run, deck_id, data = bare_run(objects), new_id(), io.BytesIO()
    images = np.arange(4 * 8 * 8, dtype=np.uint8).reshape(4, 8, 8, 1)
    np.savez_compressed(data, images=images, real=np.array([True, True, False, False]), step=4)
    objects.create(deck_key(run, deck_id), data.getvalue())
    return run, deck_id


def test_pictures_to_judge_do_not_say_what_they_are(client: Client, deck: tuple[str, str]) -> None:
    run, deck_id = deck
    assert client.get(f"/api/rate/{run}/next").json() == {"deck": deck_id, "items": 4, "step": 4}
    served = client.get(f"/api/rate/{run}/{deck_id}/2.png")
    image = Image.open(io.BytesIO(served.content))
    assert image.size == (256, 256)
    assert not image.info
    assert client.get(f"/api/rate/{run}/{deck_id}/4.png").status_code == 404
    assert client.get(f"/api/rate/{run}/{new_id()}/0.png").status_code == 404


def test_judgements_become_an_error_rate_with_its_interval(
    client: Client, objects: Objects, deck: tuple[str, str]
) -> None:
    run, deck_id = deck
    said = [{"item": i, "real": i != 1, "seconds": 1.5} for i in range(4)]
    told = client.post(f"/api/rate/{run}", {"deck": deck_id, "judgements": said}).json()
    assert told["error"] == 0.75
    assert (told["error_real"], told["error_generated"]) == (0.5, 1.0)
    assert told["low"] == pytest.approx(0.3006, abs=1e-4)
    assert told["high"] == pytest.approx(0.9544, abs=1e-4)
    shown = client.get(f"/api/rate/{run}").json()
    assert shown["sessions"] == 1
    assert shown["all"]["error"] == 0.75
    assert shown["steps"][0]["step"] == 4
    (key,) = [key for key in objects.list(f"rate/{run}") if key.endswith(".parquet")]
    table = pq.read_table(io.BytesIO(objects.get(key)))
    assert table["said_real"].to_pylist() == [True, False, True, True]
    twice = {"deck": deck_id, "judgements": [said[0], said[0]]}
    assert client.post(f"/api/rate/{run}", twice).status_code == 400


def test_wilsons_interval_holds_at_the_ends() -> None:
    assert rating.wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert rating.wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)


@pytest.mark.slow
def test_a_deck_is_half_real(objects: Objects) -> None:
    from tests.support.models import trained_run

    run = trained_run(objects)
    deck_id = rating.make_deck(objects, run)
    images, real, step = rating.deck_of(objects, run, deck_id)
    assert images.shape == (40, 8, 8, 1)
    assert real.sum() == 20
    assert step == 4
    with pytest.raises(NotFound):
        rating.make_deck(objects, new_id())
    assert decode(objects.get(f"runs/{run}/sealed.json"))["state"] == "completed"
