"""One contract for every distance: here, on a Ray of our own, and as a job of a cluster; and carrying on."""

from __future__ import annotations

import math
import os
import signal
import time
from dataclasses import dataclass
from typing import Any

import pytest

from gans.checkpoint import unpack
from gans.pictures import SYNTHETIC, read_metadata
from orchestrator.errors import AlreadyExists, RunFailed
from orchestrator.experiment import Experiment, parse
from orchestrator.launch import submit
from orchestrator.outcome import Outcome
from orchestrator.recipes import load
from orchestrator.store.documents import decode
from orchestrator.store.layout import attempt_key
from orchestrator.store.objects import Objects, open_objects
from orchestrator.store.reader import Run
from tests.support.rays import RayHead, local_ray, ray_head, restored_environment
from tests.support.threads import one_thread

__all__ = ["local_ray", "one_thread", "ray_head"]

STEPS = [10, 20, 30, 40, 50, 60]


def tiny(**changes: Any) -> Experiment:
    """Sixty steps of a GAN of a few hundred weights, with a checkpoint and a picture in the middle."""
    fields = {
        "gan.width": 16,
        "data.num": 500,
        "train.steps": 60,
        "train.batch": 32,
        "train.log_every": 10,
        "train.evaluate_every": 30,
        "train.sample_every": 30,
        "train.checkpoint_every": 20,
    }
    return load("vanilla.ring").override(fields | changes)


@dataclass(frozen=True)
class Finished:
    """A run that was submitted at a distance and waited for."""

    on: str
    experiment: Experiment
    objects: Objects
    outcome: Outcome
    beats: list[dict[str, Any]]

    @property
    def run(self) -> Run:
        return Run(self.objects, self.outcome.run_id)


@pytest.fixture(scope="module", params=["inline", "local", pytest.param("cluster", marks=pytest.mark.slow)])
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The same experiment at each distance; locally on two workers."""
    on, experiment = request.param, tiny()
    if on == "local":
        request.getfixturevalue("local_ray")
        experiment = tiny(**{"scale.workers": 2})
    if on == "cluster":
        on = request.getfixturevalue("ray_head").address
    store = str(tmp_path_factory.mktemp("launch"))
    beats: list[dict[str, Any]] = []
    with restored_environment():
        outcome = submit(experiment, store, on).wait(beats.append)
    return Finished(on, experiment, open_objects(store), outcome, beats)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The same experiment in this process."""
    return submit(tiny(), str(tmp_path_factory.mktemp("here"))).wait()


def steps_of(run: Run) -> list[int]:
    return [int(step) for step in run.metrics()["step"].to_pylist()]


def test_a_run_is_sealed_with_its_figures(finished: Finished) -> None:
    sealed = finished.run.sealed()
    assert sealed is not None
    assert (finished.outcome.state, finished.outcome.step) == ("completed", 60)
    assert (sealed["state"], sealed["step"], sealed["ended"]) == ("completed", 60, "budget")
    assert sealed["figures"] == finished.outcome.figures
    assert all(math.isfinite(value) for value in finished.outcome.figures.values())
    assert {"fid", "coverage", "modes"} <= finished.outcome.figures.keys() & finished.outcome.floor.keys()
    assert finished.run.live() is None


def test_its_experiment_rebuilds_it(finished: Finished) -> None:
    document = finished.run.document()
    assert parse(document["experiment"]) == finished.experiment
    assert (document["name"], document["family"]) == ("vanilla.ring", "vanilla")


def test_its_metrics_have_a_row_a_tick(finished: Finished) -> None:
    table = finished.run.metrics()
    assert table["step"].to_pylist() == STEPS
    assert {"loss_d", "loss_g", "grad_generator", "images_per_second", "verdict"} <= set(table.column_names)
    assert [fid is not None for fid in table["fid"].to_pylist()] == [s in (30, 60) for s in STEPS]


def test_its_pictures_say_where_they_come_from(finished: Finished) -> None:
    samples = finished.run.samples()
    assert [step for step, _ in samples] == [30, 60]
    told = read_metadata(finished.objects.get(samples[-1][1]))
    assert (told["run"], told["step"]) == (finished.run.id, "60")
    assert SYNTHETIC in told.values()


def test_its_newest_checkpoints_can_be_resumed_from(finished: Finished) -> None:
    assert [step for step, _ in finished.run.checkpoints()] == [40, 60]
    state = unpack(finished.run.read_checkpoint())
    assert state["position"]["step"] == 60


def test_its_progress_is_told(finished: Finished) -> None:
    steps = [beat["step"] for beat in finished.beats]
    assert steps == sorted(steps)
    assert all(0 <= beat.get("progress", 0) <= 1 for beat in finished.beats)


def test_its_figures_do_not_depend_on_the_distance(finished: Finished, here: Outcome) -> None:
    """Two workers add the same gradients in another order."""
    tolerance = 1e-4 if finished.experiment.scale.workers > 1 else 1e-9
    assert finished.outcome.figures == pytest.approx(here.figures, rel=tolerance, abs=tolerance)


def test_submitted_again_it_is_said_to_have_ended(finished: Finished) -> None:
    keys = finished.objects.list("")
    with pytest.raises(AlreadyExists, match=r"has ended \(completed\)"):
        submit(finished.experiment, finished.objects.url, finished.on, run_id=finished.run.id)
    assert finished.objects.list("") == keys


def test_one_worker_on_ray_is_this_process_to_the_last_bit(
    local_ray: None, here: Outcome, file_store: str
) -> None:
    with restored_environment():
        assert submit(tiny(), file_store, "local").wait().figures == here.figures


# --- carrying on


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_run_that_was_interrupted_goes_on_as_if_it_had_not_been(
    error: type[BaseException], file_store: str, here: Outcome
) -> None:
    def stop_at_50(beat: dict[str, Any]) -> None:
        if beat["step"] == 50:
            raise error("stop")

    job = submit(tiny(), file_store)
    with pytest.raises(error, match="stop"):
        job.wait(stop_at_50)
    run = Run(open_objects(file_store), job.run_id)
    assert run.state() == "interrupted"
    assert steps_of(run) == STEPS[:5]
    outcome = submit(tiny(), file_store, run_id=job.run_id).wait()
    table = run.metrics()
    assert table["step"].to_pylist() == STEPS
    assert table["attempt"].to_pylist() == [1, 1, 1, 1, 2, 2]
    assert outcome.figures == here.figures
    assert run.state() == "completed"


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again(
    file_store: str, here: Outcome
) -> None:
    def stop_at_10(beat: dict[str, Any]) -> None:
        raise RuntimeError("stop")

    job = submit(tiny(), file_store)
    with pytest.raises(RuntimeError, match="stop"):
        job.wait(stop_at_10)
    assert submit(tiny(), file_store, run_id=job.run_id).wait().figures == here.figures
    assert steps_of(Run(open_objects(file_store), job.run_id)) == STEPS


@pytest.mark.slow
def test_a_run_on_ray_that_cannot_begin_says_why_once(local_ray: None, file_store: str) -> None:
    """The data went away between submitting and training: no retry could mend that."""
    from orchestrator.launch import announce_run

    objects = open_objects(file_store)
    experiment = tiny(**{"train.batch": 501})
    run_id = announce_run(objects, experiment)
    with restored_environment(), pytest.raises(RunFailed, match="batch 501 is larger than the data set"):
        submit(experiment, file_store, "local", run_id=run_id).wait()
    assert len(objects.list(f"runs/{run_id}/attempts")) == 1


@pytest.mark.slow
def test_a_killed_worker_costs_the_steps_since_the_last_checkpoint_alone(
    local_ray: None, file_store: str
) -> None:
    experiment = tiny(**{"train.steps": 2000, "train.checkpoint_every": 100, "scale.workers": 2})
    job = submit(experiment, file_store, "local")
    objects = open_objects(file_store)
    run = Run(objects, job.run_id)
    killed: list[int] = []

    def kill_rank_0(beat: dict[str, Any]) -> None:
        if not killed and run.checkpoints():
            killed.append(decode(objects.get(attempt_key(run.id, 1)))["pid"])
            os.kill(killed[0], signal.SIGKILL)

    with restored_environment():
        outcome = job.wait(kill_rank_0)
    assert killed
    assert (outcome.state, outcome.step) == ("completed", 2000)
    table = run.metrics()
    assert table["step"].to_pylist() == list(range(10, 2001, 10))
    attempts = table["attempt"].to_pylist()
    assert attempts == sorted(attempts)
    assert set(attempts) == {1, 2}


@pytest.mark.slow
def test_a_job_is_joined_by_a_second_submitter_and_resumed_once_it_was_stopped(
    ray_head: RayHead, file_store: str
) -> None:
    from orchestrator.jobs import ClusterJob

    experiment = tiny(**{"train.steps": 6000, "train.checkpoint_every": 100})
    first = submit(experiment, file_store, ray_head.address)
    again = submit(experiment, file_store, ray_head.address, run_id=first.run_id)
    assert isinstance(first, ClusterJob)
    assert isinstance(again, ClusterJob)
    assert again.submission.submission_id == first.submission.submission_id
    run = Run(open_objects(file_store), first.run_id)
    deadline = time.monotonic() + 120
    while not run.checkpoints():
        assert time.monotonic() < deadline
        time.sleep(0.5)
    first.stop()
    with pytest.raises(RunFailed, match=f"ganctl train --resume {first.run_id}"):
        again.wait()
    assert run.sealed() is None
    reached = run.checkpoints()[-1][0]
    third = submit(experiment, file_store, ray_head.address, run_id=first.run_id)
    assert isinstance(third, ClusterJob)
    assert third.submission.submission_id != first.submission.submission_id
    assert third.wait().step == 6000
    table = run.metrics()
    assert table["step"].to_pylist() == list(range(10, 6001, 10))
    first_row_of_the_second = table["attempt"].to_pylist().index(2)
    assert table["step"][first_row_of_the_second].as_py() == reached + 10
