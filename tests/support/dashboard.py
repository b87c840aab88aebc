"""A client of the dashboard's application in this process, a store for it, and runs that something is wrong with."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.dashboard.app import create_app
from orchestrator.dashboard.settings import Settings
from orchestrator.registry import Candidate, Registry
from orchestrator.store.ids import new_id
from orchestrator.store.objects import Objects, open_objects
from orchestrator.store.reader import Run
from orchestrator.store.writer import RunWriter
from tests.support.models import bare_run

TOKEN = "a token for tests 0123456789"
ORIGIN = "http://127.0.0.1:8080"


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    """An empty store."""
    return open_objects(str(tmp_path / "store"))


@pytest.fixture
def client(objects: Objects) -> Client:
    """Somebody with the token at a dashboard over that store."""
    return Client(objects)


@pytest.fixture
def promoted(objects: Objects) -> list[str]:
    """Two runs that were promoted to the model `faces`, one after the other."""
    runs = [bare_run(objects) for _ in range(2)]
    for after, run in enumerate(runs):
        Registry(objects).promote("faces", Candidate(run), after, f"the {after + 1}.")
    return runs


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


def decide(objects: Objects, name: str, champion: str, challenger: str, samples: int = 64) -> str:
    """A real decision between two runs, as round 1 of the model's retraining; returns its reason."""
    import numpy as np

    from orchestrator.experiment import parse
    from orchestrator.judging.compare import Contestant, judge
    from orchestrator.judging.document import write
    from orchestrator.judging.options import Evaluation
    from orchestrator.retrain.rounds import begin
    from orchestrator.retrain.source import DataVersion

    experiment = parse(Run(objects, challenger).document()["experiment"])
    few = Evaluation(samples=samples, draws=1, resamples=100)
    judgement = judge(objects, experiment, Contestant(challenger), Contestant(champion), few)
    begun = begin(objects, name, "hand", DataVersion.of(np.arange(3)), 1, force=True)
    write(objects, begun.folder, 1, judgement)
    begun.end("promoted", reason=judgement.decision.reason)
    return judgement.decision.reason


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
