"""How often the gate promotes a model that is no better, and one that is better by the margin.

    python -m tests.benchmarks.gate [--quick] [--seed N] [--models FILE]

80 models of one recipe (perceptrons on 8 px digits, relativistic loss with R1 and R2, 1,000 steps) that differ in
nothing but the seed, trained as one batched model. Equal pairs: two such models; 40 pairs share none. Pairs with an
improvement: the same challengers against champions of an earlier step, the one from which the mean figure improves by
the margin, or by half of it, as nearly as a step of 50 allows. Every duel is judged as `ganctl retrain` judges it: the
same latents, held-out data, bootstrap and default gate, guards included.

The default margin was chosen on seeds 5000 to 5159, as what training noise asks for: with a relative sd c of the
figure over seeds, the logarithms of two equal models' figures differ by c·√2, and half of -log(1 - margin) must be at
least 1.64 of that. Printed results come from other seeds. `--quick` has 8 pairs of 400 steps, which says little.
`--models` keeps what was trained, to judge it again. About five minutes of one core.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time
from pathlib import Path
from statistics import mean, stdev

import torch

from gans.data.base import Dataset
from gans.generator import Model
from gans.metrics import classifier_extractor
from orchestrator.judging.compare import Arena
from orchestrator.judging.figures import Reference
from orchestrator.judging.gate import Decision, Measured, decide
from orchestrator.judging.options import Evaluation, Gate
from tests.benchmarks.gate_models import DATA, FAMILY, STEPS, Course, kept, networks
from tests.benchmarks.report import Report

CALIBRATION = range(5000, 5160)
"""Seeds that the default margin was chosen on."""

PAIRS, QUICK_PAIRS, QUICK_STEPS = 40, 8, 400
ON_CURVE = 10
"""Models that the step of an improvement is chosen on."""

FALSE_RATE, POWER = 0.05, 0.9


def arena() -> Arena:
    """The digits, their extractor and what is drawn, as `ganctl retrain` has them by default."""
    train: Dataset = DATA.load("train")
    held_out, extractor, evaluation = DATA.load("held_out"), classifier_extractor(train), Evaluation()
    return Arena(train, held_out, extractor, Reference.of(train, held_out, extractor, evaluation), evaluation)


def measured(where: Arena, courses: list[Course], step: int) -> list[Measured]:
    """The figures of every course at `step`."""
    return [
        where.measured(Model(FAMILY, where.spec, networks(where.spec, course[step]))) for course in courses
    ]


def average(found: list[Measured], name: str) -> float:
    """The mean of a figure."""
    return mean(m.figures[name] for m in found)


def noise(found: list[Measured], gate: Gate, report: Report) -> None:
    """How much equal models differ, and the margin that this asks for."""
    for name in (gate.primary, *gate.guards):
        values = [m.figures[name] for m in found]
        report.add(f"gate/seeds/{name}, mean", mean(values))
        report.add(f"gate/seeds/{name}, sd", stdev(values))
    relative = stdev(m.figures[gate.primary] for m in found) / average(found, gate.primary)
    report.add(f"gate/seeds/{gate.primary}, relative sd", relative)
    report.add("gate/margin that this noise asks for", 1 - math.exp(-2 * 1.645 * math.sqrt(2) * relative))
    report.add("gate/margin of the gate", gate.margin)


def rate(name: str, decisions: list[Decision], report: Report, **bounds: float) -> None:
    """The share of promotions, and which conditions refused the others."""
    report.add(
        f"gate/{name}/promoted", mean(d.promote for d in decisions), f"of {len(decisions):,}", **bounds
    )
    refused = [c.name for d in decisions for c in d.checks if not c.ok]
    counts = ", ".join(f"{k} {refused.count(k) / len(decisions):.0%}" for k in dict.fromkeys(refused))
    print(f"#   refused by: {counts or 'none'}")


def earlier(curve: dict[int, float], last: float, share: float) -> int:
    """The step from whose mean figure `last` is better by `share`, as nearly as there is one."""
    return min(curve, key=lambda step: abs(1 - last / curve[step] - share))


def main() -> int:
    """Print every figure; 1 if one with a target falls short of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="8 pairs of short trainings")
    parser.add_argument("--seed", type=int, default=CALIBRATION.stop, help="of the first model")
    parser.add_argument("--models", type=Path, help="where the models are kept")
    args = parser.parse_args()
    if args.seed in CALIBRATION:
        print(f"# seeds {CALIBRATION.start} to {CALIBRATION.stop - 1} were used to choose the margin")
    torch.set_num_threads(1)
    pairs, last = (QUICK_PAIRS, QUICK_STEPS) if args.quick else (PAIRS, STEPS)
    report, gate, where = Report(), Gate(), arena()
    targets = {} if args.quick else {"at_most": FALSE_RATE}, {} if args.quick else {"at_least": POWER}
    courses = kept(args.models, 2 * pairs, args.seed, last)
    print(f"# {len(courses)} models trained, {time.process_time():.0f} CPU-s so far", flush=True)
    found = measured(where, courses, last)
    noise(found, gate, report)
    first, second = found[::2], found[1::2]
    equal = [decide(gate, b, a) for a, b in zip(first, second, strict=True)]
    rate(f"{pairs} pairs of equal models", equal, report, **targets[0])
    rate(
        "all pairs of these models", [decide(gate, b, a) for a, b in itertools.permutations(found, 2)], report
    )
    bare = gate.model_copy(update={"margin": 0.0, "guards": {}})
    rate("equal models, no margin", [decide(bare, b, a) for a, b in itertools.permutations(found, 2)], report)
    curve = {step: average(measured(where, courses[:ON_CURVE], step), gate.primary) for step in courses[0]}
    for part, bounds in ((0.5, {}), (1.0, targets[1])):
        step = earlier(curve, average(second, gate.primary), part * gate.margin)
        champions = measured(where, courses[::2], step)
        better = 1 - average(second, gate.primary) / average(champions, gate.primary)
        name = f"champions of step {step}"
        report.add(f"gate/{name}/mean improvement", better)
        duels = [decide(gate, b, a) for a, b in zip(champions, second, strict=True)]
        rate(name, duels, report, **bounds)
    print(f"# {time.process_time():.0f} CPU-s")
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main())
