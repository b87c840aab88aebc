"""The table of a protocol: a row a method, over its seeds, beside published figures and those of real samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any

import pyarrow as pa

from gans.protocols.benchmarks import Benchmark
from gans.protocols.measures import Figures
from gans.protocols.published import Published
from orchestrator.store.metrics import to_parquet

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation over seeds (none of a single one)."""

    mean: float
    sd: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(fmean(values), stdev(values) if len(values) > 1 else None)


@dataclass(frozen=True)
class Row:
    """A method over `seeds` seeds, `complete` of which captured every mode."""

    method: str
    seeds: int
    complete: int
    modes: Spread
    kl: Spread
    hq: Spread | None

    def flat(self) -> dict[str, Any]:
        """One value a column."""
        found: dict[str, Any] = {"method": self.method, "seeds": self.seeds, "complete": self.complete}
        for name, spread in (("modes", self.modes), ("hq", self.hq), ("kl", self.kl)):
            found[f"{name}_mean"] = None if spread is None else spread.mean
            found[f"{name}_sd"] = None if spread is None else spread.sd
        return found


@dataclass(frozen=True)
class Table:
    """What a protocol found: `results` one a (method, seed), `rows` one a method."""

    benchmark: str
    num_modes: int
    rows: tuple[Row, ...]
    results: tuple[Document, ...]
    floor: Figures
    published: tuple[Published, ...]

    def beside(self, method: str) -> Published | None:
        """What was published of `method`, the first source first."""
        return next((p for p in self.published if p.method == method), None)

    def document(self) -> dict[str, Any]:
        """All of it as plain JSON."""
        return {
            "benchmark": self.benchmark,
            "num_modes": self.num_modes,
            "rows": [row.flat() for row in self.rows],
            "results": list(self.results),
            "floor": asdict(self.floor),
            "published": [asdict(p) for p in self.published],
        }

    def parquet(self) -> bytes:
        """A row a method: its figures, those of real samples (`floor_…`), and the published ones (`published_…`)."""
        floor = {f"floor_{name}": value for name, value in asdict(self.floor).items()}
        rows = []
        for row in self.rows:
            said = self.beside(row.method)
            shown = ("source", "modes", "hq", "kl")
            told = {f"published_{n}": None if said is None else getattr(said, n) for n in shown}
            rows.append({"benchmark": self.benchmark} | row.flat() | floor | told)
        return to_parquet(_typed(rows))

    def seeds_parquet(self) -> bytes:
        """A row a (method, seed)."""
        return to_parquet(
            _typed([{k: v for k, v in r.items() if not isinstance(v, dict)} for r in self.results])
        )


def tabulate(bench: Benchmark, results: Sequence[Document], floor: Figures) -> Table:
    """The table of `results`, methods in the order in which they come."""
    methods = dict.fromkeys(r["method"] for r in results)
    rows = [_row(bench, m, [r for r in results if r["method"] == m]) for m in methods]
    return Table(bench.name, bench.modes, tuple(rows), tuple(results), floor, bench.published)


def _row(bench: Benchmark, method: str, results: Sequence[Document]) -> Row:
    shares = [r["hq"] for r in results if r["hq"] is not None]
    return Row(
        method=method,
        seeds=len(results),
        complete=sum(r["modes"] == bench.modes for r in results),
        modes=Spread.of([r["modes"] for r in results]),
        kl=Spread.of([r["kl"] for r in results]),
        hq=Spread.of(shares) if shares else None,
    )


TEXT, WHOLE = ("benchmark", "method", "published_source"), ("seed", "seeds", "complete", "steps")


def _typed(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows with equal columns; a column without any value is still one of numbers."""
    kinds = {name: pa.string() for name in TEXT} | {name: pa.int64() for name in WHOLE}
    return pa.table(
        {name: pa.array([r[name] for r in rows], kinds.get(name, pa.float64())) for name in rows[0]}
    )
