"""Serving the flows to a Prefect server: on a cron, and on demand from its UI or API."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.runner import Runner
from prefect.schedules import Schedule
from prefect.settings import get_current_settings
from prefect.types.entrypoint import EntrypointType
from pydantic import ValidationError

from flows.jobs import sweep, sweep_then_train, train
from orchestrator.errors import ConfigError, NotFound

FLOWS: dict[str, Flow[..., Any]] = {"train": train, "sweep": sweep, "sweep-then-train": sweep_then_train}


def deployment_of(
    flow: str, parameters: dict[str, Any], name: str, cron: str | None = None, timezone: str = "UTC"
) -> RunnerDeployment:
    """Flow `flow` as deployment `name`; `parameters` are what a run gets unless it is given others.

    Raises ConfigError for a flow, cron or time zone that there is not.
    """
    if flow not in FLOWS:
        raise ConfigError(f"--flow {flow!r}: allowed are {', '.join(FLOWS)}")
    return RunnerDeployment.from_flow(
        FLOWS[flow],
        name=name,
        schedule=schedule_of(cron, timezone) if cron else None,
        parameters=parameters,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )


def serve(deployment: RunnerDeployment) -> None:
    """Register `deployment` and run it when it is due or asked for, one run at a time, until SIGINT or SIGTERM.

    Each run imports its flow in a process of its own. (`Flow.serve` would send it a pickled copy instead, which has
    lost the names that only its annotations use.) On the way out a run under way is cancelled, so that it frees its
    Ray and can be resumed, and the schedule is paused; a second SIGINT does not wait for that.
    """
    asyncio.run(_serve(deployment))


async def _serve(deployment: RunnerDeployment) -> None:
    runner = Runner(limit=1)
    await runner.aadd_deployment(deployment)
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()

    def stop() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        stopping.set()

    serving = asyncio.create_task(runner.start())
    await asyncio.sleep(0)  # until start() has set its own handler, which waits for a process it blocks
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    stopped = asyncio.create_task(stopping.wait())
    await asyncio.wait((serving, stopped), return_when=asyncio.FIRST_COMPLETED)
    if not serving.done():
        await runner.astop()
    stopped.cancel()
    await serving


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
        raise NotFound(
            f"no Prefect server answers at {url} ({type(error).__name__}): is PREFECT_API_URL right?"
        )
