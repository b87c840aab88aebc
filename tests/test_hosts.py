"""A run on several hosts outlives one that is killed or cut off, and ends as if nothing had been."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from infra.local.cluster import Cluster, ClusterError
from orchestrator.experiment import Experiment
from orchestrator.launch import Job, submit
from orchestrator.recipes import load
from orchestrator.store.objects import open_objects
from orchestrator.store.reader import Run
from tests.support.hosts import attempt, hosts, runs_on, steps_in, until, view, whole

__all__ = ["hosts"]

pytestmark = pytest.mark.slow

STEPS, EVERY = 2000, 20
EXPERIMENT = load("vanilla.ring").override(
    {
        "gan.width": 16,
        "data.num": 500,
        "train.steps": STEPS,
        "train.batch": 32,
        "train.log_every": EVERY,
        "train.evaluate_every": 0,
        "train.sample_every": 0,
        "train.checkpoint_every": 100,
        "train.on_collapse": "ignore",
        "scale.workers": 2,
    }
)
GOES_ON_S = 60.0
LOG = logging.getLogger(__name__)  # --log-cli-level=INFO shows what docs/cluster.md quotes
CLOCKS = {"attempt", "time", "seconds", "images_per_second", "data_wait", "sync_wait", "cpu_use"}


def begin(cluster: Cluster, experiment: Experiment = EXPERIMENT) -> tuple[Job, Run]:
    job = submit(experiment, cluster.store, cluster.head)
    return job, Run(open_objects(cluster.store), job.run_id)


def figures(run: Run) -> dict[str, list[Any]]:
    """The run's curves, without what a clock measured."""
    table = run.metrics()
    return {name: table[name].to_pylist() for name in table.column_names if name not in CLOCKS}


def weights(run: Run) -> bytes:
    return run.read_checkpoint()["weights.safetensors"]


@pytest.fixture(scope="module")
def undisturbed(hosts: Cluster) -> Run:
    job, run = begin(hosts)
    assert job.wait().state == "completed"
    return run


@pytest.mark.parametrize("spare", [True, False], ids=["a spare", "no spare"])
@pytest.mark.parametrize("event", ["kill", "cut"])
def test_a_run_outlives_the_host_of_rank_0(event: str, spare: bool, hosts: Cluster, undisturbed: Run) -> None:
    whole(hosts)
    if not spare:
        hosts.kill("host3")
        until(lambda: view(hosts, "host3") == "dead", 30)
    job, run = begin(hosts)
    until(lambda: bool(run.checkpoints()), 120)
    first = attempt(run, 1)
    struck = first["host"]
    getattr(hosts, event)(struck)
    if not spare:
        until(lambda: view(hosts, struck) == "dead", 30)
        assert not attempt(run, 2)  # it waits
        hosts.heal(struck) if event == "cut" else hosts.add()
    took = until(lambda: steps_in(run, 2), GOES_ON_S)
    LOG.info("%s, %s: the next step after %.1f s", event, "a spare" if spare else "no spare", took)
    if event == "cut" and spare:
        assert runs_on(hosts, struck, first["pid"])  # cut off, it knows nothing of its successor
        hosts.heal(struck)
    beats: list[dict[str, Any]] = []
    assert job.wait(beats.append).step == STEPS
    if event == "cut":
        until(lambda: not runs_on(hosts, struck, first["pid"]), 60)

    assert beats[-1]["attempt"] == 2
    begun = attempt(run, 2)["from"]
    table = run.metrics()
    steps = table["step"].to_pylist()
    assert steps == list(range(EVERY, STEPS + 1, EVERY))
    assert table["attempt"].to_pylist() == [1 if step <= begun else 2 for step in steps]
    assert {number for step, number in run.checkpoints() if step > begun} == {2}
    assert figures(run) == figures(undisturbed)
    assert weights(run) == weights(undisturbed)


def test_an_elastic_run_goes_on_with_the_workers_that_are_left(hosts: Cluster) -> None:
    """Whether it grows again before it ends is up to Ray Train; that no step is lost or doubled is up to us."""
    whole(hosts)
    hosts.kill("host3")
    until(lambda: view(hosts, "host3") == "dead", 30)
    elastic = EXPERIMENT.override(
        {"scale.workers": 1, "scale.max_workers": 2, "train.steps": 5 * STEPS, "train.checkpoint_every": 20}
    )
    job, run = begin(hosts, elastic)
    until(lambda: bool(run.checkpoints()), 120)
    assert attempt(run, 1)["workers"] == 2
    hosts.kill(attempt(run, 1)["host"])
    until(lambda: steps_in(run, 2), GOES_ON_S)
    assert attempt(run, 2)["workers"] == 1
    hosts.add()
    assert job.wait().step == 5 * STEPS
    LOG.info("workers by attempt: %s", [attempt(run, n)["workers"] for n in (1, 2, 3) if attempt(run, n)])
    assert run.metrics()["step"].to_pylist() == list(range(EVERY, 5 * STEPS + 1, EVERY))


def test_a_cluster_is_brought_up_once_and_says_what_it_lacks(hosts: Cluster) -> None:
    whole(hosts)
    before = dict(hosts.hosts)
    assert Cluster.up(hosts.folder).hosts == before
    with pytest.raises(ClusterError, match=r"no host .host9. is up; there are: .*host1"):
        hosts.cut("host9")
    with pytest.raises(ClusterError, match="there is no cluster in"):
        Cluster.load(hosts.folder / "else")
