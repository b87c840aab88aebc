"""Retrainings as Prefect knows them: a work pool, deployments made from their settings, automations.

retrain/<name>              the round; on the retraining's cron and events, and on demand
look-for-data/<name>        whether data has arrived; on its own cron
reconcile/<store>           jobs without a flow run, flow runs without a process; every minute
housekeeping/<store>        what retention deletes; daily, as a dry run until told otherwise
"""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from prefect import Flow
from prefect.automations import Automation
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy, StateType
from prefect.deployments.runner import RunnerDeployment
from prefect.events import DeploymentEventTrigger, EventTrigger, Posture, ResourceSpecification
from prefect.events.actions import ChangeFlowRunState, SendNotification
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.schedules import Schedule
from prefect.types.entrypoint import EntrypointType

from flows.keeping import housekeeping
from flows.looking import look_for_data
from flows.reconciling import reconcile
from flows.retraining import retrain
from orchestrator.errors import NotFound

if TYPE_CHECKING:
    from orchestrator.retrain.retraining import Retraining
    from orchestrator.retrain.settings import Settings
    from orchestrator.store.objects import Objects

POOL = "ganctl"
TAG = "ganctl"
SILENT = timedelta(minutes=3)  # without a heartbeat, of which Prefect makes one every 30 s
ZOMBIES = "ganctl: flow runs that fell silent"
OVERLAP = {"queue": ConcurrencyLimitStrategy.ENQUEUE, "refuse": ConcurrencyLimitStrategy.CANCEL_NEW}
ENDS = ("Completed", "Failed", "Cancelled", "Crashed")


def deploy(objects: Objects, settings: Settings, cluster: str = "") -> list[str]:
    """Have Prefect's server know the retraining as it is set, and the upkeep of its store. Returns the deployments.

    `cluster` is the Ray that trains what is to be trained locally: that of `ganctl up`.

    Raises NotFound for a notification block that there is not, before anything is changed.
    """
    if settings.deleted:
        withdraw(settings.name)
        return []
    store, retraining = objects.url, settings.retraining
    blocks = {name: _block(name) for name in retraining.notify}
    made = [_of_rounds(settings, retraining, store, cluster)]
    if retraining.triggers.data is not None:
        made.append(_of_looking(settings, retraining, store))
    else:
        _delete(f"look-for-data/{settings.name}")
    _pool()
    ids = {deployment.full_name: deployment.apply(work_pool_name=POOL) for deployment in made}
    _alert(settings.name, ids[f"retrain/{settings.name}"], blocks)
    return [*ids, *deploy_upkeep(store)]


def withdraw(name: str) -> None:
    """Take the deployments and automations of retraining `name` away."""
    for deployment in (f"retrain/{name}", f"look-for-data/{name}"):
        _delete(deployment)
    _forget(_alert_name(name))


def deploy_upkeep(store: str) -> list[str]:
    """The flows that keep store `store` in order. Returns the deployments."""
    _pool()
    place = hashlib.sha256(store.encode()).hexdigest()[:8]
    made = [
        _deployment(reconcile, place, Schedule(cron="* * * * *"), {"store": store}),
        _deployment(housekeeping, place, Schedule(cron="30 4 * * *"), {"store": store}),
    ]
    for deployment in made:
        deployment.apply(work_pool_name=POOL)
    _watch()
    return [deployment.full_name for deployment in made]


def _of_rounds(settings: Settings, retraining: Retraining, store: str, cluster: str) -> RunnerDeployment:
    triggers = retraining.triggers
    cron = None
    if triggers.cron is not None:
        cron = Schedule(cron=triggers.cron, timezone=triggers.timezone, parameters={"trigger": "cron"})
    parameters = {"name": settings.name, "store": store}
    if cluster and retraining.on == "local":
        parameters["on"] = cluster
    limit = ConcurrencyLimitConfig(limit=1, collision_strategy=OVERLAP[retraining.overlap])
    made = _deployment(retrain, settings.name, cron, parameters, settings.paused, limit)
    made.triggers = [
        DeploymentEventTrigger(
            name=f"ganctl {settings.name}: {event.expect}",
            expect={event.expect},
            match=ResourceSpecification.model_validate(event.match),
            parameters={"trigger": "event"},
        )
        for event in triggers.events
    ]
    return made


def _of_looking(settings: Settings, retraining: Retraining, store: str) -> RunnerDeployment:
    data = retraining.triggers.data
    assert data is not None
    schedule = Schedule(cron=data.every, timezone=retraining.triggers.timezone)
    parameters = {"name": settings.name, "store": store}
    return _deployment(look_for_data, settings.name, schedule, parameters, paused=settings.paused)


def _deployment(
    flow: Flow[..., Any],
    name: str,
    schedule: Schedule | None,
    parameters: dict[str, Any],
    paused: bool = False,
    limit: ConcurrencyLimitConfig | None = None,
) -> RunnerDeployment:
    return RunnerDeployment.from_flow(
        flow,
        name=name,
        schedule=schedule,
        parameters=parameters,
        paused=paused,
        concurrency_limit=limit,
        tags=[TAG],
        description=flow.description,
        entrypoint_type=EntrypointType.MODULE_PATH,
        work_pool_name=POOL,
    )


def _pool() -> None:
    """The work pool, whose workers start each flow run as a process."""
    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(POOL)
        except ObjectNotFound:
            try:
                client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
            except ObjectAlreadyExists:
                return


def _delete(deployment: str) -> None:
    with get_client(sync_client=True) as client:
        try:
            found = client.read_deployment_by_name(deployment)
        except ObjectNotFound:
            return
        client.delete_deployment(found.id)


def _block(name: str) -> Any:
    """The id of the notification block `type/name`."""
    kind, _, block = name.partition("/")
    with get_client(sync_client=True) as client:
        try:
            return client.read_block_document_by_name(block, kind).id
        except ObjectNotFound:
            raise NotFound(
                f"notify {name!r}: this Prefect server has no such block; make it under Blocks in its UI"
            ) from None


def _alert_name(name: str) -> str:
    return f"ganctl {name}: crashed, failed or late"


def _alert(name: str, deployment: Any, blocks: dict[str, Any]) -> None:
    """Tell through Prefect's notification blocks when a round crashed, failed, or has not begun in time."""
    _forget(_alert_name(name))
    if not blocks:
        return
    related = {
        "prefect.resource.id": f"prefect.deployment.{deployment}",
        "prefect.resource.role": "deployment",
    }
    said = (
        "{{ flow_run.name }}: {{ flow_run.state.name }}\n{{ flow_run.state.message }}\n{{ flow_run|ui_url }}"
    )
    Automation(
        name=_alert_name(name),
        trigger=EventTrigger(
            expect={f"prefect.flow-run.{state}" for state in ("Crashed", "Failed", "Late")},
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=ResourceSpecification(related),
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[
            SendNotification(block_document_id=block, subject=f"ganctl retrain {name}", body=said)
            for block in blocks.values()
        ],
    ).create()


def _watch() -> None:
    """Have the server mark a flow run Crashed whose process says nothing any more."""
    with get_client(sync_client=True) as client:
        if client.read_automations_by_name(ZOMBIES):
            return
    Automation(
        name=ZOMBIES,
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.heartbeat", *(f"prefect.flow-run.{end}" for end in ENDS)},
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=ResourceSpecification({"prefect.resource.id": f"prefect.tag.{TAG}"}),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=SILENT,
        ),
        actions=[
            ChangeFlowRunState(state=StateType.CRASHED, message=f"nothing was heard of it for {SILENT}")
        ],
    ).create()


def _forget(automation: str) -> None:
    with get_client(sync_client=True) as client:
        for found in client.read_automations_by_name(automation):
            client.delete_automation(found.id)
