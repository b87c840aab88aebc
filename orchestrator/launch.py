"""One `submit` at three distances: in this process (`inline`), on a Ray of our own (`local`), on a cluster
(`http://HEAD:8265`, through Ray's Jobs API). Each returns a `Job`; what it did is read from the store.
"""

from __future__ import annotations

import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from itertools import count
from typing import Any, Protocol

from orchestrator.cluster import Capacity, connected
from orchestrator.driving import ask, asked, driving, terminated
from orchestrator.errors import AlreadyExists, ConfigError, Preempted, RunFailed, StoreError
from orchestrator.experiment import Experiment, parse
from orchestrator.outcome import Outcome, ended, left_by
from orchestrator.preflight import check
from orchestrator.ranks import train_worker
from orchestrator.record import pace_of
from orchestrator.runlog import recorded
from orchestrator.start import settled
from orchestrator.store.ids import new_id
from orchestrator.store.objects import Objects, open_objects
from orchestrator.store.reader import Run
from orchestrator.store.writer import announce
from orchestrator.version import code_version
from orchestrator.worker import OnTick, work

Progress = Callable[[dict[str, Any]], None]
POLL_SECONDS = 0.5
WAITS = (
    72  # of 25 s (orchestrator.cluster.QUIET): how long a group waits for a host that is gone to come back
)


class Job(Protocol):
    """A run that was handed over. `wait` returns how it ended; `stop` ends it and frees what it holds."""

    run_id: str

    def wait(self, progress: Progress | None = None) -> Outcome: ...

    def stop(self) -> None: ...


def submit(
    experiment: Experiment,
    store: str,
    on: str = "inline",
    *,
    run_id: str | None = None,
    owner: str = "",
    **labels: Any,
) -> Job:
    """Start `experiment`, or resume run `run_id`, and return at once. `labels` join run.json (sweep, params).

    `owner` is who answers for a job of a cluster: a flow run's id.

    Nothing is written where the run could never begin: ConfigError, DataError, ResourceError, StoreError, or NotFound
    where no cluster answers. Raises AlreadyExists where run `run_id` has ended.
    """
    objects = open_objects(store)
    launch = _launcher(objects, on, owner)
    if run_id is None:
        experiment = settled(experiment, objects)
        check(experiment, objects, on)
        run_id = announce_run(objects, experiment, **labels)
    else:
        _refuse_ended(Run(objects, run_id))
    return launch(run_id)


def _launcher(objects: Objects, on: str, owner: str) -> Callable[[str], Job]:
    """What starts a run at distance `on`. Raises NotFound where a cluster does not answer, ConfigError."""
    if on == "inline":
        return partial(InlineJob, objects)
    if on in ("local", "auto"):
        return partial(RayJob, on, objects)
    if on.startswith(("http://", "https://")):
        from orchestrator.jobs import ClusterJob, connect

        return partial(ClusterJob, connect(on, objects), on, objects, owner)
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
                        **pace_of(tick),
                    }
                )

        gone: list[str] = []
        with (
            driving(self.objects, self.run_id, "inline"),
            terminated(lambda: gone.append("preempted")),
        ):
            return work(
                self.objects.url, self.run_id, on_tick=tell, steered=False, notice=lambda: "".join(gone)
            )

    def stop(self) -> None:
        ask(self.objects, self.run_id, "stopped")


class RayJob:
    """The run as a Ray Train worker group, on a Ray of our own or on the one we are in."""

    def __init__(self, on: str, objects: Objects, run_id: str) -> None:
        self.on, self.objects, self.run_id = on, objects, run_id

    def wait(self, progress: Progress | None = None) -> Outcome:
        run = Run(self.objects, self.run_id)
        experiment = parse(run.document()["experiment"])
        with (
            recorded(self.objects, self.run_id, "driver"),
            self._driving(),
            tempfile.TemporaryDirectory(prefix="ganctl-train-") as scratch,
            connected(self.on) as capacity,
            _watched(run, progress),
            terminated(lambda: ask(self.objects, self.run_id, "preempted")),
        ):
            capacity.require(experiment.scale)
            fit(experiment, self.objects, self.run_id, capacity, scratch)
        return ended(run)

    def stop(self) -> None:
        ask(self.objects, self.run_id, "stopped")

    def _driving(self) -> AbstractContextManager[None]:
        """A job is what drives its run, and whoever submitted it has said so."""
        return nullcontext() if self.on == "auto" else driving(self.objects, self.run_id, self.on)


def fit(
    experiment: Experiment,
    objects: Objects,
    run_id: str,
    capacity: Capacity,
    scratch: str,
    on_tick: OnTick | None = None,
) -> None:
    """Run Ray Train to the end; its own storage is scratch, since checkpoints and metrics are in our store.

    `on_tick` is called on rank 0, in its process. A group that a drained node sent away is started again elsewhere.
    Raises RunFailed where the run was cut off.
    """
    run = Run(objects, run_id)
    for turn in count(1):
        trainer = _trainer(experiment, objects, run_id, capacity, scratch, on_tick, turn)
        try:
            with _interruptible():
                trainer.fit()
        except Exception as error:  # Ray's own, around what a worker raised
            if run.sealed() is None and left_by(run) is None:
                said = (run.live() or {}).get("error") or " ".join(str(error).split())[:300]
                raise RunFailed(
                    f"run {run_id} was cut off ({said}); `ganctl train --resume {run_id}` goes on"
                ) from error
        moved = run.sealed() is None and isinstance(left_by(run), Preempted) and not asked(objects, run_id)
        if not moved:
            return


def _trainer(
    experiment: Experiment,
    objects: Objects,
    run_id: str,
    capacity: Capacity,
    scratch: str,
    on_tick: OnTick | None,
    turn: int,
) -> Any:
    """Ray Train's trainer for one group of workers."""
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    scale = experiment.scale
    gpus = capacity.gpus_for(scale)
    resources = {"CPU": scale.cpus_per_worker} | ({"GPU": gpus} if gpus else {})
    num: Any = (scale.workers, scale.most) if scale.max_workers else scale.workers
    return TorchTrainer(
        train_worker,
        train_loop_config={"store": objects.url, "run_id": run_id, "on_tick": on_tick},
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=num,
            use_gpu=bool(gpus),
            resources_per_worker=resources,
            placement_strategy=scale.placement,
        ),
        run_config=ray.train.RunConfig(
            name=f"{run_id}-{turn}",
            storage_path=scratch,
            failure_config=ray.train.FailureConfig(
                max_failures=scale.max_failures,
                controller_failure_limit=WAITS,  # type: ignore[call-arg] # of Train V2
            ),
        ),
    )


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
