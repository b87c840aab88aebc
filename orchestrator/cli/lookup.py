"""Finding the run or sweep a person means, and where its results lie."""

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
    ids = [str(row["id"]) for row in Catalogue(objects).runs()]
    if not ids:
        raise NotFound(f"no run {text!r}: {no_runs(objects)}")
    return _one(ids, text, "run", objects.url, "ganctl runs")


def resolve_sweep(objects: Objects, text: str) -> str:
    """The id of the sweep called `text`, as for runs. Raises NotFound."""
    from orchestrator.store.ids import ID_PATTERN
    from orchestrator.sweep.folder import read_sweep, sweep_ids

    if ID_PATTERN.fullmatch(text):
        read_sweep(objects, text)
        return text
    ids = sweep_ids(objects)
    if not ids:
        raise NotFound(f"no sweep {text!r}: {no_sweeps(objects)}")
    return _one(ids, text, "sweep", objects.url, "ganctl sweep ls")


def _one(ids: list[str], text: str, kind: str, url: str, listing: str) -> str:
    """The one of `ids`, newest first, that `text` means."""
    if text == LATEST:
        return ids[0]
    found = [name for name in ids if text and (name.startswith(text) or name.endswith(text))]
    if len(found) == 1:
        return found[0]
    if found:
        raise NotFound(f"{text!r} could be {len(found)} {kind}s: {_some(found)}; give more of the id")
    raise NotFound(f"no {kind} {text!r} in {url}; newest: {_some(ids)}; `{listing}` lists them all")


def no_runs(objects: Objects) -> str:
    """What to say of a store without runs."""
    return f"there are no runs in {objects.url}{_absent(objects)}; start one: ganctl train r3gan.digits"


def no_sweeps(objects: Objects) -> str:
    """What to say of a store without sweeps."""
    return f"there are no sweeps in {objects.url}{_absent(objects)}; start one: ganctl sweep demo"


def _absent(objects: Objects) -> str:
    path = objects.local_path("runs")
    return " (there is no such folder)" if path is not None and not Path(path).parent.is_dir() else ""


def place(objects: Objects, key: str) -> str:
    """Where the object at `key` lies: a path on this machine, or a url."""
    return objects.local_path(key) or f"{objects.url}/{key}"


def curve_query(objects: Objects, run_id: str) -> str:
    """DuckDB's query for the run's metrics: of an earlier attempt, the steps up to where a later one started."""
    folder = place(objects, f"runs/{run_id}").replace("'", "''")
    return (
        f"FROM read_parquet('{folder}/m/*.parquet', union_by_name=true) AS part WHERE NOT EXISTS "
        f"(FROM read_json('{folder}/attempts/*.json') AS later WHERE later.attempt > part.attempt "
        'AND later."from" < part.step) ORDER BY step'
    )


def _some(ids: list[str]) -> str:
    more = f", and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return ", ".join(ids[:SHOWN]) + more
