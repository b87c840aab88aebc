"""The published mode-collapse protocols: their definitions, networks, budgets, storing, and the command."""

from __future__ import annotations

import copy
import io
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import softplus

from gans.data.base import DataSpec, Field, Modes, Resident
from gans.data.points import Grid, Ring
from gans.draws import Draws
from gans.errors import ConfigError
from gans.families.vanilla import Vanilla
from gans.family import Step
from gans.nn import SyncBatchNorm
from gans.options import Train
from gans.protocols.benchmarks import NAMES, Benchmark, benchmark, documents
from gans.protocols.measures import Figures, PointsJudge, StackedJudge
from gans.protocols.methods import Budget
from gans.protocols.pictures import StackedDCGAN
from gans.protocols.points import Maxout, PackedPoints, PointsGAN
from gans.sync import Alone
from gans.training import Training, build
from orchestrator import protocols
from orchestrator.protocols import Plan
from orchestrator.store.objects import open_objects
from tests.support.commands import ganctl, refused
from tests.support.families import CPU

VECTORS = DataSpec({"x": Field("vector", (2,))})


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# --- definitions


@pytest.mark.parametrize(("name", "modes", "kl"), [("ring", 8, 0.0015), ("grid", 25, 0.0047)])
def test_a_perfect_sampler_of_points_has_the_floor_of_the_protocol(name: str, modes: int, kl: float) -> None:
    floor = benchmark(name).judge().floor
    assert floor.modes == modes
    assert floor.hq == pytest.approx(1 - math.exp(-9 / 2), abs=0.002)
    assert floor.kl == pytest.approx(kl, rel=0.5)


def test_figures_of_points_made_by_hand() -> None:
    judge = benchmark("ring").judge()
    assert isinstance(judge, PointsJudge)
    centres = Ring(num=1).load("train").modes.centres  # type: ignore[union-attr]
    assert judge(centres.repeat(10, 1)) == Figures(modes=8, kl=0.0, hq=1.0)
    one = judge(centres[:1].repeat(80, 1))
    assert (one.modes, one.hq, one.kl) == (1, 1.0, pytest.approx(math.log(8)))
    half = judge(torch.cat([centres, centres + 0.05]))  # 5 sigma away in both directions
    assert (half.modes, half.hq) == (8, 0.5)
    assert judge(torch.full((10, 2), float("nan"))) == Figures(modes=0, kl=math.log(8), hq=0.0)


def test_linspace_over_both_ends_is_not_eight_modes() -> None:
    angle = torch.linspace(0, 2 * math.pi, 8)
    wrong = torch.stack([angle.cos(), angle.sin()], 1)
    assert len(wrong.mul(1e4).round().unique(dim=0)) == 7
    judge = benchmark("ring").judge()
    assert judge(wrong.repeat(10, 1)).modes < 8
    assert len(Ring(num=1).load("train").modes.centres.unique(dim=0)) == 8  # type: ignore[union-attr]


class Oracle:
    """A classifier of pictures whose level of grey is their digit."""

    name = "oracle"

    def features(self, x: Tensor) -> Tensor:
        return x.flatten(1).mean(1, keepdim=True)

    def probabilities(self, features: Tensor) -> Tensor:
        digit = ((features[:, 0] + 1) * 127.5 / 25).round().long().clamp(0, 9)
        return nn.functional.one_hot(digit, 10).float()


def greys(digits: Tensor) -> Tensor:
    """Digits (...) as uint8 pictures (..., 4, 4)."""
    return (25 * digits)[..., None, None].expand(*digits.shape, 4, 4).to(torch.uint8)


def stacked_judge(digits: Tensor, num: int = 26_000) -> StackedJudge:
    return StackedJudge(Oracle(), greys(digits)[:, None], num)


def as_pictures(triples: Tensor) -> Tensor:
    return greys(triples).float() / 127.5 - 1


def test_a_perfect_sampler_of_uniform_stacked_digits_has_the_floor_of_the_protocol() -> None:
    floor = stacked_judge(torch.arange(10).repeat(10)).floor
    assert (floor.modes, floor.hq) == (1000, None)
    assert floor.kl == pytest.approx(0.0194, rel=0.1)


def test_figures_of_stacked_digits_made_by_hand() -> None:
    judge = stacked_judge(torch.arange(10), num=100)
    every = torch.cartesian_prod(*[torch.arange(10)] * 3)
    assert torch.equal(judge.triples(as_pictures(every)), every)
    assert judge(as_pictures(every)) == Figures(modes=1000, kl=pytest.approx(0.0, abs=1e-9))
    assert judge(as_pictures(every[:1]).repeat(9, 1, 1, 1)) == Figures(
        modes=1, kl=pytest.approx(math.log(1000))
    )
    broken = as_pictures(every[:4])
    broken[0, 0, 0, 0] = float("nan")
    assert judge(broken).modes == 3


def test_the_stacked_kl_is_against_the_frequencies_of_the_data() -> None:
    digits = torch.cat([torch.zeros(5, dtype=torch.int64), torch.arange(5)])  # 0 six times as often as 1
    judge = stacked_judge(digits, num=100)
    assert judge.num_digits == 5
    assert judge.frequencies[0] == pytest.approx(0.6**3)
    even = judge(as_pictures(torch.cartesian_prod(*[torch.arange(5)] * 3)))
    own = judge(as_pictures(torch.cartesian_prod(digits, digits, digits)))
    assert own.kl == pytest.approx(0.0, abs=1e-9)
    assert even.kl > 0.5


# --- networks and budgets


@pytest.mark.parametrize("pac", [1, 2, 4])
def test_the_networks_of_the_points_protocol(pac: int) -> None:
    family = benchmark("grid").entrant("gan" if pac == 1 else f"pacgan{pac}", Budget(400)).family
    assert isinstance(family, PointsGAN)
    nets = build(family, Grid(num=8).load("train"), seed=0)
    linear = {n: [m for m in net.modules() if isinstance(m, nn.Linear)] for n, net in nets.items()}
    shapes = {n: [(m.in_features, m.out_features) for m in ms] for n, ms in linear.items()}
    assert shapes["generator"] == [(2, 400), (400, 400), (400, 400), (400, 400), (400, 2)]
    assert shapes["discriminator"] == [(2 * pac, 1000), (200, 1000), (200, 1000), (200, 1)]
    assert sum(isinstance(m, Maxout) and m.pieces == 5 for m in nets["discriminator"].modules()) == 3
    assert sum(p.numel() for p in nets["generator"].parameters()) == 1200 + 3 * 160_400 + 4 * 800 + 802
    assert sum(p.numel() for p in nets["discriminator"].parameters()) == (
        1000 * (2 * pac + 1) + 2 * 201_000 + 201
    )
    norms = [m for m in nets["generator"].modules() if isinstance(m, SyncBatchNorm)]
    assert [(m.momentum, m.eps) for m in norms] == [(0.05, 1e-4)] * 4
    assert nets["generator"](torch.zeros(8, 2)).shape == (8, 2)
    assert nets["discriminator"](torch.zeros(8, 2)).numel() in (8, 8 // pac)


@pytest.mark.parametrize("pac", [1, 2])
def test_players_of_the_points_protocol_step_at_once_each_at_the_others_weights_before_the_step(
    pac: int,
) -> None:
    family, data = PointsGAN(width=16, width_d=8, pac=pac, lr_g=0.01), Grid(num=64).load("train")
    options = Train(steps=2, batch=16, ema=False)
    training = Training(family, data, options, 0, CPU, Alone())
    nets = copy.deepcopy(training.nets)
    batch = {"x": data.fetch(data.order(0, 0)[:16])["x"]}
    z = Draws(0, 16, CPU).normal(2)
    fake = nets["generator"](z)
    losses = {
        "discriminator": softplus(-nets["discriminator"](batch["x"])).mean()
        + softplus(nets["discriminator"](fake.detach())).mean(),
        "generator": softplus(-nets["discriminator"](fake)).mean(),
    }
    wanted = {n: torch.autograd.grad(losses[n], list(nets[n].parameters())) for n in losses}
    [phase] = training.phases
    step = Step(batch, Draws(0, 16, CPU), Alone())
    loss, report = family.objective(phase.name, training.nets, step)
    params = [p for name in phase.trains for p in training.nets[name].parameters()]
    found = torch.autograd.grad(loss, params)
    torch.testing.assert_close(found, (*wanted["generator"], *wanted["discriminator"]))
    assert report["loss_d"].mean() + report["loss_g"].mean() == pytest.approx(float(loss.detach()))
    training.run_step(observe=True)
    for name, net in training.nets.items():
        assert not torch.equal(next(net.parameters()), next(nets[name].parameters()))
    assert training.reports["grad_both"] > 0


def test_players_that_step_at_once_have_one_step_and_one_rate() -> None:
    problems = PointsGAN(critic_steps=2, lr_ratio=2.0, warmup=3).check(VECTORS)
    assert [problem.split(":")[0] for problem in problems] == ["critic_steps 2", "lr_ratio 2.0", "warmup 3"]
    assert PointsGAN(critic_steps=2, lr_ratio=2.0, updates="alternating").check(VECTORS) == []


def test_maxout_takes_the_largest_of_neighbours() -> None:
    x = torch.tensor([[1.0, 5.0, 2.0, -1.0, -3.0, -2.0]])
    assert Maxout(3)(x).tolist() == [[5.0, -1.0]]


def kinks(first: nn.Linear) -> Tensor:
    """Distances from the origin at which the units of a first layer bend."""
    return first.bias.abs() / first.weight.norm(dim=1)


def test_a_packed_discriminator_with_penalties_begins_with_its_kinks_spread_over_the_grid() -> None:
    family = benchmark("grid").entrant("pacgan2-r", Budget(1, quick=True)).family
    assert isinstance(family, PackedPoints)
    nets = build(family, Grid(num=8).load("train"), seed=0)
    plain = build(Vanilla(width=256, depth=3, latent_dim=2, pac=2), Grid(num=8).load("train"), seed=0)
    first, *rest = (m for m in nets["discriminator"].modules() if isinstance(m, nn.Linear))
    before = next(m for m in plain["discriminator"].modules() if isinstance(m, nn.Linear))
    assert kinks(before).median() < 1 < 1.5 < kinks(first).median() < 4
    for layer in rest:  # He et al. 2015 for a slope of .2, and no bias
        assert float(layer.weight.detach().std()) == pytest.approx(
            (2 / 1.04 / layer.in_features) ** 0.5, rel=0.15
        )
        assert not layer.bias.detach().any()
    assert (family.pac, family.critic_steps, family.loss) == (2, 3, "relativistic")


def test_the_published_budget_is_the_papers() -> None:
    e = benchmark("ring").entrant("pacgan4", benchmark("ring").budget())
    assert (e.train.steps, e.train.batch, e.train.ema) == (400_000, 400, False)
    assert isinstance(e.family, PointsGAN)
    assert (e.family.lr_g, e.family.lr_ratio, e.family.betas[0], e.family.latent_dim) == (1e-4, 1.0, 0.8, 2)
    assert (e.family.loss, e.family.pac, e.family.init) == ("non_saturating", 4, 0.02)
    assert len(Ring().load("train")) == 100_000
    assert (benchmark("ring").samples, benchmark("stacked-digits").samples) == (2_500, 26_000)


def test_the_generator_of_stacked_digits_steps_twice_a_discriminators_step() -> None:
    family = benchmark("stacked-digits").entrant("pacgan2", Budget(1)).family
    assert isinstance(family, StackedDCGAN)
    assert [(phase.name, phase.repeats) for phase in family.phases()] == [("critic", 1), ("generator", 2)]
    small = family.model_copy(update={"width": 2})
    data = Resident({"x": torch.rand(32, 3, 16, 16)}, DataSpec({"x": Field("image", (3, 16, 16))}))
    training = Training(small, data, Train(steps=1, batch=16), 0, CPU, Alone())
    training.run_step()
    steps = {
        names: max(int(state["step"]) for state in optimiser.state.values())
        for names, optimiser in training.optimisers.items()
    }
    assert steps == {("discriminator",): 1, ("generator",): 2}


@pytest.mark.parametrize("name", [n for n in NAMES if n != "stacked-mnist"])
@pytest.mark.parametrize("quick", [False, True])
def test_every_method_can_train_on_its_data(name: str, quick: bool) -> None:
    bench = benchmark(name)
    spec = VECTORS if name in ("ring", "grid") else DataSpec({"x": Field("image", (3, 16, 16))})
    for method in bench.methods:
        entrant = bench.entrant(method, bench.budget(quick=quick))
        assert entrant.family.check(spec) == []
        assert entrant.train.batch % entrant.family.unit == 0


def test_points_are_for_vectors() -> None:
    [problem] = PointsGAN().check(DataSpec({"x": Field("image", (1, 8, 8))}))
    assert "vectors" in problem


def test_settings_hold_all_that_figures_depend_on() -> None:
    bench = benchmark("ring")
    told = documents(bench, bench.budget())
    assert json.loads(json.dumps(told)) == told
    assert set(told["methods"]) == {"gan", "pacgan2", "pacgan4", "pacgan2-r", "r3gan"}
    objects = [Plan(bench, budget, ("gan",), 1).folder for budget in (bench.budget(), bench.budget(1.0))]
    assert len(set(objects)) == 2
    assert Plan(bench, bench.budget(), ("r3gan",), 9, 4).folder == objects[0]


def test_a_plan_runs_its_seeds_from_the_first_on() -> None:
    bench = benchmark("ring")
    jobs = Plan(bench, bench.budget(), ("gan", "r3gan"), seeds=2, first=5).jobs
    assert [job.name for job in jobs] == ["gan-5", "r3gan-5", "gan-6", "r3gan-6"]


def test_another_definition_of_the_figures_makes_other_results(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = benchmark("stacked-digits")
    before = Plan(bench, bench.budget(), ("gan",), 1).folder
    monkeypatch.setattr(type(bench), "definitions", "another classifier")
    assert Plan(bench, bench.budget(), ("gan",), 1).folder != before


# --- storing and resuming


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Benchmark:
    """The ring with one step a training and few samples."""
    bench = replace(benchmark("ring"), data=Ring(num=400), samples=64)
    monkeypatch.setattr("gans.protocols.benchmarks.benchmark", lambda name, path=None: bench)
    return bench


def plan(
    bench: Benchmark, methods: tuple[str, ...] = ("gan", "r3gan"), seeds: int = 2, workers: int = 1
) -> Plan:
    return Plan(bench, bench.budget(0.001), methods, seeds, workers)


def test_a_killed_benchmark_carries_on(
    tiny: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects, work, done = open_objects(str(tmp_path)), protocols._work, []

    def dying(job: protocols.Job, *rest: Any) -> protocols.Finished:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(job.name)
        return work(job, *rest)

    monkeypatch.setattr(protocols, "_work", dying)
    with pytest.raises(KeyboardInterrupt):
        protocols.run(plan(tiny), objects)
    first = {key: objects.get(key) for key in objects.list(plan(tiny).folder) if "-" in Path(key).name}
    assert {Path(key).name for key in first} == {
        f"{n}.{e}" for n in ("gan-0", "r3gan-0") for e in ("json", "png")
    }

    monkeypatch.setattr(protocols, "_work", lambda job, *rest: done.append(job.name) or work(job, *rest))
    table = protocols.run(plan(tiny), objects)
    assert done == ["gan-0", "r3gan-0", "gan-1", "r3gan-1"]
    assert all(objects.get(key) == data for key, data in first.items())
    assert [(row.method, row.seeds) for row in table.rows] == [("gan", 2), ("r3gan", 2)]


def test_two_processes_give_what_one_gives(tiny: Benchmark, tmp_path: Path) -> None:
    figures = ("method", "seed", "modes", "kl", "hq")
    found = []
    for workers in (1, 2):
        table = protocols.run(plan(tiny, ("gan",), 2, workers), open_objects(str(tmp_path / str(workers))))
        found.append([[r[name] for name in figures] for r in table.results])
    assert found[0] == found[1]


def test_the_command_prints_stores_and_goes_on(tiny: Benchmark, tmp_path: Path) -> None:
    words = ("benchmark", "ring", "--epochs", 0.001, "--workers", 1, "--store", tmp_path)
    result = ganctl(*words, "--seeds", 2, "--method", "gan", "--method", "pacgan2")
    lines = result.stdout.splitlines()
    assert any(line.startswith("gan ") and "0 of 2" in line and "6.3" in line for line in lines), (
        result.stdout
    )
    assert any(line.startswith("ali ") and "97.6" in line for line in lines)
    assert any(line.startswith("real samples ") for line in lines)
    assert "next: ganctl benchmark ring" in result.stderr

    told = json.loads(ganctl(*words, "--seeds", 1, "--method", "gan", "--json").stdout)
    assert [row["method"] for row in told["rows"]] == ["gan"]
    assert told["floor"]["modes"] == 8
    rows = pq.read_table(io.BytesIO(Path(told["table.parquet"]).read_bytes())).to_pylist()
    assert rows[0]["published_kl"] == 0.45
    assert rows[0]["kl_mean"] == told["rows"][0]["kl_mean"]
    with Image.open(told["samples.png"]) as sheet:
        assert sheet.width > 100


# --- what cannot be


def test_wrong_words_are_refused(tmp_path: Path) -> None:
    assert "--data PATH" in refused("benchmark", "stacked-mnist", "--store", tmp_path, code=2)
    assert "nowhere" in refused(
        "benchmark", "stacked-mnist", "--data", tmp_path / "nowhere", "--store", tmp_path, code=3
    )
    assert "leave --data out" in refused("benchmark", "ring", "--data", "x", "--store", tmp_path, code=2)
    assert "stacked-digits" in refused("benchmark", "rings", "--store", tmp_path, code=2)
    assert "pacgan4" in refused("benchmark", "ring", "--method", "wgan", "--store", tmp_path, code=2)


def test_a_judge_says_what_it_lacks() -> None:
    with pytest.raises(ConfigError, match="known modes"):
        PointsJudge(Resident({"x": torch.zeros(9, 2)}, VECTORS), 4)
    with pytest.raises(ConfigError, match="10"):
        PointsJudge(Resident({"x": torch.zeros(9, 2)}, VECTORS, Modes(torch.zeros(1, 2), 1.0)), 10)
