"""The weights that a run begins with where it is not to begin anew: another run's checkpoint, `RUN` or `RUN@STEP`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.errors import ConfigError, NotFound
from orchestrator.experiment import Experiment, parse
from orchestrator.store.objects import Objects
from orchestrator.store.reader import Run

if TYPE_CHECKING:
    from gans.training import State


def settled(experiment: Experiment, objects: Objects) -> Experiment:
    """The experiment with the step of its `start` written out: the checkpoint with the best FID, else the newest.

    Raises NotFound where there is no such run or checkpoint, ConfigError where that run trained another family.
    """
    if experiment.start is None:
        return experiment
    run_id, _, step = experiment.start.partition("@")
    run = Run(objects, run_id)
    begun: Any = run.document()["experiment"]["gan"]["family"]
    mine = experiment.document()["gan"]["family"]
    if begun != mine:
        raise ConfigError(
            f"field `start` = {experiment.start!r}: run {run_id} trained {begun}, this is {mine}"
        )
    there = [at for at, _ in run.checkpoints()]
    if not there:
        raise NotFound(f"field `start` = {experiment.start!r}: run {run_id} has no checkpoint")
    best = run.best_checkpoint()
    chosen = int(step) if step else best[0] if best is not None else there[-1]
    if chosen not in there:
        known = ", ".join(map(str, there))
        raise NotFound(f"field `start` = {experiment.start!r}: run {run_id} has checkpoints at steps {known}")
    return parse(experiment.document() | {"start": f"{run_id}@{chosen}"})


def weights(experiment: Experiment, objects: Objects) -> State | None:
    """The state to begin with, of a settled experiment; None where it begins anew. Raises NotFound, DataError."""
    if experiment.start is None:
        return None
    from gans.checkpoint import unpack

    run_id, _, step = experiment.start.partition("@")
    return unpack(Run(objects, run_id).read_checkpoint(int(step)))


def mended(objects: Objects, run_id: str) -> tuple[Experiment, str] | None:
    """What may save a run that collapsed or diverged: its experiment with the first remedy of its verdict, from its
    last sound checkpoint on (where none was sound, from where it began itself); and that remedy in words. None where
    the run ended well, or its family knows no remedy.
    """
    from gans.checkpoint import unpack

    run = Run(objects, run_id)
    experiment = parse(run.document()["experiment"])
    sealed = run.sealed()
    if sealed is None or sealed["state"] == "completed" or "verdict" not in sealed:
        return None
    advice = experiment.gan.remedies(sealed["verdict"])
    if not advice:
        return None
    sound = (
        step
        for step, _ in reversed(run.checkpoints())
        if unpack(run.read_checkpoint(step))["course"]["sound"]
    )
    step = next(sound, None)
    start = experiment.start if step is None else f"{run_id}@{step}"
    changes = {f"gan.{name}": value for name, value in advice[0].changes.items()}
    return experiment.override({**changes, "start": start}), advice[0].said(experiment.gan)
