"""Packed trials against one process a trial: trials a minute, equal results, and where the time goes.

    python -m tests.benchmarks.pack [--quick] [--seed N]

28 trials of what `ganctl demo` sweeps (perceptrons on 16 px digits, 600 steps, figures and health as in a sweep) that
differ in learning rates, balance, loss and seed. One side is Ray Tune with an actor a trial and no nested Ray Train,
the other `run_sweep` with packs of 14; both have the same 2 cores, and both are timed from the call to the result,
the start of Ray included. `--quick` has 8 trials in packs of 4, which says little of the ratio.

The same trials, alone and packed in this process on one core, give the speedup of batching itself, in CPU time, and the
largest difference over the first 50 steps: of a network's weights (and averages), by their norm, and of each metric,
by its norm over the ticks.
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gans.data.base import Dataset
from gans.families.vanilla import Vanilla
from gans.loop import Tick, train
from gans.options import Train
from gans.packing import Pack
from gans.training import PACE, State
from orchestrator.experiment import Experiment
from orchestrator.recipes.plain import demo, vanilla_digits
from orchestrator.sweep.space import Choice, LogUniform, Space
from tests.benchmarks.report import Report

CPUS, TRIALS, SIZE = 2, 28, 14
SPEEDUP, TOLERANCE, EQUAL_STEPS = 4.0, 1e-4, 50
CPU = torch.device("cpu")

Params = dict[str, Any]


def experiment(seed: int) -> Experiment:
    """The demo's experiment, searched over scalars and the loss."""
    base = demo()
    space = Space(
        {
            "gan.lr_ratio": LogUniform(low=0.3, high=3.0),
            "gan.lr_g": LogUniform(low=3e-4, high=2e-3),
            "gan.loss": Choice(options=("hinge", "non_saturating")),
        }
    )
    return base.model_copy(update={"search": space, "seed": seed})


def drawn(num: int, seed: int) -> list[Params]:
    """Points of the space."""
    rng = np.random.default_rng(seed)
    return [
        {
            "gan.lr_ratio": float(np.exp(rng.uniform(math.log(0.3), math.log(3.0)))),
            "gan.lr_g": float(np.exp(rng.uniform(math.log(3e-4), math.log(2e-3)))),
            "gan.loss": ("hinge", "non_saturating")[int(rng.integers(2))],
            "seed": i,
        }
        for i in range(num)
    ]


def one_process_a_trial(chosen: Experiment, points: Sequence[Params], store: str) -> float:
    """Seconds that Ray Tune takes for the points, each in an actor of its own."""
    from ray import tune

    from orchestrator.cluster import connected

    document = chosen.document()

    def trial(config: Params) -> None:
        from orchestrator.experiment import parse
        from orchestrator.launch import announce_run
        from orchestrator.store.objects import open_objects
        from orchestrator.worker import work

        number = config["number"]
        one = parse(document).override({**points[number], "name": f"trial {number}"})
        outcome = work(store, announce_run(open_objects(store), one))
        tune.report({"fid": outcome.figures.get("fid", math.nan)})

    begun = time.perf_counter()
    with connected("local"), tempfile.TemporaryDirectory() as scratch:
        results = tune.Tuner(
            tune.with_resources(trial, {"CPU": 1}),
            param_space={"number": tune.grid_search(list(range(len(points))))},
            tune_config=tune.TuneConfig(max_concurrent_trials=CPUS, reuse_actors=False),
            run_config=tune.RunConfig(storage_path=scratch, verbose=0),
        ).fit()
    assert not results.errors, results.errors
    return time.perf_counter() - begun


def packed(chosen: Experiment, num: int, size: int, store: str) -> float:
    """Seconds that a sweep of `num` trials takes in packs."""
    from orchestrator.sweep.driver import run_sweep
    from orchestrator.sweep.plan import Plan

    plan = Plan(trials=num, sampler="random", stop="none", on_collapse="ignore", pack=size)
    begun = time.perf_counter()
    result = run_sweep(chosen, store, plan)
    spent = time.perf_counter() - begun
    ends = [(row["state"], row["reason"]) for row in result.trials]
    assert len(ends) == num
    assert {state for state, _ in ends} == {"COMPLETE"}, ends
    return spent


def trials_a_minute(args: argparse.Namespace, report: Report) -> None:
    """The figure with the target."""
    from orchestrator.store.objects import open_objects
    from orchestrator.sweep.driver import prepare

    num, size = (8, 4) if args.quick else (TRIALS, SIZE)
    chosen = experiment(args.seed)
    chosen = chosen.model_copy(update={"train": chosen.train.model_copy(update={"on_collapse": "ignore"})})
    with tempfile.TemporaryDirectory(prefix="ganctl-pack-") as folder:
        store = Path(folder).as_uri()
        prepare(chosen, open_objects(store))  # the feature extractor, which both sides read from the store
        seconds = {
            "packed": packed(chosen, num, size, store),
            "one process a trial": one_process_a_trial(chosen, drawn(num, args.seed), store),
        }
    for name, spent in seconds.items():
        report.add(f"pack/{num} trials/{name}", 60 * num / spent, "trials/min")
    ratio = seconds["one process a trial"] / seconds["packed"]
    report.add(f"pack/{num} trials/ratio", ratio, "x", at_least=None if args.quick else SPEEDUP)


def members(family: Vanilla, num: int, seed: int) -> list[tuple[Vanilla, int]]:
    """The first points as families and seeds. A family with penalties keeps its loss, and their weights differ."""
    some = []
    for point in drawn(num, seed):
        fields = {k.removeprefix("gan."): v for k, v in point.items() if k.startswith("gan.")}
        if family.penalised:
            fields |= {"loss": family.loss, "r1": 0.5 * fields["lr_ratio"], "r2": 0.5}
        some.append((family.with_changes(fields), point["seed"]))
    return some


def begin(
    some: Sequence[tuple[Vanilla, int]], data: Dataset, options: Train, together: bool
) -> list[Iterator[Tick]]:
    """Trainings in this process, in one pack or alone."""
    pack = Pack() if together else None
    return [train(family, data, options, seed=seed, device=CPU, pack=pack) for family, seed in some]


def equality(args: argparse.Namespace, report: Report) -> None:
    """The worst relative difference between a packed member and the same training alone."""
    for name, family in subjects().items():
        data = demo().data.load("train")
        some = members(family, 8 if args.quick else TRIALS, args.seed)
        options = Train(steps=EQUAL_STEPS, log_every=10)
        single = [followed(run) for run in begin(some, data, options, together=False)]
        runs = begin(some, data, options, together=True)
        seen: list[list[tuple[Tick, State]]] = [[] for _ in runs]
        for _ in range(EQUAL_STEPS // 10):
            for mine, run in zip(seen, runs, strict=True):
                tick = next(run)
                mine.append((tick, copy.deepcopy(tick.state())))
        worst = [difference(a, b) for a, b in zip(seen, single, strict=True)]
        report.add(f"pack/{name}/worst difference", max(worst), "", at_most=TOLERANCE)
        report.add(f"pack/{name}/median difference", float(np.median(worst)))


def followed(run: Iterator[Tick]) -> list[tuple[Tick, State]]:
    """Every tick and its state."""
    return [(tick, copy.deepcopy(tick.state())) for tick in run]


def difference(a: list[tuple[Tick, State]], b: list[tuple[Tick, State]]) -> float:
    """The largest relative difference of any network at any tick and of any metric over the ticks."""
    found = []
    for (_, mine), (_, other) in zip(a, b, strict=True):
        for part in ("networks", "averages"):
            for net in other[part]:
                x, y = (flat(state[part][net]) for state in (mine, other))
                found.append(float((x - y).norm() / y.norm()))
    for name in b[0][0].metrics.keys() - set(PACE):
        x, y = (torch.tensor([tick.metrics[name] for tick, _ in run]).double() for run in (a, b))
        found.append(float((x - y).norm() / y.norm().clamp(min=1e-6)))
    return max(found)


def flat(weights: dict[str, Tensor]) -> Tensor:
    """All tensors of a network in a row."""
    return torch.cat([t.double().flatten() for t in weights.values()])


def batching(args: argparse.Namespace, report: Report) -> None:
    """CPU time of a member's step by the size of its pack, on one core, against the plain loop."""
    data = demo().data.load("train")
    options = Train(steps=10**9, log_every=20)
    sizes = (1, 4, 14) if args.quick else (1, 2, 4, 7, 14, 28)
    for name, family in subjects().items():
        runs = {k: begin(members(family, k, args.seed), data, options, together=True) for k in sizes}
        best = dict.fromkeys(sizes, math.inf)
        for turn in range(3 if args.quick else 7):
            for k, some in runs.items():
                begun = time.process_time()
                for run in some:
                    next(run)
                if turn > 1:  # in the first two the pack comes together
                    best[k] = min(best[k], (time.process_time() - begun) / k / options.log_every)
        for k in sizes:
            report.add(f"pack/{name}/K={k}/step of a member", best[k] * 1e3, "ms")
            report.add(f"pack/{name}/K={k}/speedup", best[1] / best[k], "x")


def subjects() -> dict[str, Vanilla]:
    """The demo's network at two widths and the digits recipe with both penalties."""
    small, digits = demo().gan, vanilla_digits().gan
    assert isinstance(small, Vanilla)
    assert isinstance(digits, Vanilla)
    return {
        "demo": small,
        "demo, width 64": small.with_changes({"width": 64}),
        "vanilla.digits": digits,
    }


def main() -> int:
    """Print every figure; 1 if one with a target falls short of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer trials and rounds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=("ray", "equality", "batching"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"# {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}")
    report = Report()
    parts = {"equality": equality, "batching": batching, "ray": trials_a_minute}
    for name, part in parts.items():
        if args.only in (None, name):
            part(args, report)
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main())
