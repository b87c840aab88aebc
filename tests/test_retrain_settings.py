"""What the store knows of a retraining's settings: numbered records, of which the highest holds."""

from __future__ import annotations

import pytest

from orchestrator.errors import AlreadyExists, ConfigError, NotFound
from orchestrator.retrain import settings
from orchestrator.retrain.retraining import Retraining
from orchestrator.store.objects import Objects, open_objects
from tests.test_store import at_once


@pytest.fixture
def objects(store_url: str) -> Objects:
    return open_objects(store_url)


def faces(**fields: object) -> Retraining:
    return Retraining.model_validate({"name": "faces", "experiment": "vanilla.ring"} | fields)


def kinds(objects: Objects, name: str = "faces") -> list[str]:
    return [record.kind for record in settings.every(objects, name)]


def test_a_retraining_is_applied_paused_resumed_deleted_and_every_step_is_kept(objects: Objects) -> None:
    assert settings.read(objects, "faces") is None
    assert settings.names(objects) == []
    first = settings.apply(objects, faces(), by="ada")
    assert (first.number, first.kind, first.paused, first.by) == (1, "applied", False, "ada")
    assert settings.read(objects, "faces") == first
    assert first.retraining == faces().resolved()
    assert settings.apply(objects, faces()) == first  # nothing has changed
    changed = settings.apply(objects, faces(remedies=3))
    assert (changed.number, changed.retraining.remedies) == (2, 3)
    assert settings.pause(objects, "faces").paused
    assert settings.pause(objects, "faces").number == 3
    still = settings.apply(objects, faces(remedies=4))
    assert (still.kind, still.paused) == ("applied", True)  # a change does not wake it
    assert not settings.resume(objects, "faces").paused
    assert settings.resume(objects, "faces").number == 5
    settings.delete(objects, "faces")
    assert settings.read(objects, "faces") is None
    assert settings.names(objects) == []
    again = settings.apply(objects, faces(remedies=4))
    assert (again.number, again.paused) == (7, False)
    assert kinds(objects) == ["applied", "applied", "paused", "applied", "resumed", "deleted", "applied"]
    assert settings.names(objects) == ["faces"]
    assert settings.record(objects, "faces", 2) == changed


def test_what_is_not_there_cannot_be_changed_and_it_is_said_what_is(file_store: str) -> None:
    objects = open_objects(file_store)
    with pytest.raises(
        NotFound, match=r"no retraining 'faces' in .*; there are: none; `ganctl retrain apply FILE`"
    ):
        settings.pause(objects, "faces")
    settings.apply(objects, faces(name="digits"))
    settings.apply(objects, faces())
    settings.delete(objects, "faces")
    for change in (settings.pause, settings.resume, settings.delete, settings.require):
        with pytest.raises(
            NotFound, match=r"no retraining 'faces' in .* \(it was deleted\); there are: digits"
        ):
            change(objects, "faces")
    with pytest.raises(ConfigError, match=r"model name '\.\./x'"):
        settings.read(objects, "../x")


def test_a_wrong_retraining_leaves_nothing_behind(file_store: str) -> None:
    objects = open_objects(file_store)
    with pytest.raises(ConfigError, match="experiment: no recipe 'nothing'"):
        settings.apply(objects, faces(experiment="nothing"))
    assert objects.list("retrain") == []


def test_of_many_that_change_it_at_once_none_is_lost(objects: Objects) -> None:
    settings.apply(objects, faces())

    def change(number: int) -> str:
        return str(settings.apply(open_objects(objects.url), faces(remedies=number + 2)).number)

    numbers = at_once(change, 6)
    assert sorted(map(int, numbers)) == list(range(2, 8))
    assert {record.retraining.remedies for record in settings.every(objects, "faces")} == {1, *range(2, 8)}


def test_who_loses_the_number_looks_again(file_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    objects, other = open_objects(file_store), open_objects(file_store)
    settings.apply(objects, faces())
    real, met = type(objects).create, []

    def late(self: Objects, key: str, data: bytes) -> None:
        if self is objects and not met:
            met.append(key)
            settings.pause(other, "faces")  # in the very moment
        real(self, key, data)

    monkeypatch.setattr(type(objects), "create", late)
    assert settings.pause(objects, "faces").number == 2  # the other's, which says the same
    assert kinds(objects) == ["applied", "paused"]

    def always(self: Objects, key: str, data: bytes) -> None:
        raise AlreadyExists(key)

    monkeypatch.setattr(type(objects), "create", always)
    monkeypatch.setattr(settings, "TRIES", 2)
    with pytest.raises(AlreadyExists):
        settings.resume(objects, "faces")
