"""Finding the run a person means, and where its results lie."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import NotFound

if TYPE_CHECKING:
    from orchestrator.store.objects import Objects

LATEST = "latest"
SHOWN = 5


def resolve_run(objects: Objects, text: str) -> str:
    """The id of the run called `text`: its id, the beginning or end of one id alone, or `latest`.

    Raises NotFound where there is none, or more than one.
    """
    from orchestrator.store.catalogue import Catalogue
    from orchestrator.store.ids import ID_PATTERN
    from orchestrator.store.reader import Run

    if ID_PATTERN.fullmatch(text):
        Run(objects, text).document()
        return text
    ids = [row["id"] for row in Catalogue(objects).runs()]
    if not ids:
        raise NotFound(f"no run {text!r}: {no_runs(objects)}")
    if text == LATEST:
        return str(ids[0])
    found = [run_id for run_id in ids if text and (run_id.startswith(text) or run_id.endswith(text))]
    if len(found) == 1:
        return str(found[0])
    if found:
        raise NotFound(f"{text!r} could be {len(found)} runs: {_some(found)}; give more of the id")
    raise NotFound(f"no run {text!r} in {objects.url}; newest: {_some(ids)}; `ganctl runs` lists them all")


def no_runs(objects: Objects) -> str:
    """What to say of a store without runs."""
    path = objects.local_path("runs")
    absent = " (there is no such folder)" if path is not None and not Path(path).parent.is_dir() else ""
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
