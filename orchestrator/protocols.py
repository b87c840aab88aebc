"""Runs a mode-collapse protocol: every (method, seed) once, in several processes, kept as soon as it is there.

Results lie under benchmarks/<name>/<digest of all settings>/, so the same command carries on where it was killed, and
more methods or seeds add to what is there.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from PIL import Image

from gans.data.base import Dataset
from gans.errors import ConfigError
from gans.pictures import encode
from gans.protocols.benchmarks import Benchmark, documents
from gans.protocols.measures import Judge
from gans.protocols.methods import Budget
from gans.protocols.sheet import contact_sheet
from orchestrator.errors import AlreadyExists, RunFailed
from orchestrator.progress import Event, tell
from orchestrator.protocol_table import Table, tabulate
from orchestrator.store.documents import Document, decode
from orchestrator.store.documents import encode as document_bytes
from orchestrator.store.extractors import StoreCache
from orchestrator.store.files import files_for
from orchestrator.store.objects import Objects
from orchestrator.version import code_version

DRAIN_SECONDS = 0.25


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Plan:
    """What is to be run: `methods` with `seeds` seeds from `first` on, in `workers` processes."""

    bench: Benchmark
    budget: Budget
    methods: tuple[str, ...]
    seeds: int
    workers: int = 1
    first: int = 0

    def __post_init__(self) -> None:
        wrong = [m for m in self.methods if m not in self.bench.methods]
        if wrong:
            known = ", ".join(self.bench.methods)
            raise ConfigError(f"method {', '.join(wrong)}: benchmark {self.bench.name} knows {known}")

    @property
    def folder(self) -> str:
        """Where the results of these settings lie; `methods`, `seeds` and `workers` are not among them."""
        settings = json.dumps(documents(self.bench, self.budget), sort_keys=True)
        return f"benchmarks/{self.bench.name}/{hashlib.sha256(settings.encode()).hexdigest()[:16]}"

    @property
    def jobs(self) -> list[Job]:
        """Seed after seed, so that a first impression of every method comes early."""
        return [
            Job(self.bench, self.budget, method, seed)
            for seed in range(self.first, self.first + self.seeds)
            for method in self.methods
        ]


@dataclass(frozen=True)
class Job:
    """One training of a benchmark."""

    bench: Benchmark
    budget: Budget
    method: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.method}-{self.seed}"


@dataclass(frozen=True)
class Finished:
    """A job's result as it is stored, and its picture as PNG."""

    document: Document
    picture: bytes


def run(plan: Plan, objects: Objects) -> Table:
    """Run what is not there yet, and store the table and a picture of every method. Raises what training raises."""
    judge = _judge(plan.bench, objects)
    objects.put(f"{plan.folder}/settings.json", document_bytes(documents(plan.bench, plan.budget)))
    found = _found(plan, objects)
    progress = _Progress(plan, found)
    left = [job for job in plan.jobs if job.name not in found]
    with contextlib.closing(_finished(left, plan.workers, objects, progress.share)) as results:
        for job, result in results:
            found[job.name] = _keep(plan.folder, job, result, objects)
            progress.end(job, found[job.name])
    table = tabulate(plan.bench, [found[job.name] for job in plan.jobs], judge.floor)
    objects.put(f"{plan.folder}/seeds.parquet", table.seeds_parquet())
    objects.put(f"{plan.folder}/table.parquet", table.parquet())
    objects.put(f"{plan.folder}/samples.png", _sheet(plan, objects))
    return table


def _found(plan: Plan, objects: Objects) -> dict[str, Document]:
    keys = {f"{plan.folder}/{job.name}.json": job.name for job in plan.jobs}
    return {keys[key]: decode(data) for key, data in objects.get_many(keys).items()}


def _keep(folder: str, job: Job, result: Finished, objects: Objects) -> Document:
    """Store a result, its picture first; of two that finish the same job the first is kept."""
    with contextlib.suppress(AlreadyExists):
        objects.create(f"{folder}/{job.name}.png", result.picture)
    try:
        objects.create(f"{folder}/{job.name}.json", document_bytes(result.document))
    except AlreadyExists:
        return decode(objects.get(f"{folder}/{job.name}.json"))
    return result.document


def _sheet(plan: Plan, objects: Objects) -> bytes:
    """The first seed's samples of every method, side by side."""
    names = {f"{plan.folder}/{method}-{plan.first}.png": method for method in plan.methods}
    pictures = {names[key]: Image.open(io.BytesIO(data)) for key, data in objects.get_many(names).items()}
    steps = plan.bench.entrant(plan.methods[0], plan.budget).train.steps
    meta = {"run": f"benchmark {plan.bench.name}", "step": str(steps), "seed": str(plan.first)}
    return encode(contact_sheet(pictures), meta)


class _Progress:
    """Tells one line a method."""

    def __init__(self, plan: Plan, found: dict[str, Document]) -> None:
        self._seeds = plan.seeds
        self._shares: dict[str, dict[int, float]] = {method: {} for method in plan.methods}
        for job in plan.jobs:
            self._shares[job.method][job.seed] = float(job.name in found)
        self._notes = {
            m: f"{sum(shares.values()):.0f} of {plan.seeds} found" for m, shares in self._shares.items()
        }
        for method, shares in self._shares.items():
            if all(shares.values()):
                tell(Event(method, 1.0, "all found", end=True))

    def share(self, job: Job, done: float) -> None:
        """`job` is `done` (0 to 1) of its way."""
        self._shares[job.method][job.seed] = done
        self._tell(job.method)

    def end(self, job: Job, result: Document) -> None:
        """`job` has a result."""
        self._shares[job.method][job.seed] = 1.0
        self._notes[job.method] = f"seed {job.seed}: {result['modes']} modes, KL {result['kl']:.3g}"
        self._tell(job.method)

    def _tell(self, method: str) -> None:
        shares = self._shares[method].values()
        over = all(share == 1.0 for share in shares)
        tell(Event(method, sum(shares) / self._seeds, self._notes[method], end=over))


# --- the work itself, here or in other processes

Share = Callable[[Job, float], None]


def _finished(
    jobs: Sequence[Job], workers: int, objects: Objects, share: Share
) -> Generator[tuple[Job, Finished], None, None]:
    """Every job with its result, as they are finished."""
    if workers == 1 or len(jobs) <= 1:
        for job in jobs:
            yield job, _work(job, objects, partial(share, job))
        return
    context = multiprocessing.get_context("spawn")
    told, over = context.SimpleQueue(), context.Event()
    with ProcessPoolExecutor(min(workers, len(jobs)), context, _begin, (told, over)) as pool:
        try:
            waiting = {pool.submit(_work_apart, at, job, objects): job for at, job in enumerate(jobs)}
            while waiting:
                done, _ = wait(waiting, DRAIN_SECONDS, FIRST_COMPLETED)
                while not told.empty():
                    at, part = told.get()
                    share(jobs[at], part)
                for future in done:
                    yield waiting.pop(future), future.result()
        except BrokenProcessPool as error:
            raise RunFailed(
                "a worker process died, perhaps for want of memory: give the same command again to carry on, with "
                "fewer --workers"
            ) from error
        finally:
            over.set()
            pool.shutdown(wait=False, cancel_futures=True)


def _begin(told: Any, over: Any) -> None:
    """A worker's beginning: its parent answers to Ctrl-C."""
    global _told, _over
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _told, _over = told, over


_told: Any = None
_over: Any = None


def _work_apart(at: int, job: Job, objects: Objects) -> Finished:
    """`_work` in a worker process, which ends when nobody waits for it any more."""
    parent = multiprocessing.parent_process()

    def share(done: float) -> None:
        if _over.is_set() or parent is None or not parent.is_alive():
            os._exit(1)
        _told.put((at, done))

    return _work(job, objects, share)


def _work(job: Job, objects: Objects, share: Callable[[float], None]) -> Finished:
    """Train and measure, on one thread: these networks gain nothing by more."""
    entrant = job.bench.entrant(job.method, job.budget)
    threads, begun = torch.get_num_threads(), time.process_time()
    torch.set_num_threads(1)
    try:
        outcome = job.bench.run(
            entrant, job.seed, _judge(job.bench, objects), _training_data(job.bench), share
        )
    finally:
        torch.set_num_threads(threads)
    document = {
        "benchmark": job.bench.name,
        "method": job.method,
        "seed": job.seed,
        **asdict(outcome.figures),
        "steps": entrant.train.steps,
        "cpu_seconds": time.process_time() - begun,
        "code": code_version(),
    }
    meta = {"run": f"benchmark {job.bench.name}", "step": str(entrant.train.steps), "seed": str(job.seed)}
    return Finished(document, encode(outcome.picture, {**meta, "method": job.method}))


_judges: dict[str, Judge] = {}


def _judge(bench: Benchmark, objects: Objects) -> Judge:
    """The judge of a benchmark, made once a process; what it learns is kept in the store."""
    key = f"{objects.url} {bench.data.model_dump_json()} {bench.samples}"
    if key not in _judges:
        files = files_for(getattr(bench.data, "path", ""))
        _judges[key] = bench.judge(files, StoreCache(objects))
    return _judges[key]


_sets: dict[str, Dataset] = {}


def _training_data(bench: Benchmark) -> Dataset:
    key = bench.data.model_dump_json()
    if key not in _sets:
        _sets[key] = bench.data.load("train", files_for(getattr(bench.data, "path", "")))
    return _sets[key]
