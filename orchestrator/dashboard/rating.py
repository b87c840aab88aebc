"""What people say of a run's pictures: real or generated? The share they get wrong, with its interval.

A deck (`orchestrator.deck`) holds the pictures and the truth; a session of judgements is written once, as Parquet. Half
wrong means that nobody can tell; HYPE (Zhou et al., arXiv 1904.01121) calls that share the hype score.
"""

from __future__ import annotations

import io
import math
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image
from pydantic import Field

from orchestrator.dashboard.asked import Asked, Whole
from orchestrator.errors import ConfigError, GanctlError, NotFound, RunFailed
from orchestrator.store.ids import ID_PATTERN, new_id
from orchestrator.store.layout import deck_key, judgements_key, rate_folder
from orchestrator.store.objects import Objects
from orchestrator.store.reader import Run

Document = dict[str, Any]

DECK, MAKE_SECONDS = 40, 180.0
Z = 1.96  # of a 95 % interval
SMALLEST = 256  # pixels that a picture is enlarged to at least, by whole factors


class Judgement(Asked):
    """What was said of one picture, and after how long."""

    item: Whole = Field(ge=0, lt=1000)
    real: bool
    seconds: float = Field(ge=0, le=3600)


class Session(Asked):
    """One person's judgements of a deck."""

    deck: str = Field(pattern=rf"^{ID_PATTERN.pattern}$")
    judgements: list[Judgement] = Field(min_length=1, max_length=500)


def make_deck(objects: Objects, run_id: str, num: int = DECK) -> str:
    """Have a deck made, in a process of its own; returns its id. Raises RunFailed with that process's words."""
    Run(objects, run_id).document()
    command = [sys.executable, "-m", "orchestrator.deck", objects.url, run_id, str(num)]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=MAKE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise GanctlError(f"the pictures were not drawn within {MAKE_SECONDS:.0f} s; ask again") from None
    if told.returncode:
        lines = [line for line in told.stderr.splitlines() if line.strip()] or ["it ended without a word"]
        raise RunFailed(lines[-1].removeprefix("error: ")[:500])
    return told.stdout.split()[-1]


@lru_cache(maxsize=8)
def deck_of(objects: Objects, run_id: str, deck_id: str) -> tuple[np.ndarray, np.ndarray, int]:
    """(images uint8 NHWC, which are real, step of the checkpoint) of a deck, which never changes. Raises NotFound."""
    with np.load(io.BytesIO(objects.get(deck_key(run_id, deck_id))), allow_pickle=False) as arrays:
        return arrays["images"], arrays["real"], int(arrays["step"])


def picture(objects: Objects, run_id: str, deck_id: str, item: int) -> bytes:
    """One picture of a deck as PNG, enlarged where it is small. It says nothing of where it comes from."""
    images, _, _ = deck_of(objects, run_id, deck_id)
    if not 0 <= item < len(images):
        raise NotFound(f"deck {deck_id} has {len(images)} pictures")
    image = images[item]
    times = max(1, SMALLEST // max(image.shape[:2]))
    enlarged = image.repeat(times, axis=0).repeat(times, axis=1)
    out = io.BytesIO()
    Image.fromarray(enlarged[:, :, 0] if enlarged.shape[2] == 1 else enlarged).save(out, "PNG")
    return out.getvalue()


def judge(objects: Objects, run_id: str, session: Session, by: str) -> Document:
    """Write a session and say how it went. Raises ConfigError where a picture is judged twice or there is none such."""
    _, real, step = deck_of(objects, run_id, session.deck)
    items = [one.item for one in session.judgements]
    if len(set(items)) < len(items) or max(items) >= len(real):
        raise ConfigError(f"judge each of the deck's {len(real)} pictures once at most")
    session_id, said = new_id(), [one.real for one in session.judgements]
    truth = [bool(real[item]) for item in items]
    table = pa.table(
        {
            "deck": pa.array([session.deck] * len(items)),
            "item": pa.array(items, pa.int64()),
            "step": pa.array([step] * len(items), pa.int64()),
            "real": pa.array(truth),
            "said_real": pa.array(said),
            "seconds": pa.array([one.seconds for one in session.judgements], pa.float64()),
            "by": pa.array([by] * len(items)),
            "time": pa.array([time.time()] * len(items), pa.float64()),
        }
    )
    out = pa.BufferOutputStream()
    pq.write_table(table, out, compression="zstd")
    objects.create(judgements_key(run_id, session_id), bytes(out.getvalue()))
    return {"session": session_id, "step": step, **figures(truth, said)}


def told(objects: Objects, run_id: str) -> Document:
    """All that was said of a run: figures over all sessions and by step, and its decks, the newest first."""
    keys = objects.list(rate_folder(run_id))
    decks = [m[1] for key in keys if (m := re.search(rf"/deck-({ID_PATTERN.pattern})\.npz$", key))]
    found = objects.get_many(key for key in keys if key.endswith(".parquet"))
    tables = [pq.read_table(io.BytesIO(data)) for data in found.values()]
    answer: Document = {"decks": decks[::-1], "sessions": len(tables), "all": None, "steps": []}
    if tables:
        every = pa.concat_tables(tables)
        answer["all"] = _figures_of(every)
        for step in sorted(set(every["step"].to_pylist())):
            part = every.filter(pc.equal(every["step"], step))
            answer["steps"].append({"step": step, **_figures_of(part)})
    return answer


def _figures_of(table: pa.Table) -> Document:
    return figures(table["real"].to_pylist(), table["said_real"].to_pylist())


def figures(truth: Sequence[bool], said: Sequence[bool]) -> Document:
    """`error`, the share judged wrongly, with Wilson's 95 % interval `low` to `high`; and of the real and of the
    generated pictures alone, None where there were none."""
    wrong = [real != answer for real, answer in zip(truth, said, strict=True)]
    low, high = wilson(sum(wrong), len(wrong))
    shares: Document = {}
    for name, kind in (("error_real", True), ("error_generated", False)):
        some = [mistake for mistake, real in zip(wrong, truth, strict=True) if real is kind]
        shares[name] = sum(some) / len(some) if some else None
    return {"num": len(wrong), "error": sum(wrong) / len(wrong), "low": low, "high": high, **shares}


def wilson(hits: int, num: int, z: float = Z) -> tuple[float, float]:
    """Wilson's interval of a share (JASA 22, 1927): unlike the textbook one it holds for few and for extreme counts."""
    share, wide = hits / num, z * z / num
    centre = (share + wide / 2) / (1 + wide)
    half = z * math.sqrt(share * (1 - share) / num + wide / (4 * num)) / (1 + wide)
    return max(0.0, centre - half), min(1.0, centre + half)
