"""Serving the flows to a Prefect server: on a cron, and on demand from its UI or API."""

from __future__ import annotations

from typing import Any

from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.schedules import CronSchedule
from prefect.flows import EntrypointType
from prefect.schedules import Schedule
from prefect.settings import get_current_settings
from pydantic import ValidationError

from flows.jobs import sweep, sweep_then_train, train
from orchestrator.errors import ConfigError, NotFound

FLOWS: dict[str, Flow[..., Any]] = {"train": train, "sweep": sweep, "sweep-then-train": sweep_then_train}


def serve_flow(
    name: str, parameters: dict[str, Any], deployment: str, cron: str | None = None, timezone: str = "UTC"
) -> None:
    """Serve flow `name` as `deployment` until interrupted; one run at a time, each in a process of its own.

    `parameters` are what a run gets unless it is given others. Raises ConfigError for a cron or time zone that there
    is not, or where no server is named; NotFound where none answers.
    """
    if name not in FLOWS:
        raise ConfigError(f"--flow {name!r}: allowed are {', '.join(FLOWS)}")
    schedule = schedule_of(cron, timezone) if cron else None
    require_server()
    FLOWS[name].serve(
        name=deployment,
        schedule=schedule,
        parameters=parameters,
        limit=1,
        entrypoint_type=EntrypointType.MODULE_PATH,
        print_starting_message=False,
    )


def schedule_of(cron: str, timezone: str) -> Schedule:
    """A cron in a time zone, as Prefect's server would read it. Raises ConfigError."""
    try:
        CronSchedule(cron=cron, timezone=timezone)
    except ValidationError as error:
        said = "; ".join(str(e["msg"]).removeprefix("Value error, ") for e in error.errors())
        raise ConfigError(
            f"--cron {cron!r} --timezone {timezone!r}: {said}; write for instance --cron '0 3 * * *' "
            "--timezone Europe/Berlin"
        ) from error
    return Schedule(cron=cron, timezone=timezone)


def require_server() -> None:
    """Raise ConfigError where no Prefect server is named, NotFound where it does not answer."""
    url = get_current_settings().api.url
    if url is None:
        raise ConfigError(
            "PREFECT_API_URL names no Prefect server: start one with `prefect server start`, then "
            "`export PREFECT_API_URL=http://127.0.0.1:4200/api`"
        )
    with get_client(sync_client=True) as client:
        error = client.api_healthcheck()
    if error is not None:
        raise NotFound(f"no Prefect server answers at {url} ({type(error).__name__}): is PREFECT_API_URL right?")
