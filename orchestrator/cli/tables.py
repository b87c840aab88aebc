"""What is printed at the end of a run or a sweep: figures beside the real floor, evidence, and the next step."""

from __future__ import annotations

from typing import Any

from orchestrator.cli.lookup import place
from orchestrator.cli.output import Column, cell, next_steps, print_figures, print_lines, print_table, say
from orchestrator.store.objects import open_objects
from orchestrator.store.reader import Run
from orchestrator.worker import Outcome

SHORT = {
    "non_saturating": "non-sat",
    "relativistic": "relat",
    "least_squares": "lsq",
    "wasserstein": "wass",
    "spectral": "sn",
}
HEADS = {"lr_ratio": "lrD/lrG", "critic_steps": "k", "norm_d": "D", "norm_g": "G", "r1": "r1=r2"}


def show_outcome(outcome: Outcome, store: str) -> None:
    """The figures of a run beside those of held-out real data, its verdict, and where its results lie."""
    say(f"\nRun {outcome.run_id}: {outcome.state} at step {outcome.step}")
    floor = {name: outcome.floor[name] for name in outcome.figures if name in outcome.floor}
    print_figures({"this run": outcome.figures, "held-out real": floor})
    if said := evidence_of(outcome.verdict):
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
    """The table of trials (parameters, end, quality, coverage), why the stopped ones were stopped, the best."""
    trials = result["trials"]
    names = sorted({name for t in trials for name in t["params"]}, key=lambda n: n.rpartition(".")[2])
    names = [n for n in names if n != "gan.r2" or "gan.r1" not in names]
    heads = [Column("#", number=True), *(Column(_head(n), number=True) for n in names)]
    heads += [
        Column("step", number=True),
        Column("FID", number=True),
        Column("coverage", number=True),
        Column("ended"),
    ]
    best = result["best"]["number"]
    ordered = sorted(trials, key=lambda t: (t["state"] != "COMPLETE", t["objective"] or 0.0, t["number"]))
    rows = []
    for t in ordered:
        ended = t["verdict"]["kind"] or t["reason"] or t["state"].lower()
        quality = [cell(t["figures"].get("fid")), cell(t["figures"].get("coverage"))]
        mark = "best" if t["number"] == best else ended
        rows.append([t["number"], *(short(t["params"].get(n, "")) for n in names), t["step"], *quality, mark])
    print_table(heads, rows, title=f"Sweep {result['sweep_id']}: {len(trials)} trials")
    say("")
    for t in trials:
        if said := evidence_of(t["verdict"]):
            say(f"trial {t['number']} stopped at step {t['step']}, {t['verdict']['kind']}: {said}")
    for kind, remedy in {
        t["verdict"]["kind"]: t["verdict"]["remedy"] for t in trials if t["verdict"]["remedy"]
    }.items():
        say(f"remedy for {kind}: {remedy}")
    say("")
    objects = open_objects(store)
    print_lines(
        {
            "best": f"trial {best}, run {result['best']['run_id']}",
            "sweep": place(objects, f"sweeps/{result['sweep_id']}"),
        }
    )
    if next_step:
        chosen = " ".join(f"{k}={cell(v)}" for k, v in result["best"]["params"].items())
        next_steps(store, f"train {recipe} {chosen} --workers 2")


def _head(name: str) -> str:
    return HEADS.get(name.rpartition(".")[2], name.rpartition(".")[2])


def evidence_of(verdict: dict[str, Any]) -> str:
    """A verdict's evidence in one line; empty for a healthy one."""
    if verdict.get("kind") in (None, "healthy", "unknown"):
        return ""
    evidence = verdict.get("evidence") or []
    said = ", ".join(
        f"{e['signal']} {_figure(e['value'])} (bound {_figure(e['threshold'])})" for e in evidence
    )
    return f"{said} over {evidence[0]['window']} ticks" if evidence else ""


def _figure(value: Any) -> str:
    return f"{value:.2g}" if isinstance(value, int | float) else str(value)


def short(value: Any) -> str:
    """A parameter in few characters."""
    return f"{value:.2g}" if isinstance(value, float) else SHORT.get(value, str(value))
