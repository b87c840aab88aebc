"""What a run trains on and is judged by. Runs on the same data share it: loading, fitting and scoring real data is
most of what a short trial would do. It knows nothing of a run's state.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from gans.data.base import Dataset
from gans.data.views import imitated
from gans.metrics import Evaluator, SampleProbe, extractor_for
from gans.metrics.extractors import Extractor
from orchestrator.experiment import Experiment
from orchestrator.store.extractors import StoreCache
from orchestrator.store.files import files_for
from orchestrator.store.objects import Objects

PROBE_ROWS = 512


class Scene:
    """Data, extractor, evaluator and probe by what determines them, each made once."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._made: dict[str, Any] = {}

    def data(self, experiment: Experiment) -> tuple[Dataset, Dataset]:
        """The training split and the held-out one. Raises DataError, ConfigError."""
        config = experiment.data

        def load() -> tuple[Dataset, Dataset]:
            files = files_for(getattr(config, "path", ""))
            return config.load("train", files), config.load("held_out", files)

        return self._once(["data", config.model_dump(mode="json")], load)

    def judges(self, experiment: Experiment) -> tuple[Evaluator, SampleProbe | None]:
        """The evaluator against held-out real data, and the health probe where there are enough real rows."""
        e = experiment

        def make() -> tuple[Evaluator, SampleProbe | None]:
            real, held = (imitated(split, e.gan.imitates) for split in self.data(e))
            extractor = self.extractor(e)
            evaluator = Evaluator(real, held, extractor, e.train.evaluate_samples, seed=0)
            rows = real.fetch(real.order(0, 0)[:PROBE_ROWS])["x"]
            return evaluator, SampleProbe(rows, extractor) if len(rows) >= PROBE_ROWS // 2 else None

        return self._once(["judges", *self._judged_by(e), e.train.evaluate_samples], make)

    def extractor(self, experiment: Experiment) -> Extractor:
        """The features that figures and health are measured in, from the store's cache or trained into it."""
        e = experiment

        def make() -> Extractor:
            return extractor_for(
                imitated(self.data(e)[0], e.gan.imitates), StoreCache(self._objects), e.train.extractor
            )

        return self._once(["extractor", *self._judged_by(e)], make)

    def _judged_by(self, e: Experiment) -> list[Any]:
        return [e.data.model_dump(mode="json"), e.gan.imitates, e.train.extractor]

    def _once(self, what: list[Any], make: Callable[[], Any]) -> Any:
        key = json.dumps(what, sort_keys=True)
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]
