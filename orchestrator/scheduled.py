"""What Prefect's server has under way and scheduled, asked over HTTP: nobody here imports Prefect."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import httpx

Document = dict[str, Any]

SECONDS = 3.0  # that the server has to answer
FLOWS = ("train", "sweep", "sweep-then-train", "retrain")  # the others keep house, every minute
MOST = 200
UNDERSTOOD = (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError)
"""What `flow_runs` raises where the server does not answer, or answers something else."""


def flow_runs(url: str) -> list[Document]:
    """Runs of FLOWS that are under way or scheduled, the next first: `id`, `name`, `state`, `retraining` and when it
    is `next`. `url` is that of Prefect's API. Raises one of UNDERSTOOD."""
    wanted = {
        "flows": {"name": {"any_": list(FLOWS)}},
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED", "PENDING", "RUNNING"]}}},
        "sort": "EXPECTED_START_TIME_ASC",
        "limit": MOST,
    }
    answer = httpx.post(f"{url}/flow_runs/filter", json=wanted, timeout=SECONDS, trust_env=False)
    return [_flow_run(told) for told in answer.raise_for_status().json()]


def next_rounds(runs: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """When the next round of each retraining is due, of what `flow_runs` tells."""
    coming: dict[str, str] = {}
    for run in runs:
        if run["retraining"] and run["state"] == "scheduled":
            coming.setdefault(run["retraining"], run["next"])
    return coming


def _flow_run(told: Document) -> Document:
    return {
        "id": told.get("id"),
        "name": told.get("name"),
        "state": str(told.get("state_type", "")).lower(),
        "retraining": (told.get("parameters") or {}).get("name"),
        "next": told.get("expected_start_time"),
    }
