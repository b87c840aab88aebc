"""The dashboard's API over real runs: what it tells is what the store holds, also while that is away."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from orchestrator.dashboard import error_rates, library, rating
from orchestrator.dashboard.adapters import Prefect, Ray
from orchestrator.dashboard.feed import WAITING, Hub
from orchestrator.dashboard.library import Library
from orchestrator.dashboard.settings import Settings
from orchestrator.errors import StoreError
from orchestrator.launch import submit
from orchestrator.recipes import load
from orchestrator.store.catalogue import Catalogue
from orchestrator.store.ids import new_id
from orchestrator.store.layout import deck_key, run_key
from orchestrator.store.local import LocalObjects
from orchestrator.store.objects import Keys, Objects, open_objects
from orchestrator.store.reader import Run
from orchestrator.store.writer import RunWriter
from tests.support.browsing import TOKEN, Site, serving
from tests.support.threads import one_thread as one_thread

BEARER = {"Authorization": f"Bearer {TOKEN}"}
RING = {
    "train.steps": 40,
    "train.batch": 64,
    "train.log_every": 2,
    "train.evaluate_every": 20,
    "train.sample_every": 10,
    "train.checkpoint_every": 20,
    "data.num": 500,
    "gan.width": 16,
}


@dataclass(frozen=True)
class Made:
    objects: Objects
    ring: str
    other: str  # the same recipe with another rate and seed


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    store = str(tmp_path_factory.mktemp("dashboard") / "store")
    ring = load("vanilla.ring").override(RING)
    other = ring.override({"gan.lr_g": 5e-4, "seed": 7, "train.steps": 30})
    return Made(open_objects(store), *(submit(each, store).wait().run_id for each in (ring, other)))


@pytest.fixture(scope="module")
def site(made: Made) -> Iterator[Site]:
    with serving(made.objects) as served:
        yield served


@pytest.fixture
def client(site: Site) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=site.url, headers=BEARER, trust_env=False) as given:
        yield given


def rows_of(told: dict[str, Any]) -> dict[str, dict[str, Any]]:
    columns = told["columns"]
    assert {len(column) for column in columns.values()} <= {told["count"]}
    return {i: {name: column[n] for name, column in columns.items()} for n, i in enumerate(columns["id"])}


def test_the_table_of_runs_is_the_catalogues(made: Made, client: httpx.Client) -> None:
    told = client.get("/api/runs").json()
    expected = Catalogue(made.objects).runs()
    assert told["columns"]["id"] == [row["id"] for row in expected]
    for row in expected:
        shown = rows_of(told)[row["id"]]
        same = ("name", "family", "state", "verdict", "step", "created", "sweep", "attempt")
        assert {name: shown[name] for name in same} == {name: row[name] for name in same}
        for name in ("fid", "coverage", "recall", "seconds"):
            assert shown[name] == row["metrics"].get(name)
    assert (rows_of(told)[made.ring]["seed"], rows_of(told)[made.other]["seed"]) == (0, 7)
    assert (rows_of(told)[made.ring]["sample"], rows_of(told)[made.other]["sample"]) == (40, 30)


@pytest.mark.parametrize(
    "path", ["/api/runs", "/api/runs/{ring}", "/api/runs/{ring}/curves", "/api/openapi.json"]
)
def test_what_did_not_change_is_not_sent_again(made: Made, client: httpx.Client, path: str) -> None:
    path = path.format(ring=made.ring)
    first = client.get(path)
    again = client.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


def test_answers_are_packed_where_the_client_takes_that(made: Made, site: Site) -> None:
    request = {**BEARER, "Accept-Encoding": "gzip"}
    with httpx.stream("GET", f"{site.url}/api/runs/{made.ring}", headers=request) as answer:
        packed = b"".join(answer.iter_raw())
    plain = httpx.get(f"{site.url}/api/runs/{made.ring}", headers={**BEARER, "Accept-Encoding": "identity"})
    assert answer.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert gzip.decompress(packed) == plain.content


def test_a_run_tells_everything_of_it(made: Made, client: httpx.Client) -> None:
    told, run = client.get(f"/api/runs/{made.ring}").json(), Run(made.objects, made.ring)
    assert told["document"] == run.document()
    assert told["sealed"] == run.sealed()
    assert (told["state"], told["live"], told["driver"]) == (run.state(), None, None)
    assert told["samples"] == [10, 20, 30, 40]
    assert told["checkpoints"] == [20, 40]
    assert [attempt["attempt"] for attempt in told["attempts"]] == [1]
    logs = client.get(f"/api/runs/{made.ring}/logs").json()["lines"]
    assert logs[0].startswith("rank0 on ")
    assert " at step 40: " in logs[-1]


@pytest.mark.parametrize("width", [16, 17, 4000, 1, 10**9])
def test_curves_keep_the_least_and_the_greatest_of_every_bucket(
    made: Made, client: httpx.Client, width: int
) -> None:
    names = "loss_d,loss_g,fid,grad_critic"
    told = client.get(f"/api/runs/{made.ring}/curves", params={"names": names, "width": width}).json()
    table = Run(made.objects, made.ring).metrics()
    steps, ends = table["step"].to_pylist(), told["step"]
    assert ends == sorted(set(ends))
    assert ends[-1] == steps[-1]
    assert len(ends) <= max(16, min(width, 4000))
    assert set(told["series"]) == set(names.split(","))
    for name, series in told["series"].items():
        start = -1
        for place, end in enumerate(ends):
            rows = zip(steps, table[name].to_pylist(), strict=True)
            mine = [v for s, v in rows if start < s <= end and v is not None]
            assert series["min"][place] == (min(mine) if mine else None)
            assert series["max"][place] == (max(mine) if mine else None)
            assert series["last"][place] == (mine[-1] if mine else None)
            start = end
    assert {"loss_d", "fid", "coverage"} <= set(told["names"])
    assert not {"step", "attempt", "time", "verdict", "change"} & set(told["names"])
    assert told["verdicts"][0]["from"] == steps[0]


def test_a_sample_is_what_the_store_holds_and_never_changes(made: Made, client: httpx.Client) -> None:
    for step, key in Run(made.objects, made.ring).samples():
        answer = client.get(f"/api/runs/{made.ring}/samples/{step}.png")
        assert answer.content == made.objects.get(key)
        assert answer.headers["content-type"] == "image/png"
        assert "immutable" in answer.headers["cache-control"]
        again = client.get(answer.request.url, headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304
    assert client.get(f"/api/runs/{made.ring}/samples/11.png").status_code == 404


def test_runs_are_compared_over_one_axis(made: Made, client: httpx.Client) -> None:
    told = client.get("/api/compare", params={"runs": f"{made.ring},{made.other}", "name": "loss_d"}).json()
    for run_id, values in told["series"].items():
        table = Run(made.objects, run_id).metrics()
        expected = dict(zip(table["step"].to_pylist(), table["loss_d"].to_pylist(), strict=True))
        assert {s: v for s, v in zip(told["step"], values, strict=True) if v is not None} == expected
    assert told["config"]["gan.lr_g"] == {made.ring: 1e-3, made.other: 5e-4}
    assert set(told["config"]) == {"gan.lr_g", "seed", "train.steps"}
    assert told["samples"] == {made.ring: [10, 20, 30, 40], made.other: [10, 20, 30]}
    few = client.get(
        "/api/compare", params={"runs": f"{made.ring},{made.other}", "width": 16, "name": "loss_d"}
    )
    assert len(few.json()["step"]) == 16


def test_mistakes_are_told_in_a_line(made: Made, client: httpx.Client) -> None:
    curves = f"/api/runs/{made.ring}/curves"
    for path, code in {
        "/api/runs/20201122-014500-k3v9qa": 404,
        "/api/runs/20201122-014500-k3v9qa/curves": 404,
        "/api/runs/20201122-014500-k3v9qa/logs": 404,
        "/api/runs/nonsense": 404,
        "/api/nonsense": 404,
        f"{curves}?width=many": 400,
        f"{curves}?names=a%20b": 400,
        f"{curves}?names={','.join(f'm{i}' for i in range(99))}": 400,
        "/api/compare": 400,
        "/api/compare?runs=20201122-014500-k3v9qa": 404,
        f"/api/compare?runs={','.join(new_id() for _ in range(251))}": 400,
    }.items():
        answer = client.get(path)
        assert answer.status_code == code, path
        assert set(answer.json()) == {"error"}
        assert "\n" not in answer.json()["error"]
    assert client.post("/api/runs").status_code == 405


def test_the_api_is_described(client: httpx.Client) -> None:
    told = client.get("/api/openapi.json").json()
    assert {"/api/runs", "/api/runs/{id}/curves", "/api/compare", "/api/events", "/api/launch"} <= set(
        told["paths"]
    )
    for path, methods in told["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], path
            named = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
            assert named == {
                part.strip("{}").removesuffix(".png") for part in path.split("/") if "{" in part
            } or (".png" in path)
            assert method in ("get", "post")


# --- a store of one's own


@dataclass
class Own:
    objects: Objects
    folder: Path


@pytest.fixture
def own(tmp_path: Path) -> Own:
    return Own(open_objects(str(tmp_path / "store")), tmp_path / "store")


def begun(objects: Objects, **fields: Any) -> RunWriter:
    return RunWriter.create(objects, new_id(), {"name": "mine", "family": "vanilla", "seed": 1} | fields)


def finished(objects: Objects, steps: int, **fields: Any) -> str:
    writer = begun(objects, **fields)
    for step in range(1, steps + 1):
        value = math.sin(step) * step
        writer.log(
            step,
            {"loss_d": value, "fid": 1.0 / step, "verdict": "healthy"} if step % 3 else {"loss_d": value},
        )
    writer.seal("completed", {"verdict": "healthy"})
    return writer.run_id


def test_a_compacted_run_tells_the_same(own: Own) -> None:
    ids = [finished(own.objects, 100 + i) for i in range(3)]
    paths = [f"/api/runs/{i}/curves?names=loss_d,fid&width=50" for i in ids]
    paths += [f"/api/compare?runs={','.join(ids)}&name={name}&width=40" for name in ("fid", "loss_d")]
    told = []
    for _ in range(2):
        with serving(own.objects) as site, httpx.Client(base_url=site.url, headers=BEARER) as client:
            rows = rows_of(client.get("/api/runs").json())
            told.append([rows, *(client.get(path).json() for path in paths)])
        Catalogue(own.objects).compact()
    assert told[0] == told[1]
    for run_id in ids:  # housekeeping takes the parts
        for key in own.objects.list(run_key(run_id, "m")):
            own.objects.delete(key)
    with serving(own.objects) as site, httpx.Client(base_url=site.url, headers=BEARER) as client:
        assert [client.get(path).json() for path in paths] == told[0][1:]


def test_spells_of_a_verdict_have_their_evidence(own: Own) -> None:
    writer = begun(own.objects)
    kinds = ["healthy", "healthy", "mode collapse", "mode collapse", "healthy", "diverged"]
    for step, kind in enumerate(kinds):
        told = {"verdict": kind, "probe_reach": 0.1 * step}
        writer.log(step, told | ({"change": "halved the rate"} if step == 4 else {}))
    evidence = [{"signal": "loss", "value": None, "threshold": 1.0, "window": 1, "step": 5}]
    writer.seal("diverged", {"verdict": "diverged", "evidence": evidence, "remedy": "less"})
    with serving(own.objects) as site, httpx.Client(base_url=site.url, headers=BEARER) as client:
        told = client.get(f"/api/runs/{writer.run_id}/curves").json()
        run = client.get(f"/api/runs/{writer.run_id}").json()
    spells = told["verdicts"]
    assert [(s["from"], s["to"], s["kind"]) for s in spells] == [
        *((0, 1, "healthy"), (2, 3, "mode collapse"), (4, 4, "healthy"), (5, 5, "diverged"))
    ]
    assert spells[1]["evidence"] == [{"signal": "probe_reach", "value": 0.2, "step": 2}]
    assert spells[3]["evidence"] == evidence
    assert told["changes"] == [{"step": 4, "why": "halved the rate"}]
    assert [(a["rule"], a["evidence"], a["remedy"]) for a in run["alarms"]] == [
        ("diverged", evidence, "less")
    ]


class Listener:
    """A page: the events that a dashboard sends, as they come."""

    def __init__(self, url: str) -> None:
        self.events: list[tuple[str, Any]] = []
        self.ended = threading.Event()
        self._url = url
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        kind = ""
        try:
            with httpx.stream("GET", f"{self._url}/api/events", headers=BEARER, timeout=30) as answer:
                for line in answer.iter_lines():
                    if line.startswith("event: "):
                        kind = line[7:]
                    elif line.startswith("data: "):
                        self.events.append((kind, json.loads(line[6:])))
        finally:
            self.ended.set()

    def wait(self, kind: str, fits: Any = lambda _: True, seconds: float = 5.0) -> Any:
        """The first event of a kind that fits."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for name, data in list(self.events):
                if name == kind and fits(data):
                    return data
            time.sleep(0.02)
        raise AssertionError(f"no {kind} within {seconds} s: {self.events}")


def test_a_run_that_begins_moves_and_collapses_is_told_as_it_does(own: Own) -> None:
    with serving(own.objects) as site:
        page = Listener(site.url)
        page.wait("hello")
        time.sleep(0.5)
        writer = begun(own.objects)
        row = page.wait("runs", lambda d: d["rows"][0]["id"] == writer.run_id)["rows"][0]
        assert (row["state"], row["name"], row["seed"]) == ("running", "mine", 1)
        writer.log(10, {"fid": 3.0})
        writer.heartbeat(force=True, verdict="healthy")
        page.wait("runs", lambda d: d["rows"][0]["step"] == 10 and d["rows"][0]["fid"] == 3.0)
        writer.log(20, {"fid": 9.0})
        writer.heartbeat(force=True, verdict="mode collapse")
        alarm = page.wait("alarm")
        assert (alarm["run"], alarm["kind"], alarm["step"]) == (writer.run_id, "mode collapse", 20)
        writer.flush()
        curve = httpx.get(f"{site.url}/api/runs/{writer.run_id}/curves?names=fid", headers=BEARER).json()
        assert curve["series"]["fid"]["last"] == [3.0, 9.0]
        writer.log(30, {"fid": 8.0})
        writer.flush()
        curve = httpx.get(f"{site.url}/api/runs/{writer.run_id}/curves?names=fid", headers=BEARER).json()
        assert curve["series"]["fid"]["last"] == [3.0, 9.0, 8.0]
        writer.seal("collapsed", {"verdict": "mode collapse"})
        page.wait("runs", lambda d: d["rows"][0]["state"] == "collapsed")
        assert len([kind for kind, _ in page.events if kind == "alarm"]) == 1
        began = time.monotonic()
    assert page.ended.wait(5)
    assert time.monotonic() - began < 5


def test_the_store_goes_away_and_comes_back(own: Own) -> None:
    run_id = finished(own.objects, 10)
    away = own.folder.with_name("away")
    with serving(own.objects) as site, httpx.Client(base_url=site.url, headers=BEARER) as client:
        page = Listener(site.url)
        assert client.get("/api/runs").json()["stale"] == ""
        assert client.get(f"/api/runs/{run_id}/curves").status_code == 200
        os.rename(own.folder, away)
        assert "gone" in page.wait("hello", lambda d: d["stale"])["stale"]
        told = client.get("/api/runs").json()
        assert list(rows_of(told)) == [run_id]
        assert told["stale"]
        assert client.get(f"/api/runs/{run_id}/curves").status_code == 200  # it was read before
        assert client.get(f"/api/runs/{run_id}").status_code == 503
        status = client.get("/api/status")
        assert status.status_code == 200
        assert status.json()["parts"][0]["state"] == "down"
        os.rename(away, own.folder)
        until = time.monotonic() + 5
        while client.get("/api/runs").json()["stale"] and time.monotonic() < until:
            time.sleep(0.1)
        assert client.get("/api/runs").json()["stale"] == ""
        assert client.get("/api/status").json()["parts"][0]["state"] == "up"
        page.wait("hello", lambda _: [d for kind, d in page.events if kind == "hello"][-1]["stale"] == "")


class Hanging(LocalObjects):
    """A store that can be made not to answer at all."""

    answers = threading.Event()

    def list(self, prefix: str) -> Any:
        self.answers.wait(30)
        return super().list(prefix)

    def get(self, key: str) -> bytes:
        self.answers.wait(30)
        return super().get(key)


def test_a_store_that_hangs_hangs_nobody(own: Own, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = finished(own.objects, 10)
    monkeypatch.setattr(library, "STALE", 0.5)
    hanging = Hanging(own.folder)
    hanging.answers.set()
    with serving(hanging) as site, httpx.Client(base_url=site.url, headers=BEARER, timeout=10) as client:
        page = Listener(site.url)
        assert client.get(f"/api/runs/{run_id}/curves").status_code == 200
        try:
            hanging.answers.clear()
            assert "not answered" in page.wait("hello", lambda d: d["stale"])["stale"]
            began = time.monotonic()
            told = client.get("/api/runs").json()
            assert (list(rows_of(told)), bool(told["stale"])) == ([run_id], True)
            assert client.get("/api/status").json()["parts"][0]["state"] == "down"
            assert client.get(f"/api/runs/{run_id}/curves").status_code == 200
            assert client.get(f"/api/runs/{run_id}").status_code == 503
            assert time.monotonic() - began < 2
        finally:
            hanging.answers.set()
        page.wait("hello", lambda _: [d for kind, d in page.events if kind == "hello"][-1]["stale"] == "")
        assert client.get(f"/api/runs/{run_id}").status_code == 200


class Counting(LocalObjects):
    """A store that counts what is asked of it."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.asked: list[str] = []

    def get(self, key: str) -> bytes:
        self.asked.append(key)
        return super().get(key)

    def list(self, prefix: str) -> Keys:
        self.asked.append(prefix)
        return super().list(prefix)


def test_what_is_asked_of_the_store_does_not_grow_with_its_runs(own: Own) -> None:
    for i in range(30):
        finished(own.objects, 1, seed=i)
    Catalogue(own.objects).compact()
    newest = begun(own.objects)
    counting = Counting(own.folder)
    shelf = Library(counting)
    shelf.look()
    assert len(counting.asked) < 12
    counting.asked.clear()
    shelf.look()
    assert len(counting.asked) < 8
    assert len(shelf.changed()) == 31
    assert [row["id"] for row in shelf.going()] == [shelf.rows()[0]["id"]] == [newest.run_id]
    assert {row["seed"] for row in shelf.rows()} == {*range(30), 1}
    etag = shelf.table()[0]
    shelf.look()
    assert shelf.changed() == []
    assert shelf.table()[0] == etag
    newest.heartbeat(force=True, verdict="healthy", extra=1)
    shelf.look()
    assert [row["id"] for row in shelf.changed()] == [newest.run_id]
    assert shelf.table()[0] != etag


class Failing(LocalObjects):
    """A store that does not list `broken`."""

    broken = ""

    def list(self, prefix: str) -> Keys:
        if prefix == self.broken:
            raise StoreError("the store is out of order")
        return super().list(prefix)


def test_runs_that_were_compacted_while_the_store_failed_are_not_missed(own: Own) -> None:
    failing = Failing(own.folder)
    shelf = Library(failing)
    begun(own.objects)
    shelf.look()
    ended = finished(own.objects, 1)
    Catalogue(own.objects).compact()
    failing.broken = "rate"
    shelf._rates._due = 0.0
    shelf.look()
    assert (shelf.down, shelf.row(ended)) == ("the store is out of order", None)
    failing.broken = ""
    shelf.look()
    assert shelf.down == ""
    assert shelf.row(ended) is not None


def judged(objects: Objects, run_id: str, said: list[bool]) -> None:
    """Somebody said of four pictures, two of them real, which are."""
    data, deck = io.BytesIO(), new_id()
    images = np.zeros((4, 8, 8, 1), np.uint8)
    np.savez_compressed(data, images=images, real=np.array([True, True, False, False]), step=4)
    objects.create(deck_key(run_id, deck), data.getvalue())
    told = [{"item": i, "real": real, "seconds": 1.0} for i, real in enumerate(said)]
    rating.judge(objects, run_id, rating.Session.model_validate({"deck": deck, "judgements": told}), "me")


def test_the_rate_at_which_people_err_is_a_column_of_the_runs(
    own: Own, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(error_rates, "REST", 0.0)
    ended, going = finished(own.objects, 1), begun(own.objects)
    judged(own.objects, ended, [True, True, True, False])
    shelf = Library(own.objects)
    shelf.look()
    rate, low, high = (shelf.rows()[1][name] for name in error_rates.RATES)
    assert (rate, low, high) == (0.25, *rating.wilson(1, 4))
    assert {shelf.rows()[0][name] for name in error_rates.RATES} == {None}
    shelf.changed()
    judged(own.objects, going.run_id, [False, False, True, True])
    judged(own.objects, ended, [True, False, False, False])
    Catalogue(own.objects).compact()
    shelf.look()
    assert {row["id"]: row["error_rate"] for row in shelf.changed()} == {going.run_id: 1.0, ended: 0.25}
    assert shelf.row(ended) is not None
    assert shelf.row(ended)["error_high"] == rating.wilson(2, 8)[1]  # type: ignore[index]


def test_a_page_that_does_not_keep_up_is_dropped_and_the_others_are_not() -> None:
    async def scene() -> tuple[int, list[bytes], list[bytes]]:
        hub = Hub()
        slow, fast = hub.stream({}), hub.stream({})
        heard = [await anext(fast)]
        await anext(slow)
        for i in range(WAITING + 5):
            hub.publish("runs", {"n": i})
            heard.append(await anext(fast))
        left, rest = len(hub), [message async for message in slow]
        hub.close()
        assert [message async for message in fast] == []
        return left, heard, rest

    left, heard, rest = asyncio.run(scene())
    assert left == 1
    assert len(heard) == WAITING + 6
    assert rest == []


def test_a_silent_stream_is_kept_by_comments() -> None:
    async def scene() -> bytes:
        stream = Hub().stream({}, beat=0.01)
        await anext(stream)
        told = await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]
        return told

    assert asyncio.run(scene()).startswith(b":")


def test_the_command_says_where_it_is_and_ctrl_c_ends_it_while_pages_are_open(
    own: Own, tmp_path: Path
) -> None:
    finished(own.objects, 3)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "orchestrator.cli",
        "dashboard",
        "--store",
        own.objects.url,
        "--port",
        str(port),
    ]
    environment = os.environ | {"HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        assert address.startswith(f"http://127.0.0.1:{port}/?token=")
        until = time.monotonic() + 30
        with httpx.Client(
            trust_env=False, headers={"Authorization": f"Bearer {address.partition('=')[2]}"}
        ) as client:
            while time.monotonic() < until:
                try:
                    assert client.get(f"http://127.0.0.1:{port}/api/runs").json()["count"] == 1
                    break
                except httpx.TransportError:
                    time.sleep(0.1)
            with client.stream("GET", f"http://127.0.0.1:{port}/api/events") as stream:
                lines = stream.iter_lines()
                assert next(lines).startswith("retry")
                began = time.monotonic()
                process.send_signal(signal.SIGINT)
                assert list(lines)
                process.wait(10)
                assert time.monotonic() - began < 3
        assert address not in process.stdout.read()


# --- Ray and Prefect


RAY = {
    "/nodes?view=summary": {
        "data": {
            "summary": [
                {
                    "hostname": "worker",
                    "ip": "10.0.0.2",
                    "cpu": 12.5,
                    "mem": [100, 40, 60.0, 60],
                    "gpus": [
                        {"index": 0, "name": "H100", "utilizationGpu": 93, "memoryUsed": 7, "memoryTotal": 80}
                    ],
                    "raylet": {
                        "nodeId": "b",
                        "state": "ALIVE",
                        "isHeadNode": False,
                        "resourcesTotal": {"GPU": 1},
                    },
                },
                {"hostname": "head", "raylet": {"nodeId": "a", "state": "ALIVE", "isHeadNode": True}},
            ]
        }
    },
    "/api/jobs/": [
        {
            "submission_id": "job-1",
            "status": "RUNNING",
            "entrypoint": "ganctl train --token=hush",
            "start_time": 5000,
            "runtime_env": {"env_vars": {"AWS_SECRET_ACCESS_KEY": "hush"}},
        }
    ],
    "/api/cluster_status": {"data": {}},
    "/api/jobs/job-1/logs": {"logs": "step 1\nAWS_SECRET_ACCESS_KEY=hush\n"},
}
FLOWS = [
    {
        "id": "1",
        "name": "sly-fox",
        "state_type": "SCHEDULED",
        "parameters": {"name": "faces"},
        "expected_start_time": "2026-11-26T03:00:00Z",
    }
]


@contextmanager
def answering(answers: dict[str, Any], token: str = "") -> Iterator[tuple[str, list[str]]]:
    """A server that gives these answers; 401 without the token. Yields its url and what it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            right = not token or self.headers.get("Authorization") == f"Bearer {token}"
            found = answers.get(self.path)
            body = json.dumps(found).encode()
            self.send_response(401 if not right else 404 if found is None else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_ray_is_asked_once_with_its_token_and_nothing_secret_leaves(tmp_path: Path, own: Own) -> None:
    (tmp_path / "ray-token").write_text("rays-own\n")
    writer = begun(own.objects)
    own.objects.put(
        run_key(writer.run_id, "driver.json"), json.dumps({"on": "x", "submission": "job-1"}).encode()
    )
    with answering(RAY, "rays-own") as (url, asked):
        settings = {"ray": url, "ray_token_path": str(tmp_path / "ray-token")}
        cluster = Ray(Settings(token="t", **settings)).cluster()
        with (
            serving(own.objects, **settings) as site,
            httpx.Client(base_url=site.url, headers=BEARER) as client,
        ):
            before = len(asked)
            answers = [client.get("/api/status").text for _ in range(5)]
            assert len(asked[before:]) == len(set(asked[before:]))
            logs = client.get(f"/api/runs/{writer.run_id}/logs").json()["lines"]
            answers.append(json.dumps(logs))
    assert (cluster["state"], [node["name"] for node in cluster["nodes"]]) == ("up", ["head", "worker"])
    worker = cluster["nodes"][1]
    assert worker["gpus"] == [{"index": 0, "name": "H100", "busy": 93, "used": 7, "total": 80}]
    assert (worker["memory"], worker["resources"]) == ({"total": 100, "free": 40}, {"GPU": 1})
    (job,) = cluster["jobs"]
    assert (job["id"], job["state"], job["begun"]) == ("job-1", "running", 5.0)
    assert logs == ["job job-1:", "step 1", "AWS_SECRET_ACCESS_KEY=…"]
    for text in (json.dumps(cluster), *answers):
        assert "hush" not in text
        assert "rays-own" not in text


def test_prefect_tells_what_is_next() -> None:
    with answering({"/api/flow_runs/filter": FLOWS}) as (url, _):
        prefect = Prefect(Settings(token="t", prefect=f"{url}/api"))
        assert prefect.part() == {"what": "prefect", "state": "up", "where": url}
        (run,) = prefect.coming()["runs"]
    assert (run["retraining"], run["next"], run["state"]) == ("faces", "2026-11-26T03:00:00Z", "scheduled")


@pytest.mark.parametrize(
    "answers", [None, {}, {"/nodes?view=summary": {}, "/api/flow_runs/filter": {"x": 1}}]
)
def test_servers_that_are_down_or_talk_nonsense_are_said_to_be_down(
    answers: dict[str, Any] | None, own: Own
) -> None:
    with answering(answers or {}) as (url, _):
        where = url if answers is not None else "http://127.0.0.1:9"
        with serving(own.objects, ray=where, prefect=f"{where}/api") as site:
            client = httpx.Client(base_url=site.url, headers=BEARER)
            parts = {part["what"]: part["state"] for part in client.get("/api/status").json()["parts"]}
            client.close()
    assert parts == {"store": "up", "ray": "down", "prefect": "down"}


def test_nothing_of_the_cluster_is_needed(own: Own) -> None:
    settings = Settings(token="t")
    assert Ray(settings).cluster()["state"] == "not started"
    assert Prefect(settings).part() == {"what": "prefect", "state": "not started", "where": None}
