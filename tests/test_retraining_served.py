"""`ganctl up` as one person starts it, with all that it supervises: Prefect's server, a worker, a Ray head. A model of
digits is retrained by cron and by new data; a sabotaged one is not; processes are killed; a person cancels.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest
import yaml
from PIL import Image
from sklearn.datasets import load_digits

from orchestrator.registry import Registry
from orchestrator.retrain import rounds
from orchestrator.retrain.history import history
from orchestrator.store.objects import Objects, open_objects
from orchestrator.store.reader import Run
from tests.support.prefect import SETTINGS, Api, started, until
from tests.support.rays import nothing_left, short_folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

START_SECONDS = 240.0
ROUND_SECONDS = 240.0  # a flow run, a Ray job, training, judging: 60 s on a machine that does nothing else
RECOVERY_SECONDS = 300.0  # docs/retraining.md: a minute's silence, the reconciler's minute, then a round
FREE_SECONDS = 60.0

TRAIN = {
    "train.steps": 400,
    "train.batch": 64,
    "train.log_every": 20,
    "train.checkpoint_every": 40,
    "train.evaluate_every": 0,
    "train.sample_every": 0,
}
MIDDLING = TRAIN | {"train.steps": 6000, "train.log_every": 50, "train.checkpoint_every": 200}
LONG = TRAIN | {"train.steps": 1_000_000}


@dataclass
class Up:
    """A running `ganctl up`: its folder, store, environment, Prefect's API."""

    folder: Path
    objects: Objects
    env: dict[str, str]
    process: subprocess.Popen[bytes]
    api: Api

    def ganctl(self, *words: str) -> str:
        """What a command prints; AssertionError where it fails."""
        command = [sys.executable, "-m", "orchestrator.cli", *words, "--store", self.objects.url]
        done = subprocess.run(
            command, env=self.env, cwd=self.folder, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def apply(self, name: str, data: Path, train: dict[str, Any], **fields: Any) -> None:
        """Have retraining `name` hold."""
        whole = {
            "name": name,
            "experiment": "vanilla.digits",
            "data": {"kind": "images", "path": str(data)},
            "overrides": train,
            "evaluation": {"samples": 300, "resamples": 100},
            "on": "local",
        }
        file = self.folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump(whole | fields))
        self.ganctl("retrain", "apply", str(file))

    def round(self, name: str, number: int, seconds: float = ROUND_SECONDS) -> dict[str, Any]:
        """How round `number` ended, once it has."""

        def ended() -> dict[str, Any] | None:
            found = {r.number: r for r in rounds.rounds(self.objects, name)}.get(number)
            return None if found is None else found.end_document()

        until(lambda: ended() is not None, seconds, self.process, self.folder / "log")
        document = ended()
        assert document is not None
        return document

    def begun(self, name: str, data: Path, train: dict[str, Any], **fields: Any) -> Run:
        """Have retraining `name` hold, begin its first round by hand: the round's run, once it has a checkpoint."""
        self.apply(name, data, train, **fields)
        self.ganctl("retrain", "run", name)

        def run() -> Run | None:
            found = {r.number: r for r in rounds.rounds(self.objects, name)}.get(1)
            attempts = [] if found is None else found.attempts()
            return Run(self.objects, attempts[-1].run_id) if attempts else None

        until(
            lambda: (r := run()) is not None and bool(r.checkpoints()),
            ROUND_SECONDS,
            self.process,
            self.folder / "log",
        )
        found = run()
        assert found is not None
        return found

    def flow_run(self, name: str, number: int = 1) -> str:
        """The flow run that drives round `number`."""
        found = {r.number: r for r in rounds.rounds(self.objects, name)}[number]
        return str(found.driver_document()["flow_run"])

    def under_way(self, name: str) -> list[Any]:
        """Flow runs of `name` that have begun or will: a worker takes one up before it is due."""
        states = {"state": {"type": {"any_": ["SCHEDULED", "PENDING", "RUNNING"]}}}
        found = self.api.post("flow_runs/filter", flow_runs=states, flows={"name": {"any_": ["retrain"]}})
        return [run for run in found if run["parameters"]["name"] == name]

    def jobs(self) -> list[Any]:
        """Ray's jobs that have not ended."""
        answer = self.ray("/api/jobs/")
        return [job for job in answer if job["status"] in ("PENDING", "RUNNING")]

    def ray(self, path: str) -> Any:
        import httpx

        known = self.known()
        token = Path(known["token"]).read_text()
        answer = httpx.get(
            known["ray"] + path, headers={"Authorization": f"Bearer {token}"}, timeout=30, trust_env=False
        )
        return answer.raise_for_status().json()

    def known(self) -> dict[str, Any]:
        """What `ganctl up` says of itself."""
        found: dict[str, Any] = json.loads((self.folder / ".ganctl" / "up" / "up.json").read_text())
        return found

    def below(self, *words: str) -> list[psutil.Process]:
        """Processes of this `ganctl up` whose command line has all `words`."""
        found = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            try:
                line = " ".join(process.cmdline())
            except psutil.Error:
                continue
            if all(word in line for word in words):
                found.append(process)
        return found


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One `ganctl up` for the module, in a home of its own; nothing of it is left afterwards."""
    folder = tmp_path_factory.mktemp("up")
    store = f"file://{folder}/store"
    (folder / "store").mkdir()
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PREFECT_", "RAY_", "AWS_", "GANCTL_"))
    }
    with short_folder() as short:
        env = inherited | SETTINGS | {"HOME": str(folder), "GANCTL_RAY_TMP": short, "OMP_NUM_THREADS": "1"}
        env |= {"PREFECT_WORKER_QUERY_SECONDS": "2", "PREFECT_HOME": str(folder / "prefect")}
        command = [sys.executable, "-m", "orchestrator.cli", "up", "--store", store, "--cpus", "2"]
        with started(command, folder / "log", env) as process:
            log = folder / "log"
            until(lambda: "Ctrl-C ends it" in log.read_text(), START_SECONDS, process, log)
            known = json.loads((folder / ".ganctl" / "up" / "up.json").read_text())
            with Api(known["prefect"]) as api:
                yield Up(folder, open_objects(store), env, process, api)
            family = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGINT)
            assert process.wait(120) == 0, log.read_text()
            assert not psutil.wait_procs(family, timeout=20)[1]
        nothing_left(short)


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """A folder with pictures of the digits 0 to 4."""
    add(tmp_path / "digits", range(5))
    return tmp_path / "digits"


def add(folder: Path, classes: range) -> None:
    """Pictures of `classes`, 8 x 8, as somebody uploads them."""
    bunch: Any = load_digits()
    folder.mkdir(exist_ok=True)
    for i, (picture, label) in enumerate(zip(bunch.images, bunch.target, strict=True)):
        if label in classes:
            Image.fromarray((picture * 15.9).astype("uint8")).save(folder / f"{label}-{i}.png")


def test_a_model_gets_better_by_cron_and_by_data_never_worse_and_a_rollback_is_instant(
    up: Up, digits: Path
) -> None:
    data = {"at_least": 100, "every": "* * * * *"}
    up.apply("digits", digits, TRAIN, triggers={"cron": "* * * * *", "data": data})
    first = up.round("digits", 1)
    assert (first["outcome"], first["version"]) == ("promoted", 1), first
    assert rounds.rounds(up.objects, "digits")[0].document["trigger"] == "cron"

    up.apply("digits", digits, TRAIN, triggers={"data": data})  # no cron any more
    until(lambda: not up.under_way("digits"), ROUND_SECONDS, up.process, up.folder / "log")
    add(digits, range(5, 10))
    last = max(r.number for r in rounds.rounds(up.objects, "digits"))
    begun = []

    def by_data() -> bool:
        begun[:] = [r for r in rounds.rounds(up.objects, "digits") if r.document["trigger"] == "data"]
        return bool(begun) and begun[0].end_document() is not None

    until(by_data, 2 * ROUND_SECONDS, up.process, up.folder / "log")
    (arrival,) = begun
    assert arrival.number >= last
    assert arrival.end_document()["outcome"] == "promoted", arrival.end_document()  # type: ignore[index]
    champion = Registry(up.objects).require("digits")
    assert champion.version >= 2

    time.sleep(65)  # the trigger looks again, and finds nothing new
    assert [r for r in rounds.rounds(up.objects, "digits") if r.document["trigger"] == "data"][1:] == []

    up.ganctl("retrain", "rollback", "digits", "--to", "1")
    assert Registry(up.objects).require("digits").version == 1
    assert Registry(up.objects).problems("digits") == []
    told = [event.what for event in history(up.objects, "digits")]
    for what in ("applied", "promotion", "rollback"):
        assert what in told
    shown = json.loads(up.ganctl("retrain", "history", "digits", "--json"))
    assert len(shown["events"]) == len(told)
    status = json.loads(up.ganctl("status", "--json"))
    assert {part["what"]: part["state"] for part in status["parts"]} == dict.fromkeys(
        ("store", "prefect", "ray", "dashboard", "supervisor"), "up"
    )


def test_a_sabotaged_round_that_an_event_began_is_stopped_reported_and_not_promoted(
    up: Up, digits: Path
) -> None:
    bucket = {"prefect.resource.id": "bucket.digits"}
    triggers = {"events": [{"expect": "upload.done", "match": bucket}]}
    up.apply("sabotaged", digits, TRAIN | {"gan.lr_g": 1e6}, remedies=0, triggers=triggers)
    happened = {
        "occurred": datetime.now(UTC).isoformat(),
        "event": "upload.done",
        "resource": bucket,
        "id": str(uuid4()),
    }
    up.api.client.post("events", json=[happened]).raise_for_status()
    ended = up.round("sabotaged", 1)
    assert rounds.rounds(up.objects, "sabotaged")[0].document["trigger"] == "event"
    assert ended["outcome"] == "diverged"
    assert Registry(up.objects).champion("sabotaged") is None
    flow_run = up.api.wait_for(up.flow_run("sabotaged"), 30, "Failed")
    assert "the champion stays" in flow_run["state"]["message"]


def test_cancelling_in_prefect_frees_ray_and_ends_the_round(up: Up, digits: Path) -> None:
    run = up.begun("cancelled", digits, LONG, overlap="refuse")
    assert up.jobs()
    second = json.loads(up.ganctl("retrain", "run", "cancelled", "--json"))["flow_run"]
    up.api.wait_for(second, 60, "Cancelled")  # one at a time: overlap = refuse
    assert len(rounds.rounds(up.objects, "cancelled")) == 1
    up.api.post(
        f"flow_runs/{up.flow_run('cancelled')}/set_state",
        state={"type": "CANCELLING", "name": "Cancelling"},
        force=True,
    )
    until(lambda: not up.jobs(), FREE_SECONDS, up.process, up.folder / "log")
    assert run.sealed() is None, "a cancelled run can be resumed"
    assert up.round("cancelled", 1, RECOVERY_SECONDS)["outcome"] == "cancelled"
    up.ganctl("retrain", "delete", "cancelled")


def test_a_killed_flow_process_a_killed_job_and_a_killed_worker_leave_no_zombie_and_the_round_ends(
    up: Up, digits: Path
) -> None:
    run = up.begun("killed", digits, MIDDLING)
    first = up.flow_run("killed")
    for job in up.below("orchestrator.cli", "train", run.id):
        job.kill()
    engines = up.below("prefect.engine")
    assert engines
    for process in [*engines, *up.below("prefect", "worker", "start")]:
        process.kill()
    ended = up.round("killed", 1, RECOVERY_SECONDS)
    assert ended["outcome"] == "promoted", ended
    assert [a.run_id for a in rounds.rounds(up.objects, "killed")[0].attempts()] == [run.id]
    assert run.state() == "completed"
    until(lambda: not up.jobs(), FREE_SECONDS, up.process, up.folder / "log")
    assert up.api.wait_for(first, RECOVERY_SECONDS, "Crashed", "Cancelled", "Failed")
    up.ganctl("retrain", "delete", "killed")


def test_rays_head_killed_mid_run_is_started_again_and_the_round_goes_on_with_the_same_run(
    up: Up, digits: Path
) -> None:
    run = up.begun("beheaded", digits, MIDDLING)
    (raylet,) = [process for process in up.below("raylet") if process.name() == "raylet"]
    raylet.kill()
    ended = up.round("beheaded", 1, RECOVERY_SECONDS)
    assert ended["outcome"] == "promoted", ended
    assert [a.run_id for a in rounds.rounds(up.objects, "beheaded")[0].attempts()] == [run.id]
    assert ended["driver"] == 1, "the flow run waited for Ray, and drove its round itself"
    up.ganctl("retrain", "delete", "beheaded")


def test_prefects_server_killed_mid_run_comes_back_and_the_round_ends(up: Up, digits: Path) -> None:
    up.begun("restarted", digits, MIDDLING)
    for server in up.below("prefect", "server", "start"):
        server.kill()
    ended = up.round("restarted", 1, RECOVERY_SECONDS)
    assert ended["outcome"] == "promoted", ended
    until(lambda: not up.jobs(), FREE_SECONDS, up.process, up.folder / "log")
