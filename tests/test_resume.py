"""A run that is cut off at any step and taken up again is the run that never was: to the bit at the same world size,
to rounding at another.

Two processes are spawned once for the whole file; what they write the tests compare.
"""

from __future__ import annotations

import os
import random
import zlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from gans.checkpoint import pack, unpack
from gans.health import Monitor
from gans.loop import Tick, train
from gans.options import Train
from gans.sync import Alone, Group, Sync
from gans.training import PACE, State
from tests.support.families import CASES, CPU, Case, fitting, loaded, with_fields
from tests.support.states import differences
from tests.support.threads import one_thread as one_thread

STEPS, EVERY = 12, 3
OPTIONS = Train(
    steps=STEPS,
    batch=9,
    log_every=1,
    evaluate_every=2,
    sample_every=0,
    checkpoint_every=EVERY,
    precision="fp32",
    on_collapse="ignore",
)
KILLS = 2  # of each run, at steps drawn from its name
TOLERANCE = 1e-4  # of the curve at another world size: |a - b| / max(|b|, 1e-2); measured: 2e-5
SUBJECTS = {
    **CASES,
    "dcgan-spectral": with_fields(CASES["dcgan"], norm_d="spectral", loss="hinge"),
    "vanilla-uniform": with_fields(CASES["vanilla"], latent="uniform", loss="minimax"),
}
Files = dict[str, bytes]
Rows = dict[int, dict[str, Any]]


class Spread:
    """A score of samples that any change of a weight changes."""

    num_samples = 16

    def __call__(self, x: Tensor, labels: Tensor | None = None) -> dict[str, float]:
        return {"fid": float(x.double().square().mean())}


def trained(
    case: Case, sync: Sync, resume: State | None = None, until: int = STEPS, options: Train = OPTIONS
) -> Iterator[tuple[Tick, dict[str, Any], Files | None]]:
    """The ticks up to step `until`, as rows, with the checkpoints that are due."""
    first = sync.rank == 0
    ticks = train(
        case.family,
        loaded(case.data),
        options.model_copy(update={"batch": fitting(case.family, options.batch)}),
        seed=3,
        device=CPU,
        sync=sync,
        evaluate=Spread() if first else None,
        monitor=Monitor(None) if first else None,
        resume=resume,
    )
    for tick in ticks:
        row: dict[str, Any] = {k: v for k, v in tick.metrics.items() if k not in PACE}
        row |= {"verdict": tick.verdict.kind, **(tick.evaluation or {})}
        yield tick, row, pack(tick.state()) if tick.checkpoint else None
        if tick.step >= until:
            return


def whole(case: Case, sync: Sync, options: Train = OPTIONS) -> tuple[Rows, dict[int, Files]]:
    """The curve of an undisturbed run, and its checkpoints."""
    rows, kept = {}, {}
    for tick, row, files in trained(case, sync, options=options):
        rows[tick.step] = row
        if files is not None:
            kept[tick.step] = files
    return rows, kept


def kills(name: str, world: int) -> list[int]:
    """The steps at which the run is cut off, each later than the one before."""
    draws = random.Random(zlib.crc32(f"{name} {world}".encode()))
    return sorted(draws.sample(range(1, STEPS), KILLS))


def cut_off(name: str, case: Case, sync: Sync) -> tuple[Rows, Files]:
    """The curve and the end of a run that lost all but its checkpoints several times."""
    rows: Rows = {}
    kept: Files | None = None
    for until in (*kills(name, sync.world), STEPS):
        for tick, row, files in trained(case, sync, kept and unpack(kept), until):
            rows[tick.step] = row
            # a kill comes before the checkpoint of its step is written
            kept = files if files is not None and (tick.step < until or tick.ended) else kept
    assert kept is not None
    return rows, kept


def gone_on(case: Case, sync: Sync, files: Files) -> tuple[Rows, Files]:
    """The rest of a run from a checkpoint that another number of ranks made."""
    rows: Rows = {}
    last: Files = {}
    for tick, row, kept in trained(case, sync, unpack(files)):
        rows[tick.step], last = row, kept or last
    return rows, last


def work(rank: int, folder: str) -> None:
    """What each of the two processes does."""
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/init", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    alone = torch.load(Path(folder) / "alone.pt", weights_only=False)
    seen = {
        name: {
            "whole": whole(case, Group()),
            "cut off": cut_off(name, case, Group()),
            "gone on": gone_on(case, Group(), alone[name][1][STEPS // 2]),
        }
        for name, case in SUBJECTS.items()
    }
    torch.save(seen, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def alone() -> dict[str, tuple[Rows, dict[int, Files]]]:
    """Every subject's undisturbed run on one rank."""
    torch.set_num_threads(1)
    return {name: whole(case, Alone()) for name, case in SUBJECTS.items()}


@pytest.fixture(scope="module")
def two(alone: Any, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What ranks 0 and 1 of two saw."""
    folder = tmp_path_factory.mktemp("ranks")
    torch.save(alone, folder / "alone.pt")
    torch.multiprocessing.spawn(work, args=(str(folder),), nprocs=2)  # type: ignore[attr-defined]
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in (0, 1)]


def end_of(files: Files) -> State:
    """The state in `files`, but for the time it took."""
    state = unpack(files)
    del state["position"]["seconds"]
    return state


def distance(rows: Rows, others: Rows) -> float:
    """The largest relative difference of any figure of the curves at the steps of `rows`."""
    found = [0.0]
    for step, row in rows.items():
        assert row.keys() == others[step].keys()
        for name, value in row.items():
            other = others[step][name]
            if isinstance(value, float):
                found.append(abs(value - other) / max(abs(other), 1e-2))
    return max(found)


@pytest.mark.parametrize("name", SUBJECTS)
def test_one_rank_cut_off_at_random_steps_ends_as_if_it_had_not_been(
    alone: dict[str, tuple[Rows, dict[int, Files]]], name: str
) -> None:
    rows, files = cut_off(name, SUBJECTS[name], Alone())
    expected, kept = alone[name]
    assert list(rows) == list(range(1, STEPS + 1))
    assert differences(rows, expected) == []
    assert differences(end_of(files), end_of(kept[STEPS])) == []


@pytest.mark.parametrize("name", SUBJECTS)
def test_two_ranks_cut_off_at_random_steps_end_as_if_they_had_not_been(
    two: list[dict[str, Any]], name: str
) -> None:
    for seen in two:
        (rows, files), (expected, kept) = seen[name]["cut off"], seen[name]["whole"]
        assert differences(rows, expected) == []
        assert differences(end_of(files), end_of(kept[STEPS])) == []


@pytest.mark.parametrize("name", SUBJECTS)
def test_another_number_of_ranks_goes_on_with_the_same_curve(
    alone: dict[str, tuple[Rows, dict[int, Files]]], two: list[dict[str, Any]], name: str
) -> None:
    """One rank's run on two, and two ranks' run on one, against the undisturbed run on one."""
    (expected, kept), seen = alone[name], two[0][name]
    onto_two, _ = seen["gone on"]
    onto_one, _ = gone_on(SUBJECTS[name], Alone(), seen["whole"][1][STEPS // 2])
    assert list(onto_two) == list(onto_one) == list(range(STEPS // 2 + 1, STEPS + 1))
    assert distance(onto_two, expected) < TOLERANCE
    assert distance(onto_one, expected) < TOLERANCE
    assert differences(unpack(kept[STEPS]), unpack(kept[STEPS // 2]))


def test_the_kills_fall_between_checkpoints_and_on_them() -> None:
    steps = {step % EVERY for name in SUBJECTS for world in (1, 2) for step in kills(name, world)}
    assert steps == set(range(EVERY))
