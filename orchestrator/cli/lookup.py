"""Finding the run, checkpoint or sweep a person means, and where its results lie."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.errors import NotFound

if TYPE_CHECKING:
    from orchestrator.registry.records import Promotion
    from orchestrator.store.objects import Objects
    from orchestrator.trained import Trained

LATEST = "latest"
SHOWN = 5


@dataclass(frozen=True)
class Chosen:
    """The run a person means, and the promotion where it was named by a model: then that very checkpoint is meant."""

    run_id: str
    promotion: Promotion | None = None

    @property
    def label(self) -> str:
        """`run ID`, or `faces version 2, run ID`."""
        p = self.promotion
        return f"run {self.run_id}" if p is None else f"{p.name} version {p.version}, run {self.run_id}"

    @property
    def document(self) -> dict[str, Any]:
        """For `--json`: the run, and the model's name, version and number of promotion where one was named."""
        p = self.promotion
        model = {} if p is None else {"model": p.name, "version": p.version, "promotion": p.number}
        return {"run": self.run_id} | model

    def restore(self, objects: Objects) -> Trained:
        """The model: of the promoted checkpoint, else of the run's newest one. Raises what `Trained.restore` raises."""
        from orchestrator.trained import Trained

        if self.promotion is None:
            return Trained.restore(objects, self.run_id)
        return Trained.restore(objects, self.run_id, self.promotion.span, self.promotion.weights)


def resolve_model(objects: Objects, text: str) -> Chosen:
    """What `text` names: a run's id, `latest`, a model, or the beginning or end of one run's id alone, in that order.

    A model's name is whole, so it goes before what is only a part of an id: no run that begins later changes what it
    means. Raises NotFound where there is none, or more than one.
    """
    from orchestrator.registry.registry import Registry
    from orchestrator.store.catalogue import Catalogue
    from orchestrator.store.ids import ID_PATTERN, NAME_PATTERN
    from orchestrator.store.reader import Run

    if ID_PATTERN.fullmatch(text):
        Run(objects, text).document()
        return Chosen(text)
    registry = Registry(objects)
    if text != LATEST and NAME_PATTERN.fullmatch(text):
        promotion = registry.champion(text)
        if promotion is not None:
            return Chosen(promotion.run_id, promotion)
    ids = [str(row["id"]) for row in Catalogue(objects).runs()]
    if not ids:
        raise NotFound(f"no run {text!r}: {no_runs(objects)}")
    try:
        return Chosen(_one(ids, text, "run", objects.url, "ganctl runs"))
    except NotFound as error:
        names = registry.names()
        raise NotFound(f"{error}; models: {_some(names)}" if names else str(error)) from None


def resolve_run(objects: Objects, text: str) -> str:
    """The id of the run called `text`, as `resolve_model`: of a model, its champion's run. Raises NotFound."""
    return resolve_model(objects, text).run_id


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


def curve_place(objects: Objects, run_id: str) -> tuple[str, str]:
    """Where the run's metrics lie, as files, and DuckDB's query for them: parts, or the segment that took them over."""
    from orchestrator.store import segments
    from orchestrator.store.layout import run_key

    parts = run_key(run_id, "m")
    if not objects.list(parts):
        with suppress(NotFound):
            segment = place(objects, segments.place(objects, run_id))
            path = segment.replace("'", "''")
            query = f"SELECT * EXCLUDE (run) FROM read_parquet('{path}') WHERE run = '{run_id}' ORDER BY step"
            return segment, query
    return f"{place(objects, parts)}/*.parquet", curve_query(objects, run_id)


def _some(ids: list[str]) -> str:
    more = f", and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return ", ".join(ids[:SHOWN]) + more
