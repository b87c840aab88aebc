"""`ganctl sweep` and its subcommands: what they ask for, show and refuse. No trial trains."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from orchestrator.experiment import Experiment, parse
from orchestrator.store.documents import decode, encode
from orchestrator.store.objects import open_objects
from orchestrator.sweep import driver
from orchestrator.sweep.folder import SweepResult, open_sweep, sweep_key
from orchestrator.sweep.plan import Plan, parse_plan
from tests.support.commands import ganctl, refused
from tests.support.sweeps import Made, begin, drive, experiment_of, ledger_of, make_sweep


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_sweep(str(tmp_path_factory.mktemp("store")), trials=16, objectives=["fid", "coverage"])


@pytest.fixture
def asked(made: Made, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What `run_sweep` is called with; it answers with a finished sweep."""
    calls: list[dict[str, Any]] = []

    def run_sweep(
        experiment: Experiment,
        store: str,
        plan: Plan | None = None,
        *,
        on: str = "local",
        sweep_id: str | None = None,
        progress: object = None,
    ) -> SweepResult:
        calls.append({"experiment": experiment, "store": store, "plan": plan, "on": on, "sweep_id": sweep_id})
        return made.result

    monkeypatch.setattr(driver, "run_sweep", run_sweep)
    return calls


@pytest.fixture
def running(tmp_path: Path) -> Made:
    """A sweep of which three trials have ended and one runs."""
    objects, experiment, plan = open_objects(str(tmp_path)), experiment_of(), parse_plan({"trials": 9})
    sweep_id = begin(objects, experiment, plan)
    with ledger_of(objects, sweep_id, plan) as ledger:
        drive(objects, ledger, experiment, plan, most=3)
        ledger.ask(experiment.search)
        live = {"rows": ledger.table(), "state": "running", "time": time.time()}
    objects.put(sweep_key(sweep_id, "live.json"), encode(live))
    return Made(objects, sweep_id, plan, experiment, SweepResult(sweep_id, []))


# --- starting


def test_options_become_the_plan(asked: list[dict[str, Any]], made: Made) -> None:
    words: tuple[Any, ...] = (
        "vanilla.digits",
        "lr_ratio=loguniform(0.1,10)",
        "train.steps=7",
        "--hours",
        1.5,
        "--pbt",
    )
    words += ("--device-hours", 3, "--objective", "fid", "--objective", "coverage", "--pack", 1)
    words += ("--warm-start", made.id[-6:], "--on-collapse", "remedy", "--sampler", "nsgaii", "--on", "auto")
    ganctl("sweep", *words, "--store", made.objects.url, "--json")
    [call] = asked
    assert call["plan"] == Plan(
        hours=1.5,
        device_hours=3,
        sampler="nsgaii",
        objectives=("fid", "coverage"),
        population=True,
        pack=1,
        warm_start=(made.id,),
        on_collapse="remedy",
    )
    assert call["on"] == "auto"
    assert call["sweep_id"] not in (None, made.id)
    assert call["experiment"].train.steps == 7
    assert str(call["experiment"].search.root["gan.lr_ratio"]) == "loguniform(0.1,10)"


def test_without_options_the_plan_is_the_usual_one(asked: list[dict[str, Any]], tmp_path: Path) -> None:
    ganctl("sweep", "demo", "--store", tmp_path)
    assert asked[0]["plan"] == Plan()


def test_start_may_be_said(asked: list[dict[str, Any]], tmp_path: Path) -> None:
    ganctl("sweep", "start", "demo", "--trials", 3, "--store", tmp_path)
    ganctl("sweep", "--store", tmp_path, "demo", "--trials", 3)
    ganctl("sweep", "--trials", 3, "demo", "--store", tmp_path)
    assert len({call.pop("sweep_id") for call in asked}) == 3  # each is a sweep of its own
    assert asked[0] == asked[1] == asked[2]


def test_the_result_is_shown_or_is_the_one_json_document(
    asked: list[dict[str, Any]], made: Made, tmp_path: Path
) -> None:
    assert json.loads(ganctl("sweep", "demo", "--store", tmp_path, "--json").stdout)["sweep_id"] == made.id
    assert f"Sweep {made.id}: 16 trials" in ganctl("sweep", "demo", "--store", tmp_path).stdout


def test_a_dry_run_prints_experiment_and_plan_and_runs_nothing(
    asked: list[dict[str, Any]], tmp_path: Path
) -> None:
    words = ("vanilla.ring", "lr_ratio=loguniform(0.5,2)", "--seeds", 3, "--stop", "median", "--dry-run")
    told = json.loads(ganctl("sweep", *words, "--store", tmp_path / "store").stdout)
    assert (told["plan"]["seeds"], told["plan"]["stop"], told["plan"]["trials"]) == (3, "median", 12)
    assert told["search"]["gan.lr_ratio"]["low"] == 0.5
    assert asked == []
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "name a recipe to start a sweep"),
        (("demo", "--resume", "latest"), 2, "not both"),
        (("demo", "--objective", "fdi"), 2, "did you mean `fid`"),
        (("demo", "--sampler", "tpee"), 2, "did you mean `tpe`"),
        (("demo", "--pack", "0"), 2, "pack"),
        (("demo", "--hours", "0"), 2, "hours"),
        (("demo", "--warm-start", "latest"), 5, "there are no sweeps"),
        (("demo", "lr_ratio=loguniform(10,1)"), 2, "low 10 must be below high 1"),
        (("show", "latest"), 5, "start one: ganctl sweep demo"),
        (("resume", "20260101-000000-aaaaaa"), 5, "`ganctl sweep ls` lists those there are"),
    ],
)
def test_mistakes_are_one_line_and_a_code(
    asked: list[dict[str, Any]], tmp_path: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    assert said in refused("sweep", *words, "--store", tmp_path, code=code)
    assert asked == []


# --- going on


@pytest.mark.parametrize("words", [("resume", "latest"), ("--resume", "latest")])
def test_going_on_keeps_experiment_and_plan_and_raises_the_budget(
    asked: list[dict[str, Any]], running: Made, words: tuple[str, ...]
) -> None:
    ganctl("sweep", *words, "--trials", 40, "--hours", 2, "--store", running.objects.url)
    [call] = asked
    assert call["sweep_id"] == running.id
    assert call["plan"] == running.plan.model_copy(update={"trials": 40, "hours": 2.0})
    assert parse(call["experiment"].document()) == running.experiment


def test_going_on_without_a_word_changes_no_plan(asked: list[dict[str, Any]], running: Made) -> None:
    ganctl("sweep", "resume", running.id[-6:], "--store", running.objects.url)
    assert asked[0]["plan"] == running.plan


# --- looking


def test_a_finished_sweep_is_shown_with_front_costs_importance_and_report(made: Made) -> None:
    shown = ganctl("sweep", "show", "latest", "--store", made.objects.url)
    text = " ".join(shown.stdout.split())
    assert f"Sweep {made.id}: 16 trials" in text
    assert f"Pareto front trial {', '.join(map(str, made.result.front))}" in text
    assert "stopping saved about" in text
    assert "mattered for FID lrD/lrG" in text
    collapsed = [row["number"] for row in made.result.trials if row["end"] == "mode collapse"]
    assert f"trial {collapsed[0]}, step 40, mode collapse: probe_coverage 0.05 against 0.12" in text
    assert f"remedy for trial {', '.join(map(str, collapsed))}: raise gan.lr_ratio" in text
    report = next(line.split()[1] for line in shown.stdout.splitlines() if line.startswith("report"))
    assert Path(report).is_file()
    assert shown.stderr.startswith("next: ganctl train 'made up' gan.lr_ratio=")


def test_the_table_has_a_line_a_trial_no_wider_than_the_terminal(made: Made) -> None:
    lines = ganctl("sweep", "show", made.id, "--store", made.objects.url).stdout.splitlines()
    table = lines[1 : lines.index("")]
    assert len(table) == 1 + 16
    assert max(map(len, table)) <= 80
    assert table[0].split() == ["#", "loss", "lrD/lrG", "r1=r2", "step", "FID", "coverage", "ended"]
    assert sum("best" in line for line in table) == 1


def test_parameters_for_which_there_is_no_room_are_named(made: Made) -> None:
    from orchestrator.cli.tables import Row, print_trials

    params = [{f"gan.parameter_{i}": float(i * n) for i in range(1, 12)} | {"gan.same": 3} for n in (1, 2)]
    rows = [Row(n, p, [100, 1.5], "complete") for n, p in enumerate(params)]
    from orchestrator.cli.output import console

    with console.capture() as captured:
        print_trials(rows, ["step", "FID"], {"gan.parameter_7": 0.9, "gan.parameter_2": 0.1})
    head = captured.get().splitlines()[0]
    assert "parameter_7" in head
    assert "parameter_2" in head
    assert len(head) <= console.width


def test_a_running_sweep_is_shown_as_the_driver_last_told(running: Made) -> None:
    shown = ganctl("sweep", "show", running.id, "--store", running.objects.url)
    assert "made up: running, 3 of 9 trials ended, heard of" in shown.stdout
    assert "running, 0%" in shown.stdout
    assert f"next: ganctl sweep stop {running.id}" in shown.stderr
    told = json.loads(ganctl("sweep", "show", "latest", "--store", running.objects.url, "--json").stdout)
    assert (told["state"], told["trials"], told["result"]) == ("running", 3, None)
    assert [row["number"] for row in told["live"]["rows"]] == [0, 1, 2, 3]


def test_a_sweep_whose_driver_is_gone_is_interrupted_and_the_next_step_goes_on(running: Made) -> None:
    key = sweep_key(running.id, "live.json")
    running.objects.put(key, encode(decode(running.objects.get(key)) | {"time": time.time() - 3600}))
    shown = ganctl("sweep", "show", running.id, "--store", running.objects.url)
    assert "interrupted, 3 of 9 trials ended, heard of 1 h ago" in shown.stdout
    assert shown.stderr.startswith(f"next: ganctl sweep resume {running.id}")


def test_sweeps_are_listed_newest_first_with_state_and_best(made: Made, running: Made) -> None:
    listed = json.loads(ganctl("sweep", "--json", "ls", "--store", made.objects.url).stdout)
    assert made.result.best is not None
    [row] = listed["sweeps"]
    assert (row["id"], row["state"], row["trials"], row["budget"]) == (made.id, "finished", 16, 16)
    assert row["best"] == made.result.best["objectives"]
    text = ganctl("sweep", "ls", "--store", running.objects.url).stdout
    assert f"{running.id} made up running 3 of 9" in " ".join(text.split())
    second = begin(running.objects, running.experiment, running.plan)
    ids = json.loads(ganctl("sweep", "ls", "--store", running.objects.url, "--json").stdout)["sweeps"]
    assert {row["id"]: row["state"] for row in ids} == {second: "begun", running.id: "running"}
    few = ganctl("sweep", "ls", "--limit", 1, "--store", running.objects.url)
    assert "1 older sweeps are not shown" in few.stderr


def test_an_empty_store_has_no_sweeps(tmp_path: Path) -> None:
    assert "there are no sweeps in" in ganctl("sweep", "ls", "--store", tmp_path / "none").stderr


# --- stopping


def test_stopping_leaves_a_wish_and_says_what_will_happen(running: Made) -> None:
    shown = ganctl("sweep", "stop", "latest", "--store", running.objects.url)
    assert running.objects.exists(sweep_key(running.id, "stop.json"))
    assert "nothing new begins" in shown.stdout
    assert f"next: ganctl sweep resume {running.id}" in shown.stderr
    assert open_sweep(running.objects, running.id).state == "running"


def test_a_finished_sweep_cannot_be_stopped(made: Made) -> None:
    assert "there is nothing to stop" in refused(
        "sweep", "stop", made.id, "--store", made.objects.url, code=2
    )
    assert not made.objects.exists(sweep_key(made.id, "stop.json"))


# --- help


def test_help_shows_the_options_of_starting_and_the_commands() -> None:
    text = ganctl("sweep", "--help").stdout
    assert "--warm-start" in text
    assert all(f"│ {name} " in text for name in ("start", "resume", "ls", "show", "stop"))
    assert "--device-hours" in ganctl("sweep", "resume", "--help").stdout
