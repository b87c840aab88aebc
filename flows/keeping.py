"""Retention as a flow: what `ganctl housekeeping` does, on a schedule, with a table of what went."""

from __future__ import annotations

from typing import Any

from prefect import State, flow
from prefect.artifacts import create_table_artifact
from prefect.states import Completed

from flows.artifacts import slug
from orchestrator.housekeeping import parse_policy, run
from orchestrator.store.objects import open_objects

Document = dict[str, Any]


@flow(
    name="housekeeping",
    description="Compact the store, and delete what its policy does not keep: a dry run unless told to delete.",
)
def housekeeping(store: str, delete: bool = False, policy: Document | None = None) -> State[Any]:
    """Nothing that a promotion, a sweep or a retraining refers to is touched.

    Args:
        store: Which store: a folder or s3://bucket/prefix.
        delete: Carry it out; unless set, only say what would go.
        policy: What to keep for how long: {"checkpoints_days": 30, "failed_days": 7}.
    """
    report = run(open_objects(store), parse_policy(policy or {}), delete)
    rows = [
        {"rule": rule, "objects": tally.objects, "bytes": tally.bytes} for rule, tally in report.rules.items()
    ]
    what = "deleted" if report.deleted else "would go"
    create_table_artifact(
        rows or [{"rule": "nothing", "objects": 0, "bytes": 0}],
        key=slug("housekeeping"),
        description=f"What {what} in {report.store}",
    )
    return Completed(message=f"{report.total.objects} objects, {report.total.bytes} bytes: {what}")
