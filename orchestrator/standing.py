"""How everything stands: the servers of `ganctl up` or of the environment, the retrainings, what runs now.

Each is asked once, and one that does not answer is said to be down; the store alone is needed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import httpx

from orchestrator.background import Background
from orchestrator.registry import Registry
from orchestrator.retrain import rounds, settings
from orchestrator.scheduled import UNDERSTOOD, flow_runs, next_rounds
from orchestrator.store.catalogue import Catalogue
from orchestrator.store.objects import Objects

Document = dict[str, Any]
SECONDS = 3.0  # that a server has to answer
ACTIVE = ("running", "queued", "paused")


def standing(objects: Objects, background: Background | None) -> Document:
    """`parts` (what, state, where), `retrainings`, `runs` that are under way, and whether `ganctl up` runs.

    Raises StoreError.
    """
    prefect = os.environ.get("PREFECT_API_URL", "")
    active = [row for row in Catalogue(objects).runs() if row["state"] in ACTIVE]
    coming = _scheduled(prefect) if prefect else {}
    parts = [
        {"what": "store", "state": "up", "where": objects.url},
        _part("prefect", prefect, "/health"),
        _part("ray", background.ray if background else "", "/api/version", background),
    ]
    if background and background.dashboard:
        parts.append(_part("dashboard", background.dashboard, "/login"))
    if background:
        parts.append({"what": "supervisor", "state": "up", "where": f"pid {background.pid}"})
    return {
        "up": background is not None,
        "parts": parts,
        "retrainings": [_retraining(objects, name, coming) for name in settings.names(objects)],
        "runs": active,
    }


def _part(what: str, url: str, path: str, background: Background | None = None) -> Document:
    if not url:
        return {"what": what, "state": "not started", "where": None}
    headers = {}
    if background is not None:
        headers = {"Authorization": f"Bearer {Path(background.token).read_text()}"}
    try:
        answer = httpx.get(url + path, timeout=SECONDS, trust_env=False, headers=headers)
        state = "up" if answer.is_success else f"answers {answer.status_code}"
    except (httpx.HTTPError, OSError):
        state = "down"
    return {"what": what, "state": state, "where": url.removesuffix("/api")}


def _retraining(objects: Objects, name: str, coming: dict[str, str]) -> Document:
    champion, last = Registry(objects).champion(name), rounds.latest(objects, name)
    paused = settings.require(objects, name).paused
    return {
        "name": name,
        "version": champion.version if champion else None,
        "last": f"{last.number}: {last.state()}" if last else None,
        "next": "paused" if paused else coming.get(name),
        "paused": paused,
    }


def _scheduled(prefect: str) -> dict[str, str]:
    """When the next round of each retraining is to begin; nothing where Prefect's server does not answer."""
    try:
        return next_rounds(flow_runs(prefect))
    except UNDERSTOOD:
        return {}
