"""Figures that say how good and how diverse samples are. They need no store and no network access.

`Evaluator` gives all of them with their real-data floor, `SampleProbe` the cheap signals for the health
monitor.
"""

from gans.metrics.choice import extractor_for
from gans.metrics.convnet import classifier_extractor, random_extractor
from gans.metrics.distances import frechet, kid
from gans.metrics.evaluator import Evaluator
from gans.metrics.extractors import Cache, Extractor, points_extractor
from gans.metrics.inception import inception_extractor
from gans.metrics.manifold import density_coverage, precision_recall
from gans.metrics.modes import class_coverage, mode_coverage
from gans.metrics.probe import SampleProbe

__all__ = [
    "Cache",
    "Evaluator",
    "Extractor",
    "SampleProbe",
    "class_coverage",
    "classifier_extractor",
    "density_coverage",
    "extractor_for",
    "frechet",
    "inception_extractor",
    "kid",
    "mode_coverage",
    "points_extractor",
    "precision_recall",
    "random_extractor",
]
