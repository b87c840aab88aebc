"""`ganctl housekeeping`, and what other commands show once parts are gone."""

from __future__ import annotations

import json
import re
from pathlib import Path

import duckdb

from orchestrator.housekeeping import Policy, run
from orchestrator.store.catalogue import Catalogue
from orchestrator.store.objects import open_objects
from orchestrator.store.reader import Run
from tests.support.commands import ganctl, refused
from tests.support.retention import no_grace, sealed_run
from tests.support.sweeps import make_sweep

__all__ = ["no_grace"]


def test_the_command_says_first_what_would_go(file_store: str) -> None:
    objects = open_objects(file_store)
    run_id = sealed_run(objects)
    words = ("housekeeping", "checkpoints_days=0", "--store", file_store)
    before = objects.list("")
    shown = ganctl(*words)
    assert re.search(r"^checkpoints +6 ", shown.stdout, re.MULTILINE)
    assert f"next: ganctl housekeeping checkpoints_days=0 --delete --store {file_store}" in shown.stderr
    keys = ganctl(*words, "--keys").stdout.splitlines()
    assert len(keys) == 6
    assert keys[0].startswith(f"runs/{run_id}/checkpoints/000000000010-a0001/commit.json  checkpoints: ")
    told = json.loads(ganctl(*words, "--json").stdout)
    assert (told["deleted"], told["rules"]["checkpoints"]["objects"], told["waiting"]) == (False, 6, 1)
    assert objects.list("") == before
    assert re.search(r"^checkpoints +6 ", ganctl(*words, "--delete").stdout, re.MULTILINE)
    assert Run(objects, run_id).checkpoints() == [(30, 1)]


def test_a_policy_is_read_from_a_file_and_mistakes_are_told(file_store: str, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("failed_days: 3\nlast_checkpoints_days: 90\n")
    told = json.loads(
        ganctl("housekeeping", "failed_days=5", "--policy", policy, "--json", "--store", file_store).stdout
    )
    assert (told["policy"]["failed_days"], told["policy"]["last_checkpoints_days"]) == (5, 90)
    policy.write_text("failed_day: 3")
    said = refused("housekeeping", "--policy", policy, "--store", file_store, code=2)
    assert "did you mean `failed_days`?" in said
    assert "none.yaml" in refused("housekeeping", "--policy", tmp_path / "none.yaml", code=2)


def test_what_is_shown_of_a_run_is_the_same_without_its_parts(file_store: str) -> None:
    objects = open_objects(file_store)
    run_id, _ = sealed_run(objects), sealed_run(objects)
    show = ("runs", "show", run_id, "--json", "--store", file_store)
    Catalogue(objects).compact()
    before = json.loads(ganctl(*show).stdout)
    rows = duckdb.execute(f"SELECT step, loss FROM ({before['query']})").fetchall()
    run(objects, Policy(parts_days=0), delete=True)
    assert objects.list(f"runs/{run_id}/m") == []
    after = json.loads(ganctl(*show).stdout)
    assert duckdb.execute(f"SELECT step, loss FROM ({after['query']})").fetchall() == rows
    assert len(rows) == 3
    differ = {name for name in before if before[name] != after[name]}
    assert differ == {"metrics", "query"}
    assert Path(after["metrics"]).is_file()


def test_a_sweep_is_shown_and_reported_the_same_without_parts(tmp_path: Path) -> None:
    made = make_sweep(str(tmp_path), trials=4)
    words = ("sweep", "show", made.id, "--json", "--store", str(tmp_path))
    run(made.objects, Policy(), delete=True)
    before = json.loads(ganctl(*words).stdout)
    report = run(made.objects, Policy(parts_days=0, failed_days=0, last_checkpoints_days=0), delete=True)
    assert json.loads(ganctl(*words).stdout) == before
    assert "checkpoints" not in report.rules
    assert "failed" not in report.rules
