"""What a process that serves a model needs: the champion, ready to sample, and word of the next one."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.errors import NotFound, StoreError
from orchestrator.registry.records import Promotion
from orchestrator.registry.registry import Registry
from orchestrator.store.layout import DEFAULT_STORE
from orchestrator.store.objects import open_objects

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from gans.data.base import Batch
    from gans.generator import Model
    from orchestrator.experiment import Experiment

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Generator:
    """A promoted model on this machine's best device, and the promotion and the experiment that it comes from."""

    promotion: Promotion
    experiment: Experiment
    model: Model

    def sample(
        self,
        num: int,
        seed: int = 0,
        labels: Sequence[int] | Tensor | None = None,
        inputs: Batch | None = None,
    ) -> Tensor:
        """`num` samples, float (N, C, H, W) in [-1, 1], or (N, D) of a model of points; equal seeds give equal samples.

        labels: classes to cycle through, of a model that takes labels. inputs: rows to map, of a model that maps data
        (`model.asks` names the fields). Raises ConfigError, DataError as `gans.generator.Model.sample`.
        """
        return self.model.sample(num, seed, labels, inputs)["x"]

    def to_uint8(self, x: Tensor) -> np.ndarray:
        """Float (N, C, H, W) in [-1, 1] → uint8 (N, H, W, C)."""
        return self.model.to_uint8(x)


def store_url(store: str | None) -> str:
    """The store that a call means: the one it names, else GANCTL_STORE, else ./ganctl-store, as the command line."""
    return store or os.environ.get("GANCTL_STORE") or DEFAULT_STORE


def load(name: str, store: str | None = None) -> Generator:
    """The champion of model `name`, ready to sample: exactly the promoted checkpoint, its weights checked.

    Raises NotFound where there is no such model or its checkpoint is gone, StoreError where the store cannot be read
    or the weights are not what was promoted.
    """
    from orchestrator.trained import Trained

    objects = open_objects(store_url(store))
    promotion = Registry(objects).require(name)
    trained = Trained.restore(objects, promotion.run_id, promotion.span, promotion.weights)
    return Generator(promotion, trained.experiment, trained.model)


def watch(
    name: str, store: str | None = None, every: float = 5.0, stop: threading.Event | None = None
) -> Iterator[Promotion]:
    """The champion's promotion, as soon as there is one, then each that follows, looked for `every` so many seconds.

    Of several promotions between two looks the last is told. While the store cannot be used it goes on looking, and
    says so in the log, once. It ends when it is closed, or once `stop` is set. One look is one listing. Raises
    ConfigError for what cannot be a name.
    """
    registry, stop = Registry(open_objects(store_url(store))), stop or threading.Event()
    told, out = 0, False
    while not stop.is_set():
        promotion = None
        try:
            number = registry.newest(name)
            if number > told:
                promotion = registry.promotion(name, number)
        except (
            StoreError,
            NotFound,
        ) as error:  # an outage, or a damaged record, which the next promotion replaces
            log.log(logging.DEBUG if out else logging.WARNING, "model %s: %s; looking on", name, error)
            out = True
        else:
            out = False
        if promotion is not None:
            told = promotion.number
            yield promotion
        stop.wait(every)
