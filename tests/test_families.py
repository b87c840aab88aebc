"""What every family promises, on every kind of data it is meant for."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gans.data.base import Batch
from gans.errors import ConfigError
from gans.families import FAMILIES, family_class, family_tag
from gans.families.cgan import CGAN
from gans.families.cyclegan import CycleGAN
from gans.families.dcgan import DCGAN
from gans.family import Family
from gans.loop import train
from gans.options import Train
from gans.sampling import balanced, draw
from gans.training import State, build
from tests.support.families import CASES, CPU, DIGITS, RING, Case, fitting, loaded, training, with_fields
from tests.support.threads import one_thread as one_thread


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def run(case: Case, steps: int, seed: int = 0, log_every: int = 3) -> State:
    """The state after `steps`."""
    options = Train(steps=steps, batch=fitting(case.family, 8), log_every=log_every)
    *_, last = train(case.family, loaded(case.data), options, seed=seed, device=CPU)
    return last.state()


def samples(case: Case, num: int) -> Batch:
    dataset = loaded(case.data)
    nets = build(case.family, dataset, seed=0)
    inputs = balanced(case.family, dataset.spec, num, dataset, CPU)
    return draw(case.family, nets, num, seed=1, inputs=inputs)


def leaves(tree: Any, path: str = "") -> dict[str, Any]:
    """Every tensor and scalar of a nested state by its path."""
    if isinstance(tree, dict):
        return {k: v for key, sub in tree.items() for k, v in leaves(sub, f"{path}/{key}").items()}
    if isinstance(tree, list | tuple):
        return {k: v for i, sub in enumerate(tree) for k, v in leaves(sub, f"{path}/{i}").items()}
    return {path: tree}


def differing(a: State, b: State) -> list[str]:
    """Paths at which two states are not the same to the bit; the wall clock is not compared."""
    a, b = leaves(a), leaves(b)
    assert a.keys() == b.keys()
    unequal = [k for k in a if not (a[k].equal(b[k]) if isinstance(a[k], Tensor) else a[k] == b[k])]
    return [k for k in unequal if k != "/position/seconds"]


def test_every_family_has_a_case() -> None:
    assert {family_tag(c.family) for c in CASES.values()} == set(FAMILIES)


def test_each_phase_is_finite_and_moves_only_the_networks_it_trains(case: Case) -> None:
    for phase in case.family.phases():
        t = training(case)
        t.phases = (replace(phase, every=1, start=0, repeats=1),)
        before = {name: [p.clone() for p in net.parameters()] for name, net in t.nets.items()}
        t.run_step(observe=True)
        moved = {
            name
            for name, net in t.nets.items()
            if not all(p.equal(q) for p, q in zip(net.parameters(), before[name], strict=True))
        }
        assert moved == set(phase.trains)
        assert all(torch.isfinite(p).all() for net in t.nets.values() for p in net.parameters())
        assert t.reports
        assert all(torch.isfinite(v).all() for v in t.reports.values())
        assert t.reports[f"grad_{phase.name}"] > 0


def test_same_seed_gives_the_same_run_to_the_bit_and_another_seed_does_not(case: Case) -> None:
    first = run(case, 4)
    assert differing(first, run(case, 4)) == []
    assert differing(first, run(case, 4, seed=1))


def test_resuming_equals_never_having_stopped(case: Case, tmp_path: Path) -> None:
    whole = run(case, 6)
    options = Train(steps=6, batch=fitting(case.family, 8), log_every=3)
    first = next(train(case.family, loaded(case.data), options, device=CPU))
    assert first.step == 3
    torch.save(first.state(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    *_, last = train(case.family, loaded(case.data), options, device=CPU, resume=state)
    assert last.step == 6
    assert differing(whole, last.state()) == []


def test_samples_look_like_the_data_they_imitate(case: Case) -> None:
    x = samples(case, 5)["x"]
    assert x.shape == (5, *loaded(case.data).spec.fields[case.family.imitates].shape)
    assert x.dtype == torch.float32
    assert torch.isfinite(x).all()
    assert len({row.numpy().tobytes() for row in x}) == 5
    if case.squashed:
        assert x.abs().max() <= 1


def test_drawing_more_samples_keeps_the_first(case: Case) -> None:
    few, many = samples(case, 7), samples(case, 300)
    for name in few:
        assert few[name].equal(many[name][:7]), name


def test_pictures_are_one_column_a_tensor(case: Case) -> None:
    dataset = loaded(case.data)
    inputs = balanced(case.family, dataset.spec, 3, dataset, CPU)
    columns = case.family.pictures(inputs, samples(case, 3))
    assert [len(c) for c in columns] == [3] * len(columns)


def test_global_random_state_is_neither_read_nor_written(case: Case) -> None:
    def globals_now() -> list[Any]:
        return [torch.get_rng_state().numpy().tobytes(), repr(np.random.get_state()), random.getstate()]

    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        before = globals_now()
        states.append(run(case, 2))
        samples(case, 3)
        assert globals_now() == before
    assert differing(*states) == []


def test_a_family_survives_json(case: Case) -> None:
    family = case.family
    cls = family_class(family_tag(family))
    assert cls.model_validate_json(family.model_dump_json()) == family


@pytest.mark.parametrize(
    ("family", "data", "told"),
    [
        (CycleGAN(), DIGITS, r"lacks a and b \(fields: x, label\): use data.kind=domains"),
        (DCGAN(), RING, "makes pictures"),
        (CGAN(), RING, "needs labels"),
    ],
)
def test_unsuitable_data_is_refused_with_the_way_out(family: Family, data: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        build(family, loaded(data), seed=0)


def test_an_unknown_family_is_told_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="did you mean 'dcgan'"):
        family_class("dcgann")


@pytest.mark.parametrize("reuse", [True, False])
def test_reusing_the_generators_forward_keeps_the_first_critic_step(reuse: bool) -> None:
    """Compared with a run whose generator never steps, so that nothing can be reused."""
    case = CASES["dcgan"]
    alone = training(with_fields(case, warmup=10))
    alone.run_step()
    both = training(case, reuse=reuse)
    both.run_step()
    pairs = zip(
        alone.nets["discriminator"].parameters(), both.nets["discriminator"].parameters(), strict=True
    )
    assert all(p.equal(q) for p, q in pairs)
