"""How many workers, where, and what each of them takes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.cluster import Capacity
from orchestrator.errors import ResourceError
from orchestrator.experiment import Scale
from tests.support.commands import ganctl, refused


@pytest.mark.parametrize(
    ("words", "scale"),
    [
        ("--workers 4", {"workers": 4, "max_workers": None, "nodes": None}),
        ("--workers 2..8 --gpus-per-worker 0.5", {"workers": 2, "max_workers": 8, "gpus_per_worker": 0.5}),
        ("--workers 8 --nodes 4 --cpus-per-worker 2", {"workers": 8, "nodes": 4, "cpus_per_worker": 2.0}),
    ],
)
def test_the_scale_of_a_run_is_given_in_options(words: str, scale: dict[str, Any]) -> None:
    said = json.loads(ganctl("train", "vanilla.ring", *words.split(), "--dry-run").stdout)
    assert {name: said["scale"][name] for name in scale} == scale


def test_every_mistake_in_a_scale_is_named_at_once() -> None:
    result = ganctl(
        "train",
        "vanilla.ring",
        "--workers",
        "4..2",
        "--nodes",
        3,
        "--cpus-per-worker",
        0,
        "--dry-run",
        code=2,
    )
    assert result.stderr.splitlines() == [
        "error: field `scale.max_workers` = 2: must be at least scale.workers = 4, or null for a fixed number",
        "error: field `scale.nodes` = 3: must divide scale.workers = 4, which are shared evenly",
        "error: field `scale.cpus_per_worker` = 0.0: input should be greater than 0",
    ]
    assert "write a number, 4, or the least and the most, 2..8" in refused(
        "train", "vanilla.ring", "--workers", "2-8", code=2
    )


@pytest.mark.parametrize(
    ("nodes", "placement"), [(None, "PACK"), (1, "STRICT_PACK"), (2, "SPREAD"), (4, "STRICT_SPREAD")]
)
def test_workers_are_placed_on_as_many_machines_as_asked(nodes: int | None, placement: str) -> None:
    assert Scale(workers=4, nodes=nodes).placement == placement


def test_more_machines_than_there_are_is_said_with_the_rest() -> None:
    with pytest.raises(
        ResourceError, match=r"4 workers x 1 CPU = 4 CPUs, there are 2; 2 machines .*, there are 1"
    ):
        Capacity(2, 0).require(Scale(workers=4, nodes=2))
