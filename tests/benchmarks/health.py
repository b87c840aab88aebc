"""How far health verdicts can be trusted, and how many sick runs a remedy saves.

    python -m tests.benchmarks.health [--quick] [--seed N]

Trains 99 runs (33 with --quick) under the monitor to the end of their budgets and compares the first verdict other
than healthy with the run's label (tests/benchmarks/health_runs.py). Then it trains those that end collapsed and those
that were called again, with `on_collapse="remedy"`, for the same budget, and labels them by the same rule. Thresholds
were chosen on other seeds. About fifteen minutes on one core.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from statistics import median

import torch

from gans.health import Kind, Monitor, Verdict
from gans.metrics import SampleProbe, extractor_for
from gans.sampling import draw, real_inputs
from gans.sync import Alone
from gans.training import Training
from orchestrator.recipes import load
from tests.benchmarks.health_runs import CALIBRATION, Case, Outcome, cases, run
from tests.benchmarks.report import Report

EARLY = 0.4
RECIPES = ("vanilla.ring", "vanilla.digits", "dcgan.digits", "dcgan.digits32")
Run = tuple[Case, Outcome]


def collapsed(outcome: Outcome) -> bool:
    """Whether the run ends with at most half of what there is, whatever the cause."""
    return outcome.label == "diverged" or outcome.covers <= 0.5


def table(runs: list[Run]) -> None:
    """For each verdict: how often it was right, how many it found, and what the run had spent by then."""
    print(f"{'verdict':<28}{'labelled':>9}{'called':>8}{'precision':>11}{'recall':>8}{'spent':>8}")
    for kind in (k for k in Verdict.KINDS if k != "healthy"):
        row(kind, [o for _, o in runs if o.label == kind], [o for _, o in runs if o.called == kind], kind)
    row("any", [o for _, o in runs if o.label != "healthy"], [o for _, o in runs if o.called], None)


def row(name: str, labelled: list[Outcome], called: list[Outcome], kind: Kind | None) -> None:
    """One line of the table; `kind` None takes every verdict for right that was passed on a run not healthy."""
    right = [o for o in called if (o.label == kind if kind else o.label != "healthy")]
    precision = f"{len(right) / len(called):.2f}" if called else "-"
    recall = f"{len(right) / len(labelled):.2f}" if labelled else "-"
    spent = f"{median(o.at for o in called):.2f}" if called else "-"
    print(f"{name:<28}{len(labelled):>9}{len(called):>8}{precision:>11}{recall:>8}{spent:>8}")


def share(outcomes: Iterable[bool]) -> float:
    """The share of true ones; NaN of none."""
    found = list(outcomes)
    return sum(found) / len(found) if found else float("nan")


def detection(runs: list[Run], report: Report) -> None:
    """The targets of detection."""
    ends = [o for _, o in runs if collapsed(o)]
    partial = [o for _, o in runs if o.label == "partial collapse"]
    healthy = [o for _, o in runs if o.label == "healthy"]
    counts = f"of {len(ends)}"
    report.add(
        "health/collapsed called by 40 %",
        share(o.called is not None and o.at <= EARLY for o in ends),
        counts,
        at_least=0.9,
    )
    report.add(
        "health/collapsed called by 20 %", share(o.called is not None and o.at <= 0.2 for o in ends), counts
    )
    named = ("mode collapse", "partial collapse")
    report.add("health/collapsed called a collapse", share(o.called in named for o in ends), counts)
    report.add(
        "health/partial ever called", share(o.called is not None for o in partial), f"of {len(partial)}"
    )
    report.add(
        "health/healthy ever stopped",
        share(o.called is not None for o in healthy),
        f"of {len(healthy)}",
        at_most=0.05,
    )
    saved = sum(1 - o.at for _, o in runs if o.called) / len(runs)
    report.add("health/budget that stopping saves", saved, "of all runs")


def remedies(runs: list[Run], report: Report) -> None:
    """What becomes of sick and of falsely called runs when they mend themselves."""
    again = [(c, o, run(c, "remedy") if o.called else o) for c, o in runs if o.called or o.label != "healthy"]
    for case, before, after in again:
        if collapsed(before) and after.label != "healthy":
            print(
                f"# not saved: {case.task}, {case.name}: {after.label} {after.covers:.2f}; {after.remedies}"
            )
    ends = [after.label == "healthy" for _, before, after in again if collapsed(before)]
    partial = [after.label == "healthy" for _, before, after in again if before.label == "partial collapse"]
    falsely = [after.label == "healthy" for _, before, after in again if before.label == "healthy"]
    report.add("remedy/collapsed saved", share(ends), f"of {len(ends)}", at_least=0.8)
    once = [
        len(after.remedies) for _, before, after in again if collapsed(before) and after.label == "healthy"
    ]
    report.add("remedy/remedies it took, median", median(once) if once else float("nan"))
    report.add("remedy/partial saved", share(partial), f"of {len(partial)}")
    report.add("remedy/healthy after a false alarm", share(falsely), f"of {len(falsely)}")


def overhead(recipe: str) -> float:
    """The monitor's share of a recipe's training: all its looks at samples over all steps of the budget."""
    e = load(recipe)
    dataset = e.data.load("train")
    probe = SampleProbe(dataset.fetch(dataset.order(0, 0)[:512])["x"], extractor_for(dataset))
    monitor, device = Monitor(probe, e.health), torch.device("cpu")
    training = Training(e.gan, dataset, e.train, 0, device, Alone())
    inputs = real_inputs(e.gan, dataset, monitor.num_samples, device)
    budget = e.train.steps_left(0, 0, e.train.batch)
    assert budget is not None
    looks, steps = [], [clocked(training.run_step) for _ in range(30)]
    for at in range(e.train.log_every, budget + 1, e.train.log_every):

        def tick(at: int = at) -> None:
            wanted = monitor.wants_samples
            live = draw(e.gan, training.nets, monitor.num_samples, 0, inputs, device) if wanted else None
            monitor.observe(at, at / budget, {}, live)

        looks.append(clocked(tick))
    return sum(looks) / (median(steps) * budget)


def clocked(call: Callable[[], None]) -> float:
    """CPU seconds of a call."""
    begun = time.process_time()
    call()
    return time.process_time() - begun


def main() -> int:
    """Print every figure; 1 if one with a target falls short of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="every third run")
    parser.add_argument(
        "--seed", type=int, default=CALIBRATION.stop, help="of the first run; others follow it"
    )
    args = parser.parse_args()
    if args.seed in CALIBRATION:
        print(f"# seeds {CALIBRATION.start} to {CALIBRATION.stop - 1} were used to choose the thresholds")
    torch.set_num_threads(1)
    report = Report()
    runs = []
    for case in list(cases(args.seed))[:: 3 if args.quick else 1]:
        outcome = run(case)
        runs.append((case, outcome))
        print(
            f"# {case.task:<7}{case.name:<34}{outcome.covers:.2f} {outcome.label:<27}"
            f"{outcome.called or '-':<27}{outcome.at:.2f}",
            flush=True,
        )
    table(runs)
    detection(runs, report)
    remedies(runs, report)
    for recipe in RECIPES:
        report.add(f"monitor/{recipe}, share of a step", overhead(recipe), at_most=0.03)
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main())
