"""Micro-batches change the memory a step needs, not its gradient; and they are the same at every number of ranks."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from gans.data.loader import Loader, shards
from gans.draws import Draws
from gans.errors import DataError
from gans.sync import Alone, Group, Sync
from gans.training import Training
from tests.support.families import CASES, CPU, Case, fitting, frozen, loaded, training, with_fields
from tests.support.threads import one_thread as one_thread

TOLERANCE = 1e-5
BATCH, PIECES, STEPS = 11, 3, 2
SPREAD = {name: CASES[name] for name in ("dcgan", "wgan_gp", "r3gan", "vanilla-batch-norm")}
# A bias before instance norm has no gradient but rounding, which Adam would blow up.
SPREAD["cyclegan"] = frozen(CASES["cyclegan"])


class Recording(Alone):
    """One rank that remembers the gradients of each phase."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def gradients(self, loss: Tensor, params: Any, add: Any = None) -> Any:
        found = super().gradients(loss, params, add)
        self.seen.append(torch.cat([g.double().flatten() for g in found if g is not None]))
        return found


def stepped(case: Case, pieces: int) -> tuple[list[Tensor], Training]:
    sync = Recording()
    rows = fitting(case.family, BATCH, PIECES)
    t = training(frozen(case), rows, sync=sync, accumulate=pieces, reuse=False)
    for _ in range(STEPS):
        t.run_step()
    return sync.seen, t


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_of_micro_batches_is_that_of_the_batch(name: str) -> None:
    fields = {"norm_g": "none", "norm_d": "none", "unrolled": 0}  # what sees the other rows of a micro-batch
    case = with_fields(CASES[name], **{f: v for f, v in fields.items() if hasattr(CASES[name].family, f)})
    (whole, one), (parts, several) = stepped(case, 1), stepped(case, PIECES)
    assert len(whole) == len(parts)
    for a, b in zip(whole, parts, strict=True):
        assert (b - a).norm() <= TOLERANCE * a.norm() + 1e-12
    for key, value in one.reports.items():
        torch.testing.assert_close(
            several.reports[key].float().mean(), value.float().mean(), rtol=1e-4, atol=1e-5
        )
    for key, value in one.state()["memory"].items():
        torch.testing.assert_close(several.state()["memory"][key], value)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_row_is_in_one_micro_batch_of_one_rank_and_micro_batches_are_the_same_everywhere(
    world: int,
) -> None:
    held = [shards(BATCH, rank, world, PIECES) for rank in range(world)]
    whole = shards(BATCH, 0, 1, PIECES)
    for i, piece in enumerate(whole):
        rows = sorted(row for mine in held for row in range(BATCH)[mine[i]])
        assert rows == list(range(BATCH)[piece])


def test_draws_of_a_micro_batch_are_its_rows_of_the_global_ones() -> None:
    whole = Draws(0, BATCH, CPU)
    expected = [whole.normal(2), whole.integers(9), whole.uniform()]
    for rank in (0, 1):
        mine = Draws(0, BATCH, CPU, rank, 2, PIECES)
        for (_, piece), rows in zip(mine.pieces(), shards(BATCH, rank, 2, PIECES), strict=True):
            drawn = [piece.normal(2), piece.integers(9), piece.uniform()]
            assert all(d.equal(e[rows]) for d, e in zip(drawn, expected, strict=True))


def test_a_batch_too_small_for_the_micro_batches_is_refused_with_the_arithmetic() -> None:
    with pytest.raises(
        DataError, match=r"2 workers x 3 micro-batches.*train\.batch ≥ 6, or lower train\.accumulate"
    ):
        Loader(loaded(CASES["vanilla"].data), 5, 0, world=2, pieces=3)


def ended(case: Case, sync: Sync) -> dict[str, Any]:
    t = training(case, BATCH, sync=sync, accumulate=PIECES)
    for _ in range(STEPS):
        t.run_step()
    state = t.state()
    return {part: state[part] for part in ("networks", "memory", "batch")}


def work(rank: int, folder: str) -> None:
    """What each of two processes does."""
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/init", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    torch.save({name: ended(case, Group()) for name, case in SPREAD.items()}, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(work, args=(str(folder),), nprocs=2)  # type: ignore[attr-defined]
    seen: dict[str, Any] = torch.load(folder / "0.pt", weights_only=False)
    return seen


@pytest.mark.parametrize("name", SPREAD)
def test_two_ranks_with_micro_batches_end_where_one_does(two: dict[str, Any], name: str) -> None:
    """Batch norm included: its statistics are those of a micro-batch of all ranks."""
    one, other = ended(SPREAD[name], Alone()), two[name]
    for part, values in one.items():
        for key, value in _flat(values).items():
            torch.testing.assert_close(
                _flat(other[part])[key], value, rtol=1e-3, atol=1e-5, msg=f"{part} {key}"
            )


def _flat(tensors: dict[str, Any]) -> dict[str, Tensor]:
    found = {}
    for key, value in tensors.items():
        if isinstance(value, Tensor):
            found[key] = value
        else:
            found |= {f"{key}.{inner}": v for inner, v in _flat(value).items()}
    return found
