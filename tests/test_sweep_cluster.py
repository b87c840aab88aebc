"""A sweep handed to a cluster through Ray's Jobs API: the same call at a greater distance."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.store.objects import open_objects
from orchestrator.store.reader import Run
from orchestrator.sweep.driver import run_sweep
from tests.support.rays import RayHead, ray_head
from tests.support.threads import one_thread
from tests.test_sweep import BALANCE, planned, searching, stored

__all__ = ["one_thread", "ray_head"]


@pytest.mark.slow
def test_a_sweep_on_a_cluster_comes_back_with_its_trials(ray_head: RayHead, file_store: str) -> None:
    beats: list[dict[str, Any]] = []
    experiment = searching(BALANCE, seed=1)
    result = run_sweep(experiment, file_store, planned(3), on=ray_head.address, progress=beats.append)
    assert [row["number"] for row in result.trials] == [0, 1, 2]
    assert result.best is not None
    assert result.best["state"] == "COMPLETE"
    objects = open_objects(file_store)
    assert [row["number"] for row in stored(objects, result.sweep_id)] == [0, 1, 2]
    assert all(Run(objects, row["run_id"]).sealed() for row in result.trials)
    assert beats[-1]["label"] == "sweep"

    more = run_sweep(
        experiment,
        file_store,
        planned(4),
        on=ray_head.address,
        sweep_id=result.sweep_id,
        progress=beats.append,
    )
    assert [row["run_id"] for row in more.trials][:3] == [row["run_id"] for row in result.trials]
    assert len(more.trials) == 4
