"""A store as it is once it was compacted, made directly, and runs that go on in it. `dashboard` says what it holds."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from orchestrator.store import documents, segments, summaries
from orchestrator.store.catalogue import RUNS_PER_GROUP
from orchestrator.store.ids import new_id
from orchestrator.store.layout import run_key, sample_key
from orchestrator.store.objects import Objects
from orchestrator.store.segments import Segment, Snapshot
from orchestrator.store.writer import RunWriter

STEPS = 1000  # rows of a run
PICTURED, PICTURES = 20, 40  # runs with samples, and how many each has
COMPARED = 200
FAMILIES = ("wgan_gp", "dcgan", "stylegan2", "r3gan", "vanilla")
STATES = ("completed", "completed", "completed", "collapsed", "pruned", "failed")
VERDICTS = {"collapsed": "mode collapse", "failed": "diverged"}
METRICS = ("loss_d", "loss_g", "grad_critic", "grad_generator", "fid", "coverage", "recall")
CHARS = "abcdefghijklmnopqrstuvwxyz234567"


def name_of(number: int) -> str:
    """An id; they sort as their numbers do."""
    day, second = divmod(number * 7, 86_400)
    tail = "".join(CHARS[(number >> (5 * place)) % 32] for place in range(6))
    clock = f"{second // 3600:02d}{second // 60 % 60:02d}{second % 60:02d}"
    return f"202611{1 + day:02d}-{clock}-{tail}"


def make_store(objects: Objects, num: int, seed: int = 0) -> list[str]:
    """Write `num` sealed runs in one snapshot; returns their ids."""
    rng = np.random.default_rng(seed)
    ids = [name_of(number) for number in range(num)]
    rows: list[dict[str, Any]] = []
    parts: list[Segment] = []
    for start in range(0, num, 1000):
        group = ids[start : start + 1000]
        key = f"seg/{start:08d}.parquet"
        columns = write_segment(objects, key, group, rng)
        parts.append(Segment(key, len(group)))
        place = {"segment": key, "columns": columns, "merged": time.time()}
        for within, run in enumerate(group):
            row = row_of(start + within, run, start + within >= num - PICTURED, rng)
            rows.append(row | place | {"row_group": within // RUNS_PER_GROUP})
    snapshot = Snapshot(1, "index/0.parquet", tuple(parts))
    sink = pa.BufferOutputStream()
    pq.write_table(summaries.to_table(rows), sink)
    objects.create(snapshot.index, sink.getvalue().to_pybytes())
    objects.create("snap/00000001.json", documents.encode(asdict(snapshot)))
    write_documents(objects, rows)
    write_pictures(objects, ids[-PICTURED:], rng)
    return ids


def row_of(number: int, run: str, pictured: bool, rng: np.random.Generator) -> dict[str, Any]:
    """A run's row of the index."""
    state = STATES[number % len(STATES)]
    figures = {
        "fid": float(rng.lognormal(3, 1)),
        "coverage": float(rng.random()),
        "recall": float(rng.random()),
    }
    head = {"id": run, "name": f"run {number} of {FAMILIES[number % 5]}", "family": FAMILIES[number % 5]}
    created = 1_793_000_000.0 + number * 7
    told = {"sweep": None, "state": state, "verdict": VERDICTS.get(state, "healthy"), "attempt": 1}
    lr = {"gan.lr_g": float(10 ** rng.uniform(-4, -2)), "gan.lr_ratio": float(10 ** rng.uniform(-1, 1))}
    times = {"step": STEPS * 10, "created": created, "time": created + 600, "seed": number, "since": 10}
    times["sample"] = PICTURES * 250 if pictured else None
    return head | told | times | {"params": lr, "metrics": figures | {"seconds": 600.0}, "best": figures}


def write_segment(objects: Objects, key: str, runs: list[str], rng: np.random.Generator) -> str:
    """Curves of `runs`, of few distinct values so that they stay small on the disk; returns its columns as JSON."""
    sink = pa.BufferOutputStream()
    writer, columns = None, ""
    for start in range(0, len(runs), RUNS_PER_GROUP):
        group = sorted(runs[start : start + RUNS_PER_GROUP])
        many = len(group) * STEPS
        table = pa.table(
            {
                "run": pa.array(np.repeat(np.array(group), STEPS)),
                "step": pa.array(np.tile(np.arange(10, STEPS * 10 + 10, 10), len(group))),
                "attempt": pa.array(np.ones(many, np.int64)),
                "time": pa.array(np.tile(np.arange(STEPS, dtype=float), len(group))),
                **{name: pa.array(rng.integers(1, 200, many) / 50.0) for name in METRICS},
            }
        )
        columns = segments.columns_of(table.drop_columns(["run"]))
        writer = writer or pq.ParquetWriter(sink, table.schema, compression="zstd")
        writer.write_table(table, row_group_size=many)
    assert writer is not None
    writer.close()
    objects.create(key, sink.getvalue().to_pybytes())
    return columns


def write_documents(objects: Objects, rows: list[dict[str, Any]]) -> None:
    """run.json and sealed.json of those runs whose pages are opened; their parts are in the segment alone."""
    for row in rows[-COMPARED:]:
        gan = {"family": row["family"], **{k.removeprefix("gan."): v for k, v in row["params"].items()}}
        experiment = {"name": row["name"], "gan": gan, "data": {"kind": "digits"}, "seed": row["seed"]}
        head = {key: row[key] for key in ("id", "name", "family", "created")}
        objects.put(run_key(row["id"], "run.json"), documents.encode(head | {"experiment": experiment}))
        end = head | {key: row[key] for key in ("state", "verdict", "attempt", "step", "time", "metrics")}
        end |= {"parts": ["a0001-000000000010-000000010000.parquet"], "from": [0], "seconds": 600.0}
        objects.put(run_key(row["id"], "sealed.json"), documents.encode(end))


def write_pictures(objects: Objects, runs: list[str], rng: np.random.Generator) -> None:
    """Grids of 8 x 8 pictures of 32 x 32, the same ones for each run."""
    for number in range(PICTURES):
        pixels = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
        sink = io.BytesIO()
        Image.fromarray(pixels).save(sink, "PNG")
        for run in runs:
            objects.put(sample_key(run, (number + 1) * 250, f"{number:012x}"), sink.getvalue())


@contextmanager
def going(objects: Objects, num: int) -> Iterator[None]:
    """Runs that go on: each tells a step and a heartbeat every second, and has its rows written every 10 s."""
    head = {"name": "goes on", "family": "dcgan", "seed": 1}
    writers = [RunWriter.create(objects, new_id(), head) for _ in range(num)]
    over = threading.Event()

    def go_on() -> None:
        step = 0
        while not over.wait(1.0):
            step += 10
            for writer in writers:
                writer.log(step, dict.fromkeys(METRICS, 1.0 / step) | {"verdict": "healthy"})
                writer.heartbeat(force=True, verdict="healthy", progress=0.5)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        for writer in writers:
            writer.seal("completed", {"verdict": "healthy"})
