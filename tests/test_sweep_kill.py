"""Whatever is killed while a sweep runs, the same command carries on, and every trial is counted once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from optuna.trial import TrialState

from orchestrator.experiment import Experiment
from orchestrator.store.documents import decode
from orchestrator.store.layout import attempt_key
from orchestrator.store.objects import Objects, open_objects
from orchestrator.store.reader import Run
from orchestrator.store.writer import newest_attempt
from orchestrator.sweep.driver import run_sweep
from orchestrator.sweep.folder import sweep_key
from orchestrator.sweep.plan import Plan
from tests.support.exactness import check_exact, trials_of
from tests.support.guard import end
from tests.support.rays import local_ray, nothing_left, processes_of, restored_environment, short_folder
from tests.support.threads import one_thread
from tests.test_sweep import BALANCE, searching

__all__ = ["local_ray", "one_thread"]

TRIALS, KILLS = 24, 10
START_SECONDS, ASK_SECONDS, TRIAL_SECONDS, END_SECONDS = 12.0, 5.0, 4.0, 1.0
PATIENCE_SECONDS = 240.0


def tiny(**changes: object) -> Experiment:
    """A trial of half a second with checkpoints, that may be stopped at two rungs and that no verdict ends."""
    few = {"train.steps": 60, "train.log_every": 10, "train.evaluate_every": 20, "train.checkpoint_every": 20}
    return searching(BALANCE, **(few | {"seed": 1, "gan.width": 8} | changes))


@dataclass
class Sweeping:
    """A sweep as a person starts it, in a process of its own, and again with the same command after it was killed."""

    store: Path
    recipe: Path
    folder: str
    words: tuple[str, ...]
    lives: list[str] = field(default_factory=list)

    @property
    def objects(self) -> Objects:
        return open_objects(str(self.store))

    @property
    def sweep_id(self) -> str | None:
        """None before sweep.json was written."""
        found = [i for i in self.objects.folders("sweeps") if self.objects.exists(sweep_key(i, "sweep.json"))]
        assert len(found) <= 1
        return found[0] if found else None

    def start(self) -> subprocess.Popen[str]:
        begun = self.sweep_id
        chosen = ["--resume", begun] if begun else [str(self.recipe), *self.words]
        command = [sys.executable, "-m", "orchestrator.cli", "sweep", *chosen]
        environ = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        environ |= {"GANCTL_RAY_TMP": self.folder, "TMPDIR": self.folder}
        return subprocess.Popen(
            [*command, "--store", str(self.store), "--json"],
            env=environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def kill(self, landmark: str, seconds: float) -> None:
        """Start it and kill it `seconds` after it started, first wrote to the ledger, first heard of a trial, or ended
        the last one."""
        begun, before = time.monotonic(), self._told()
        driver = self.start()
        while driver.poll() is None and not self._reached(landmark, before):
            assert time.monotonic() - begun < PATIENCE_SECONDS
            time.sleep(0.01)
        time.sleep(seconds)
        driver.kill()
        said = driver.communicate()[1]
        assert driver.returncode in (0, -signal.SIGKILL), said
        end(processes_of(self.folder))  # Ray's agents would notice within two minutes
        told = f"{driver.returncode} {landmark} + {seconds:.2f} s, lived {time.monotonic() - begun:.0f} s"
        self.lives.append(f"{told}, {self._ended()} runs had ended")
        print(self.lives[-1], flush=True)  # noqa: T201

    def finish(self) -> None:
        driver = self.start()
        _, said = driver.communicate(timeout=PATIENCE_SECONDS)
        assert driver.returncode == 0, said

    def _reached(self, landmark: str, before: tuple[int, int]) -> bool:
        wrote, heard = (now > then for now, then in zip(self._told(), before, strict=True))
        landmarks = {"start": True, "ledger": wrote, "trial": heard, "end": self._ended() == TRIALS}
        return landmarks[landmark]

    def _told(self) -> tuple[int, int]:
        """Lines of the journal, and how many of them are what a trial told."""
        path = self.store / sweep_key(self.sweep_id, "journal.log") if self.sweep_id else None
        lines = path.read_text().splitlines() if path is not None and path.exists() else []
        return len(lines), sum('"spent"' in line for line in lines)

    def _ended(self) -> int:
        return len(list(self.store.glob("runs/*/sealed.json")))


@pytest.fixture
def sweeping(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Sweeping]:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(json.dumps(tiny().document()))
    words = ("--trials", str(TRIALS), "--sampler", "random", "--on-collapse", "ignore")
    with short_folder() as folder:
        yield Sweeping(tmp_path / "store", recipe, folder, words)
        nothing_left(folder)


def instants(seed: int, kills: int) -> list[tuple[str, float]]:
    """One of four while it starts, one of four while it opens the ledger and asks, the others while trials run, but for
    the last, which is to come when only the results are missing."""
    rng = random.Random(seed)
    few = kills // 4
    chosen = [("start", rng.uniform(0.0, START_SECONDS)) for _ in range(few)]
    chosen += [("ledger", rng.uniform(0.0, ASK_SECONDS)) for _ in range(few)]
    chosen += [("trial", rng.uniform(0.0, TRIAL_SECONDS)) for _ in range(kills - 2 * few - 1)]
    rng.shuffle(chosen)
    return [*chosen, ("end", rng.uniform(0.0, END_SECONDS))]


@pytest.mark.slow
def test_a_driver_killed_at_ten_instants_of_a_sweep_loses_and_doubles_nothing(sweeping: Sweeping) -> None:
    for landmark, seconds in instants(seed=3, kills=KILLS):
        sweeping.kill(landmark, seconds)
    sweeping.finish()
    assert sweeping.sweep_id is not None
    check_exact(sweeping.objects, sweeping.sweep_id, TRIALS)
    trials = trials_of(sweeping.objects, sweeping.sweep_id)
    assert len(trials) > TRIALS, f"no kill hit a trial: {sweeping.lives}"


class Killer:
    """Kills the process of a trial again and again, each time once it has a checkpoint that it had not before: of the
    first runs to be seen each as often as `blows` says."""

    def __init__(self, objects: Objects, blows: list[int]) -> None:
        self._objects, self._blows = objects, blows
        self.victims: dict[str, list[int]] = {}  # run -> checkpoints that it had when it was killed
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    @property
    def killed(self) -> list[int]:
        """How often each run was killed."""
        return [len(steps) for steps in self.victims.values()]

    def _work(self) -> None:
        while not self._done.wait(0.02):
            for run_id in self._objects.folders("runs")[: len(self._blows)]:
                self.victims.setdefault(run_id, [])
            for blows, (run_id, steps) in zip(self._blows, self.victims.items(), strict=False):
                run = Run(self._objects, run_id)
                reached = [step for step, _ in run.checkpoints()]
                if len(steps) < blows and reached and reached[-1] not in steps and run.sealed() is None:
                    newest = attempt_key(run_id, newest_attempt(self._objects, run_id))
                    os.kill(decode(self._objects.get(newest))["pid"], signal.SIGKILL)
                    steps.append(reached[-1])


@pytest.mark.slow
def test_a_trial_whose_process_is_killed_is_taken_up_where_it_was_and_after_three_times_failed(
    local_ray: None, file_store: str
) -> None:
    objects = open_objects(file_store)
    blows = [1, 2, 3, 1]
    plan = Plan(trials=8, sampler="random", stop="none", on_collapse="ignore")
    longer = {"train.steps": 1000, "train.evaluate_every": 250, "train.checkpoint_every": 50}
    with restored_environment(), Killer(objects, blows) as killer:
        result = run_sweep(tiny(**longer), file_store, plan)
    assert killer.killed == blows
    counted = check_exact(objects, result.sweep_id, 8)
    failed = [trial for trial in counted if trial.state == TrialState.FAIL]
    assert ["its process died 3 times" in trial.user_attrs["reason"] for trial in failed] == [True]
    assert sum(row["end"] == "interrupted" for row in result.trials) == 1 + 2 + 2 + 1
    attempts = [max(Run(objects, run_id).metrics()["attempt"].to_pylist()) for run_id in killer.victims]
    assert attempts == [2, 3, 3, 2]
