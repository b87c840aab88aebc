"""One `submit` at three distances: in this process (`inline`), on a Ray of our own (`local`), on a cluster
(`http://HEAD:8265`, through Ray's Jobs API). Each returns a `Job`; what it did is read from the store.
"""

from __future__ import annotations

import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Protocol

from orchestrator.cluster import Capacity, connected
from orchestrator.errors import AlreadyExists, ConfigError, RunFailed, StoreError
from orchestrator.experiment import Experiment, parse
from orchestrator.outcome import Outcome, outcome_of
from orchestrator.preflight import check
from orchestrator.store.ids import new_id
from orchestrator.store.objects import Objects, open_objects
from orchestrator.store.reader import Run
from orchestrator.store.writer import announce
from orchestrator.version import code_version
from orchestrator.worker import OnTick, work

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

    Nothing is written where the run could never begin: ConfigError, DataError, ResourceError, StoreError, or NotFound
    where no cluster answers. Raises AlreadyExists where run `run_id` has ended.
    """
    objects = open_objects(store)
    launch = _launcher(objects, on)
    if run_id is None:
        check(experiment, objects, on)
        run_id = announce_run(objects, experiment, **labels)
    else:
        _refuse_ended(Run(objects, run_id))
    return launch(run_id)


def _launcher(objects: Objects, on: str) -> Callable[[str], Job]:
    """What starts a run at distance `on`. Raises NotFound where a cluster does not answer, ConfigError."""
    if on == "inline":
        return partial(InlineJob, objects)
    if on in ("local", "auto"):
        return partial(RayJob, on, objects)
    if on.startswith(("http://", "https://")):
        from orchestrator.jobs import ClusterJob, connect

        return partial(ClusterJob, connect(on, objects), on, objects)
    raise ConfigError(
        f"--on {on!r}: allowed are inline, local, or the address of a cluster, http://HEAD:8265"
    )


def _refuse_ended(run: Run) -> None:
    """Raises AlreadyExists where the run has ended, NotFound where there is none."""
    run.document()
    sealed = run.sealed()
    if sealed is not None:
        raise AlreadyExists(
            f"run {run.id} has ended ({sealed['state']}) and cannot be resumed; start a new one"
        )


def announce_run(objects: Objects, experiment: Experiment, run_id: str | None = None, **labels: Any) -> str:
    """Write run.json of a new run and return its id. Raises AlreadyExists where `run_id` is taken."""
    run_id = run_id or new_id()
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


class InlineJob:
    """The run in this process; it is done by `wait`."""

    def __init__(self, objects: Objects, run_id: str) -> None:
        self.objects, self.run_id = objects, run_id

    def wait(self, progress: Progress | None = None) -> Outcome:
        def tell(tick: Any) -> None:
            if progress is not None:
                progress(
                    {
                        "step": tick.step,
                        "progress": tick.progress,
                        "verdict": tick.verdict.kind,
                        "figures": tick.evaluation or {},
                        "changes": list(tick.changes),
                    }
                )

        return work(self.objects.url, self.run_id, on_tick=tell)

    def stop(self) -> None:
        raise RunFailed("a run in this process is stopped by Ctrl-C")


class RayJob:
    """The run as a Ray Train worker group, on a Ray of our own or on the one we are in."""

    def __init__(self, on: str, objects: Objects, run_id: str) -> None:
        self.on, self.objects, self.run_id = on, objects, run_id

    def wait(self, progress: Progress | None = None) -> Outcome:
        run = Run(self.objects, self.run_id)
        experiment = parse(run.document()["experiment"])
        with (
            tempfile.TemporaryDirectory(prefix="ganctl-train-") as scratch,
            connected(self.on) as capacity,
            _watched(run, progress),
        ):
            capacity.require(experiment.scale)
            fit(experiment, self.objects, self.run_id, capacity, scratch)
        return _ended(run)

    def stop(self) -> None:
        raise RunFailed("a run on a Ray of our own is stopped by Ctrl-C")


def fit(
    experiment: Experiment,
    objects: Objects,
    run_id: str,
    capacity: Capacity,
    scratch: str,
    on_tick: OnTick | None = None,
) -> None:
    """Run Ray Train to the end; its own storage is scratch, since checkpoints and metrics are in our store.

    `on_tick` is called on rank 0, in its process. Raises RunFailed where the run has not ended.
    """
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    scale = experiment.scale
    gpus = capacity.gpus_for(scale)
    resources = {"CPU": scale.cpus_per_worker} | ({"GPU": gpus} if gpus else {})
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"store": objects.url, "run_id": run_id, "on_tick": on_tick},
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=scale.workers, use_gpu=bool(gpus), resources_per_worker=resources
        ),
        run_config=ray.train.RunConfig(
            name=run_id,
            storage_path=scratch,
            failure_config=ray.train.FailureConfig(
                max_failures=scale.max_failures,
                controller_failure_limit=3,  # type: ignore[call-arg] # of Train V2
            ),
        ),
    )
    try:
        with _interruptible():
            trainer.fit()
    except Exception as error:  # Ray's own, around what a worker raised
        run = Run(objects, run_id)
        if run.sealed() is None:
            said = (run.live() or {}).get("error") or " ".join(str(error).split())[:300]
            raise RunFailed(
                f"run {run_id} was cut off ({said}); `ganctl train --resume {run_id}` goes on"
            ) from error


def _ended(run: Run) -> Outcome:
    """How a sealed run ended. Raises RunFailed with what a worker said where it failed."""
    sealed = run.sealed()
    if sealed is not None and sealed["state"] == "failed":
        raise RunFailed(f"run {run.id} failed: {sealed.get('error')}")
    return outcome_of(run)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Make Ctrl-C a KeyboardInterrupt: Ray Train aborts its workers, then exits with 0; and its handler stays."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGINT, before)


def train_worker(config: dict[str, Any]) -> None:
    """One rank under Ray Train."""
    import ray.train
    from ray.train.torch import get_device

    from gans.sync import Alone, Group

    if Run(open_objects(config["store"]), config["run_id"]).sealed() is not None:
        return  # a worker died, or said why it cannot go on, when the run had ended: there is nothing to retry
    alone = ray.train.get_context().get_world_size() == 1
    sync = Alone() if alone else Group()
    work(config["store"], config["run_id"], sync, get_device(), config["on_tick"])


@contextmanager
def _watched(run: Run, progress: Progress | None) -> Iterator[None]:
    """Pass heartbeats on to `progress` meanwhile."""
    if progress is None:
        yield
        return
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(run, progress, done), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _watch(run: Run, progress: Progress, done: threading.Event) -> None:
    while not done.wait(POLL_SECONDS):
        with suppress(StoreError):  # the workers meet it, too, and say so
            if (beat := run.live()) is not None:
                progress(beat)
