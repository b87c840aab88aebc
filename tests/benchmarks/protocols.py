"""Whether the mode-collapse protocols end as they should: r3gan and packing reach every mode, plain GANs do not.

    python -m tests.benchmarks.protocols [--quick] [--seed N] [--only NAME] [--seeds N] [--workers N] [--store URL]

Runs `ganctl benchmark` with the reduced budget of docs/benchmarks.md on ring, grid and stacked digits; with --quick
three seeds instead of ten. Every training is kept in the store, so that the same command carries on where it was
killed. Hours on two cores: docs/benchmarks.md has the time of each training.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from gans.protocols.benchmarks import benchmark
from orchestrator.protocol_table import Row, Table
from orchestrator.protocols import Plan, cores, run
from orchestrator.store.objects import open_objects
from tests.benchmarks.report import Report

POINTS = ("gan", "pacgan2-r", "r3gan")
RUNS = {"ring": POINTS, "grid": POINTS, "stacked-digits": ("gan", "r3gan")}
MOST = 0.9  # share of seeds that reach every mode
NEAR_QUALITY, NEAR_KL = 0.05, 0.05  # below the floor's HQ share; above its KL, nats
GAN_MODES, GAN_KL = 3.0, 0.4  # how far from the published figures a plain GAN may be


def points(table: Table, report: Report) -> None:
    """Targets on ring and grid."""
    floor = table.floor
    assert floor.hq is not None
    for row in table.rows:
        assert row.hq is not None
        name, said = f"{table.benchmark}/{row.method}", table.beside(row.method)
        if row.method == "gan":
            assert said is not None
            report.add(f"{name}, modes", row.modes.mean, at_least=said.modes - GAN_MODES)
            report.add(f"{name}, KL", row.kl.mean, at_most=said.kl + GAN_KL)
            report.add(f"{name}, HQ share", row.hq.mean)
            continue
        complete(name, row, report)
        report.add(f"{name}, HQ share", row.hq.mean, at_least=floor.hq - NEAR_QUALITY)
        report.add(f"{name}, KL", row.kl.mean, at_most=floor.kl + NEAR_KL)


def stacked(table: Table, report: Report) -> None:
    """Targets on stacked digits."""
    for row in table.rows:
        name, held = f"{table.benchmark}/{row.method}", row.method == "r3gan"
        report.add(f"{name}, modes", row.modes.mean, at_least=999 if held else None)
        report.add(f"{name}, KL", row.kl.mean, at_most=2 * table.floor.kl if held else None)


def complete(name: str, row: Row, report: Report) -> None:
    """How many seeds reach every mode."""
    report.add(f"{name}, seeds with all modes", row.complete / row.seeds, f"of {row.seeds}", at_least=MOST)


def main() -> int:
    """Print every figure; 1 if one with a target falls short of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="three seeds")
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--seeds", type=int, help="how many; ten unless said")
    parser.add_argument("--only", choices=RUNS, help="one protocol")
    parser.add_argument("--workers", type=int, default=cores())
    parser.add_argument("--store", default=str(Path(tempfile.gettempdir()) / "ganctl-protocols"))
    args = parser.parse_args()
    report, objects = Report(), open_objects(args.store)
    seeds = args.seeds or (3 if args.quick else 10)
    for name in [args.only] if args.only else RUNS:
        bench = benchmark(name)
        table = run(
            Plan(bench, bench.budget(quick=True), RUNS[name], seeds, args.workers, args.seed), objects
        )
        for label, value in vars(table.floor).items():
            if value is not None:
                report.add(f"{name}/real samples, {label}", value)
        spent = [r["cpu_seconds"] for r in table.results]
        report.add(f"{name}/CPU a training", sum(spent) / len(spent), "s")
        (points if table.floor.hq is not None else stacked)(table, report)
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main())
