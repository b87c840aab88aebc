"""The dashboard over a store on S3: the same as over a folder, and what it says while the server is away."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Browser, expect

from orchestrator.dashboard import library
from orchestrator.registry import Candidate, Registry
from orchestrator.store.ids import new_id
from orchestrator.store.objects import Objects, open_objects
from orchestrator.store.writer import RunWriter
from tests.support.browsing import TOKEN, Site, chromium, serving, until, visiting
from tests.support.ceph import S3Server
from tests.support.dashboard import ill_run
from tests.support.faults import FaultProxy, proxy
from tests.support.models import bare_run

__all__ = ["chromium"]

BEARER = {"Authorization": f"Bearer {TOKEN}"}


@dataclass(frozen=True)
class Far:
    """A store on moto that is reached through a proxy, and the dashboard over it."""

    objects: Objects
    proxy: FaultProxy
    site: Site
    api: httpx.Client

    def told(self, path: str) -> Any:
        return self.api.get(path).raise_for_status().json()

    def runs(self) -> list[str]:
        found: list[str] = self.told("/api/runs")["columns"]["id"]
        return found


@pytest.fixture
def far(moto_server: S3Server, moto_store: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Far]:
    monkeypatch.setattr(library, "STALE", 2.0)
    with proxy(moto_server.endpoint) as faults:
        monkeypatch.setenv("AWS_ENDPOINT_URL", faults.endpoint)
        objects = open_objects(moto_store)
        with (
            serving(objects) as site,
            httpx.Client(base_url=site.url, headers=BEARER, timeout=60, trust_env=False) as api,
        ):
            yield Far(objects, faults, site, api)
            with suppress(OSError):  # it is up, but where a test failed meanwhile
                faults.up()


def test_runs_samples_curves_alarms_and_models_are_those_of_the_bucket(far: Far) -> None:
    ill, bare = ill_run(far.objects), bare_run(far.objects)
    writer = RunWriter.create(far.objects, new_id(), {"name": "seen", "family": "vanilla"})
    sink = io.BytesIO()
    Image.new("RGB", (8, 8), (1, 2, 3)).save(sink, "PNG")
    writer.log(5, {"loss_d": 0.5})
    writer.sample(5, sink.getvalue())
    writer.seal("completed", {})
    until(lambda: set(far.runs()) == {ill, bare, writer.run_id}, "run of the bucket")
    assert far.told(f"/api/runs/{writer.run_id}")["samples"] == [5]
    assert far.api.get(f"/api/runs/{writer.run_id}/samples/5.png").content == sink.getvalue()
    curve = far.told(f"/api/runs/{ill}/curves?names=loss_d&width=16")
    assert (curve["step"], curve["series"]["loss_d"]["last"]) == (
        [10, 20, 30, 40],
        [0.1, 0.05, 1 / 30, 0.025],
    )
    (alarm,) = far.told("/api/alarms")["alarms"]
    key = {"Idempotency-Key": "key-of-a-test"}
    path = f"/api/alarms/{alarm['id']}/acknowledge"
    first = far.api.post(path, json={"note": "known"}, headers=key)
    assert first.json() == far.api.post(path, json={"note": "known"}, headers=key).json()
    assert [a["open"] for a in far.told("/api/alarms")["alarms"]] == [False]
    Registry(far.objects).promote("faces", Candidate(bare), 0, "first")
    promoted = far.api.post(
        "/api/models/faces/promote", json={"run": bare, "step": 2, "after": 1}, headers=key
    )
    assert promoted.json()["promotion"]["step"] == 2
    assert far.told("/api/models/faces")["champion"]["number"] == 2
    assert [action["what"] for action in far.told("/api/audit")["actions"]] == ["promote", "acknowledge"]


@pytest.mark.slow
def test_while_the_server_is_away_it_says_so_and_then_goes_on_by_itself(far: Far) -> None:
    first = ill_run(far.objects)
    until(lambda: far.runs() == [first], "run")
    far.proxy.down()
    until(lambda: "store s3://" in far.told("/api/runs")["stale"], "word of the store", 30)
    assert far.runs() == [first]
    away = far.api.get("/api/models")
    assert (away.status_code, away.elapsed.total_seconds() < 2) == (503, True)
    parts = {part["what"]: part["state"] for part in far.told("/api/status")["parts"]}
    assert parts["store"] == "down"
    refused = far.api.post(
        "/api/launch", json={"recipe": "vanilla.ring"}, headers={"Idempotency-Key": "key-of-a-test"}
    )
    assert refused.status_code == 503
    far.proxy.up()
    until(lambda: not far.told("/api/runs")["stale"], "store again", 30)
    second = ill_run(far.objects)
    until(lambda: far.runs() == [second, first], "run that came after")


@pytest.mark.slow
def test_a_page_says_that_the_server_is_away_and_goes_on_by_itself(far: Far, chromium: Browser) -> None:
    ill_run(far.objects)
    with visiting(chromium, far.site) as visit:
        visit.watch.expected.append("503")
        page = visit.open("/runs")
        expect(page.locator("tr[aria-rowindex]")).to_have_count(1)
        far.proxy.down()
        expect(page.locator("#banner")).to_contain_text("This is what the store last said", timeout=60_000)
        expect(page.locator("tr[aria-rowindex]")).to_have_count(1)
        far.proxy.up()
        expect(page.locator("#banner")).to_be_hidden(timeout=60_000)
        page.locator("#filter").focus()
        ill_run(far.objects)
        expect(page.locator("tr[aria-rowindex]")).to_have_count(2, timeout=20_000)
