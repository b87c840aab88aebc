"""Judging models: the figures and their resamples against what fresh draws do, and duels with a known outcome."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gans import checkpoint
from gans.checkpoint import spec_document
from gans.data.digits import Digits
from gans.data.points import Ring
from gans.errors import ConfigError, DataError
from gans.families.cgan import CGAN
from gans.families.vanilla import Vanilla
from gans.generator import Model
from gans.loop import train
from gans.metrics import density_coverage, frechet, kid, precision_recall
from gans.metrics.distances import Gaussian
from gans.options import Train
from gans.pictures import read_metadata
from orchestrator.errors import AlreadyExists, NotFound
from orchestrator.experiment import Experiment
from orchestrator.judging import compare, document
from orchestrator.judging.compare import Arena, Contestant, Judgement, judge
from orchestrator.judging.figures import Reference, measure
from orchestrator.judging.gate import Measured, decide
from orchestrator.judging.options import Evaluation, Gate
from orchestrator.judging.resampling import Resamples
from orchestrator.launch import announce_run
from orchestrator.scene import Scene
from orchestrator.store.objects import Objects, open_objects
from orchestrator.store.runs import RunWriter

EVALUATION = Evaluation(samples=1000, draws=2, resamples=100)
FAMILY = Vanilla(loss="relativistic", width=64, lr_g=1e-3, lr_ratio=2.0, betas=(0.0, 0.9), r1=0.5, r2=0.5)
POOR, GOOD = 50, 300

EXPERIMENT = Experiment(
    name="digits",
    gan=FAMILY,
    data=Digits(size=8),
    train=Train(steps=GOOD, log_every=POOR, checkpoint_every=POOR, batch=64),
)

RING = Experiment(
    name="ring",
    gan=Vanilla(latent_dim=2, width=16),
    data=Ring(num=1000),
    train=Train(steps=20, batch=16, log_every=20),
)
SMALL = Evaluation(samples=64, draws=1, resamples=100)


def stored(objects: Objects, experiment: Experiment) -> str:
    """A run that was trained in this process, with checkpoints at `POOR` steps and at the end."""
    data = experiment.data.load("train")
    run_id = announce_run(objects, experiment)
    writer = RunWriter.attach(objects, run_id)
    ticks = train(experiment.gan, data, experiment.train, seed=experiment.seed, device=torch.device("cpu"))
    for tick in ticks:
        writer.log(tick.step, {"loss": 0.0})
        if tick.checkpoint:
            writer.checkpoint(tick.step, checkpoint.pack(tick.state()), keep=(POOR,))
    writer.seal("completed", {"spec": spec_document(data.spec)})
    return run_id


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Objects, str, Scene]:
    """A store with one run on digits, and the scene of its data."""
    objects = open_objects(f"file://{tmp_path_factory.mktemp('judging')}/store")
    return objects, stored(objects, EXPERIMENT), Scene(objects)


@pytest.fixture(scope="module")
def arena(world: tuple[Objects, str, Scene]) -> Arena:
    return Arena.of(world[0], EXPERIMENT, EVALUATION, world[2])


def duel(
    world: tuple[Objects, str, Scene], challenger: int, champion: int | None, gate: Gate | None = None
) -> Judgement:
    """The run's checkpoints at two steps against each other."""
    objects, run_id, scene = world
    other = None if champion is None else Contestant(run_id, champion, promotion=3)
    return judge(objects, EXPERIMENT, Contestant(run_id, challenger), other, EVALUATION, gate, scene)


# --- figures


def cloud(num: int, seed: int, shift: float = 0.5, dim: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num, dim, generator=generator) + shift


def reference(held_out: Tensor, samples: int, resamples: int = 400) -> Reference:
    drawn = Resamples.drawn(resamples, samples, len(held_out), min(samples, len(held_out)), 0)
    return Reference(held_out, Gaussian.fit(held_out), held_out, cloud(1200, 9, 0.0), drawn)


def test_figures_are_those_of_the_metrics() -> None:
    held_out, fake = cloud(300, 1, 0.0), cloud(300, 2)
    found = measure(reference(held_out, 300), fake, torch.arange(300) < 240).figures
    precision, recall = precision_recall(held_out, fake)
    density, coverage = density_coverage(held_out, fake)
    assert found["fid"] == pytest.approx(frechet(held_out, fake))
    assert found["kid"] == pytest.approx(kid(held_out, fake, 1, 300))
    assert found["precision"] == pytest.approx(precision)
    assert found["recall"] == pytest.approx(recall)
    assert found["density"] == pytest.approx(density)
    assert found["coverage"] == pytest.approx(coverage)
    assert found["label_accuracy"] == 0.8


def test_neighbour_figures_of_more_samples_are_means_over_chunks() -> None:
    held_out, fake = cloud(100, 1, 0.0), cloud(330, 2)
    found = measure(reference(held_out, 330), fake).figures
    parts = [density_coverage(held_out, piece).coverage for piece in fake.split(100)[:3]]
    assert found["coverage"] == pytest.approx(np.mean(parts))


@pytest.fixture(scope="module")
def fresh() -> list[Measured]:
    """The same measured on fresh samples and fresh held-out rows."""
    return [
        measure(reference(cloud(300, 100 + i, 0.0), 600, resamples=2), cloud(600, 200 + i)) for i in range(40)
    ]


@pytest.mark.parametrize("name", ["fid", "kid", "precision", "recall", "density", "coverage"])
def test_resamples_spread_as_fresh_samples_and_held_out_rows_do(name: str, fresh: list[Measured]) -> None:
    spread = float(measure(reference(cloud(300, 1, 0.0), 600), cloud(600, 2)).resamples[name].std())
    assert 0.6 < spread / np.std([found.figures[name] for found in fresh]) < 1.6


def test_a_resample_is_centred_on_the_figure() -> None:
    found = measure(reference(cloud(300, 1, 0.0), 300), cloud(300, 2))
    for name, values in found.resamples.items():
        assert values.shape == (400,)
        assert values.mean() == pytest.approx(found.figures[name])


def test_linearised_fid_follows_the_distance_of_each_resample() -> None:
    ref, fake = reference(cloud(300, 1, 0.0), 600), cloud(600, 2)
    linear = measure(ref, fake).resamples["fid"]
    draws = ref.resamples
    exact = [
        frechet(ref.held_out.repeat_interleave(v.int(), 0), fake.repeat_interleave(w.int(), 0))
        for v, w in zip(draws.held_out[:60], draws.samples[:60], strict=True)
    ]
    assert np.corrcoef(linear[:60], exact)[0, 1] > 0.97


def test_both_contestants_get_the_same_resamples() -> None:
    ref, fake = reference(cloud(300, 1, 0.0), 300), cloud(300, 2)
    first, second = measure(ref, fake), measure(ref, fake.clone())
    for name, values in first.resamples.items():
        assert np.array_equal(values, second.resamples[name])


@pytest.mark.parametrize(("copied", "low", "high"), [(0.0, 0.46, 0.54), (0.3, 0.56, 0.68), (1.0, 0.999, 1.0)])
def test_memorisation_is_a_half_without_copies_and_one_of_nothing_else(
    copied: float, low: float, high: float
) -> None:
    held_out, training = cloud(400, 1, 0.0), cloud(1600, 9, 0.0)
    drawn = Resamples.drawn(100, 1600, 400, 400, 0)
    ref = Reference(held_out, Gaussian.fit(held_out), held_out, training, drawn)
    num = int(copied * 1600)
    fake = torch.cat([training[:num] + 1e-3, cloud(1600 - num, 3, 0.0)])
    assert low <= measure(ref, fake).figures["memorisation"] <= high


def test_features_that_are_not_finite_are_not_measured() -> None:
    fake = cloud(300, 2)
    for value in (math.nan, math.inf, 1e30):
        fake[7, 3] = value
        assert not measure(reference(cloud(300, 1, 0.0), 300), fake).finite


def test_constant_samples_are_measured() -> None:
    found = measure(reference(cloud(300, 1, 0.0), 300), torch.ones(300, 8))
    assert found.finite
    assert found.figures["coverage"] < 0.1


# --- duels


def test_a_far_better_model_is_promoted_and_a_worse_one_kept(world: tuple[Objects, str, Scene]) -> None:
    better = duel(world, GOOD, POOR)
    assert better.decision.promote, better.decision.reason
    figures = better.measured["challenger"].figures
    assert {"fid", "kid", "precision", "recall", "density", "coverage", "memorisation"} == set(figures)
    assert 0.4 < figures["memorisation"] < 0.6
    worse = duel(world, POOR, GOOD)
    assert not worse.decision.promote
    assert "worse than the champion's" in worse.decision.reason
    assert worse.measured["champion"].figures == figures  # the same latents and data


def test_a_model_never_replaces_itself(world: tuple[Objects, str, Scene]) -> None:
    judgement = duel(world, GOOD, GOOD, Gate(margin=0.0))
    assert not judgement.decision.promote
    assert judgement.decision.checks[0].low == judgement.decision.checks[0].high == 0.0


def test_without_a_champion_the_absolute_conditions_decide(world: tuple[Objects, str, Scene]) -> None:
    assert duel(world, GOOD, None).decision.promote
    assert not duel(world, POOR, None, Gate(at_least={"coverage": 0.6})).decision.promote


class Copier(nn.Module):
    """A "generator" that gives back training pictures: `rows` (N, 1, 8, 8), by the latents' first entry."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, z: Tensor) -> Tensor:
        picked = (torch.special.ndtr(z[:, 0]) * len(self.rows)).long().clamp(max=len(self.rows) - 1)
        return self.rows[picked]


class Faulty(nn.Module):
    """One picture in each batch is not a number."""

    def forward(self, z: Tensor) -> Tensor:
        x = torch.zeros(len(z), 1, 8, 8)
        x[0] = math.nan
        return x


def model(arena: Arena, generator: nn.Module) -> Model:
    return Model(FAMILY, arena.spec, {"generator": generator})


@pytest.fixture
def champion(world: tuple[Objects, str, Scene]) -> Model:
    return compare.restored(world[0], Contestant(world[1], GOOD))[1]


def training_rows(arena: Arena, num: int) -> Tensor:
    return arena.train.fetch(np.arange(num))["x"].float() / 127.5 - 1


def test_a_memorising_model_is_refused_however_good_its_fid(arena: Arena, champion: Model) -> None:
    copier = arena.measured(model(arena, Copier(training_rows(arena, len(arena.train)))))
    other = arena.measured(champion)
    assert copier.figures["fid"] < 0.5 * other.figures["fid"]
    decision = decide(Gate(), copier, other)
    assert not decision.promote
    assert [c.name for c in decision.checks if not c.ok] == ["memorisation"]
    assert decision.reason.startswith("Kept: memorisation went from 0.")
    assert decide(Gate(guards={}), copier, other).promote


def test_a_collapsed_model_is_refused(arena: Arena, champion: Model) -> None:
    collapsed = arena.measured(model(arena, Copier(training_rows(arena, 3))))
    decision = decide(Gate(), collapsed, arena.measured(champion))
    lost = {c.name for c in decision.checks if not c.ok}
    assert {"fid", "coverage", "recall"} <= lost
    assert not decide(Gate(at_least={"coverage": 0.3}), collapsed, None).promote


def test_a_model_that_gives_no_numbers_never_wins(arena: Arena, champion: Model) -> None:
    faulty = arena.measured(model(arena, Faulty()))
    assert not decide(Gate(), faulty, None).promote
    assert not decide(Gate(), faulty, arena.measured(champion)).promote


# --- what cannot be compared


def test_a_champion_of_other_data_is_not_compared(world: tuple[Objects, str, Scene]) -> None:
    objects, run_id, scene = world
    mine, champion = Contestant(stored(objects, RING)), Contestant(run_id)
    judgement = judge(objects, RING, mine, champion, SMALL, None, scene)
    assert judgement.decision.promote
    assert "its x has the shape (1, 8, 8), that of the data is (2,)" in judgement.decision.reason
    assert set(judgement.pictures) == {"challenger"}
    strict = judge(objects, RING, mine, champion, SMALL, Gate(at_most={"fid": 1e-9}), scene)
    assert not strict.decision.promote
    with pytest.raises(ConfigError, match=r"does not fit experiment ring: its x has the shape \(1, 8, 8\)"):
        judge(objects, RING, champion, None, SMALL, None, scene)


def test_a_champion_of_fewer_classes_is_not_compared(world: tuple[Objects, str, Scene]) -> None:
    family = CGAN(width=8, lr_g=1e-3)
    few, all_ten = (Digits(size=8, classes=c).load("train").spec for c in ((1, 2), None))
    found = compare.misfit(Model(family, few, {}), all_ten, "x")
    assert found == "it knows 2 classes, the data has 10"
    assert compare.misfit(Model(FAMILY, few, {}), all_ten, "x") == ""  # it takes no labels


def test_a_champion_that_is_gone_is_not_compared(world: tuple[Objects, str, Scene]) -> None:
    objects, run_id, scene = world
    gone = Contestant(run_id, 7777)
    judgement = judge(objects, EXPERIMENT, Contestant(run_id, GOOD), gone, EVALUATION, None, scene)
    assert judgement.decision.promote
    assert "no finished checkpoint at step 7777" in judgement.decision.reason
    with pytest.raises(NotFound, match="no finished checkpoint at step 7777"):
        judge(objects, EXPERIMENT, gone, None, EVALUATION, None, scene)


def test_a_gate_on_a_figure_that_is_not_there_is_an_error(world: tuple[Objects, str, Scene]) -> None:
    with pytest.raises(ConfigError, match=r"gate\.guards: there is no label_accuracy of this model"):
        duel(world, GOOD, POOR, Gate(guards={"label_accuracy": 0.1}))


def test_too_little_held_out_data_is_an_error() -> None:
    split = Digits(size=8).load("held_out")
    split.tensors = {name: values[:63] for name, values in split.tensors.items()}
    with pytest.raises(
        DataError, match="the held-out split has 63 samples; models are judged on at least 64"
    ):
        Reference.of(split, split, FEATURES, EVALUATION)


class Features:
    """An extractor that nothing should ask."""

    name = "none"

    def features(self, x: Tensor) -> Tensor:
        raise AssertionError("not reached")

    def probabilities(self, features: Tensor) -> None:
        return None


FEATURES = Features()


def test_labels_and_points(file_store: str) -> None:
    """A conditional family is asked for the held-out labels and gets label_accuracy; points are drawn as a scatter."""
    objects = open_objects(file_store)
    labelled = Experiment(
        name="cgan",
        gan=CGAN(width=8, lr_g=1e-3),
        data=Digits(size=8, classes=(0, 1)),
        train=Train(steps=20, batch=16, log_every=20),
    )
    for e, figure in ((labelled, "label_accuracy"), (RING, "fid")):
        run = Contestant(stored(objects, e))
        judgement = judge(objects, e, run, run, SMALL)
        assert math.isfinite(judgement.measured["challenger"].figures[figure])
        assert set(judgement.pictures) == {"challenger", "champion", "grids"}
        assert not judgement.decision.promote


# --- the document


@pytest.fixture(scope="module")
def judgement(world: tuple[Objects, str, Scene]) -> Judgement:
    return duel(world, GOOD, POOR, Gate(at_most={"fid": 1000.0}))


def test_the_document_says_everything(judgement: Judgement, file_store: str) -> None:
    objects, folder = open_objects(file_store), "retrain/digits/rounds/000001"
    key = document.write(objects, folder, 1, judgement)
    assert key == f"{folder}/decision-1.json"
    told = json.loads(objects.get(key))
    assert (told["verdict"], told["reason"]) == ("promote", judgement.decision.reason)
    assert [(c["name"], c["kind"], c["ok"]) for c in told["checks"]] == [
        ("fid", "improvement", True),
        ("coverage", "guard", True),
        ("recall", "guard", True),
        ("memorisation", "guard", True),
        ("fid", "at_most", True),
    ]
    champion, challenger = told["contestants"]["champion"], told["contestants"]["challenger"]
    assert (champion["step"], champion["attempt"], champion["promotion"]) == (POOR, 1, 3)
    assert len(challenger["weights"]) == 64
    assert challenger["weights"] != champion["weights"]
    fid = challenger["figures"]["fid"]
    assert fid["low"] < fid["value"] < fid["high"]
    assert told["seeds"] == [0, 1]
    data = Digits(size=8)
    assert told["data"] == {
        name: {"fingerprint": data.load(name).fingerprint(), "items": items}  # type: ignore[arg-type]
        for name, items in (("train", 1397), ("held_out", 400))
    }
    assert told["extractor"] == "classifier-v1"
    assert told["floor"]["fid"] < fid["value"]
    assert told["code"]["torch"]


def test_pictures_lie_beside_the_document(judgement: Judgement, store_url: str) -> None:
    objects = open_objects(store_url)
    told = json.loads(objects.get(document.write(objects, "retrain/digits/rounds/000001", 1, judgement)))
    assert set(told["pictures"]) == {"challenger", "champion", "grids"}
    for name, key in told["pictures"].items():
        assert key.startswith(f"retrain/digits/rounds/000001/{name}-")
        contestant = told["contestants"]["challenger" if name == "grids" else name]
        assert read_metadata(objects.get(key))["step"] == str(contestant["step"])


def test_a_decision_is_written_once_and_again_after_a_writer_that_died(
    judgement: Judgement, file_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = open_objects(file_store)
    create = objects.create

    def dies(key: str, data: bytes) -> None:
        if key.endswith(".json"):
            raise KeyboardInterrupt
        create(key, data)

    monkeypatch.setattr(objects, "create", dies)
    with pytest.raises(KeyboardInterrupt):
        document.write(objects, "folder", 1, judgement)
    monkeypatch.setattr(objects, "create", create)
    document.write(objects, "folder", 1, judgement)
    with pytest.raises(AlreadyExists):
        document.write(objects, "folder", 1, judgement)
    document.write(objects, "folder", 2, judgement)
    assert len(objects.list("folder")) == 5  # two decisions, one set of pictures


def test_what_could_not_be_measured_is_null(arena: Arena, judgement: Judgement) -> None:
    from dataclasses import replace

    faulty = arena.measured(model(arena, Faulty()))
    told = document.document(replace(judgement, measured={"challenger": faulty}), {})
    assert told["contestants"]["champion"]["figures"] is None
    assert "NaN" not in document.documents.encode(told).decode()
