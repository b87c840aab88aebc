"""Serving the flows to a Prefect server: on a cron, and on demand from its UI or API."""

from __future__ import annotations

from typing import Any

from prefect import Flow

from flows.jobs import sweep, sweep_then_train, train

FLOWS: dict[str, Flow[..., Any]] = {"train": train, "sweep": sweep, "sweep-then-train": sweep_then_train}


def serve_flow(name: str, experiment: dict[str, Any], store: str, on: str, cron: str | None) -> None:
    """Serve flow `name` for `experiment` until interrupted; each run is a process of its own."""
    FLOWS[name].serve(
        name=experiment["name"],
        cron=cron,
        parameters={"experiment": experiment, "store": store, "on": on},
        description=FLOWS[name].description,
        limit=1,
        print_starting_message=False,
    )
