"""The ledger of a sweep, and Ray Tune over it: no trial is lost, doubled, or left RUNNING."""

import math
import pickle
from pathlib import Path
from typing import Any

import pytest

from orchestrator.sweep.ledger import Ledger, open_ledger
from orchestrator.sweep.searcher import LedgerSearch
from orchestrator.sweep.space import Choice, LogUniform, Space
from tests.support.rays import local_ray  # noqa: F401 - a fixture

SPACE = Space(
    {
        "gan.lr_ratio": LogUniform(low=0.1, high=10),
        "gan.loss": Choice(options=("hinge", "relativistic")),
        "gan.r1": LogUniform(low=0.01, high=1, sets=("gan.r2",), when={"gan.loss": ("relativistic",)}),
    }
)
COLLAPSE = {
    "kind": "mode collapse",
    "evidence": [{"signal": "coverage", "value": 0.1, "threshold": 0.15, "window": 3, "step": 40}],
    "remedy": "raise gan.lr_ratio",
}


def opened(path: Path, sampler: str = "random", **options: Any) -> Ledger:
    return open_ledger(path / "ledger.journal", "s", ["minimize"], sampler=sampler, seed=1, **options)


def test_no_connection_is_pickled(tmp_path: Path) -> None:
    with opened(tmp_path / "s3cret") as ledger:
        assert b"s3cret" not in pickle.dumps(LedgerSearch(ledger, SPACE, 1))
        with pytest.raises(TypeError, match="never pickled"):
            pickle.dumps(ledger)


def trial(config: dict[str, Any]) -> None:
    """Eight ends of a trial, by its number."""
    from ray import tune

    number = config["trial"]
    beat = {"state": "running", "step": 10, "objective": 5.0, "run_id": f"run-{number}"}
    tune.report(beat)
    if number == 1:
        raise RuntimeError("as asked")
    if number == 7:
        return
    ends: dict[int, dict[str, Any]] = {
        2: {"objective": math.nan},
        3: {"state": "collapsed", "objective": 4.0, "verdict": COLLAPSE},
        4: {"state": "collapsed", "objective": math.nan, "verdict": COLLAPSE},
        5: {"state": "failed", "reason": "no space left on device"},
    }
    healthy = {"state": "complete", "objective": 1.0 + number, "verdict": {"kind": "healthy", "evidence": []}}
    tune.report({**beat, **healthy, **ends.get(number, {}), "step": 40})


@pytest.mark.usefixtures("local_ray")
def test_tune_runs_a_sweep_to_exactly_these_ends(tmp_path: Path) -> None:
    from ray import tune

    with opened(tmp_path / "s3cret", "tpe") as ledger:
        config = tune.TuneConfig(
            search_alg=LedgerSearch(ledger, SPACE, 8),
            num_samples=20,
            max_concurrent_trials=2,
            reuse_actors=True,
        )
        run = tune.RunConfig(storage_path=str(tmp_path), name="tune", verbose=0)
        tune.Tuner(trial, tune_config=config, run_config=run).fit()
        rows = ledger.table()
    ends = ["COMPLETE", "FAIL", "FAIL", "PRUNED", "PRUNED", "FAIL", "COMPLETE", "PRUNED"]
    assert [row["state"] for row in rows] == ends
    assert [row["values"] for row in rows] == [[1.0], None, None, [4.0], [5.0], None, [7.0], [5.0]]
    assert [row["run_id"] for row in rows] == [f"run-{number}" for number in range(8)]
    assert [row["verdict"] for row in rows[3:5]] == ["mode collapse"] * 2
    assert rows[3]["evidence"] == COLLAPSE["evidence"]
    assert rows[5]["reason"] == "no space left on device"
    pickled = (tmp_path / "tune" / "tuner.pkl").read_bytes()
    assert b"s3cret" not in pickled
