"""`ganctl demo`, whole and real: what `make demo` promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from gans.pictures import read_metadata


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_demo_finds_collapses_and_a_winner_that_draws_ten_digits(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "RAY_", "GANCTL_STORE"))}
    env |= {"HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", "demo", "--json"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout)

    trials = result["sweep"]["trials"]
    assert len(trials) >= 12
    stopped = [t for t in trials if t["state"] == "PRUNED"]
    for_health = [t for t in stopped if t["verdict"]["kind"] != "healthy"]
    assert for_health
    assert all(t["verdict"]["evidence"] and t["verdict"]["remedy"] for t in for_health)
    assert all(
        t["rung"] is not None and t["reason"].startswith("asha") for t in stopped if t not in for_health
    )
    assert {t["state"] for t in trials} <= {"COMPLETE", "PRUNED"}

    figures, floor = result["run"]["figures"], result["run"]["floor"]
    assert figures["classes"] == 10
    assert figures["coverage"] > 0.6
    assert floor["coverage"] > figures["coverage"]
    assert figures["fid"] < 5

    store = tmp_path / "ganctl-store"
    table = pq.read_table(store / "sweeps" / result["sweep"]["sweep_id"] / "trials.parquet")
    assert table.num_rows == len(trials)
    run = store / "runs" / result["run"]["run_id"]
    grid = sorted((run / "samples").glob("*.png"))[-1]
    assert read_metadata(grid.read_bytes())["run"] == result["run"]["run_id"]
    assert list((run / "m").glob("*.parquet"))
    assert list((run / "checkpoints").glob("*/weights.safetensors"))
