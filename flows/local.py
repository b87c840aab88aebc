"""Flows in this process, without a server of one's own: Prefect starts a temporary one and ends it with us."""

from __future__ import annotations

import fcntl

from prefect.client.orchestration import get_client
from prefect.settings import get_current_settings

from orchestrator.errors import StoreError


def start_temporary_server() -> None:
    """Start it now, and alone: of two that bring one new database into shape at once, one dies of it, loudly.

    Does nothing where PREFECT_API_URL names a server. Raises StoreError where PREFECT_HOME cannot be written.
    """
    settings = get_current_settings()
    if settings.api.url is not None:
        return
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        lock = (settings.home / "ganctl.lock").open("w")
    except OSError as error:
        raise StoreError(f"Prefect's folder {settings.home}: {error.strerror}; set PREFECT_HOME to another") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with get_client(sync_client=True) as client:
            client.hello()
