"""Ray's and Prefect's APIs, asked from here so that their credentials never reach a browser.

Neither is needed: each says `state` "up", "down" or "not started", and what it knows where it is up. Answers are kept
for a few seconds, so that ten open pages ask once.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from orchestrator.dashboard.settings import Settings
from orchestrator.masking import masked
from orchestrator.scheduled import flow_runs

Document = dict[str, Any]
SECONDS = 3.0  # that a server has to answer
KEPT = 5.0  # seconds for which an answer holds
MOST_JOBS = 200
LOG_BYTES = 256 * 1024
SUBMISSION = re.compile(r"[A-Za-z0-9_.-]{1,100}")


class Down(Exception):
    """The server does not answer, or not as it should; the message says which in one line."""


class Asked:
    """Answers by question, kept for `KEPT` seconds; of several who ask at once one goes."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[float, Any]] = {}
        self._lock = threading.Lock()

    def get(self, question: str, ask: Callable[[], Any]) -> Any:
        """The kept answer, or a new one."""
        with self._lock:
            when, answer = self._found.get(question, (-KEPT, None))
            if time.monotonic() - when >= KEPT:
                answer = ask()
                self._found[question] = time.monotonic(), answer
            return answer


class Ray:
    """Ray's dashboard: nodes, resources and jobs."""

    def __init__(self, settings: Settings) -> None:
        self.url, self._token = settings.ray.rstrip("/"), settings.ray_token_path
        self._asked = Asked()

    def part(self) -> Document:
        """Its line in the table of servers."""
        return {"what": "ray", "state": self.cluster()["state"], "where": self.url or None}

    def cluster(self) -> Document:
        """`state`, `why` where it is down, `nodes`, `jobs`, and what is `waiting` for resources."""
        found: Document = self._asked.get("cluster", self._cluster)
        return found

    def log(self, submission: str) -> list[str]:
        """The last lines of a job's log. Raises Down."""
        if not SUBMISSION.fullmatch(submission):
            raise Down(f"{submission[:40]!r} is no job of Ray's")
        told = self._get(f"/api/jobs/{submission}/logs")
        return [masked(line) for line in str(told.get("logs", ""))[-LOG_BYTES:].splitlines()]

    def _cluster(self) -> Document:
        if not self.url:
            return {"state": "not started", "why": "", "nodes": [], "jobs": [], "waiting": []}
        try:
            with _understood():
                nodes = _nodes(self._get("/nodes?view=summary"))
                told = self._get("/api/jobs/")
                newest = sorted(told, key=lambda job: job.get("start_time") or 0, reverse=True)
                jobs = [_job(job) for job in newest[:MOST_JOBS]]
                waiting = _waiting(self._get("/api/cluster_status"))
        except Down as error:
            return {"state": "down", "why": str(error), "nodes": [], "jobs": [], "waiting": []}
        return {"state": "up", "why": "", "nodes": nodes, "jobs": jobs, "waiting": waiting}

    def _get(self, path: str) -> Any:
        headers, url = self._headers(), self.url + path
        return _ask(
            lambda: (
                httpx.get(url, timeout=SECONDS, trust_env=False, headers=headers).raise_for_status().json()
            )
        )

    def _headers(self) -> Mapping[str, str]:
        if not self._token:
            return {}
        try:
            return {"Authorization": f"Bearer {Path(self._token).read_text().strip()}"}
        except OSError as error:
            raise Down("the file with Ray's token cannot be read") from error


class Prefect:
    """Prefect's API: whether it is there, and what is to run next."""

    def __init__(self, settings: Settings) -> None:
        self.url = settings.prefect.rstrip("/")
        self._asked = Asked()

    def part(self) -> Document:
        """Its line in the table of servers."""
        return {
            "what": "prefect",
            "state": self.coming()["state"],
            "where": self.url.removesuffix("/api") or None,
        }

    def coming(self) -> Document:
        """`state`, `why` where it is down, and `runs`, as `scheduled.flow_runs` tells."""
        found: Document = self._asked.get("coming", self._coming)
        return found

    def _coming(self) -> Document:
        if not self.url:
            return {"state": "not started", "why": "", "runs": []}
        try:
            with _understood():
                runs = _ask(lambda: flow_runs(self.url))
        except Down as error:
            return {"state": "down", "why": str(error), "runs": []}
        return {"state": "up", "why": "", "runs": runs}


@contextmanager
def _understood() -> Iterator[None]:
    """Whatever an answer is that is not the one we know, the server is as good as down. Raises Down."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise Down("it answers something else; is it another version?") from error


def _ask(call: Callable[[], Any]) -> Any:
    """What `call` returns. Raises Down where the server does not answer, or not with JSON."""
    try:
        return call()
    except httpx.HTTPStatusError as error:
        raise Down(f"it answers {error.response.status_code}") from error
    except (httpx.HTTPError, ValueError) as error:
        raise Down(f"it does not answer ({type(error).__name__})") from error


def _nodes(told: Any) -> list[Document]:
    """Nodes with what each has and how busy it is, the head first. Ray documents none of it: what lacks is None."""
    summary = (told.get("data") or {}).get("summary") or []
    nodes = [_node(node) for node in summary if isinstance(node, dict)]
    return sorted(nodes, key=lambda node: (not node["head"], str(node["name"])))


def _node(told: Document) -> Document:
    raylet = told.get("raylet") or {}
    memory = told.get("mem") or []
    return {
        "id": raylet.get("nodeId"),
        "name": told.get("hostname") or raylet.get("nodeManagerHostname"),
        "address": told.get("ip") or raylet.get("nodeManagerAddress"),
        "head": bool(raylet.get("isHeadNode")),
        "state": str(raylet.get("state") or "unknown").lower(),
        "resources": raylet.get("resourcesTotal") or {},
        "cpu": told.get("cpu"),
        "memory": {"total": memory[0], "free": memory[1]} if len(memory) > 1 else None,
        "gpus": [_gpu(gpu) for gpu in told.get("gpus") or [] if isinstance(gpu, dict)],
        "workers": [_worker(w) for w in raylet.get("coreWorkersStats") or [] if w.get("usedResources")],
    }


def _worker(told: Document) -> Document:
    """A process of a job and which devices it holds: resource → slot → share."""
    used = {
        name: {
            str(each.get("slot", 0)): each.get("allocation", 1.0) for each in taken.get("resourceSlots") or []
        }
        for name, taken in told["usedResources"].items()
        if name in ("CPU", "GPU")
    }
    return {"pid": told.get("pid"), "job": told.get("jobId"), "used": used}


def _waiting(told: Any) -> list[Document]:
    """What tasks, actors and groups wait for: `num` times `bundles` of resources each."""
    report = ((told.get("data") or {}).get("clusterStatus") or {}).get("loadMetricsReport") or {}
    single = [{"num": num, "bundles": [demand]} for demand, num in report.get("resourceDemand") or []]
    groups = [
        {"num": num, "bundles": [one for one, times in group["bundles"] for _ in range(min(int(times), 64))]}
        for group, num in report.get("pgDemand") or []
    ]
    return [*groups, *single]


def _gpu(told: Document) -> Document:
    names = {
        "index": "index",
        "name": "name",
        "busy": "utilizationGpu",
        "used": "memoryUsed",
        "total": "memoryTotal",
    }
    return {name: told.get(theirs) for name, theirs in names.items()}


def _job(told: Document) -> Document:
    """A job without its environment, which may hold credentials."""
    return {
        "id": told.get("submission_id") or told.get("job_id"),
        "job": told.get("job_id"),
        "state": str(told.get("status", "")).lower(),
        "entrypoint": masked(str(told.get("entrypoint", "")))[:500],
        "message": masked(str(told.get("message") or ""))[:500],
        "begun": (told.get("start_time") or 0) / 1000 or None,
        "ended": (told.get("end_time") or 0) / 1000 or None,
    }
