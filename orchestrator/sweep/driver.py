"""A sweep from start to end: Ray Tune runs the trials, the conductor decides, the ledger remembers.

Tune's own snapshots are scratch: the Optuna study beside the results is the truth, so the same sweep id carries on
wherever it was killed.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from orchestrator.cluster import Capacity, connected, local_capacity
from orchestrator.errors import AlreadyExists, ConfigError, NotFound, RunFailed
from orchestrator.experiment import Experiment, parse
from orchestrator.jobs import Submission, connect
from orchestrator.launch import Progress
from orchestrator.preflight import check
from orchestrator.start import settled
from orchestrator.store.catalogue import Catalogue
from orchestrator.store.documents import decode, encode
from orchestrator.store.ids import new_id
from orchestrator.store.layout import live_key
from orchestrator.store.objects import Objects, open_objects
from orchestrator.store.writer import RunWriter
from orchestrator.sweep.conductor import Conductor
from orchestrator.sweep.folder import SweepResult, read_sweep, sweep_key
from orchestrator.sweep.ledger import Ledger, open_ledger
from orchestrator.sweep.packs import pack_size
from orchestrator.sweep.plan import Plan
from orchestrator.sweep.prior import remember
from orchestrator.sweep.results import finish

GROUP_DRIVER = {"CPU": 0, "node:__internal_head__": 0.001}  # a group's own workers take the devices


def run_sweep(
    experiment: Experiment,
    store: str,
    plan: Plan | None = None,
    *,
    on: str = "local",
    sweep_id: str | None = None,
    progress: Progress | None = None,
) -> SweepResult:
    """Sweep `experiment.search` as `plan` says, or carry on with `sweep_id`, whose plan `plan` then replaces.

    Nothing is written where no trial could begin: ConfigError, DataError, ResourceError, StoreError. Raises RunFailed
    where no trial completed.
    """
    objects = open_objects(store)
    if on not in ("local", "auto") and not on.startswith(("http://", "https://")):
        raise ConfigError(
            f"--on {on!r}: a sweep runs on local, a Ray of its own, or a cluster, http://HEAD:8265"
        )
    client = connect(on, objects) if on.startswith("http") else None
    if sweep_id is None or not objects.exists(sweep_key(sweep_id, "sweep.json")):
        sweep_id = _announce(objects, experiment, sweep_id or new_id(), plan or Plan(), on)
    elif plan is not None:
        objects.put(sweep_key(sweep_id, "plan.json"), encode(plan.model_dump(mode="json")))
    if client is not None:
        return _elsewhere(client, on, objects, sweep_id, progress)
    objects.delete(sweep_key(sweep_id, "stop.json"))
    begun = read_sweep(objects, sweep_id)
    chosen, plan = parse(begun["experiment"]), Plan.model_validate(begun["plan"])
    if on == "local":
        local_capacity().require(chosen.scale)
    prepare(chosen, objects)
    with connected(on) as capacity, open_sweep_ledger(objects, sweep_id, plan, chosen.seed) as ledger:
        remember(ledger, objects, plan, chosen.search, chosen.document())
        _tune(as_trial(chosen, plan), objects, sweep_id, ledger, plan, capacity, progress)
        seal_left(objects, ledger)
        return finish(objects, sweep_id, ledger, plan, chosen)


def _elsewhere(
    client: Any, address: str, objects: Objects, sweep_id: str, progress: Progress | None
) -> SweepResult:
    """The sweep as a job of the cluster at `address`, whose driver runs on its head."""
    words = ["sweep", "--resume", sweep_id, "--store", objects.url]
    submission = Submission(client, address, sweep_id, words)
    total = read_sweep(objects, sweep_id)["plan"]["trials"]

    def tick() -> None:
        runs = [run for run in Catalogue(objects).runs() if run["sweep"] == sweep_id]
        ended = sum(run["state"] not in ("queued", "running", "paused") for run in runs)
        if progress is not None:
            note = f"{ended} of {total} trials" if total else f"{ended} trials"
            done = ended / total if total else 0.0
            progress({"label": "sweep", "done": done, "note": note, "end": done >= 1.0})

    status = submission.wait(tick)
    if status != "SUCCEEDED":
        raise RunFailed(
            f"sweep {sweep_id} ended as {status} on {address} ({submission.last_words()}); "
            f"`ganctl sweep resume {sweep_id}` goes on"
        )
    return SweepResult(**decode(objects.get(sweep_key(sweep_id, "result.json"))))


def _announce(objects: Objects, experiment: Experiment, sweep_id: str, plan: Plan, on: str) -> str:
    """Write sweep.json, unless no trial could begin. Returns the id."""
    if not experiment.search.root:
        raise ConfigError(
            f"{experiment.name} names no search space: give one, for instance lr_ratio='loguniform(0.1,10)'"
        )
    for earlier in plan.warm_start:
        read_sweep(objects, earlier)
    experiment = settled(experiment, objects)
    check(experiment, objects, on)
    document = {"id": sweep_id, "created": time.time(), "on": on, "plan": plan.model_dump(mode="json")}
    with suppress(AlreadyExists):  # begun elsewhere a moment ago
        objects.create(
            sweep_key(sweep_id, "sweep.json"), encode(document | {"experiment": experiment.document()})
        )
    return sweep_id


def as_trial(experiment: Experiment, plan: Plan) -> Experiment:
    """The experiment as the trials of `plan` train it.

    In a population every evaluation leaves a checkpoint, and what a verdict leads to is the population's to say.
    """
    train: dict[str, Any] = {"on_collapse": plan.on_collapse}
    if plan.population:
        every = experiment.train.evaluate_every
        train = {"on_collapse": "ignore", "checkpoint_every": every, "keep_checkpoints": 10**6}
    return experiment.model_copy(update={"train": experiment.train.model_copy(update=train)})


def seal_left(objects: Objects, ledger: Ledger) -> None:
    """End the runs of trials that cannot say so themselves: their process died too often, or they never went on."""
    given_up = {
        live_key(row["run_id"]): row
        for row in ledger.table()
        if row["run_id"] and row["counts"] and row["state"] in ("PRUNED", "FAIL")
    }
    for key, beat in objects.get_many(given_up).items():
        row = given_up[key]
        with suppress(AlreadyExists, NotFound):  # it has ended, or was never begun
            writer = RunWriter.attach(objects, row["run_id"])
            if row["state"] == "PRUNED":
                kept = ("figures", "changes", "seconds")
                told = {name: value for name, value in decode(beat).items() if name in kept}
                verdict = {name: row[name] for name in ("verdict", "evidence", "remedy")}
                writer.seal("pruned", told | verdict | {"ended": "pruned", "reason": row["reason"]})
            else:
                writer.seal("failed", {"error": row["reason"]})


def prepare(experiment: Experiment, objects: Objects) -> None:
    """Do once what every trial needs: check the data and train its feature extractor into the cache."""
    from orchestrator.scene import Scene
    from orchestrator.worker import threads

    with threads(1):
        Scene(objects).extractor(experiment)


def open_sweep_ledger(objects: Objects, sweep_id: str, plan: Plan, seed: int) -> Ledger:
    """The study of a sweep: a journal beside the results on `file://`, else in GANCTL_LEDGER (a database URL) or
    in a folder of this machine."""
    beside = objects.local_path(sweep_key(sweep_id, "journal.log"))
    elsewhere = os.environ.get("GANCTL_LEDGER") or str(Path.home() / ".ganctl" / "sweeps" / f"{sweep_id}.log")
    return open_ledger(
        beside or elsewhere, sweep_id, plan.directions, plan.sampler, seed, names=plan.objectives
    )


def _tune(
    experiment: Experiment,
    objects: Objects,
    sweep_id: str,
    ledger: Ledger,
    plan: Plan,
    capacity: Capacity,
    progress: Progress | None,
) -> None:
    """Run the trials under Ray Tune, as many at once as fit."""
    from ray import tune

    from orchestrator.sweep.desk import open_desk, orders_of
    from orchestrator.sweep.searcher import LedgerSearch
    from orchestrator.sweep.telling import Publishing, Telling
    from orchestrator.sweep.trial import trainable_of

    tunable = [f"gan.{name}" for name in experiment.gan.scalars]
    conductor = Conductor(ledger, experiment.search, plan, seed=experiment.seed, tunable=tunable)
    if conductor.over:
        return
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    most = capacity.concurrent(experiment.scale)
    size = pack_size(experiment, plan, most)
    with open_desk() as desk, tempfile.TemporaryDirectory(prefix="ganctl-tune-") as scratch:
        search = LedgerSearch(
            conductor, lambda trial_id, orders: desk.put.remote(orders_of(trial_id), orders), size
        )
        host = trainable_of(experiment.document(), objects.url, sweep_id, desk, packed=size > 1)
        tune.Tuner(
            tune.with_resources(host, _resources(experiment, capacity)),
            tune_config=tune.TuneConfig(
                search_alg=search, num_samples=-1, max_concurrent_trials=most, reuse_actors=True
            ),
            run_config=tune.RunConfig(
                name=sweep_id,
                storage_path=scratch,
                verbose=0,
                callbacks=[Telling(ledger, plan, progress), Publishing(objects, sweep_id, conductor, ledger)],
                failure_config=tune.FailureConfig(max_failures=0),
            ),
        ).fit()


def _resources(experiment: Experiment, capacity: Capacity) -> dict[str, float]:
    """What a Tune trial holds: its worker's share, or next to nothing on the head where it has a group below it."""
    scale = experiment.scale
    if scale.workers > 1:
        return GROUP_DRIVER
    gpus = capacity.gpus_for(scale)
    return {"CPU": scale.cpus_per_worker} | ({"GPU": gpus} if gpus else {})
