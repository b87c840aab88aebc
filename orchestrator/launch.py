"""One `submit` at three distances: in this process (`inline`), on a Ray of our own (`local`), on a cluster
(`http://HEAD:8265`, through Ray's Jobs API). Each returns a `Job`; what it did is read from the store.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from orchestrator.cluster import Capacity, connected, local_capacity
from orchestrator.errors import ConfigError, NotFound, ResourceError, RunFailed
from orchestrator.experiment import Experiment, parse
from orchestrator.store.ids import new_id
from orchestrator.store.objects import Objects, open_objects
from orchestrator.store.reader import Run
from orchestrator.store.writer import announce
from orchestrator.version import code_version
from orchestrator.worker import Outcome, outcome_of, work

Progress = Callable[[dict[str, Any]], None]
POLL_SECONDS = 0.5


class Job(Protocol):
    """A run that was handed over. `wait` returns how it ended; `stop` ends it and frees what it holds."""

    run_id: str

    def wait(self, progress: Progress | None = None) -> Outcome: ...

    def stop(self) -> None: ...


def submit(
    experiment: Experiment, store: str, on: str = "inline", *, run_id: str | None = None, **labels: Any
) -> Job:
    """Start `experiment`, or resume run `run_id`, and return at once. `labels` join run.json (sweep, params).

    Raises ResourceError where it can never fit, and StoreError where the store cannot be written.
    """
    objects = open_objects(store)
    if run_id is None:
        check_scale(experiment, on)
        run_id = announce_run(objects, experiment, **labels)
    launcher = {"inline": InlineJob, "local": RayJob, "auto": RayJob}.get(on)
    if launcher is not None:
        return launcher(objects, run_id, on)
    if on.startswith(("http://", "https://")):
        return ClusterJob(objects, run_id, on)
    raise ConfigError(
        f"--on {on!r}: allowed are inline, local, or the address of a cluster, http://HEAD:8265"
    )


def announce_run(objects: Objects, experiment: Experiment, **labels: Any) -> str:
    """Write run.json of a new run and return its id."""
    run_id = new_id()
    document = experiment.document()
    announce(
        objects,
        run_id,
        {
            "name": experiment.name,
            "family": document["gan"]["family"],
            "seed": experiment.seed,
            "experiment": document,
            "code": code_version(),
            **labels,
        },
    )
    return run_id


def check_scale(experiment: Experiment, on: str) -> None:
    """Fail at once where the machine at hand cannot hold the workers."""
    if on == "inline" and experiment.scale.workers > 1:
        raise ResourceError(
            f"--on inline is this one process, scale.workers is {experiment.scale.workers}: use --on local"
        )
    if on == "local":
        local_capacity().require(experiment.scale)


class InlineJob:
    """The run in this process; it is done by `wait`."""

    def __init__(self, objects: Objects, run_id: str, on: str) -> None:
        self.objects, self.run_id = objects, run_id

    def wait(self, progress: Progress | None = None) -> Outcome:
        def tell(tick: Any) -> None:
            if progress is not None:
                figures = tick.evaluation or {}
                progress(
                    {
                        "step": tick.step,
                        "progress": tick.progress,
                        "verdict": tick.verdict.kind,
                        "figures": figures,
                    }
                )

        return work(self.objects.url, self.run_id, on_tick=tell)

    def stop(self) -> None:
        raise RunFailed("a run in this process is stopped by Ctrl-C")


class RayJob:
    """The run as a Ray Train worker group, on a Ray of our own or on the one we are in."""

    def __init__(self, objects: Objects, run_id: str, on: str) -> None:
        self.objects, self.run_id, self.on = objects, run_id, on

    def wait(self, progress: Progress | None = None) -> Outcome:
        run = Run(self.objects, self.run_id)
        experiment = parse(run.document()["experiment"])
        done = threading.Event()
        watcher = threading.Thread(target=_watch, args=(run, progress, done), daemon=True)
        with connected(self.on) as capacity:
            capacity.require(experiment.scale)
            watcher.start()
            try:
                _fit(experiment, self.objects.url, self.run_id, capacity)
            finally:
                done.set()
                watcher.join()
        return outcome_of(run)

    def stop(self) -> None:
        raise RunFailed("a run on a Ray of our own is stopped by Ctrl-C")


def _fit(experiment: Experiment, store: str, run_id: str, capacity: Capacity) -> None:
    """Run Ray Train to the end; its own storage is scratch, since checkpoints and metrics are in our store."""
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    scale = experiment.scale
    gpus = capacity.gpus_for(scale)
    resources = {"CPU": scale.cpus_per_worker} | ({"GPU": gpus} if gpus else {})
    with tempfile.TemporaryDirectory(prefix="ganctl-train-") as scratch:
        trainer = TorchTrainer(
            train_worker,
            train_loop_config={"store": store, "run_id": run_id},
            torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
            scaling_config=ray.train.ScalingConfig(
                num_workers=scale.workers, use_gpu=bool(gpus), resources_per_worker=resources
            ),
            run_config=ray.train.RunConfig(
                name=run_id,
                storage_path=scratch,
                failure_config=ray.train.FailureConfig(
                    max_failures=scale.max_failures, controller_failure_limit=3
                ),
            ),
        )
        try:
            trainer.fit()
        except Exception as error:
            _explain(open_objects(store), run_id, error)


def _explain(objects: Objects, run_id: str, error: Exception) -> None:
    """Ray wraps a worker's error; say what the worker said, or how to resume."""
    run = Run(objects, run_id)
    sealed = run.sealed()
    if sealed is not None and sealed["state"] == "failed":
        raise RunFailed(f"run {run_id} failed: {sealed.get('error')}") from error
    if sealed is None:
        said = (run.live() or {}).get("error") or " ".join(str(error).split())[:300]
        raise RunFailed(
            f"run {run_id} was cut off ({said}); `ganctl train --resume {run_id}` goes on"
        ) from error


def train_worker(config: dict[str, Any]) -> None:
    """One rank under Ray Train."""
    import ray.train
    from ray.train.torch import get_device

    from gans.sync import Alone, Group

    alone = ray.train.get_context().get_world_size() == 1
    work(config["store"], config["run_id"], Alone() if alone else Group(), get_device())


class ClusterJob:
    """The run as a job of a remote cluster, submitted through Ray's Jobs API under the run's own id.

    A repeated submission id is refused by Ray, so submitting twice attaches to the first.
    """

    def __init__(self, objects: Objects, run_id: str, address: str) -> None:
        from ray.job_submission import JobSubmissionClient

        if objects.local_path("") is not None and "localhost" not in address and "127.0.0.1" not in address:
            raise ConfigError(
                f"store {objects.url} is a folder of this machine, which {address} cannot see: use s3://"
            )
        self.objects, self.run_id, self.address = objects, run_id, address
        try:
            self.client = JobSubmissionClient(address)
            self.client.submit_job(
                entrypoint=f"{sys.executable if 'localhost' in address or '127.0.0.1' in address else 'python'}"
                f" -m orchestrator.cli train --resume {run_id} --store {objects.url} --on auto",
                submission_id=run_id,
                runtime_env={"env_vars": _credentials()},
                metadata={"ganctl_run": run_id},
            )
        except ConnectionError as error:
            raise NotFound(
                f"no Ray dashboard answers at {address}: is the head up, and is the port 8265?"
            ) from error
        except RuntimeError as error:
            if "already exists" not in str(error):
                raise RunFailed(f"{address} refused the job: {' '.join(str(error).split())[:300]}") from error

    def wait(self, progress: Progress | None = None) -> Outcome:
        run = Run(self.objects, self.run_id)
        while True:
            status = self.client.get_job_status(self.run_id)
            beat = run.live()
            if progress is not None and beat is not None:
                progress(beat)
            if status.is_terminal():
                break
            time.sleep(POLL_SECONDS)
        if run.sealed() is None:
            tail = self.client.get_job_logs(self.run_id).strip().splitlines()[-1:] or [""]
            raise RunFailed(f"run {self.run_id} ended as {status} on {self.address}: {tail[0]}")
        return outcome_of(run)

    def stop(self) -> None:
        """Stop the job and wait until Ray says that it is over."""
        self.client.stop_job(self.run_id)
        while not self.client.get_job_status(self.run_id).is_terminal():
            time.sleep(POLL_SECONDS)


def _credentials() -> dict[str, str]:
    """The store's settings travel in the job's environment; nothing writes them to the store."""
    return {k: v for k, v in os.environ.items() if k.startswith("AWS_")}


def _watch(run: Run, progress: Progress | None, done: threading.Event) -> None:
    """Pass heartbeats on until `done`."""
    while progress is not None and not done.wait(POLL_SECONDS):
        beat = run.live()
        if beat is not None:
            progress(beat)
