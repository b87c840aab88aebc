"""What is looked at before a run or a sweep is written to the store, so that a mistake leaves nothing behind."""

from __future__ import annotations

from gans.data.base import DataConfig
from gans.data.encoded import EncodedImages
from gans.data.loader import Loader
from gans.metrics.evaluator import require_enough
from orchestrator.cluster import local_capacity
from orchestrator.errors import ConditionalWritesMissing, ConfigError, ResourceError
from orchestrator.experiment import Experiment
from orchestrator.progress import Event, tell
from orchestrator.store.files import files_for
from orchestrator.store.objects import Objects


def check(experiment: Experiment, objects: Objects, on: str) -> None:
    """Raise what would end the run as soon as it begins.

    ResourceError: more workers than this machine has room for. DataError, ConfigError: data that cannot be read or
    that the family cannot train on. StoreError: a store that is out of reach. One that ignores conditional writes is
    told of, and trained on: only what must have one winner, a promotion, is refused there.
    """
    check_scale(experiment, on)
    path = getattr(experiment.data, "path", "")
    if on in ("inline", "local", "auto") or not path or path.startswith("s3://"):
        check_data(experiment)  # a folder may be on the cluster alone
    try:
        objects.require_conditional_writes()
    except ConditionalWritesMissing as error:
        tell(Event(experiment.name, 0.0, alarm=f"{error}; until then nothing can be promoted"))


def check_scale(experiment: Experiment, on: str) -> None:
    """Fail at once where the machine at hand cannot hold the workers."""
    if on == "inline" and experiment.scale.workers > 1:
        raise ResourceError(
            f"--on inline is this one process, scale.workers is {experiment.scale.workers}: use --on local"
        )
    if on == "local":
        local_capacity().require(experiment.scale)


def check_data(experiment: Experiment) -> None:
    """Open both splits, without decoding them, and see whether the family, the batch and the workers fit them."""
    data = _undecoded(experiment.data)
    files = files_for(getattr(data, "path", ""))
    dataset = data.load("train", files)
    if problems := experiment.gan.check(dataset.spec):
        raise ConfigError("\n".join(problems))
    train = experiment.train
    world, unit = experiment.scale.most, experiment.gan.unit
    for progress in (0.0, 1.0):
        rows = experiment.gan.rows(progress, train.batch, dataset.spec)
        Loader(dataset, rows, world=world, seed=0, pieces=train.accumulate, unit=unit)
    require_enough(dataset, data.load("held_out", files))


def _undecoded(data: DataConfig) -> DataConfig:
    """The same data, and the data within it, decoded only when it is fetched."""
    inner: dict[str, object] = {name: _undecoded(v) for name, v in data if isinstance(v, DataConfig)}
    own = {"resident_bytes": 0} if isinstance(data, EncodedImages) else {}
    return data.model_copy(update=inner | own)
