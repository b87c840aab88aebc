"""Every recipe trained as a person would train it, on one thread, and judged beside a floor and a naive baseline.

    python -m tests.benchmarks.families [--quick] [--seed N] [--recipe NAME ...] [--pictures DIR] [--jobs N]

A recipe has 180 CPU-seconds, from reading the data to the last figure. Its figure is the first of
tests/benchmarks/family_figures.py that fits; the target of each is the baseline named in its line, and `floor` is what
real held-out data scores. `--pictures` keeps each recipe's last sample grid and a contact sheet of all: those of the
documents come from here. `--quick` trains a tenth of each budget, which shows that all of it runs, not how good it is:
its figures have no targets. A line that begins with # says what could not be measured.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont

from orchestrator.experiment import Experiment
from orchestrator.launch import submit
from orchestrator.recipes import RECIPES, load
from orchestrator.store.objects import open_objects
from orchestrator.store.reader import Run
from tests.benchmarks.family_figures import Figure, figures_of
from tests.benchmarks.report import Report

BUDGET = 180.0  # CPU-seconds
TILE = 320  # px of a grid on the contact sheet
Told = dict[str, Any]


def shortened(experiment: Experiment, share: float) -> Experiment:
    """The experiment with a share of its budget, in whole ticks."""
    t = experiment.train
    assert t.steps is not None
    steps = max(t.log_every, int(t.steps * share) // t.log_every * t.log_every)
    return experiment.override({"train.steps": steps})


def train(name: str, seed: int, share: float, picture: str) -> Told:
    """Train recipe `name` in this process; its cost, its figures, and its last grid in the file `picture`."""
    from orchestrator.trained import Trained

    torch.set_num_threads(1)
    experiment = load(name).override({"seed": seed})
    if share < 1:
        experiment = shortened(experiment, share)
    with tempfile.TemporaryDirectory() as store:
        begun = time.process_time()
        outcome = submit(experiment, store).wait()
        spent = time.process_time() - begun
        objects = open_objects(store)
        _, key = Run(objects, outcome.run_id).samples()[-1]
        Path(picture).write_bytes(objects.get(key))
        figures = figures_of(name, Trained.restore(objects, outcome.run_id))
    return {
        "cpu": spent,
        "state": outcome.state,
        "verdict": outcome.verdict["kind"],
        "figures": [vars(f) for f in figures],
    }


def apart(name: str, args: argparse.Namespace, folder: Path) -> Told:
    """`train` in a process of its own."""
    picture, told = folder / f"{name}.png", folder / f"{name}.json"
    command = [sys.executable, "-m", "tests.benchmarks.families", "--recipe", name, "--seed", str(args.seed)]
    quick = ["--quick"] if args.quick else []
    done = subprocess.run(
        [*command, *quick, "--apart", str(picture), str(told)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["no message"])[-1]}
    found: Told = json.loads(told.read_text())
    return found


def tell(name: str, told: Told, report: Report, quick: bool) -> None:
    """The lines of one recipe."""
    if "error" in told:
        print(f"# {name}: {told['error']}", flush=True)
        report.exit_code = 1
        return
    report.add(f"{name}/cpu", told["cpu"], "s", at_most=None if quick else BUDGET)
    for values in told["figures"]:
        figure = Figure(**values)
        side = "at_least" if figure.higher else "at_most"
        target = {} if quick else {side: figure.baseline}
        report.add(f"{name}/{figure.name}", figure.value, **target)
        print(f"#   floor {figure.floor:.4g}, {figure.naive} {figure.baseline:.4g}", flush=True)
    if told["verdict"] != "healthy":
        print(f"#   ended {told['state']} with the verdict {told['verdict']}", flush=True)


def sheet(pictures: dict[str, Path]) -> Image.Image:
    """All grids on one page, by name."""
    across = 6
    down = -(-len(pictures) // across)
    page = Image.new("RGB", (across * TILE, down * (TILE + 20)), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    for i, (name, path) in enumerate(pictures.items()):
        left, top = i % across * TILE, i // across * (TILE + 20)
        pen.text((left + 4, top + 2), name, fill="black", font=font)
        picture = Image.open(path).convert("RGB")
        picture = picture.crop((0, 0, picture.width, min(picture.height, picture.width)))
        picture.thumbnail((TILE - 8, TILE - 8))
        page.paste(picture, (left + 4, top + 20))
    return page


def main() -> int:
    """Print every figure; 1 if one with a target falls short of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of each budget, no targets")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--recipe", action="append", choices=list(RECIPES), help="only this one; repeat")
    parser.add_argument("--pictures", type=Path, help="keep the grids and a contact sheet in this folder")
    parser.add_argument("--jobs", type=int, default=1, help="recipes at a time")
    parser.add_argument("--apart", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    names = args.recipe or list(RECIPES)
    if args.apart:
        told = train(names[0], args.seed, 0.1 if args.quick else 1.0, args.apart[0])
        Path(args.apart[1]).write_text(json.dumps(told))
        return 0
    report = Report()
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(args.jobs) as pool:
        folder = args.pictures or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name, told in zip(names, pool.map(lambda n: apart(n, args, folder), names), strict=True):
            tell(name, told, report, args.quick)
            (folder / f"{name}.json").unlink(missing_ok=True)
        if args.pictures:
            found = {n: folder / f"{n}.png" for n in RECIPES if (folder / f"{n}.png").exists()}
            sheet(found).save(folder / "sheet.png")
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main())
