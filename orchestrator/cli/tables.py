"""What is printed at the end of a run or a sweep: figures beside the real floor, evidence, and the next step."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator import evidence
from orchestrator.cli.lookup import place
from orchestrator.cli.output import (
    Column,
    cell,
    console,
    next_steps,
    print_figures,
    print_lines,
    print_table,
    say,
    span,
)
from orchestrator.outcome import Outcome
from orchestrator.store.objects import open_objects
from orchestrator.store.reader import Run

if TYPE_CHECKING:
    from orchestrator.sweep.folder import Sweep

SHORT = {
    "non_saturating": "non-sat",
    "relativistic": "relat",
    "least_squares": "lsq",
    "wasserstein": "wass",
    "spectral": "sn",
}
HEADS = {"lr_ratio": "lrD/lrG", "critic_steps": "k", "norm_d": "D", "norm_g": "G"}
OPEN = ("WAITING", "RUNNING")
STOPS, MATTERED = 12, 4  # lines of evidence and trials of a front, parameters


def show_outcome(outcome: Outcome, store: str) -> None:
    """The figures of a run beside those of held-out real data, its verdict, and where its results lie."""
    say(f"\nRun {outcome.run_id}: {outcome.state} at step {outcome.step}")
    floor = {name: outcome.floor[name] for name in outcome.figures if name in outcome.floor}
    print_figures({"this run": outcome.figures, "held-out real": floor})
    for change in outcome.changes:
        say(f"at step {change['step']}: {change['why']}")
    if said := evidence.line(outcome.verdict):
        say(f"{outcome.verdict['kind']}: {said}\nremedy: {outcome.verdict['remedy']}")
    objects = open_objects(store)
    samples = Run(objects, outcome.run_id).samples()
    print_lines(
        {
            "sample grid": place(objects, samples[-1][1]) if samples else None,
            "run": place(objects, f"runs/{outcome.run_id}"),
        }
    )
    next_steps(store, f"runs show {outcome.run_id}", f"sample {outcome.run_id} -n 64 -o grid.png")


def show_sweep(result: dict[str, Any], store: str, recipe: str, next_step: bool = True) -> None:
    """A finished sweep: its trials, why the stopped ones were stopped, what it cost, what mattered, the best.

    `result` is `vars(SweepResult)`; the `recipe` is for the next step.
    """
    from orchestrator.sweep.ranking import figure, ordered

    trials, best = result["trials"], result["best"]
    objectives = list(trials[0]["objectives"]) if trials else []
    figures = list(dict.fromkeys((*objectives, "fid", "coverage")))
    front = result["front"] if len(objectives) > 1 else []
    shares = {name: found["shares"] for name, found in result["importance"].items()}
    rows = [
        Row(
            t["number"],
            t["params"],
            [t["step"], *(figure(t, name) for name in figures)],
            _mark(t, best, front),
        )
        for t in (ordered(trials, objectives[0]) if trials else [])
    ]
    weights = {k: sum(share.get(k, 0.0) for share in shares.values()) for t in trials for k in t["params"]}
    say(f"Sweep {result['sweep_id']}: {len(trials)} trials")
    print_trials(rows, ["step", *map(label, figures)], weights)
    say("")
    _print_stops(trials)
    objects = open_objects(store)
    of_best = next((c for c in result["configurations"] if best and best["number"] in c["numbers"]), None)
    print_lines(
        {
            "cost": _costs(result["costs"]),
            **{f"mattered for {label(k)}": _importance(found) for k, found in result["importance"].items()},
            "Pareto front": _numbers(front),
            "best": f"trial {best['number']}, run {best['run_id']}" if best else "none: no trial completed",
            "  over its seeds": _seeds(of_best, objectives) if of_best else None,
            "report": place(objects, f"sweeps/{result['sweep_id']}/report.html"),
            "trials": place(objects, f"sweeps/{result['sweep_id']}/trials.parquet"),
        }
    )
    if next_step and best:
        chosen = " ".join(f"{k}={cell(v)}" for k, v in best["params"].items())
        next_steps(store, f"train {shlex.quote(recipe)} {chosen} --workers 2")


def show_running(sweep: Sweep, store: str) -> None:
    """A sweep that has no result yet, or goes on: its trials as the ledger last told them."""
    objectives = sweep.begun["plan"]["objectives"]
    scored = [label(objectives[0]) if len(objectives) == 1 else "score"]
    rows = [
        Row(t["number"], t["params"], [t["step"], _last(t)], _stage(t))
        for t in sorted(sweep.rows, key=lambda t: t["number"])
    ]
    heard = f", heard of {span(time.time() - sweep.live['time'])} ago" if sweep.live is not None else ""
    total, ended = sweep.begun["plan"]["trials"], sum(t["state"] not in OPEN for t in sweep.rows)
    of = f" of {total}" if total else ""
    say(
        f"Sweep {sweep.id}, {sweep.begun['experiment']['name']}: {sweep.state}, {ended}{of} trials ended{heard}"
    )
    if rows:
        print_trials(rows, ["step", *scored], {})
    if sweep.state != "running":
        next_steps(store, f"sweep resume {sweep.id}")
    else:
        next_steps(store, f"sweep show {sweep.id}", f"sweep stop {sweep.id}")


@dataclass(frozen=True)
class Row:
    """A trial in a table: parameters, other cells, and a mark that ends the line."""

    number: int
    params: dict[str, Any]
    cells: list[Any]
    mark: str


def print_trials(rows: list[Row], heads: list[str], weights: dict[str, float]) -> None:
    """A line a trial. Parameters that all share go in a line of their own, as do those that the width has no room for,
    those of least weight."""
    columns = _columns(rows)
    shared = {head: values[0] for head, values in columns.items() if len(set(values)) == 1 and len(rows) > 1}
    varied = {head: values for head, values in columns.items() if head not in shared}
    others = [[cell(row.cells[i]) for row in rows] for i in range(len(heads))]
    fixed = [*zip(heads, others, strict=True), ("#", [str(row.number) for row in rows])]
    fixed.append(("ended", [row.mark for row in rows]))
    room = console.width - sum(_width(head, values) for head, values in fixed)
    weight = {_head(name): share for name, share in weights.items()}
    ranked = sorted(varied, key=lambda head: -weight.get(head.partition("=")[0], 0.0))
    while ranked and sum(_width(head, varied[head]) for head in ranked) > room:
        ranked.pop()
    kept = [head for head in varied if head in ranked]
    table = [
        Column("#", number=True),
        *(Column(head, number=True) for head in (*kept, *heads)),
        Column("ended"),
    ]
    print_table(
        table,
        [
            [row.number, *(varied[head][i] for head in kept), *(values[i] for values in others), row.mark]
            for i, row in enumerate(rows)
        ],
    )
    if shared:
        say("in all trials: " + ", ".join(f"{head} {value}" for head, value in shared.items()))
    if left := [head for head in varied if head not in kept]:
        say(f"no room for: {', '.join(left)}; a wider terminal or --json shows them")


def _columns(rows: list[Row]) -> dict[str, list[str]]:
    """Head to the cells of a parameter, by name; parameters that are one number in every trial share a column."""
    names = sorted({name for row in rows for name in row.params}, key=lambda name: name.rpartition(".")[2])
    values = {name: [row.params.get(name) for row in rows] for name in names}
    columns: dict[str, list[str]] = {}
    seen: list[tuple[str, list[Any]]] = []
    for name, column in values.items():
        twin = next(
            (head for head, other in seen if other == column and any(isinstance(v, float) for v in column)),
            None,
        )
        head = _head(name)
        if twin is not None:
            columns[f"{twin}={head}"] = columns.pop(twin)
            head = f"{twin}={head}"
        else:
            columns[head] = [short(value) for value in column]
        seen = [(h, c) for h, c in seen if h != twin] + [(head, column)]
    return columns


def _width(head: str, values: list[str]) -> int:
    return max(map(len, (head, *values))) + 1


def _mark(row: dict[str, Any], best: dict[str, Any] | None, front: list[int]) -> str:
    if best is not None and row["number"] == best["number"]:
        return "best"
    return "on the front" if row["number"] in front else str(row["end"])


def _last(row: dict[str, Any]) -> float | None:
    """The newest value of a row of the ledger."""
    if row["values"] and len(row["values"]) == 1:
        return float(row["values"][0])
    rungs = {int(step): value for step, value in row["rungs"].items()}
    return rungs[max(rungs)] if rungs else None


def _stage(row: dict[str, Any]) -> str:
    """How far a row of the ledger is, or how it ended."""
    if row["state"] == "RUNNING":
        how = "running" if row.get("paused") is None else "paused"
        return f"{how}, {row['progress'] or 0:.0%}"
    sick = row["verdict"] not in (None, "healthy", "unknown")
    return str(row["verdict"] if sick else row["reason"] or row["state"].lower())


def _print_stops(trials: list[dict[str, Any]]) -> None:
    """Evidence and remedy of the trials that were stopped for their health, and what was mended inside of others."""
    lines: list[str] = []
    remedies: dict[str, list[str]] = {}
    for t in trials:
        where, verdict = f"trial {t['number']}, step", t["verdict"]
        lines += [f"{where} {c['step']}, mended: {c['why']}" for c in t["changes"] if c.get("remedy")]
        if said := evidence.line(verdict):
            lines.append(f"{where} {t['step']}, {verdict['kind']}: {said}")
        if verdict["remedy"]:
            remedies.setdefault(verdict["remedy"], []).append(str(t["number"]))
    lines += [f"remedy for trial {', '.join(numbers)}: {remedy}" for remedy, numbers in remedies.items()]
    for line in lines[:STOPS]:
        say(line)
    if len(lines) > STOPS:
        say(f"{len(lines) - STOPS} more such lines: --json, or the report")
    if lines:
        say("")


def _numbers(front: list[int]) -> str | None:
    more = f" and {len(front) - STOPS} more" if len(front) > STOPS else ""
    return f"trial {', '.join(map(str, front[:STOPS]))}{more}" if front else None


def _costs(costs: dict[str, Any]) -> str:
    parts = [
        f"{span(seconds)} {end} ({costs['trials'][end]})"
        for end, seconds in sorted(costs["by_end"].items(), key=lambda item: -item[1])
    ]
    saved = f"; stopping saved about {span(costs['saved_total'])}" if costs["saved_total"] else ""
    return f"{span(costs['total'])} of device time: {', '.join(parts)}{saved}"


def _importance(found: dict[str, Any]) -> str | None:
    shares = list(found["shares"].items())[:MATTERED]
    return ", ".join(f"{_head(name)} {share:.0%}" for name, share in shares) or None


def _seeds(configuration: dict[str, Any], objectives: list[str]) -> str | None:
    means, spreads = configuration["values"], configuration["spread"]
    if spreads is None:
        return None
    told = zip(objectives, means, spreads, strict=True)
    said = ", ".join(f"{label(name)} {mean:.3g} ± {spread:.2g}" for name, mean, spread in told)
    return f"{said} ({configuration['complete']} trials)"


def label(figure: str) -> str:
    """A figure as a person calls it."""
    return figure.upper() if figure in ("fid", "kid", "hq") else figure


def _head(name: str) -> str:
    return HEADS.get(name.rpartition(".")[2], name.rpartition(".")[2])


def short(value: Any) -> str:
    """A parameter in few characters."""
    if value is None:
        return "-"
    return f"{value:.2g}" if isinstance(value, float) else SHORT.get(value, str(value))
