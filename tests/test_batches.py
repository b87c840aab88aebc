"""Which rows of the global batch a rank gets: groups that stay whole, and batches that shrink as a run goes on."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from gans.data.base import DataSpec
from gans.data.loader import Loader, shards
from gans.errors import DataError
from gans.families.vanilla import Vanilla
from gans.loop import train
from gans.options import Train
from gans.sync import Alone
from gans.training import State, Training
from orchestrator.experiment import Experiment
from orchestrator.preflight import check_data
from tests.support.families import CPU, RING, loaded
from tests.support.states import differences
from tests.support.threads import one_thread as one_thread


class Grouped(Vanilla):
    """Judges four rows together."""

    @property
    def unit(self) -> int:
        return 4


class Shrinking(Vanilla):
    """Takes a quarter of the batch from the middle of the run on."""

    def rows(self, progress: float, batch: int, spec: DataSpec) -> int:
        return batch if progress < 0.5 else batch // 4


SMALL: dict[str, Any] = {"width": 8, "latent_dim": 4}


@pytest.mark.parametrize(("world", "pieces", "unit"), list(itertools.product((1, 2, 3), (1, 2), (1, 2, 4))))
def test_every_row_is_dealt_once_and_no_group_is_split(world: int, pieces: int, unit: int) -> None:
    batch = 7 * unit
    dealt = [s for rank in range(world) for s in shards(batch, rank, world, pieces, unit)]
    assert sorted(i for s in dealt for i in range(s.start, s.stop)) == list(range(batch))
    assert all(s.start % unit == 0 and s.stop % unit == 0 for s in dealt)


def test_a_batch_that_is_not_made_of_groups_is_refused_with_the_way_out() -> None:
    with pytest.raises(DataError, match=r"batch 30 .* groups of 4 .* multiple of 4"):
        Loader(loaded(RING), 30, seed=0, unit=4)
    with pytest.raises(DataError, match=r"without a group of 4 samples: set train.batch ≥ 12"):
        Loader(loaded(RING), 8, seed=0, world=3, unit=4)


def test_preflight_knows_groups_and_the_smallest_batch() -> None:
    def experiment(family: Vanilla, **fields: Any) -> Experiment:
        return Experiment(name="x", gan=family, data=RING, train=Train(**fields))

    check_data(experiment(Grouped(**SMALL), batch=32))
    with pytest.raises(DataError, match="groups of 4"):
        check_data(experiment(Grouped(**SMALL), batch=30))
    with pytest.raises(DataError, match=r"train\.batch ≥ 4"):
        check_data(experiment(Shrinking(**SMALL), batch=8, accumulate=4))


def test_grouped_rows_are_not_packed() -> None:
    assert Grouped(**SMALL).coupled
    assert not Vanilla(**SMALL).coupled


def ticks(resume: State | None = None, **budget: Any) -> Any:
    options = Train(batch=16, log_every=1, evaluate_every=0, sample_every=0, **budget)
    return train(Shrinking(**SMALL), loaded(RING), options, device=CPU, resume=resume)


def test_a_smaller_batch_counts_its_own_images() -> None:
    seen = [t.images for t in ticks(steps=8)]
    assert seen == [16, 32, 48, 64, 68, 72, 76, 80]


def test_a_budget_of_images_holds_for_batches_of_any_size() -> None:
    seen = [t.images for t in ticks(steps=None, images=64)]
    assert seen == [16, 32, 36, 40, 44, 48, 52, 56, 60, 64]


def test_no_row_of_the_data_is_skipped_or_repeated_where_the_batch_shrinks() -> None:
    options = Train(batch=16, steps=8)
    t = Training(Shrinking(**SMALL), loaded(RING), options, 0, CPU, sync=Alone())
    rows = []
    for _ in range(8):
        t.run_step()
        rows.append(t.batch["x"])
    whole = Loader(loaded(RING), 80, seed=0).next()["x"]
    assert torch.cat(rows).equal(whole)


def test_resuming_on_either_side_of_the_change_is_never_having_stopped() -> None:
    *_, last = ticks(steps=8)
    expected = last.state()
    for at in (3, 4, 5):
        state = next(t.state() for t in ticks(steps=8) if t.step == at)
        *_, last = ticks(state, steps=8)
        found = last.state()
        for s in (found, expected):
            s["position"].pop("seconds", None)
        assert differences(found, expected) == []
