"""The contract of the registry on every kind of store: one winner, a whole history, whatever dies or is changed."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest

from orchestrator import registry as package
from orchestrator.errors import (
    AlreadyExists,
    ConditionalWritesMissing,
    ConfigError,
    NotFound,
    Outrun,
    StoreError,
)
from orchestrator.registry import Candidate, Promotion, Registry, candidates
from orchestrator.registry.audit import chain_problems
from orchestrator.registry.records import decode, digest, encode
from orchestrator.store.layout import promotion_key, run_key
from orchestrator.store.local import LocalObjects
from orchestrator.store.objects import PROBES, Objects, open_objects
from orchestrator.store.s3 import S3Objects
from tests.support.models import FINGERPRINT, bare_run, compete

PROMOTERS, ROUNDS = 16, 3
KILLS = 12


@pytest.fixture
def objects(store_url: str) -> Objects:
    return open_objects(store_url)


@pytest.fixture
def local(file_store: str) -> Objects:
    return open_objects(file_store)


def promoted(objects: Objects, num: int, name: str = "m") -> Registry:
    """A registry with `num` versions of a model, each another run."""
    registry = Registry(objects)
    for after in range(num):
        registry.promote(name, Candidate(bare_run(objects)), after, f"better than {after}")
    return registry


# --- promotions


def test_a_promotion_says_all_there_is_to_say(objects: Objects) -> None:
    run_id, registry = bare_run(objects), Registry(objects)
    assert (registry.names(), registry.champion("m"), registry.history("m")) == ([], None, [])
    before = time.time()
    made = registry.promote("m", Candidate(run_id, 2), 0, "first", decision="retrain/m/d.json", by="me")
    assert before <= made.time <= time.time()
    assert made.code["ganctl"]
    assert asdict(made) | {"time": 0, "code": {}} == {
        "number": 1, "name": "m", "version": 1, "kind": "promotion", "run_id": run_id, "step": 2, "attempt": 1,
        "weights": digest(f"weights of {run_id} at 2".encode()), "decision": "retrain/m/d.json", "reason": "first",
        "by": "me", "time": 0, "code": {}, "data": FINGERPRINT, "previous": "",
    }  # fmt: skip
    assert registry.champion("m") == made
    assert (registry.names(), registry.history("m"), registry.problems("m")) == (["m"], [made], [])


def test_versions_are_checkpoints_and_numbers_are_promotions(objects: Objects) -> None:
    registry = promoted(objects, 2)
    first, second = registry.history("m")
    again = registry.promote("m", Candidate(first.run_id), 2, "the first was better after all")
    third = registry.promote("m", Candidate(second.run_id, 2), 3, "an earlier step of the second")
    assert [(p.number, p.version) for p in (first, second, again, third)] == [(1, 1), (2, 2), (3, 1), (4, 3)]
    assert [p.previous for p in registry.history("m")] == ["", first.digest, second.digest, again.digest]
    assert registry.champion("m") == third
    assert "pid" in third.by
    assert registry.problems("m") == []


def test_without_a_step_the_best_checkpoint_is_promoted_and_without_figures_the_newest(
    local: Objects,
) -> None:
    registry = Registry(local)
    scored = bare_run(local, {2: 9.0, 4: 5.0, 6: 7.0, 8: None})
    assert registry.promote("m", Candidate(scored), 0, "").step == 4
    assert registry.promote("m", Candidate(bare_run(local)), 1, "").step == 4
    assert candidates.WEIGHTS == "weights.safetensors"


def test_what_is_no_finished_checkpoint_of_an_ended_run_is_refused(local: Objects) -> None:
    registry, run_id = Registry(local), bare_run(local)
    with pytest.raises(NotFound, match="no run '20260101-000000-aaaaaa'"):
        registry.promote("m", Candidate("20260101-000000-aaaaaa"), 0, "")
    with pytest.raises(NotFound, match="no run 'm'"):
        registry.promote("m", Candidate("m"), 0, "")
    with pytest.raises(NotFound, match=r"no finished checkpoint at step 3 .*; steps: 2, 4"):
        registry.promote("m", Candidate(run_id, 3), 0, "")
    local.delete(run_key(run_id, "checkpoints/000000000004-a0001/commit.json"))
    with pytest.raises(NotFound, match="at step 4"):
        registry.promote("m", Candidate(run_id, 4), 0, "")
    with pytest.raises(ConfigError, match="has not ended"):
        registry.promote("m", Candidate(bare_run(local, sealed=False)), 0, "")
    for after in (-1, 1):
        with pytest.raises(ConfigError, match=f"after {after}: the newest promotion of model m is 0"):
            registry.promote("m", Candidate(run_id), after, "")
    assert registry.names() == []


@pytest.mark.parametrize(
    "name", ["", "Faces", "a/b", "..", "-a", "a" * 64, "a b", "latest", "20261122-014500-k3v9qa"]
)
def test_what_cannot_be_a_name_is_refused_with_the_rule(local: Objects, name: str) -> None:
    registry = Registry(local)
    for call in (registry.champion, registry.history, registry.problems, registry.rollback):
        with pytest.raises(ConfigError, match="model name"):
            call(name)
    with pytest.raises(ConfigError, match="model name"):
        registry.promote(name, Candidate(bare_run(local)), 0, "")
    assert registry.names() == []


def test_an_unknown_model_is_told_from_those_there_are(local: Objects) -> None:
    with pytest.raises(NotFound, match="nothing was promoted yet"):
        Registry(local).require("faces")
    registry = promoted(local, 1, "faces")
    with pytest.raises(NotFound, match=r"did you mean `faces`\? models: faces"):
        registry.require("face")


def test_the_champion_costs_one_listing_and_one_read(local: Objects) -> None:
    promoted(local, 3)
    watched = Dying(local, at=10**9, after=False)
    assert Registry(watched).champion("m") is not None
    assert watched.done == ["list", "get"]


# --- races


def at_once(url: str, run_id: str) -> list[tuple[int, str, str]]:
    """What PROMOTERS of a store say who won each of ROUNDS: processes on a folder, threads on a server."""
    names = [f"promoter-{i}" for i in range(PROMOTERS)]
    if url.startswith("s3://"):
        start, told = threading.Barrier(PROMOTERS), queue.Queue[tuple[int, str, str]]()
        with ThreadPoolExecutor(PROMOTERS) as pool:
            done = [pool.submit(compete, url, run_id, name, ROUNDS, start, told) for name in names]
        assert [future.result() for future in done] == [None] * PROMOTERS
        return [told.get_nowait() for _ in range(PROMOTERS * ROUNDS)]
    spawn = multiprocessing.get_context("spawn")
    words = (url, run_id), (ROUNDS, spawn.Barrier(PROMOTERS), spawn.Queue())
    processes = [spawn.Process(target=compete, args=(*words[0], name, *words[1])) for name in names]
    for process in processes:
        process.start()
    said = [words[1][2].get(timeout=120) for _ in range(PROMOTERS * ROUNDS)]
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * PROMOTERS
    return said


def test_of_sixteen_promoters_one_wins_each_number_and_the_others_are_told_by_whom(store_url: str) -> None:
    objects = open_objects(store_url)
    said = at_once(store_url, bare_run(objects))
    registry = Registry(objects)
    history = registry.history("m")
    assert [p.number for p in history] == list(range(1, ROUNDS + 1))
    for after, promotion in enumerate(history):
        winners = [winner for at, _, winner in said if at == after]
        assert winners == [promotion.by] * PROMOTERS
        assert [who for at, who, winner in said if at == after and who == winner] == [promotion.by]
    assert registry.problems("m") == []


def test_the_loser_learns_who_promoted_what_and_may_decide_again(objects: Objects) -> None:
    registry = promoted(objects, 1)
    mine = Candidate(bare_run(objects))
    theirs = registry.promote("m", Candidate(bare_run(objects)), 1, "lower FID", by="ann@host pid 7")
    with pytest.raises(Outrun) as caught:
        registry.promote("m", mine, 1, "mine is better")
    assert caught.value.winner == theirs
    assert isinstance(caught.value, AlreadyExists)
    for word in ("ann@host pid 7", "promotion 2", "version 2", theirs.run_id, "lower FID", "UTC"):
        assert word in str(caught.value)
    assert registry.promote("m", mine, 2, "better than theirs, too").number == 3


def test_a_promotion_made_between_look_and_create_is_told_as_well(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id, registry = bare_run(objects), Registry(objects)
    real = type(objects).require_conditional_writes

    def interrupted(self: Objects) -> None:
        monkeypatch.setattr(type(objects), "require_conditional_writes", real)
        Registry(objects).promote("m", Candidate(run_id), 0, "faster", by="ann")
        real(self)

    monkeypatch.setattr(type(objects), "require_conditional_writes", interrupted)
    with pytest.raises(Outrun, match="ann was faster"):
        registry.promote("m", Candidate(run_id), 0, "slower")
    assert [p.by for p in registry.history("m")] == ["ann"]


# --- deaths


class Death(BaseException):
    """What a kill looks like from inside: nothing catches it."""


class Counted(Objects):
    """Objects whose user dies before, or after, operation `at` (0, 1, …); `done` names those that were done."""

    def __init__(self, inner: Objects, at: int, after: bool) -> None:
        super().__init__(inner.url)
        self._inner, self._at, self._after = inner, at, after
        self._lock = threading.Lock()
        self.done: list[str] = []

    def act(self, what: str, *args: object) -> Any:
        with self._lock:
            number = len(self.done)
            if number == self._at and not self._after:
                raise Death
            self.done.append(what)
        try:
            return getattr(self._inner, what)(*args)
        finally:  # also where the operation was refused
            if number == self._at:
                raise Death


Dying: Any = type(
    "Dying", (Counted,), {name: partialmethod(Counted.act, name) for name in Objects.__abstractmethods__}
)


@pytest.mark.parametrize("act", ["promote", "rollback"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_promoter_killed_at_any_step_leaves_a_readable_registry(
    objects: Objects, act: str, after: bool
) -> None:
    registry = promoted(objects, 2)
    other = bare_run(objects)
    for step in range(100):
        standing = registry.history("m")
        dying = Dying(objects, step, after)
        died = False
        try:
            if act == "promote":
                Registry(dying).promote("m", Candidate(other), len(standing), "dies")
            else:
                Registry(dying).rollback("m", to=1)
        except Death:
            died = True
        history = registry.history("m")
        assert history[: len(standing)] == standing
        assert registry.champion("m") == history[-1]
        assert registry.problems("m") == []
        if len(history) > len(standing):
            break
        assert died
    assert len(history) == len(standing) + 1
    assert died is after  # before: the one step that was left undisturbed; after: it died once all was done
    assert step > 8  # every operation had its turn
    assert dying.done[-1] == "create"
    left = objects.list(PROBES)
    assert len(left) <= 2 * step  # a probe of a dead promoter is all there is left besides


def test_a_promoter_killed_by_the_system_loses_no_promotion_that_it_reported(
    local: Objects, file_store: str
) -> None:
    run_id, registry, reported = bare_run(local), Registry(local), 0
    for kill in range(KILLS):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.models", file_store, run_id],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        time.sleep(0.007 * kill)  # another place each time
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.read().splitlines()
        process.stdout.close()
        assert process.wait() == -signal.SIGKILL
        reported = max(int(line) for line in lines if line.strip())
        assert registry.problems("m") == []
        assert reported <= registry.newest("m") <= reported + 1
    assert len(registry.history("m")) >= reported >= KILLS


# --- changed histories


def test_a_change_of_any_byte_of_any_record_is_found(local: Objects) -> None:
    promoted(local, 3)
    records = {number: local.get(promotion_key("m", number)) for number in (1, 2, 3)}
    assert chain_problems("m", records)[0] == []
    for number, data in records.items():
        for at in range(len(data)):
            changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
            assert chain_problems("m", records | {number: changed})[0], f"byte {at} of promotion {number}"
        for cut in (0, 1, len(data) // 2, len(data) - 1):
            assert chain_problems("m", records | {number: data[:cut]})[0]
        assert chain_problems("m", records | {number: data + b"\n"})[0]


def test_changes_of_records_in_the_store_are_told(objects: Objects) -> None:
    registry = promoted(objects, 4)
    keys = {number: promotion_key("m", number) for number in range(1, 5)}
    data = {number: objects.get(key) for number, key in keys.items()}

    def told(number: int, instead: bytes | None) -> str:
        if instead is None:
            objects.delete(keys[number])
        else:
            objects.put(keys[number], instead)
        try:
            return "; ".join(registry.problems("m"))
        finally:
            objects.put(keys[number], data[number])

    assert registry.problems("m") == []
    assert "promotion 2 of model m is missing" in told(2, None)
    assert "promotion 1 of model m is missing" in told(1, None)
    assert "promotion 4 of model m cannot be read" in told(4, b"{")
    assert "its bytes do not match its own digest" in told(4, data[4].replace(b"better", b"worser"))
    assert "is a copy of promotion 3" in told(4, data[3])
    forged = replace(decode(data[2], "m", 2), reason="forged")
    assert "promotion 3 of model m was made after another promotion 2" in told(2, encode(forged))
    objects.put("models/m/notes.txt", b"x")
    assert registry.problems("m") == ["models/m/notes.txt is no promotion"]


def test_a_digest_that_was_noted_finds_what_the_chain_alone_cannot(objects: Objects) -> None:
    registry = promoted(objects, 2)
    newest = registry.require("m")
    assert registry.problems("m", newest.digest) == []
    objects.put(promotion_key("m", 2), encode(replace(newest, reason="forged")))
    assert registry.problems("m") == []
    assert registry.problems("m", newest.digest) == [
        f"no promotion of model m has the digest {newest.digest}"
    ]
    objects.delete(promotion_key("m", 2))
    assert registry.problems("m") == []
    assert registry.problems("m", newest.digest) != []


def test_promoted_checkpoints_that_are_gone_or_others_are_told(local: Objects) -> None:
    registry = promoted(local, 4)
    first, second, third, _ = registry.history("m")
    folders = [f"runs/{p.run_id}/checkpoints/000000000004-a0001" for p in (first, second, third)]
    local.delete(f"{folders[0]}/commit.json")
    marker = local.get(f"{folders[1]}/commit.json")
    local.put(f"{folders[1]}/commit.json", marker.replace(second.weights.encode(), b"0" * 64))
    local.delete(f"{folders[2]}/weights.safetensors")
    problems = registry.problems("m")
    assert len(problems) == 3
    assert "version 1 of model m: run" in problems[0]
    assert "no finished checkpoint at step 4" in problems[0]
    assert problems[1] == f"version 2 of model m: {folders[1]} holds other weights than were promoted"
    assert problems[2] == f"version 3 of model m: {folders[2]} lacks weights.safetensors"
    for version in (1, 2, 3):
        with pytest.raises(NotFound, match=f"version {version} of model m"):
            registry.rollback("m", version)
    assert registry.newest("m") == 4


# --- rollback


def test_rollback_restores_the_version_before_and_is_itself_a_promotion(objects: Objects) -> None:
    registry = promoted(objects, 3)
    back = registry.rollback("m", reason="artefacts", by="ann")
    second = registry.history("m")[1]
    assert (back.number, back.version, back.kind, back.reason, back.by) == (
        4,
        2,
        "rollback",
        "artefacts",
        "ann",
    )
    assert back.checkpoint == second.checkpoint
    assert (back.data, back.decision) == (FINGERPRINT, "")
    assert registry.rollback("m").version == 1
    with pytest.raises(NotFound, match="no version before its champion's"):
        registry.rollback("m")
    forth = registry.rollback("m", to=3)
    assert (forth.number, forth.version, forth.reason) == (6, 3, "rollback from version 1")
    assert registry.champion("m") == forth
    assert registry.problems("m") == []


def test_rollback_skips_a_version_that_was_rolled_back_already(local: Objects) -> None:
    registry = promoted(local, 2)
    registry.rollback("m")
    registry.promote("m", Candidate(bare_run(local)), 3, "better than version 1")
    assert registry.require("m").version == 3
    assert registry.rollback("m").version == 1


def test_a_wrong_rollback_is_refused(local: Objects) -> None:
    with pytest.raises(NotFound, match="no model 'm'"):
        Registry(local).rollback("m")
    registry = promoted(local, 2)
    with pytest.raises(NotFound, match="no version 7; versions: 1, 2"):
        registry.rollback("m", to=7)
    with pytest.raises(ConfigError, match="version 2 is the champion of model m already"):
        registry.rollback("m", to=2)
    assert registry.newest("m") == 2


def test_a_rollback_that_is_outrun_is_told_by_whom(local: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    registry, real = promoted(local, 2), LocalObjects.require_conditional_writes

    def interrupted(self: LocalObjects) -> None:
        monkeypatch.setattr(LocalObjects, "require_conditional_writes", real)
        Registry(local).rollback("m", by="ann")

    monkeypatch.setattr(LocalObjects, "require_conditional_writes", interrupted)
    with pytest.raises(Outrun, match="ann was faster: promotion 3"):
        registry.rollback("m")
    assert registry.newest("m") == 3


@pytest.mark.parametrize("damaged", [1, 2, 3])
def test_a_damaged_record_stops_neither_rollback_nor_the_next_promotion(local: Objects, damaged: int) -> None:
    registry = promoted(local, 3)
    local.put(promotion_key("m", damaged), b"not a record")
    with pytest.raises(StoreError, match=f"promotion {damaged} of model m cannot be read"):
        registry.history("m")
    back = registry.rollback("m")
    assert (back.number, back.version) == (4, 1 if damaged == 2 else 2)
    following = registry.promote("m", Candidate(bare_run(local)), 4, "goes on")
    assert following.version > 3  # a number that the damaged record may have given is not given again
    assert registry.champion("m") == following
    assert any(f"promotion {damaged} of model m cannot be read" in p for p in registry.problems("m"))


def test_a_rollback_takes_less_than_two_seconds_with_nothing_else_running(
    local: Objects, file_store: str
) -> None:
    promoted(local, 2)
    code = (
        "import sys, time; began = time.process_time()\n"
        "from orchestrator.registry import Registry\n"
        "from orchestrator.store.objects import open_objects\n"
        "print(Registry(open_objects(sys.argv[1])).rollback('m').version)\n"
        "heavy = {'torch', 'ray', 'prefect', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert time.process_time() - began < 1.0\n"
    )
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "PREFECT_"))}
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code, file_store], cwd=root, env=environ, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


# --- a store that keeps no promise


@pytest.mark.parametrize(("server", "kind"), [("file", LocalObjects), ("moto", S3Objects)])
def test_a_store_that_ignores_the_condition_gets_no_promotion(
    server: str, kind: type[Objects], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = open_objects(request.getfixturevalue(f"{server}_store"))
    registry = promoted(objects, 2)
    run_id = bare_run(objects)
    monkeypatch.setattr(kind, "create", kind.put)
    for attempt in (
        lambda: registry.promote("m", Candidate(run_id), 2, "x"),
        lambda: registry.rollback("m"),
    ):
        with pytest.raises(ConditionalWritesMissing, match="If-None-Match"):
            attempt()
    assert registry.newest("m") == 2
    assert registry.require("m").version == 2


def test_the_face_of_the_package_is_complete() -> None:
    assert set(package.__all__) >= {"load", "watch", "Registry", "Promotion", "Candidate", "Outrun"}
    assert package.Promotion is Promotion
