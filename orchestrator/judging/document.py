"""The decision as a document that any tool reads, with its pictures beside it.

verdict       "promote" or "keep"
reason        why, in one sentence
time          Unix seconds when it was decided
checks        each condition: name, kind (improvement, guard, at_most, at_least), champion, challenger, difference
              (relative improvement; loss; or the figure), low, high (one-sided bounds), bound, ok
contestants   challenger and, where there is one, champion: run_id, step, attempt, weights (SHA-256), promotion
              (the number of the champion's record), and its `figures`: name → value, low, high; null where it
              could not be measured
floor         figures of real training data in place of samples
seeds         of the latents; both contestants drew all of them
evaluation    samples a seed, draws, resamples, seed
gate          primary, margin, guards, confidence, at_most, at_least
data          train and held_out: fingerprint, items
extractor     whose features were compared
pictures      keys of PNG files from the same latents: challenger, champion, grids (one beside the other)
code          versions of the packages that decided
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from gans.pictures import encode
from orchestrator.errors import AlreadyExists
from orchestrator.judging.compare import Judgement
from orchestrator.judging.gate import Measured
from orchestrator.store import documents
from orchestrator.store.layout import decision_key, decision_picture_key
from orchestrator.store.objects import Objects
from orchestrator.version import code_version


def document(judgement: Judgement, pictures: dict[str, str]) -> documents.Document:
    """The judgement as plain JSON; `pictures` are the keys of its pictures."""
    j = judgement
    return {
        "verdict": "promote" if j.decision.promote else "keep",
        "reason": j.decision.reason,
        "time": j.time,
        "checks": [asdict(check) for check in j.decision.checks],
        "contestants": {
            name: asdict(c) | {"figures": _figures(j.measured.get(name), j.gate.confidence)}
            for name, c in j.contestants.items()
        },
        "floor": dict(j.floor),
        "seeds": list(j.evaluation.seeds),
        "evaluation": j.evaluation.model_dump(mode="json"),
        "gate": j.gate.model_dump(mode="json"),
        "data": {name: asdict(part) for name, part in j.data.items()},
        "extractor": j.extractor,
        "pictures": pictures,
        "code": code_version(),
    }


def write(objects: Objects, folder: str, number: int, judgement: Judgement) -> str:
    """Write the pictures, then `decision-<number>.json` in `folder`, and return its key.

    A picture's name carries its digest, so that a writer that died in between is no obstacle. Raises AlreadyExists
    where that decision is there.
    """
    keys = {}
    for name, image in judgement.pictures.items():
        shown = "challenger" if name == "grids" else name
        contestant = judgement.contestants[shown]
        meta = {
            "run": contestant.run_id,
            "step": str(contestant.step),
            "seed": str(judgement.evaluation.seed),
        }
        data = encode(image, meta)
        keys[name] = decision_picture_key(folder, name, hashlib.sha256(data).hexdigest()[:12])
        with suppress(AlreadyExists):
            objects.create(keys[name], data)
    key = decision_key(folder, number)
    objects.create(key, documents.encode(document(judgement, keys)))
    return key


def _figures(measured: Measured | None, confidence: float) -> dict[str, Any] | None:
    if measured is None:
        return None
    told = {}
    for name, value in measured.figures.items():
        low, high = measured.interval(name, confidence) if name in measured.resamples else (None, None)
        told[name] = {"value": value, "low": low, "high": high}
    return told
