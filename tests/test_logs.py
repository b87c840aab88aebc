"""What a run's processes print is in its store: bounded, masked, also once machine and cluster are gone."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

import pytest
from rich.console import Console

from gans.sync import Alone
from orchestrator import runlog
from orchestrator.errors import ConfigError, RunFailed, StoreError
from orchestrator.experiment import Experiment
from orchestrator.launch import announce_run, submit
from orchestrator.recipes import load
from orchestrator.record import Record
from orchestrator.runlog import Log, keep, logs_of, recorded
from orchestrator.store.ids import new_id
from orchestrator.store.objects import Objects, open_objects
from orchestrator.store.writer import RunWriter
from orchestrator.sweep.driver import run_sweep
from orchestrator.sweep.plan import Plan
from orchestrator.sweep.space import Choice, Space
from orchestrator.worker import Rank
from tests.support.commands import ganctl, refused
from tests.support.dashboard import Client
from tests.support.rays import local_ray, restored_environment, started_head
from tests.support.threads import one_thread

__all__ = ["local_ray", "one_thread"]

RUN = "20261122-014500-k3v9qa"
SECRET = "hunter2-hunter2"


def tiny(**changes: Any) -> Experiment:
    fields = {
        "gan.width": 16,
        "data.num": 500,
        "train.steps": 40,
        "train.batch": 32,
        "train.log_every": 10,
        "train.evaluate_every": 20,
        "train.sample_every": 0,
        "train.on_collapse": "ignore",
        "train.checkpoint_every": 20,
    }
    return load("vanilla.ring").override(fields | changes)


def lines_of(objects: Objects, run_id: str, who: str = "") -> list[str]:
    """The lines of all processes whose name begins with `who`, without their times."""
    found = [kept for kept in logs_of(objects, run_id).values() if kept.who.startswith(who)]
    return [line[20:] for kept in found for line in kept.lines]


@pytest.fixture
def objects(file_store: str) -> Objects:
    return open_objects(file_store)


@pytest.fixture
def chatty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tick of a run prints, as code of the user's may."""
    before = Record.tick

    def tick(self: Record, tick: Any, *rest: Any) -> None:
        print(f"{self.writer.run_id} tick {tick.step} password={SECRET}")  # noqa: T201
        before(self, tick, *rest)

    monkeypatch.setattr(Record, "tick", tick)


# --- the log of one process


def test_what_is_printed_is_kept_and_printed_all_the_same(
    objects: Objects, capsys: pytest.CaptureFixture[str]
) -> None:
    streams = sys.stdout, sys.stderr
    with recorded(objects, RUN, "driver"):
        print("one")  # noqa: T201
        print("two", file=sys.stderr)  # noqa: T201
        sys.stdout.writelines(["fo", "ur\n", "10%\r50%\r100%\n", "\x1b[31mred\x1b[0m\n", "no end"])
        Console().print("a bar")
    printed = capsys.readouterr()
    assert (sys.stdout, sys.stderr) == streams
    said = lines_of(objects, RUN, "driver on ")
    assert said[:2] == ["one", "two"]
    assert said[2:] == ["four", "100%", "red", "no end"]
    assert "a bar" in printed.out
    assert "one\n" in printed.out
    assert "two\n" in printed.err


def test_a_process_that_says_nothing_leaves_nothing(objects: Objects) -> None:
    with recorded(objects, RUN, "driver"):
        pass
    assert objects.list("") == []


def test_the_traceback_that_ends_it_is_kept(objects: Objects) -> None:
    with pytest.raises(ZeroDivisionError), recorded(objects, RUN, "driver"):
        print(1 / 0)  # noqa: T201
    said = lines_of(objects, RUN)
    assert said[0] == "Traceback (most recent call last):"
    assert said[-1] == "ZeroDivisionError: division by zero"


def test_it_is_bounded_and_says_what_it_left_out(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runlog, "BYTES", 10_000)
    log = Log(objects, RUN, "rank0")
    for number in range(1000):
        log.say(f"line {number}")
    log.say("x" * 100_000)
    log.close()
    (kept,) = logs_of(objects, RUN).values()
    assert len(objects.get(log.key)) < 11_000
    assert kept.total == 1001
    assert len(kept.lines) < 1000
    assert kept.who.endswith(f"; {1001 - len(kept.lines)} earlier lines are left out")
    assert kept.lines[-2].endswith(" line 999")
    assert len(kept.lines[-1]) < 5000


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (f"AWS_SECRET_ACCESS_KEY={SECRET}", "AWS_SECRET_ACCESS_KEY=…"),
        (f"postgresql://ganctl:{SECRET}@db:5432/x", "postgresql://ganctl:…@db:5432/x"),
        (f"{{'api_key': '{SECRET}'}}", "{'api_key': …}"),
        ("s3://bucket/ganctl at 12:30:10", "s3://bucket/ganctl at 12:30:10"),
    ],
)
def test_secrets_never_leave_the_process(objects: Objects, text: str, kept: str) -> None:
    keep(objects, RUN, "job", text)
    assert lines_of(objects, RUN, "job on ") == [kept]


def test_it_is_written_while_the_process_lives(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runlog, "SECONDS", 0.05)
    log = Log(objects, RUN, "rank0")
    log.say("alive")
    deadline = time.monotonic() + 10
    while not lines_of(objects, RUN):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    log.close()
    assert not any(thread.name == "log" for thread in threading.enumerate())


def test_a_store_that_refuses_it_gets_it_later(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(key: str, data: bytes) -> None:
        raise StoreError("the disk is full")

    log = Log(objects, RUN, "rank0")
    with monkeypatch.context() as patched:
        patched.setattr(objects, "put", refuse)
        log.say("said while it was full")
        log.close()
    assert objects.list("") == []
    log.close()
    assert lines_of(objects, RUN) == ["said while it was full"]


# --- of a run


@pytest.mark.usefixtures("chatty")
def test_a_run_here_has_its_course_and_its_prints_in_its_log(objects: Objects) -> None:
    outcome = submit(tiny(), objects.url).wait()
    said = lines_of(objects, outcome.run_id, "rank0 on ")
    assert said[0] == "attempt 1 of vanilla.ring, one rank, from step 0"
    prints = [f"{outcome.run_id} tick {step} password=…" for step in (10, 20, 30, 40)]
    assert [line for line in said if "tick" in line] == prints
    assert any(line.startswith("step 20: fid ") for line in said)
    assert said[-1] == "completed at step 40: budget"
    assert SECRET not in "".join(map(str, objects.get_many(objects.list("runs")).values()))


@pytest.mark.usefixtures("chatty")
def test_of_trials_that_share_a_process_each_has_its_own(objects: Objects) -> None:
    ids = [announce_run(objects, tiny(seed=seed)) for seed in (1, 2)]
    ranks = [Rank(objects, run_id, Alone()) for run_id in ids]
    for _ in zip(*(rank.ticks() for rank in ranks), strict=True):
        pass
    for run_id, other in (ids, reversed(ids)):
        assert len([line for line in lines_of(objects, run_id) if line.startswith(f"{run_id} tick")]) == 4
        assert not any(other in line for line in lines_of(objects, run_id))


def test_an_error_and_a_second_attempt_are_in_it(objects: Objects) -> None:
    def stop_at_30(beat: dict[str, Any]) -> None:
        if beat["step"] == 30:
            raise RuntimeError("the power went")

    job = submit(tiny(), objects.url)
    with pytest.raises(RuntimeError, match="the power went"):
        job.wait(stop_at_30)
    assert "RuntimeError: the power went" in lines_of(objects, job.run_id)
    submit(tiny(), objects.url, run_id=job.run_id).wait()
    said = lines_of(objects, job.run_id)
    assert "attempt 2 of vanilla.ring, one rank, from step 20" in said
    assert said[-1] == "completed at step 40: budget"


# --- as it is read


def test_the_command_shows_the_end_of_it(objects: Objects) -> None:
    run_id = submit(tiny(), objects.url).wait().run_id
    shown = ganctl("logs", run_id, "--store", objects.url, "-n", 1).stdout.splitlines()
    assert shown[0].startswith("rank0 on ")
    assert shown[1].endswith("completed at step 40: budget")
    assert len(shown) == 2
    told = ganctl("logs", "latest", "--store", objects.url, "--json").stdout
    assert "attempt 1 of vanilla.ring" in told
    assert "--follow" in refused("logs", run_id, "--json", "--follow", "--store", objects.url, code=2)


def test_the_command_follows_a_run_to_its_end(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator.cli import logs as cli

    monkeypatch.setattr(cli, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(runlog, "SECONDS", 0.05)
    writer = RunWriter.create(objects, new_id(), {"name": "followed", "family": "vanilla"})
    keep(objects, writer.run_id, "driver", "begun")

    def work() -> None:
        log = Log(objects, writer.run_id, "rank0")
        for step in range(10):
            log.say(f"step {step}.")
            time.sleep(0.1)
        log.close()
        writer.seal("completed", {})

    thread = threading.Thread(target=work)
    thread.start()
    shown = ganctl("logs", writer.run_id, "--store", objects.url, "--follow").stdout
    thread.join()
    assert [line[20:] for line in shown.splitlines() if line.endswith(".")] == [
        f"step {n}." for n in range(10)
    ]
    assert shown.count("begun") == 1


def test_the_dashboard_shows_it(objects: Objects) -> None:
    run_id = submit(tiny(), objects.url).wait().run_id
    lines = Client(objects).get(f"/api/runs/{run_id}/logs").json()["lines"]
    assert lines[0].startswith("rank0 on ")
    assert lines[-1].endswith("completed at step 40: budget")


# --- of clusters


class Killed:
    """A Jobs API whose job was killed before it could say anything to the store."""

    def submit_job(self, **asked: Any) -> None:
        """It is."""

    def get_job_status(self, submission_id: str) -> Any:
        from ray.job_submission import JobStatus

        return JobStatus.FAILED

    def get_job_logs(self, submission_id: str) -> str:
        return f"starting, token={SECRET}\nKilled\n"


def test_what_ray_has_of_a_job_that_was_killed_is_kept_by_who_waits_for_it(objects: Objects) -> None:
    from orchestrator.jobs import ClusterJob

    run_id = announce_run(objects, tiny())
    client: Any = Killed()
    with pytest.raises(RunFailed, match=r"ended as FAILED on http://head:8265 \(Killed\)"):
        ClusterJob(client, "http://head:8265", objects, "", run_id).wait()
    assert lines_of(objects, run_id, "job on ") == ["starting, token=…", "Killed"]


@pytest.mark.slow
def test_the_log_of_a_job_outlives_its_cluster(file_store: str) -> None:
    objects = open_objects(file_store)
    failing = announce_run(objects, tiny(**{"train.batch": 501, "scale.workers": 2}))
    with restored_environment(), started_head() as head:
        done = submit(tiny(**{"scale.workers": 2}), file_store, head.address).wait()
        with pytest.raises((RunFailed, ConfigError)):
            submit(tiny(), file_store, head.address, run_id=failing).wait()
    said = lines_of(objects, done.run_id, "rank0 on ")
    assert said[0] == "attempt 1 of vanilla.ring, 2 ranks, from step 0"
    assert said[-1] == "completed at step 40: budget"
    dashboard = Client(objects, ray=head.address)
    lines = dashboard.get(f"/api/runs/{failing}/logs").json()["lines"]
    assert any("Traceback" in line for line in lines)
    assert any("batch 501 is larger than the data set" in line for line in lines)
    shown = ganctl("logs", failing, "--store", file_store).stdout
    assert "batch 501 is larger than the data set" in shown


@pytest.mark.slow
def test_trials_have_logs_of_their_own(local_ray: None, file_store: str) -> None:
    searched = tiny().model_copy(update={"search": Space({"gan.width": Choice(options=(16, 24))})})
    with restored_environment():
        result = run_sweep(
            searched, file_store, Plan(trials=2, sampler="random", stop="none", pack=1, on_collapse="ignore")
        )
    for trial in result.trials:
        said = lines_of(open_objects(file_store), trial["run_id"], "rank0 on ")
        assert said[0] == f"attempt 1 of trial {trial['number']}, one rank, from step 0"
        assert said[-1] == "completed at step 40: budget"
