"""Asking Prefect's server for a run of a retraining's deployment."""

from __future__ import annotations

from typing import Any

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound

from orchestrator.errors import NotFound


def ask(name: str, parameters: dict[str, Any], once: str | None = None, store: str = "") -> str:
    """Ask for a round of retraining `name`, and return the flow run's id; asked for `once` of one `store`, it is the
    same one.

    Raises NotFound where it is not deployed.
    """
    with get_client(sync_client=True) as client:
        try:
            deployment = client.read_deployment_by_name(f"retrain/{name}")
        except ObjectNotFound:
            raise NotFound(
                f"retraining {name} is not deployed on this Prefect server: `ganctl retrain apply FILE`"
            ) from None
        made = client.create_flow_run_from_deployment(
            deployment.id, parameters=parameters, idempotency_key=once and f"{store} {once}"
        )
    return str(made.id)
