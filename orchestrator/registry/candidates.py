"""Which checkpoint a promotion names. It reads commit markers, never weights."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.errors import ConfigError, NotFound
from orchestrator.store import checkpoints, documents
from orchestrator.store.documents import Document
from orchestrator.store.layout import checkpoint_folder, run_key
from orchestrator.store.objects import Objects

WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class Candidate:
    """A checkpoint of a run that has ended: at `step`, else the one with the best FID, else the newest."""

    run_id: str
    step: int | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A committed checkpoint: `weights` is the SHA-256 of its weights, `data` the training data's fingerprint or ""."""

    run_id: str
    step: int
    attempt: int
    weights: str
    data: str

    @property
    def identity(self) -> tuple[str, int, int, str]:
        """As `Promotion.checkpoint`."""
        return self.run_id, self.step, self.attempt, self.weights


def choose(objects: Objects, candidate: Candidate) -> Checkpoint:
    """The checkpoint that `candidate` means.

    Raises NotFound where there is no such run or no such committed checkpoint, ConfigError where the run has not ended.
    """
    run_id, step = candidate.run_id, candidate.step
    try:
        sealed = documents.decode(objects.get(run_key(run_id, "sealed.json")))
    except NotFound:
        raise _unended(objects, run_id) from None
    every = checkpoints.committed(objects, run_id, list(sealed["from"]))
    spans = [span for span in every if step in (None, span[0])]
    if not spans:
        there = ", ".join(str(span[0]) for span in every) or "none"
        at = "" if step is None else f" at step {step}"
        raise NotFound(f"run {run_id} has no finished checkpoint{at} in {objects.url}; steps: {there}")
    best = checkpoints.best(objects, run_id, spans) if step is None else None
    span = best or spans[-1]
    weights = weights_of(checkpoints.marker(objects, run_id, span))
    if not weights:
        raise NotFound(f"checkpoint {checkpoint_folder(run_id, *span)} has no {WEIGHTS}")
    data = str((sealed.get("data") or {}).get("fingerprint") or "")
    return Checkpoint(run_id, *span, weights, data)


def weights_of(marker: Document) -> str:
    """SHA-256 of the weights that a commit marker names, "" for none."""
    return str(marker["files"].get(WEIGHTS, {}).get("sha256", ""))


def _unended(objects: Objects, run_id: str) -> NotFound | ConfigError:
    if not objects.exists(run_key(run_id, "run.json")):
        return NotFound(f"no run {run_id!r} in {objects.url}; `ganctl runs` lists those there are")
    return ConfigError(
        f"run {run_id} has not ended, and one that goes on deletes its older checkpoints: "
        "promote it once it has ended"
    )
