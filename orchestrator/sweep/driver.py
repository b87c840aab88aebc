"""A sweep from start to winner: Ray Tune runs the trials, the ledger says what each of them came to.

Tune's own snapshots are scratch: the Optuna study beside the results is the truth, so the same sweep id carries on
wherever it was killed.
"""

from __future__ import annotations

import io
import json
import logging
import os
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.cluster import Capacity, connected, local_capacity
from orchestrator.errors import AlreadyExists, ConfigError, NotFound, RunFailed
from orchestrator.experiment import Experiment, parse
from orchestrator.jobs import Submission, connect
from orchestrator.launch import Progress
from orchestrator.preflight import check
from orchestrator.store.catalogue import Catalogue
from orchestrator.store.documents import decode, encode
from orchestrator.store.ids import check_id, new_id
from orchestrator.store.objects import Objects, open_objects
from orchestrator.store.reader import Run
from orchestrator.sweep.ledger import Direction, Ledger, check_sampler, open_ledger
from orchestrator.sweep.trial import trial_of

OBJECTIVE = "fid"
TRIALS, SAMPLER = 12, "tpe"
DIRECTIONS: list[Direction] = ["minimize"]


@dataclass(frozen=True)
class SweepResult:
    """A finished sweep: one row a trial (`number, state, params, objective, figures, verdict, run_id, seconds`),
    and the best completed one."""

    sweep_id: str
    trials: list[dict[str, Any]]
    best: dict[str, Any] | None = None
    floor: dict[str, float] = field(default_factory=dict)


def sweep_key(sweep_id: str, name: str) -> str:
    """`name` inside the sweep's folder."""
    return f"sweeps/{check_id(sweep_id, 'sweep')}/{name}"


def run_sweep(
    experiment: Experiment,
    store: str,
    *,
    trials: int | None = None,
    sampler: str | None = None,
    on: str = "local",
    sweep_id: str | None = None,
    progress: Progress | None = None,
) -> SweepResult:
    """Sweep `experiment.search` with `trials` trials, or carry on with `sweep_id` until there are that many.

    `trials`, `sampler`: by default those that the sweep was begun with, 12 and "tpe" for a new one. Nothing is
    written where no trial could begin: ConfigError, DataError, ResourceError, StoreError. Raises RunFailed where no
    trial completed.
    """
    objects = open_objects(store)
    check_sampler(sampler or SAMPLER, DIRECTIONS)
    if on not in ("local", "auto") and not on.startswith(("http://", "https://")):
        raise ConfigError(
            f"--on {on!r}: a sweep runs on local, a Ray of its own, or a cluster, http://HEAD:8265"
        )
    client = connect(on, objects) if on.startswith("http") else None
    if sweep_id is None or not objects.exists(sweep_key(sweep_id, "sweep.json")):
        first = {"trials": trials or TRIALS, "sampler": sampler or SAMPLER}
        sweep_id = _announce(objects, experiment, sweep_id or new_id(), first, on)
    if client is not None:
        return _elsewhere(client, on, objects, sweep_id, trials, progress)
    begun = read_sweep(objects, sweep_id)
    single = _single(parse(begun["experiment"]))
    if on == "local":
        local_capacity().require(single.scale)
    prepare(single, objects)
    with (
        tempfile.TemporaryDirectory(prefix="ganctl-tune-") as scratch,
        connected(on) as capacity,
        open_sweep_ledger(objects, sweep_id, sampler or begun["sampler"], single.seed) as ledger,
    ):
        _tune(single, objects.url, sweep_id, ledger, trials or begun["trials"], capacity, progress, scratch)
        return _finish(objects, sweep_id, ledger)


def _elsewhere(
    client: Any, address: str, objects: Objects, sweep_id: str, trials: int | None, progress: Progress | None
) -> SweepResult:
    """The sweep as a job of the cluster at `address`, whose driver runs on its head."""
    words = ["sweep", "--resume", sweep_id, "--store", objects.url]
    submission = Submission(client, address, sweep_id, words + (["--trials", str(trials)] if trials else []))
    total = trials or read_sweep(objects, sweep_id)["trials"]

    def tick() -> None:
        runs = [run for run in Catalogue(objects).runs() if run["sweep"] == sweep_id]
        ended = sum(run["state"] not in ("queued", "running") for run in runs)
        if progress is not None:
            note = f"{ended} of {total} trials"
            progress({"label": "sweep", "done": ended / total, "note": note, "end": ended >= total})

    status = submission.wait(tick)
    if status != "SUCCEEDED":
        raise RunFailed(
            f"sweep {sweep_id} ended as {status} on {address} ({submission.last_words()}); "
            f"`ganctl sweep --resume {sweep_id}` goes on"
        )
    return SweepResult(**decode(objects.get(sweep_key(sweep_id, "result.json"))))


def _announce(objects: Objects, experiment: Experiment, sweep_id: str, first: dict[str, Any], on: str) -> str:
    """Write sweep.json, unless no trial could begin. Returns the id."""
    if not experiment.search.root:
        raise ConfigError(
            f"{experiment.name} names no search space: give one, for instance lr_ratio='loguniform(0.1,10)'"
        )
    check(_single(experiment), objects, on)
    document = {"id": sweep_id, "created": time.time(), **first}
    with suppress(AlreadyExists):  # begun elsewhere a moment ago
        objects.create(
            sweep_key(sweep_id, "sweep.json"), encode(document | {"experiment": experiment.document()})
        )
    return sweep_id


def _single(experiment: Experiment) -> Experiment:
    """The experiment as a trial trains it: on one worker."""
    return experiment.model_copy(update={"scale": experiment.scale.model_copy(update={"workers": 1})})


def read_sweep(objects: Objects, sweep_id: str) -> dict[str, Any]:
    """sweep.json. Raises NotFound."""
    try:
        return decode(objects.get(sweep_key(sweep_id, "sweep.json")))
    except NotFound:
        raise NotFound(
            f"no sweep {sweep_id!r} in {objects.url}; `ganctl sweep ls` lists those there are"
        ) from None


def prepare(experiment: Experiment, objects: Objects) -> None:
    """Do once what every trial needs: check the data and train its feature extractor into the cache."""
    from gans.data.views import imitated
    from gans.metrics import extractor_for
    from orchestrator.store.extractors import StoreCache
    from orchestrator.store.files import files_for
    from orchestrator.worker import threads

    dataset = experiment.data.load("train", files_for(getattr(experiment.data, "path", "")))
    with threads(1):
        extractor_for(
            imitated(dataset, experiment.gan.imitates), StoreCache(objects), experiment.train.extractor
        )


def open_sweep_ledger(objects: Objects, sweep_id: str, sampler: str, seed: int) -> Ledger:
    """The study of a sweep: a journal beside the results on `file://`, else in GANCTL_LEDGER (a database URL) or
    in a folder of this machine."""
    beside = objects.local_path(sweep_key(sweep_id, "journal.log"))
    elsewhere = os.environ.get("GANCTL_LEDGER") or str(Path.home() / ".ganctl" / "sweeps" / f"{sweep_id}.log")
    return open_ledger(beside or elsewhere, sweep_id, DIRECTIONS, sampler, seed)


def _tune(
    experiment: Experiment,
    store: str,
    sweep_id: str,
    ledger: Ledger,
    trials: int,
    capacity: Capacity,
    progress: Progress | None,
    scratch: str,
) -> None:
    """Run what remains of `trials` under Ray Tune, as many at once as fit."""
    from ray import tune

    from orchestrator.sweep.searcher import LedgerSearch
    from orchestrator.sweep.telling import Telling

    remaining = ledger.remaining(trials)
    if remaining == 0:
        return
    resources = {"CPU": experiment.scale.cpus_per_worker}
    if gpus := capacity.gpus_for(experiment.scale):
        resources["GPU"] = gpus
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    tuner = tune.Tuner(
        tune.with_resources(trial_of(experiment.document(), store, sweep_id, OBJECTIVE), resources),
        tune_config=tune.TuneConfig(
            search_alg=LedgerSearch(ledger, experiment.search, trials),
            num_samples=remaining,
            max_concurrent_trials=capacity.concurrent(experiment.scale),
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=sweep_id,
            storage_path=scratch,
            verbose=0,
            callbacks=[Telling(trials, trials - remaining, progress)],
            failure_config=tune.FailureConfig(max_failures=0),
        ),
    )
    tuner.fit()


def _finish(objects: Objects, sweep_id: str, ledger: Ledger) -> SweepResult:
    """Read back what every trial came to, store it as Parquet, and find the best."""
    rows = [_row(objects, told) for told in ledger.table() if told["state"] not in ("WAITING", "RUNNING")]
    flat = [_flat(row) for row in rows]
    columns = dict.fromkeys(name for row in flat for name in row)  # a pruned trial has no figures
    table = pa.table({name: _column([row.get(name) for row in flat]) for name in columns})
    sink = io.BytesIO()
    pq.write_table(table, sink)
    objects.put(sweep_key(sweep_id, "trials.parquet"), sink.getvalue())
    completed = [row for row in rows if row["state"] == "COMPLETE"]
    if not completed:
        ends = ", ".join(f"trial {r['number']} {r['verdict'].get('kind') or r['reason']}" for r in rows)
        raise RunFailed(f"sweep {sweep_id}: no trial completed ({ends}); widen the space or the budget")
    best = min(completed, key=lambda row: row["objective"])
    floor: dict[str, float] = next((row["floor"] for row in rows if row["floor"]), {})
    result = SweepResult(sweep_id, rows, best, floor)
    objects.put(sweep_key(sweep_id, "result.json"), encode(vars(result)))
    return result


def _column(values: list[Any]) -> pa.Array:
    """One type a column: text where a choice is among values of several."""
    kinds = {
        float if isinstance(v, int) and not isinstance(v, bool) else type(v) for v in values if v is not None
    }
    return pa.array(values if len(kinds) <= 1 else [None if v is None else str(v) for v in values])


def _row(objects: Objects, told: dict[str, Any]) -> dict[str, Any]:
    """One trial: what the ledger says of it, and the figures its run was sealed with."""
    sealed = (Run(objects, told["run_id"]).sealed() if told["run_id"] else None) or {}
    verdict = {"kind": told["verdict"] or sealed.get("verdict"), "evidence": told["evidence"] or []}
    return {
        "number": told["number"],
        "state": told["state"],
        "params": told["params"],
        "objective": told["values"][0] if told["values"] else None,
        "figures": sealed.get("figures", {}),
        "floor": sealed.get("floor", {}),
        "verdict": verdict | {"remedy": sealed.get("remedy", "")},
        "step": sealed.get("step", told["step"]),
        "run_id": told["run_id"],
        "reason": told["reason"],
        "seconds": told["duration"],
    }


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """A row of plain columns: `params.x`, `figures.x`, `verdict`, `evidence` as text."""
    flat = {k: row[k] for k in ("number", "state", "objective", "step", "run_id", "reason", "seconds")}
    flat |= {"verdict": row["verdict"]["kind"], "evidence": json.dumps(row["verdict"]["evidence"])}
    flat |= {f"params.{k}": v for k, v in row["params"].items()}
    return flat | {f"figures.{k}": v for k, v in row["figures"].items()}
