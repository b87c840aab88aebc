"""Learning curves of every configuration of a small search space: each is trained once, and searches replay it.

A run is a function of its configuration and seed, so a search that trains and one that replays what was trained see
the same. What is recorded of a run are its figures at 27 evaluations, so that rungs may lie at powers of three, and
the raw signals of its health, which is judged anew at each replay by the rules as they then are.
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import gans
from gans.data.base import Batch, Dataset
from gans.health import Monitor, Verdict
from gans.loop import Tick, train
from gans.metrics import Evaluator, SampleProbe, extractor_for
from gans.metrics.extractors import Extractor, extract
from gans.metrics.manifold import distances
from gans.packing import Pack
from gans.training import PACE
from tests.benchmarks.arenas import SPACE, Arena

PACKED = 49  # runs trained as one model: more gain little

Signals = dict[str, float]


@dataclass(frozen=True)
class Curve:
    """What a run said: signals at each tick, figures at each evaluation, by progress."""

    signals: list[tuple[int, float, Signals]]
    figures: list[tuple[int, float, Signals]]

    @cached_property
    def captures(self) -> float:
        """The least share, of what is due to it, that any mode or class had in the last fifth of the run."""
        return min(seen["least"] for _, progress, seen in self.figures if progress > 0.8)

    @cached_property
    def illness(self) -> tuple[int, float, Verdict] | None:
        """The step and progress at which the health rules end the run, and their verdict. None: never."""
        monitor = Monitor(probe=Recorded())  # type: ignore[arg-type]
        for step, progress, seen in self.signals:
            probed = {n.removeprefix("probe_"): v for n, v in seen.items() if n.startswith("probe_")}
            told = {n: v for n, v in seen.items() if not n.startswith("probe_")}
            live: Any = {"x": probed} if monitor.wants_samples else None
            verdict = monitor.observe(step, progress, told, live)
            if not verdict.healthy:
                return step, progress, verdict
        return None


class Recorded:
    """A probe that is shown signals instead of samples."""

    def __call__(self, signals: Signals) -> Signals:
        return signals


class Recorder(Monitor):
    """Notes the signals at every tick and judges nothing."""

    @property
    def wants_samples(self) -> bool:
        return True

    def observe(self, step: int, progress: float, metrics: Signals, samples: Batch | None) -> Verdict:
        assert self.probe is not None
        assert samples is not None
        return Verdict("healthy", signals={f"probe_{n}": v for n, v in self.probe(samples["x"]).items()})


class Judge:
    """An evaluator that also says how well the worst mode or class is represented: `least`, 1 where evenly."""

    def __init__(self, arena: Arena, evaluator: Evaluator, train: Dataset, extractor: Extractor) -> None:
        self.num_samples, self._arena = arena.counted, arena
        self._evaluator, self._modes, self._extractor = evaluator, train.modes, extractor

    def __call__(self, x: Tensor, labels: Tensor | None = None) -> dict[str, float]:
        return self._evaluator(x, labels) | {"least": self._least(x)}

    @torch.no_grad()
    def _least(self, x: Tensor) -> float:
        if not torch.isfinite(x).all():
            return 0.0
        if self._modes is None:
            shares = extract(self._extractor, x.clamp(-1.0, 1.0))[1]
            assert shares is not None
            found, kinds = shares.argmax(1), shares.shape[1]
        else:
            distance, nearest = distances(x, self._modes.centres).min(1)
            found, kinds = (
                nearest[distance < self._arena.radius * self._modes.sigma],
                len(self._modes.centres),
            )
        return float(torch.bincount(found, minlength=kinds).min()) * kinds / len(x)


def curves(arena: Arena, say: Callable[[str], None] = print) -> dict[str, Curve]:
    """The curve of every configuration of `arena`: from a temporary folder, or trained now and put there."""
    path = Path(tempfile.gettempdir()) / "ganctl-curves" / f"{arena.name}-{_digest(arena)}.json.gz"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        begun = time.monotonic()
        trained = dict(_trained(arena, say))
        say(
            f"trained {len(trained)} configurations of {arena.name} in {time.monotonic() - begun:.0f} s: {path}"
        )
        unfinished = path.with_suffix(".part")
        with gzip.open(unfinished, "wt") as file:
            json.dump({name: asdict(curve) for name, curve in trained.items()}, file)
        unfinished.rename(path)
    with gzip.open(path, "rt") as file:
        return {name: Curve(**said) for name, said in json.load(file).items()}


def _digest(arena: Arena) -> str:
    """Of what a curve depends on: the arena, and all of `gans` but the rules it is judged by afterwards."""
    sources = sorted(Path(gans.__file__).parent.rglob("*.py"))
    text = [repr(replace(arena, share=0.0)), SPACE.model_dump_json(), Path(__file__).read_text()]
    text += [
        path.read_text() for path in sources if path.name not in ("health.py", "remedies.py", "export.py")
    ]
    return hashlib.sha256("\0".join(text).encode()).hexdigest()[:16]


def _trained(arena: Arena, say: Callable[[str], None]) -> Iterator[tuple[str, Curve]]:
    real, held = arena.data.load("train"), arena.data.load("held_out")
    extractor = extractor_for(real)
    evaluator = Evaluator(real, held, extractor, arena.options().evaluate_samples)
    judge = Judge(arena, evaluator, real, extractor)
    probe = SampleProbe(real.fetch(real.order(0, 0)[:512])["x"], extractor)
    paired = lambda name: "relativistic" in name  # noqa: E731 - of another structure, and packed apart
    ordered = sorted(arena.configurations(), key=paired)
    for _, alike in itertools.groupby(ordered, key=paired):
        names = list(alike)
        for some in (names[i : i + PACKED] for i in range(0, len(names), PACKED)):
            yield from _packed(arena, some, real, judge, probe)
            say(f"{arena.name}: {len(some)} more of {len(ordered)} configurations trained")


def _packed(
    arena: Arena, names: list[str], real: Dataset, judge: Judge, probe: SampleProbe
) -> Iterator[tuple[str, Curve]]:
    pack, said = Pack(), {name: Curve([], []) for name in names}
    runs = {
        name: train(
            arena.family(name),
            real,
            arena.options(),
            seed=int(hashlib.sha256(name.encode()).hexdigest()[:6], 16),
            device=torch.device("cpu"),
            evaluate=judge,
            monitor=Recorder(probe),
            pack=pack,
        )
        for name in names
    }
    while runs:
        for name, run in list(runs.items()):
            tick = next(run, None)
            if tick is None:
                del runs[name]
            else:
                _note(said[name], tick)
    yield from said.items()


def _note(curve: Curve, tick: Tick) -> None:
    seen = {name: value for name, value in tick.metrics.items() if name not in PACE}
    curve.signals.append((tick.step, tick.progress, seen))
    if tick.evaluation is not None:
        curve.figures.append((tick.step, tick.progress, tick.evaluation))
