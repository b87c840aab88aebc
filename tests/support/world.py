"""A store of made-up runs in every state and age, written directly, and what it consists of as plain facts.

The facts are what an oracle judges by: it need not read the store.
"""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from orchestrator.registry.records import Promotion, digest
from orchestrator.registry.records import encode as encode_promotion
from orchestrator.store import catalogue
from orchestrator.store.catalogue import Catalogue
from orchestrator.store.documents import encode
from orchestrator.store.ids import new_id
from orchestrator.store.metrics import to_parquet
from orchestrator.store.objects import Objects

DAY = 86_400.0
ENDS = ("completed", "completed", "collapsed", "diverged", "pruned", "failed")


@dataclass
class Checkpoint:
    """One checkpoint's folder. `kind`: finished, void (fenced off by a later attempt) or unfinished."""

    step: int
    attempt: int
    kind: str
    fid: float | None
    age: float  # days since it was written
    keys: list[str] = field(default_factory=list)


@dataclass
class Made:
    """One id. `kind`: sealed, open (live, queued, lost, …) or unannounced."""

    id: str
    kind: str
    state: str
    ended: float = 0.0  # days ago
    sweep: str | None = None
    checkpoints: list[Checkpoint] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    keys: dict[str, float] = field(default_factory=dict)  # all of them, by age
    merged: float | None = None  # days ago

    @property
    def finished(self) -> list[Checkpoint]:
        return [c for c in self.checkpoints if c.kind == "finished"]


class World:
    """`num` runs and what refers to them. On a folder every object has the age that the facts say; elsewhere all
    are as old as the test, and only documents tell ages."""

    def __init__(self, objects: Objects, num: int, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.objects, self.random, self.now = objects, random.Random(seed), time.time()
        self.ages: dict[str, float] = {}  # of every object, in days
        self.runs: list[Made] = []
        self.promoted: set[tuple[str, int, int]] = set()
        self.steps: set[tuple[str, int]] = set()  # started from: run, step
        self.whole: set[str] = set()  # runs of last rounds, and of results of sweeps
        self.sweeps: dict[str, dict[str, Any]] = {}
        self.snapshots: list[tuple[str, float, set[str]]] = []  # key, age, what it names
        self.digests: dict[str, bool] = {}  # by key: whether the last round used it
        self.elapsed = 0.0  # days since it was made
        self._root = objects.local_path("x")
        self._make_sweeps()
        stages = [self._age(40), self._age(12), 2.5, 0.3]
        for stage, age in enumerate(stages):
            for _ in range(num // (len(stages) + 1)):
                self._make_run(at_least=age)
            self._compact(age, monkeypatch)
            self._loser(stage)
        while len(self.runs) < num:
            self._make_run()
        self._finish_sweeps()
        self._make_promotions()
        self._make_rounds()
        self._make_bystanders()

    def put(self, key: str, data: bytes, age: float) -> None:
        """Write an object that is `age` days old."""
        self.ages[key] = age
        if self._root is None:
            self.objects.put(key, data)
            return
        path = Path(self._root).parent / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self._date(key, age)

    def elapse(self, days: float) -> None:
        """So many days later. Where objects are as old as the test, from here on the facts say so."""
        assert self._root is None, "on a folder objects have ages of their own"
        self.now, self.elapsed = self.now + days * DAY, days
        self.ages = dict.fromkeys(self.ages, days)
        self.snapshots = [(key, days, names) for key, _, names in self.snapshots]
        for sweep in self.sweeps.values():
            sweep["age"] = days
        for run in self.runs:
            run.ended += days
            run.merged = None if run.merged is None else run.merged + days
            run.keys = dict.fromkeys(run.keys, days)
            for checkpoint in run.checkpoints:
                checkpoint.age = days

    def sealed(self) -> list[Made]:
        return [run for run in self.runs if run.kind == "sealed"]

    def _date(self, key: str, age: float) -> None:
        self.ages[key] = age
        if self._root is not None:
            then = self.now - age * DAY
            os.utime(Path(self._root).parent / key, (then, then))

    def _age(self, most: int, least: int = 0) -> float:
        """Days, half a day away from every limit of a policy in whole days."""
        return self.random.randint(least, most) + 0.5

    def _make_run(self, at_least: float = 0.0) -> None:
        kind = self.random.choices(["sealed", "open", "unannounced"], [8, 2, 1])[0]
        ended = at_least + self.random.randint(0, 45) + (0.0 if at_least else 0.5)
        state = self.random.choice(ENDS if kind == "sealed" else ("running", "queued", "lost", "stopped"))
        run = Made(new_id(), kind, state, ended)
        self.runs.append(run)
        begun = [0, 20] if self.random.random() < 0.4 else [0]
        if self.random.random() < 0.3 and kind != "unannounced":
            run.sweep = self.random.choice([*self.sweeps, "20200101-000000-gonefr"])
        for attempt in range(1, len(begun) + 1):
            self._write(run, f"attempts/{attempt:04d}.json", {"attempt": attempt, "from": begun[attempt - 1]})
            self._make_parts(run, attempt, begun)
            self._make_checkpoints(run, attempt, begun)
        head = {"id": run.id, "created": self.now - ended * DAY, "name": "made up", "sweep": run.sweep}
        if kind != "unannounced":
            experiment: dict[str, Any] = {"name": "made up", "start": None}
            earlier = [(r, c) for r in self.sealed()[:-1] for c in r.finished]
            if earlier and self.random.random() < 0.1:
                donor, checkpoint = self.random.choice(earlier)
                experiment["start"] = f"{donor.id}@{checkpoint.step}"
                self.steps.add((donor.id, checkpoint.step))
            self._write(run, "run.json", head | {"experiment": experiment})
        if kind == "sealed":
            end = {"state": state, "time": self.now - ended * DAY, "step": 40, "attempt": len(begun)}
            end |= {"parts": [key.rpartition("/")[2] for key in run.parts], "from": begun, "metrics": {}}
            self._write(run, "sealed.json", head | end)
            self._write(run, f"done/{run.id}.json", {"id": run.id})
        if kind == "open" or self.random.random() < 0.1:  # a sealed run's may be left over, an orphan's, too
            beat = 0.0 if state == "running" else ended
            self._write(run, f"live/{run.id}.json", head | {"state": state, "time": self.now - beat * DAY})

    def _write(self, run: Made, name: str, document: dict[str, Any] | bytes) -> str:
        key = name if name.startswith(("live/", "done/")) else f"runs/{run.id}/{name}"
        data = document if isinstance(document, bytes) else encode(document)
        age = run.ended if run.kind == "sealed" else self.random.choice([0.2, 0.6, 1.5, 20.5])
        self.put(key, data, age)
        run.keys[key] = age
        return key

    def _make_parts(self, run: Made, attempt: int, begun: list[int]) -> None:
        """Of steps 10, 20, …; with columns that other runs lack, or have as another type, and with odd numbers."""
        first = begun[attempt - 1] + 10
        steps = list(range(first, first + 10 * self.random.randint(1, 3), 10))
        odd = [float("nan"), float("inf"), -0.0, 5e-324, 1e22, 0.1]
        columns: dict[str, Any] = {
            "step": pa.array(steps, pa.int64()),
            "attempt": pa.array([attempt] * len(steps), pa.int64()),
            "time": pa.array([self.random.random() for _ in steps], pa.float64()),
        }
        more: dict[str, Any] = {
            "loss_d": [self.random.choice(odd) for _ in steps],
            "loss_g": [self.random.random(), *[self.random.choice([None, 0.5]) for _ in steps[1:]]],
            "extra": self.random.choice([["text"] * len(steps), [0.1] * len(steps), [True] * len(steps)]),
            f"only.{self.random.randint(0, 5)}": [1.5] * len(steps),
        }
        names = self.random.sample(list(more), self.random.randint(1, len(more)))
        if attempt > 1:
            names = [name for name in names if name != "extra"]  # a metric keeps its type within a run
        table = pa.table(columns | {name: more[name] for name in names})
        name = f"m/a{attempt:04d}-{steps[0]:012d}-{steps[-1]:012d}.parquet"
        run.parts.append(self._write(run, name, to_parquet(table)))

    def _make_checkpoints(self, run: Made, attempt: int, begun: list[int]) -> None:
        first = begun[attempt - 1] + 10
        for step in range(first, first + 10 * self.random.randint(0, 4), 10):
            void = any(step > start for start in begun[attempt:])
            kind = "unfinished" if self.random.random() < 0.15 else "void" if void else "finished"
            fid = self.random.choice([None, float(self.random.randint(1, 10**6))])
            folder = f"checkpoints/{step:012d}-a{attempt:04d}"
            files = {"weights.safetensors": b"w" * self.random.randint(1, 99), "state.json": b"{}"}
            keys = [self._write(run, f"{folder}/{name}", data) for name, data in files.items()]
            if kind != "unfinished":
                listing = {name: {"size": len(data), "sha256": digest(data)} for name, data in files.items()}
                marker = {"step": step, "attempt": attempt, "files": listing, "fid": fid}
                keys.append(self._write(run, f"{folder}/commit.json", marker))
            age = self.random.choice([0.3, 1.5, 9.5]) if kind != "finished" else run.ended
            if run.kind == "sealed":
                for key in keys:
                    self._date(key, age)
            run.checkpoints.append(Checkpoint(step, attempt, kind, fid, age, keys))

    def _compact(self, age: float, monkeypatch: pytest.MonkeyPatch) -> None:
        """As if it had been done `age` days ago."""
        before = (
            set(self.objects.list("seg")) | set(self.objects.list("index")) | set(self.objects.list("snap"))
        )
        with monkeypatch.context() as patch:
            patch.setattr(catalogue, "time", SimpleNamespace(time=lambda: self.now - age * DAY))
            snapshot = Catalogue(self.objects).compact()
        after = (
            set(self.objects.list("seg")) | set(self.objects.list("index")) | set(self.objects.list("snap"))
        )
        for key in after - before:
            self._date(key, age)
        names = {snapshot.index, *(segment.key for segment in snapshot.segments)}
        self.snapshots.append((f"snap/{snapshot.number:08d}.json", age, names))
        for run in self.sealed():
            if run.merged is None:
                run.merged = age
                for key in (f"done/{run.id}.json", f"live/{run.id}.json"):
                    run.keys.pop(key, None)
                    self.ages.pop(key, None)

    def _loser(self, number: int) -> None:
        """What a compactor that was killed left behind."""
        for folder, age in (("seg", 20.5), ("index", 0.4), ("seg", 0.4), ("index", 1.6)):
            self.put(f"{folder}/{number:04d}{self.random.getrandbits(64):016x}.parquet", b"x", age)

    def _make_sweeps(self) -> None:
        for finished in (True, True, False, True):
            self.sweeps[new_id()] = {"finished": finished, "age": self._age(30), "best": set(), "runs": set()}

    def _finish_sweeps(self) -> None:
        for sweep_id, sweep in self.sweeps.items():
            runs = [run for run in self.sealed() if run.sweep == sweep_id]
            runs += self.random.sample([run for run in self.sealed() if run.sweep is None], 2)
            sweep["runs"] = {run.id for run in runs}
            trials = [{"number": n, "run_id": run.id, "state": "COMPLETE"} for n, run in enumerate(runs)]
            front = self.random.sample(range(len(runs)), min(2, len(runs)))
            sweep["best"] = {runs[number].id for number in front}
            self.put(f"sweeps/{sweep_id}/sweep.json", encode({"id": sweep_id, "plan": {}}), sweep["age"])
            if not sweep["finished"]:
                self.put(f"sweeps/{sweep_id}/live.json", encode({"rows": [], "time": 0.0}), 0.0)
            result = {"sweep_id": sweep_id, "trials": trials, "best": trials[front[0]], "front": front[1:]}
            self.put(f"sweeps/{sweep_id}/result.json", encode(result), sweep["age"])

    def _make_promotions(self) -> None:
        for name in ("faces", "digits"):
            previous = ""
            for number in range(1, 9):
                run = self.random.choice([run for run in self.sealed() if run.finished])
                chosen = self.random.choice(run.finished)
                self.promoted.add((run.id, chosen.step, chosen.attempt))
                data = encode_promotion(
                    promotion(name, number, run.id, chosen.step, chosen.attempt, previous)
                )
                previous = digest(data)
                self.put(f"models/{name}/{number:06d}.json", data, 100.5)

    def _make_rounds(self) -> None:
        """Three retrainings; of rounds and of settings the last count."""
        for name, count in (("faces", 12), ("digits", 3), ("birds", 1)):
            for number in range(1, count + 1):
                last = number == count
                run = self.random.choice(self.sealed())
                donor = self.random.choice([run for run in self.sealed() if run.finished])
                other = self.random.choice([run for run in self.sealed() if run.finished])
                start = self.random.choice(donor.finished).step
                fingerprint = f"{self.random.getrandbits(64):016x}"
                root = f"retrain/{name}/rounds/{number:06d}"
                attempt = {"number": 1, "run_id": run.id, "start": f"{donor.id}@{start}"}
                self.put(f"{root}/begun.json", encode({"fingerprint": fingerprint, "number": number}), 50.5)
                self.put(f"{root}/attempt-1.json", encode(attempt), 50.5)
                self.put(f"{root}/end.json", encode({"outcome": "kept"}), 50.5)
                key = f"retrain/{name}/seen/{fingerprint}.npy"
                self.put(key, b"digests", self.random.choice([3.5, 29.5, 30.5, 80.5]))
                self.digests[key] = last
                settings = {"retraining": {"experiment": {"start": f"{other.id}@{other.finished[0].step}"}}}
                self.put(f"retrain/{name}/settings/{number:06d}.json", encode(settings), 50.5)
                if last:
                    self.whole.add(run.id)
                    self.steps |= {(donor.id, start), (other.id, other.finished[0].step)}

    def _make_bystanders(self) -> None:
        """What is none of housekeeping's business, however old, and two probes."""
        names = (
            "cache/abc",
            "benchmarks/x/y/table.parquet",
            "runs/README.txt",
            "runs/not-an-id/m/part.parquet",
        )
        some = self.sealed()[0]
        for key in (*names, f"runs/{some.id}/checkpoints/notes/mine.txt", f"runs/{some.id}/samples/1-ab.png"):
            self.put(key, b"mine", 400.5)
        for age in (0.2, 3.5):
            self.put(f".ganctl-probe/{self.random.getrandbits(64):016x}", b"first", age)


def promotion(name: str, number: int, run_id: str, step: int, attempt: int, previous: str = "") -> Promotion:
    """A promotion as the registry would write it."""
    told = {"decision": "", "reason": "by hand", "by": "a test", "time": 0.0, "code": {}, "data": ""}
    return Promotion(
        number=number, name=name, version=number, kind="promotion", run_id=run_id, step=step, attempt=attempt,
        weights="", previous=previous, **told,
    )  # fmt: skip
