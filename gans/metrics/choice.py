"""Which extractor a data set gets."""

from __future__ import annotations

from pathlib import Path

from gans.data.base import Dataset
from gans.errors import ConfigError
from gans.metrics.convnet import classifier_extractor, random_extractor
from gans.metrics.extractors import Cache, Extractor, points_extractor
from gans.metrics.inception import inception_extractor


def extractor_for(dataset: Dataset, cache: Cache | None = None, choice: str = "auto") -> Extractor:
    """The extractor that fits `dataset`, or the one asked for: auto, classifier, random, or a path.

    `auto` is the identity for vectors, a classifier trained on the labels where there are labels, a seeded
    random network otherwise. Any other word is the path of Inception-v3 weights. Raises ConfigError for a
    choice that does not suit the data.
    """
    if dataset.spec.x.kind == "vector":
        if choice != "auto":
            raise ConfigError(f"metrics extractor {choice!r} is for images; for vector data use 'auto'")
        return points_extractor()
    if choice == "classifier" or (choice == "auto" and dataset.spec.num_classes is not None):
        return classifier_extractor(dataset, cache=cache)
    if choice in ("auto", "random"):
        return random_extractor(dataset)
    if not Path(choice).expanduser().is_file():
        raise ConfigError(
            f"metrics extractor {choice!r} is neither a file of Inception-v3 weights nor one of "
            "'auto', 'classifier', 'random'"
        )
    return inception_extractor(choice)
