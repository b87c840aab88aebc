"""Extractors: chosen by the data, trained once, cached by content, reproducible."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from gans import metrics
from gans.data.base import DataSpec, Field, Resident, to_float
from gans.errors import ConfigError
from gans.metrics import convnet
from tests.support.metric_data import Memory, digits, points, real_digits


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def cache() -> Memory:
    return Memory()


@pytest.fixture(scope="module")
def classifier(cache: Memory) -> convnet.ConvExtractor:
    return metrics.classifier_extractor(digits(), cache=cache)


# Extractors


def test_the_classifier_reads_held_out_digits(classifier: convnet.ConvExtractor) -> None:
    batch = to_float(digits(1400, 1797).tensors)
    shares = classifier.probabilities(classifier.features(batch["x"]))
    assert shares is not None
    assert (shares.argmax(1) == batch["label"]).float().mean() > 0.97
    assert classifier.accuracy is not None
    assert classifier.accuracy >= 0.97
    features = classifier.features(batch["x"])
    assert features.shape == (397, 64)
    assert features.dtype == torch.float32


def test_a_cached_classifier_is_loaded_and_not_trained(
    cache: Memory, classifier: convnet.ConvExtractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    puts = cache.puts
    monkeypatch.setattr(convnet, "_train", lambda *_: pytest.fail("trained although cached"))
    again = metrics.extractor_for(digits(), cache, "classifier")
    x, _ = real_digits(64)
    assert torch.equal(again.features(x), classifier.features(x))
    assert isinstance(again, convnet.ConvExtractor)
    assert again.accuracy == classifier.accuracy
    assert cache.puts == puts


def test_the_cache_key_changes_with_data_and_seed_alone() -> None:
    key = convnet.cache_key(digits(), 0)
    assert convnet.cache_key(digits(), 0) == key
    assert convnet.cache_key(digits(1, 1400), 0) != key
    assert convnet.cache_key(digits(), 1) != key


def test_a_hardened_classifier_reads_spoiled_pictures_better_and_has_a_key_of_its_own(
    cache: Memory, classifier: convnet.ConvExtractor
) -> None:
    assert convnet.cache_key(digits(), 0, hardened=True) != convnet.cache_key(digits(), 0)
    hardened = metrics.classifier_extractor(digits(), cache=cache, hardened=True)
    assert hardened.name != classifier.name
    batch = to_float(digits(1400, 1797).tensors)
    x, labels = batch["x"], batch["label"]
    spoiled = x + 0.4 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))

    def right(extractor: convnet.ConvExtractor, pictures: torch.Tensor) -> float:
        likely = extractor.probabilities(extractor.features(pictures))
        assert likely is not None
        return float((likely.argmax(1) == labels).float().mean())

    assert right(hardened, x) >= right(classifier, x) - 0.01
    assert right(hardened, spoiled) > right(classifier, spoiled) + 0.02


def test_training_is_deterministic_and_leaves_the_global_rng_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convnet, "MIN_STEPS", 20)
    monkeypatch.setattr(convnet, "EPOCHS", 1)
    x, _ = real_digits(32)
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = metrics.classifier_extractor(digits(0, 300)).features(x)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(metrics.classifier_extractor(digits(0, 300)).features(x), first)
    assert not torch.equal(metrics.classifier_extractor(digits(0, 300), seed=1).features(x), first)


def test_random_features_are_standardised_and_follow_their_seed() -> None:
    data = digits(labelled=False)
    x, _ = real_digits(1400)
    features = metrics.random_extractor(data).features(x)
    assert features.mean(0).abs().max() < 1e-3
    assert features.std(0).max() < 1.01
    assert torch.equal(metrics.random_extractor(data).features(x), features)
    assert not torch.equal(metrics.random_extractor(data, seed=1).features(x), features)


@pytest.mark.parametrize("shape", [(3, 4, 4), (1, 28, 28), (3, 16, 24), (3, 100, 70)])
def test_the_networks_take_any_image_shape_from_the_data(shape: tuple[int, int, int]) -> None:
    x = torch.rand(20, *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    extractor = metrics.random_extractor(Resident({"x": x}, DataSpec({"x": Field("image", shape)})))
    assert extractor.features(x).shape == (20, 64)
    assert extractor.probabilities(extractor.features(x)) is None


def test_auto_chooses_by_the_data(cache: Memory, classifier: convnet.ConvExtractor) -> None:
    assert metrics.extractor_for(digits(), cache).name == classifier.name
    assert metrics.extractor_for(digits(labelled=False)).name.startswith("random")
    vectors = metrics.extractor_for(points(torch.rand(10, 2)))
    assert torch.equal(vectors.features(torch.ones(3, 2)), torch.ones(3, 2))


def test_unsuitable_choices_are_refused_with_what_is_allowed() -> None:
    with pytest.raises(ConfigError, match=r"needs labels .* use 'random'"):
        metrics.extractor_for(digits(labelled=False), choice="classifier")
    with pytest.raises(ConfigError, match=r"'classifer' is neither .* 'auto', 'classifier', 'random'"):
        metrics.extractor_for(digits(), choice="classifer")
    with pytest.raises(ConfigError, match="for vector data use 'auto'"):
        metrics.extractor_for(points(torch.rand(10, 2)), choice="random")


def test_inception_names_the_extra_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"pip install ganctl\[inception\].*path of the Inception weights"):
        metrics.extractor_for(digits(), choice=str(weights))


def test_inception_refuses_foreign_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = types.ModuleType("torch_fidelity")
    vars(library)["FeatureExtractorInceptionV3"] = lambda *_, **__: pytest.fail("reached the library")
    monkeypatch.setitem(sys.modules, "torch_fidelity", library)
    with pytest.raises(ConfigError, match="do not exist"):
        metrics.inception_extractor(tmp_path / "none.pth")
    foreign = tmp_path / "weights.pth"
    foreign.write_bytes(b"not a checkpoint")
    with pytest.raises(ConfigError, match="does not hold Inception-v3 weights"):
        metrics.inception_extractor(foreign)
    torch.save({"code": Path("pickled object")}, foreign)
    with pytest.raises(ConfigError, match="does not hold Inception-v3 weights"):
        metrics.inception_extractor(foreign)
