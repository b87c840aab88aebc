"""Rounds: one at a time, none lost, none done twice for the same data, and what happened told in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from orchestrator.errors import AlreadyExists, Busy, NotFound, NothingNew, OverBudget, Superseded
from orchestrator.retrain import round as round_module
from orchestrator.retrain import settings
from orchestrator.retrain.history import history
from orchestrator.retrain.retraining import Retraining
from orchestrator.retrain.round import Attempt, Round, run_id_for, submission_id
from orchestrator.retrain.rounds import begin, latest, rounds
from orchestrator.retrain.source import DataVersion
from orchestrator.store import documents
from orchestrator.store.ids import check_id
from orchestrator.store.layout import round_key
from orchestrator.store.objects import Objects, open_objects
from tests.test_store import at_once


@pytest.fixture
def objects(store_url: str) -> Objects:
    return applied(store_url)


@pytest.fixture
def local(file_store: str) -> Objects:
    return applied(file_store)


def applied(url: str, **fields: Any) -> Objects:
    objects = open_objects(url)
    triggers = {"data": {"at_least": 3}}
    given = {"name": "faces", "experiment": "vanilla.ring", "triggers": triggers} | fields
    settings.apply(objects, Retraining.model_validate(given))
    return objects


def data(*items: int) -> DataVersion:
    return DataVersion.of(np.array(items, np.uint64))


def age(objects: Objects, number: int, *files: str, seconds: float = 61.0) -> None:
    """As if these documents of a round had been written so long ago."""
    for file in files:
        key = round_key("faces", number, file)
        document = documents.decode(objects.get(key))
        objects.put(key, documents.encode(document | {"time": document["time"] - seconds}))


def test_a_round_begins_is_driven_and_ends(objects: Objects) -> None:
    assert latest(objects, "faces") is None
    begun = begin(objects, "faces", "hand", data(1, 2, 3), 1, flow_run="f1")
    assert (begun.number, begun.attached, begun.state()) == (1, False, "running")
    assert begun.folder == "retrain/faces/rounds/000001"
    told = begun.document
    assert {name: told[name] for name in ("trigger", "items", "settings", "flow_run")} == {
        "trigger": "hand", "items": 3, "settings": 1, "flow_run": "f1",
    }  # fmt: skip
    with begun.attending("f1", every=0.05):
        first = begun.live()
        assert first is not None
        while (now := begun.live()) == first:
            time.sleep(0.01)
        assert now is not None
        assert (now["flow_run"], now["driver"]) == ("f1", 1)
    ended = begun.end("promoted", version=1, reason="better")
    assert (ended["outcome"], ended["version"], begun.state()) == ("promoted", 1, "promoted")
    assert begun.end("failed") == ended  # it ends once
    second = begin(objects, "faces", "cron", data(1, 2, 3), 1)
    assert [r.number for r in rounds(objects, "faces")] == [1, second.number] == [1, 2]


def test_of_many_beginners_one_begins_and_the_others_are_told_who(objects: Objects) -> None:
    def start(number: int) -> str:
        try:
            return str(
                begin(
                    open_objects(objects.url), "faces", "cron", data(number), 1, flow_run=f"f{number}"
                ).number
            )
        except Busy as error:
            return str(error)

    said = at_once(start, 8)
    [won] = [number for number, text in enumerate(said) if text == "1"]
    begun = Round(objects, "faces", 1).document
    assert begun["flow_run"] == f"f{won}"
    told = f"retraining faces: round 1 is under way, driven by {begun['by']}, flow run f{won} since 20"
    assert all(text.startswith(told) for number, text in enumerate(said) if number != won)
    assert [r.number for r in rounds(objects, "faces")] == [1]


def test_one_that_loses_the_number_looks_again_and_is_refused(
    local: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, real, met = open_objects(local.url), type(local).create, []

    def late(self: Objects, key: str, blob: bytes) -> None:
        if self is local and key.endswith("begun.json") and not met:
            met.append(key)
            begin(other, "faces", "hand", data(1, 2, 3), 1).end("kept")  # all of a round in between
        real(self, key, blob)

    monkeypatch.setattr(type(local), "create", late)
    with pytest.raises(NothingNew, match="a round has used this data"):
        begin(local, "faces", "data", data(1, 2, 3), 1)
    assert [r.number for r in rounds(local, "faces")] == [1]


def _drive(url: str, ready: Any) -> None:
    with begin(open_objects(url), "faces", "hand", data(1), 1).attending(every=0.1):
        ready.set()
        time.sleep(600)


def test_a_round_whose_driver_was_killed_is_taken_over_after_a_minute(local: Objects) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_drive, args=(local.url, ready), daemon=True)
    process.start()
    assert ready.wait(60)
    with pytest.raises(Busy, match=f"pid {process.pid}"):
        begin(local, "faces", "hand", data(1), 1)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with pytest.raises(Busy):  # it may live: it was heard of within the minute
        begin(local, "faces", "hand", data(1), 1)
    age(local, 1, "begun.json", "beat.json")
    assert Round(local, "faces", 1).state() == "lost"
    taken = begin(local, "faces", "cron", data(1, 2), 1)
    assert (taken.number, taken.attached, taken.driver) == (1, True, 2)
    assert taken.document["items"] == 1  # what it began with
    assert Round(local, "faces", 1).state() == "running"


def test_of_many_that_take_over_one_does(objects: Objects) -> None:
    begin(objects, "faces", "hand", data(1), 1)
    age(objects, 1, "begun.json")

    def start(number: int) -> str:
        try:
            return str(begin(open_objects(objects.url), "faces", "hand", data(1), 1).driver)
        except Busy:
            return "busy"

    assert sorted(at_once(start, 6)) == ["2", *["busy"] * 5]


def test_a_flow_run_that_asks_again_has_its_own_round_back_at_once(local: Objects) -> None:
    begin(local, "faces", "hand", data(1), 1, flow_run="f1")
    with pytest.raises(Busy):
        begin(local, "faces", "hand", data(1), 1, flow_run="f2")
    again = begin(local, "faces", "hand", data(1), 1, flow_run="f1")
    assert (again.number, again.driver) == (1, 2)


def test_a_driver_that_was_overtaken_notices_and_beats_no_more(local: Objects) -> None:
    first = begin(local, "faces", "hand", data(1), 1)
    with first.attending(every=0.05):
        age(local, 1, "begun.json")
        local.put(first.key("beat.json"), documents.encode({"time": 0.0}))
        second = None
        while second is None:  # a beat may have come in between
            try:
                second = Round(local, "faces", 1).take_over()
            except Busy:
                local.put(first.key("beat.json"), documents.encode({"time": 0.0}))
        assert first.overtaken.wait(30)
    with pytest.raises(Superseded, match="round 1 of faces is driven on by another process"):
        first.beat()
    with pytest.raises(Superseded):  # nor may it end what another drives
        first.end("failed")
    second.beat()
    assert (first.drivers, first.driver_document()["time"] > first.document["time"]) == (2, True)
    assert Round(local, "faces", 1).end("cancelled")["driver"] == 0  # as the reconciler does
    assert second.end("kept")["outcome"] == "cancelled"


def test_a_store_that_is_away_for_a_beat_ends_nothing(
    local: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestrator.errors import StoreError

    begun, real, down = begin(local, "faces", "hand", data(1), 1), type(local).put, [2]

    def put(self: Objects, key: str, blob: bytes) -> None:
        if down[0] and key.endswith("beat.json"):
            down[0] -= 1
            raise StoreError("away")
        real(self, key, blob)

    with begun.attending(every=0.02):
        before = begun.live()
        monkeypatch.setattr(type(local), "put", put)
        while down[0] or begun.live() == before:
            time.sleep(0.01)
    assert not begun.overtaken.is_set()


# --- data and budget


def test_the_same_data_never_begins_a_round_twice(objects: Objects) -> None:
    begin(objects, "faces", "data", data(1, 2, 3), 1).end("failed")
    with pytest.raises(NothingNew, match=r"a round has used this data \([0-9a-f]{16}\) already"):
        begin(objects, "faces", "data", data(3, 2, 1), 1)
    begin(objects, "faces", "cron", data(1, 2, 3, 4), 1).end("kept")  # a cron does not ask
    begin(objects, "faces", "data", data(1, 2, 3, 4, 5, 6, 7), 1).end("kept")
    with pytest.raises(
        NothingNew, match="already"
    ):  # neither what an earlier round, nor what a cron has used
        begin(objects, "faces", "data", data(1, 2, 3), 1)
    assert begin(objects, "faces", "data", data(1, 2, 3), 1, force=True).number == 4


def test_data_counts_from_so_many_items_on_since_the_last_round(local: Objects) -> None:
    with pytest.raises(
        NothingNew, match=r"2 items were added or removed, fewer than `triggers.data.at_least` = 3"
    ):
        begin(local, "faces", "data", data(1, 2), 1)
    assert rounds(local, "faces") == []
    assert local.list("retrain/faces/seen") == []
    begin(local, "faces", "data", data(1, 2, 3), 1).end("kept")
    for version in (data(1, 2, 3, 4), data(1, 2, 3, 4, 5), data(2, 3, 4)):
        with pytest.raises(NothingNew, match="since round 1, fewer than"):
            begin(local, "faces", "data", version, 1)
    assert begin(local, "faces", "data", data(2, 3, 4, 5), 1).number == 2  # one gone, two new


def test_a_beginner_that_is_killed_at_any_step_is_followed_by_one_round(
    local: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    real = type(local).create
    for step in range(3):  # the digests, the round, and that the data was seen
        objects = applied(f"{local.url}-{step}")
        left = [step]

        def create(self: Objects, key: str, blob: bytes, left: list[int] = left) -> None:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            real(self, key, blob)

        monkeypatch.setattr(type(local), "create", create)
        with pytest.raises(Killed):
            begin(objects, "faces", "data", data(1, 2, 3), 1)
        monkeypatch.setattr(type(local), "create", real)
        if step == 2:
            age(objects, 1, "begun.json")
        begun = begin(objects, "faces", "data", data(1, 2, 3), 1)
        assert (begun.number, begun.attached) == (1, step == 2)
        begun.end("kept")
        with pytest.raises(NothingNew, match="already"):
            begin(objects, "faces", "data", data(1, 2, 3), 1)


def test_no_more_rounds_begin_a_day_than_the_budget_allows(file_store: str) -> None:
    objects = applied(file_store, budget={"rounds_a_day": 2})
    for number in (1, 2):
        begin(objects, "faces", "cron", data(number), 1).end("kept")
    with pytest.raises(OverBudget, match=r"2 rounds have begun within 24 hours .*; the next may in 24.0 h"):
        begin(objects, "faces", "cron", data(3), 1)
    begin(objects, "faces", "hand", data(3), 1, force=True).end("kept")
    age(objects, 2, "begun.json", seconds=86_400)
    assert begin(objects, "faces", "cron", data(4), 1).number == 4


# --- attempts


def test_an_attempt_is_noted_once_and_found_again(objects: Objects) -> None:
    begun = begin(objects, "faces", "hand", data(1), 1)
    first = begun.attempt(1, start="20261122-014500-k3v9qa@500")
    assert begun.attempt(1, start="other", remedy="another") == first
    second = begun.attempt(2, remedy="gan.lr_ratio 1 to 2")
    assert begun.attempts() == Round(objects, "faces", 1).attempts() == [first, second]
    assert isinstance(first, Attempt)
    assert first.run_id != second.run_id
    assert check_id(first.run_id) == begun.run_id(1)
    assert first.submission == f"retrain-faces-000001-{begun.document['fingerprint'][:8]}-1"
    assert first.run_id[:15] == datetime.fromtimestamp(begun.document["time"], UTC).strftime("%Y%m%d-%H%M%S")


def test_ids_of_attempts_follow_from_what_they_are_for_and_differ_otherwise() -> None:
    began = datetime(2026, 11, 22, 1, 45, tzinfo=UTC)
    assert run_id_for("faces", "ab12" * 4, 3, 1, began) == run_id_for("faces", "ab12" * 4, 3, 1, began)
    every = [
        (name, fingerprint, number, attempt)
        for name in ("faces", "cars")
        for fingerprint in ("ab12" * 4, "cd34" * 4)
        for number in (1, 2)
        for attempt in (1, 2)
    ]
    assert (
        len({run_id_for(*each, began) for each in every})
        == len({submission_id(*each) for each in every})
        == 16
    )
    assert all(check_id(run_id_for(*each, began)).startswith("20261122-014500-") for each in every)


def test_a_round_that_was_never_begun_is_not_found(local: Objects) -> None:
    with pytest.raises(NotFound):
        Round(local, "faces", 7).state()
    with pytest.raises(AlreadyExists):
        raise Busy("it is one of these")


# --- history


def test_history_tells_everything_in_order(local: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1_800_000_000, 1_900_000_000))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    monkeypatch.setattr(round_module, "LOST_AFTER", 1e9)
    settings.pause(local, "faces", by="ada")
    settings.resume(local, "faces", by="ada")
    begun = begin(local, "faces", "data", data(1, 2, 3), 3)
    begun.attempt(1)
    begun.attempt(2, start="20261122-014500-k3v9qa@50", remedy="gan.width 8 to 16")
    challenger = {
        "run_id": begun.run_id(2),
        "step": 9,
        "figures": {"fid": {"value": 3.5, "low": 3, "high": 4}},
    }
    champion = {"run_id": "20261122-014500-k3v9qa", "step": 50, "figures": None}
    decision = {"verdict": "keep", "reason": "Kept: worse.", "time": time.time()}
    contestants = {"challenger": challenger, "champion": champion}
    local.create(begun.key("decision-1.json"), documents.encode(decision | {"contestants": contestants}))
    begun.end("kept", reason="Kept: worse.", run="r", figures={"fid": 3.5})
    told = history(local, "faces")
    assert [event.what for event in told] == [
        "applied", "paused", "resumed", "round begun", "attempt 1", "attempt 2", "decision: keep", "round ended: kept",
    ]  # fmt: skip
    by_what = {event.what: event for event in told}
    assert by_what["paused"].by == "ada"
    assert by_what["round begun"].reason.startswith("data; data ")
    assert by_what["attempt 2"].reason == "from 20261122-014500-k3v9qa@50; remedy: gan.width 8 to 16"
    decided = by_what["decision: keep"]
    assert (decided.run, decided.step, decided.round) == (begun.run_id(2), 9, 1)
    assert decided.figures == {"challenger": {"fid": 3.5}, "champion": {}}
    assert by_what["round ended: kept"].figures == {"fid": 3.5}
    assert by_what["attempt 1"].reason == "anew"
    assert history(local, "nobody") == []
