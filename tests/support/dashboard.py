"""A client of the dashboard's application in this process, and runs that something is wrong with."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from orchestrator.dashboard.app import create_app
from orchestrator.dashboard.settings import Settings
from orchestrator.store.ids import new_id
from orchestrator.store.objects import Objects
from orchestrator.store.writer import RunWriter

TOKEN = "a token for tests 0123456789"
ORIGIN = "http://127.0.0.1:8080"


class Client:
    """A script, or with `cookie` a browser, that speaks to the app in this process."""

    def __init__(self, objects: Objects, **settings: Any) -> None:
        self.app = create_app(objects, Settings(TOKEN, **settings))
        self.headers = {"Authorization": f"Bearer {TOKEN}"}
        self.number = 0

    def get(self, path: str, **headers: str) -> httpx.Response:
        self.app.state.library.look()
        return self.ask("GET", path, headers=headers)

    def post(self, path: str, body: Any = None, key: str = "", **headers: str) -> httpx.Response:
        self.app.state.library.look()
        self.number += 1
        given = {"Idempotency-Key": key or f"key-of-test-{self.number}"} | headers
        return self.ask("POST", path, headers=given, json={} if body is None else body)

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def once() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, client=("127.0.0.1", 5))
            async with httpx.AsyncClient(
                transport=transport, base_url=ORIGIN, headers=self.headers
            ) as client:
                return await client.request(method, path, **options)

        return asyncio.run(once())


def ill_run(objects: Objects, verdict: str = "mode collapse", sealed: bool = True, **labels: Any) -> str:
    """A run that collapsed at step 30 and was ended, or goes on."""
    writer = RunWriter.create(objects, new_id(), {"name": "ill", "family": "vanilla", **labels})
    for step in (10, 20, 30, 40):
        writer.log(step, {"loss_d": 1.0 / step, "verdict": "healthy" if step < 30 else verdict})
    sign = {"signal": "probe_reach", "value": 0.05, "threshold": 0.2, "window": 4, "step": 30}
    if sealed:
        told = {"verdict": verdict, "evidence": [sign], "remedy": "raise gan.lr_ratio"}
        writer.seal("collapsed", told | {"changes": [{"step": 20, "why": "lr_ratio 1 -> 2"}]})
    else:
        writer.flush()
        writer.heartbeat(force=True, verdict=verdict)
    return writer.run_id


SLOT = {"slot": "0", "allocation": 0.5}
SWEEP = "20261122-014500-k3v9qa"


def recorded(path: str) -> Any:
    """What a Ray 2.60 head with two GPUs answered, cut to what is read."""
    workers = [
        {"pid": 11, "jobId": "01000000", "usedResources": {"GPU": {"resourceSlots": [SLOT]}}},
        {"pid": 12, "jobId": "02000000", "usedResources": {"GPU": {"resourceSlots": [SLOT | {"slot": "1"}]}}},
        {"pid": 13, "jobId": "01000000", "usedResources": {}},
    ]
    raylet = {"nodeId": "f0", "isHeadNode": True, "state": "ALIVE", "coreWorkersStats": workers}
    raylet |= {"resourcesTotal": {"CPU": 2.0, "GPU": 3.0}}
    waiting = {"resourceDemand": [[{"GPU": 1.0}, 2]], "pgDemand": [[{"bundles": [[{"CPU": 2.0}, 2]]}, 1]]}
    return {
        "/nodes?view=summary": {
            "data": {"summary": [{"hostname": "node-1", "raylet": raylet, "mem": [4, 2]}]}
        },
        "/api/jobs/": [{"job_id": "02000000", "submission_id": f"{SWEEP}-2", "status": "RUNNING"}],
        "/api/cluster_status": {"data": {"clusterStatus": {"loadMetricsReport": waiting}}},
    }[path]
