"""Finding the run a person means, and where its results lie."""

from __future__ import annotations

from orchestrator.errors import NotFound
from orchestrator.store.catalogue import Catalogue
from orchestrator.store.ids import ID_PATTERN
from orchestrator.store.objects import Objects
from orchestrator.store.reader import Run

LATEST = "latest"
SHOWN = 5


def resolve_run(objects: Objects, text: str) -> Run:
    """The run with id `text`, the one run whose id begins or ends so, or with `latest` the newest.

    Raises NotFound where there is none, or more than one.
    """
    if ID_PATTERN.fullmatch(text):
        run = Run(objects, text)
        run.document()
        return run
    ids = [row["id"] for row in Catalogue(objects).runs()]
    if not ids:
        raise NotFound(f"no run {text!r}: {no_runs(objects)}")
    if text == LATEST:
        return Run(objects, ids[0])
    found = [run_id for run_id in ids if text and (run_id.startswith(text) or run_id.endswith(text))]
    if len(found) == 1:
        return Run(objects, found[0])
    if found:
        raise NotFound(f"{text!r} could be {len(found)} runs: {_some(found)}; give more of the id")
    raise NotFound(f"no run {text!r} in {objects.url}; newest: {_some(ids)}; `ganctl runs` lists them all")


def no_runs(objects: Objects) -> str:
    """What to say of a store without runs."""
    root = objects.local_path("runs")
    absent = " (there is no such folder)" if root is not None and not objects.folders("") else ""
    return f"there are no runs in {objects.url}{absent}; start one: ganctl train r3gan.digits"


def place(objects: Objects, key: str) -> str:
    """Where the object at `key` lies: a path on this machine, or a url."""
    return objects.local_path(key) or f"{objects.url}/{key}"


def curve_query(objects: Objects, run_id: str) -> str:
    """DuckDB's query for the run's metrics: where attempts overlap, a later one wins from its first step."""
    parts = place(objects, f"runs/{run_id}/m").replace("'", "''")
    return (
        f"WITH part AS (FROM read_parquet('{parts}/*.parquet', union_by_name=true)) FROM part WHERE NOT EXISTS "
        "(FROM part AS p WHERE p.attempt > part.attempt AND p.step <= part.step) ORDER BY step"
    )


def _some(ids: list[str]) -> str:
    more = f", and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return ", ".join(ids[:SHOWN]) + more
