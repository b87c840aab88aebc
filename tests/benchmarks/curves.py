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
import math
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import gans
from gans.data.base import Batch, DataConfig, Dataset
from gans.data.digits import Digits
from gans.data.points import Grid, Ring
from gans.families.vanilla import Vanilla
from gans.health import Monitor, Verdict
from gans.loop import Tick, train
from gans.metrics import Evaluator, SampleProbe, extractor_for
from gans.metrics.extractors import Extractor, extract
from gans.metrics.manifold import distances
from gans.options import Train
from gans.packing import Pack
from orchestrator.sweep.space import Choice, LogUniform, Space

EVALUATIONS, TICKS = 27, 54
PACKED = 49  # runs trained as one model: more gain little

Signals = dict[str, float]

LOSSES = ("non_saturating", "relativistic")
R1 = 0.1
SPACE = Space(
    {
        "gan.lr_ratio": LogUniform(low=1e-2, high=1e2),
        "gan.lr_g": LogUniform(low=1e-5, high=1e-1),
        "gan.loss": Choice(options=LOSSES),
        "gan.r1": Choice(options=(R1,), sets=("gan.r2",), when={"gan.loss": ("relativistic",)}),
    }
)
"""What somebody searches who knows neither rate nor balance: most of it collapses."""

CELLS = {"gan.lr_ratio": 7, "gan.lr_g": 7}
"""How many intervals, equal on a log scale, a range is cut into; a run is trained at the middle of each."""


@dataclass(frozen=True)
class Arena:
    """A data set with the recipe that is searched on it.

    A mode or class counts as captured where it has `share` of what is due to it of `counted` samples, points of high
    quality only. A hundredth of 2,500 is PacGAN's rule for the grid (Lin et al. 2018): one sample.
    """

    name: str
    data: DataConfig
    gan: Vanilla
    batch: int
    steps: int
    share: float
    counted: int
    cells: Mapping[str, int] = field(default_factory=lambda: CELLS)

    @property
    def images(self) -> int:
        """The full budget of a run."""
        return self.steps * self.batch

    def quick(self) -> Arena:
        """The same with few configurations."""
        return replace(self, cells=dict.fromkeys(CELLS, 5))

    def configurations(self) -> list[str]:
        """Every configuration of the space, as sorted JSON: the key of its curve."""
        places = itertools.product(*(range(num) for num in self.cells.values()))
        balances = [
            {n: _at(n, i, self.cells[n]) for n, i in zip(self.cells, at, strict=True)} for at in places
        ]
        penalised: dict[str, dict[str, Any]] = {"relativistic": {"gan.r1": R1}}
        drawn = [{"gan.loss": loss, **b, **penalised.get(loss, {})} for loss in LOSSES for b in balances]
        return [json.dumps(fields, sort_keys=True) for fields in drawn]

    def nearest(self, params: Mapping[str, Any], among: Collection[str]) -> str:
        """The configuration that stands for `params`: of the same loss, if any is left, and the nearest otherwise."""
        return min(among, key=lambda name: _distance(params, json.loads(name)))

    def family(self, configuration: str) -> Vanilla:
        """The recipe with the fields of `configuration`."""
        chosen = {name.removeprefix("gan."): value for name, value in json.loads(configuration).items()}
        return self.gan.with_changes(chosen | ({"r2": chosen["r1"]} if "r1" in chosen else {}))

    def options(self) -> Train:
        """One tick in 54, an evaluation at every second one."""
        return Train(
            steps=self.steps,
            batch=self.batch,
            log_every=self.steps // TICKS,
            evaluate_every=self.steps // EVALUATIONS,
            evaluate_samples=300,
            sample_every=0,
            checkpoint_every=0,
            on_collapse="ignore",
        )


def _at(name: str, place: int, cells: int) -> float:
    """The middle of an interval."""
    low, high = _ends(name)
    return float(f"{low * (high / low) ** ((place + 0.5) / cells):.6g}")


def _ends(name: str) -> tuple[float, float]:
    distribution = SPACE.root[name]
    assert isinstance(distribution, LogUniform)
    return distribution.low, distribution.high


def _distance(params: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Squared, where every range is 1 long on a log scale and another loss is further than all else."""
    apart = 0.0 if params["gan.loss"] == other["gan.loss"] else float(len(CELLS))
    for name in CELLS:
        low, high = _ends(name)
        apart += (math.log(params[name] / other[name]) / math.log(high / low)) ** 2
    return apart


POINTS = Vanilla(latent_dim=8, width=64, depth=3, betas=(0.0, 0.9))
ARENAS = (
    Arena("ring", Ring(num=20_000), POINTS, batch=64, steps=1350, share=0.05, counted=2_500),
    Arena("grid", Grid(num=20_000), POINTS, batch=64, steps=3240, share=0.05, counted=2_500),
    Arena(
        "digits",
        Digits(size=8),
        Vanilla(latent_dim=32, width=128, depth=2, betas=(0.0, 0.9)),
        batch=64,
        steps=810,
        share=0.3,
        counted=500,
    ),
)


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

    def __init__(self, evaluator: Evaluator, train: Dataset, extractor: Extractor, counted: int) -> None:
        self.num_samples = counted
        self._evaluator, self._modes, self._extractor = evaluator, train.modes, extractor

    def __call__(self, x: Tensor, labels: Tensor | None = None) -> dict[str, float]:
        least = {f"least{r}": self._least(x, r) for r in (3, 6, 10)}
        return self._evaluator(x, labels) | least | {"least": least["least3"]}

    @torch.no_grad()
    def _least(self, x: Tensor, radius: float) -> float:
        if not torch.isfinite(x).all():
            return 0.0
        if self._modes is None:
            shares = extract(self._extractor, x.clamp(-1.0, 1.0))[1]
            assert shares is not None
            found, kinds = shares.argmax(1), shares.shape[1]
        else:
            distance, nearest = distances(x, self._modes.centres).min(1)
            found, kinds = nearest[distance < radius * self._modes.sigma], len(self._modes.centres)
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
    text = [repr(arena), Path(__file__).read_text()]
    text += [
        path.read_text() for path in sources if path.name not in ("health.py", "remedies.py", "export.py")
    ]
    return hashlib.sha256("\0".join(text).encode()).hexdigest()[:16]


def _trained(arena: Arena, say: Callable[[str], None]) -> Iterator[tuple[str, Curve]]:
    real, held = arena.data.load("train"), arena.data.load("held_out")
    extractor = extractor_for(real)
    judge = Judge(
        Evaluator(real, held, extractor, arena.options().evaluate_samples), real, extractor, arena.counted
    )
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
    seen = {name: value for name, value in tick.metrics.items() if name != "images_per_second"}
    curve.signals.append((tick.step, tick.progress, seen))
    if tick.evaluation is not None:
        curve.figures.append((tick.step, tick.progress, tick.evaluation))


if __name__ == "__main__":
    torch.set_num_threads(1)
    for wanted in sys.argv[1:]:
        curves(next(a for a in ARENAS if a.name == wanted))
