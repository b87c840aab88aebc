"""A cluster loses a node while a sweep runs on it: every trial is counted once all the same."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from optuna.trial import TrialState

from orchestrator.experiment import Experiment
from orchestrator.store.documents import decode
from orchestrator.store.layout import attempt_key
from orchestrator.store.objects import Objects, open_objects
from orchestrator.store.reader import Run
from orchestrator.store.writer import newest_attempt
from orchestrator.sweep.driver import run_sweep
from orchestrator.sweep.plan import Plan
from tests.benchmarks.report import Report
from tests.benchmarks.trials import measure
from tests.support.clusters import simulated_cluster, workers_of
from tests.support.exactness import check_exact
from tests.support.threads import one_thread
from tests.test_sweep import BALANCE, searching

__all__ = ["one_thread"]

pytestmark = pytest.mark.slow

PATIENCE_SECONDS = 180.0


@pytest.fixture
def cluster() -> Iterator[Any]:
    with simulated_cluster(3) as cluster:
        yield cluster


@pytest.mark.parametrize(("workers", "trials"), [(1, 9), (2, 2)])
def test_trials_of_a_node_that_is_gone_go_on_elsewhere(
    workers: int, trials: int, cluster: Any, file_store: str
) -> None:
    objects, plan = open_objects(file_store), Plan(trials=trials, sampler="random", stop="none")
    few = {"train.log_every": 20, "train.evaluate_every": 200, "train.checkpoint_every": 100, "gan.width": 8}
    changes = {"train.steps": 1000, "scale.workers": workers, "seed": 1, **few}
    experiment = searching(BALANCE, **changes)
    with InThread(experiment, file_store, plan.model_copy(update={"on_collapse": "ignore"})) as sweep:
        node = wait_for(lambda: training(objects, cluster))
        cluster.remove_node(node, allow_graceful=False)
    counted = check_exact(objects, sweep.id, trials)
    assert {trial.state for trial in counted} == {TrialState.COMPLETE}
    attempts = [newest_attempt(objects, run_id) for run_id in objects.folders("runs")]
    assert max(attempts) > 1


class InThread:
    """`run_sweep` in a thread, since a cluster's nodes are the main thread's."""

    def __init__(self, experiment: Experiment, store: str, plan: Plan) -> None:
        self.id = ""
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(experiment, store, plan))

    def _run(self, experiment: Experiment, store: str, plan: Plan) -> None:
        try:
            self.id = run_sweep(experiment, store, plan, on="auto").sweep_id
        except BaseException as error:
            self._error = error

    def __enter__(self) -> InThread:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(timeout=3 * PATIENCE_SECONDS)
        assert not self._thread.is_alive()
        if self._error is not None:
            raise self._error


def training(objects: Objects, cluster: Any) -> Any | None:
    """A node, not the driver's, on which a rank of a run is that has a checkpoint and goes on."""
    for run_id in objects.folders("runs"):
        run, attempt = Run(objects, run_id), newest_attempt(objects, run_id)
        if attempt and run.checkpoints() and run.sealed() is None:
            pid = decode(objects.get(attempt_key(run_id, attempt)))["pid"]
            for node in cluster.worker_nodes:
                workers = workers_of(node)
                if pid in workers or any("RayTrainWorker" in title for title in workers.values()):
                    return node
    return None


def wait_for(find: Callable[[], Any | None]) -> Any:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (found := find()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def test_a_hundred_trials_on_five_nodes_are_counted_exactly() -> None:
    """The smaller brother of `tests/benchmarks/trials.py`."""
    report = Report()
    marks = measure(trials=100, nodes=5, seed=1, marks=(50, 100), report=report)
    assert report.exit_code == 0
    assert [mark.trials for mark in marks] == [1, 50, 100]
