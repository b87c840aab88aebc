"""What a flow shows in Prefect's UI: the sample grid with its figures, and the table of trials.

The grid is a Markdown artifact that holds the picture itself: an image artifact would print its address under
the picture, which for a picture inside of it is pages of base64.
"""

from __future__ import annotations

import base64
import re
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from orchestrator.store.objects import open_objects
from orchestrator.store.reader import Run

Document = dict[str, Any]


def show_samples(store: str, outcome: Document) -> None:
    """How run `outcome` ended: its figures beside those of held-out real data, and its last sample grid."""
    run = Run(open_objects(store), outcome["run_id"])
    name = run.document()["name"]
    lines = [
        f"# {name}: {outcome['state']} at step {outcome['step']}",
        f"Run `{run.id}` in `{run.objects.url}`, verdict: {outcome['verdict']['kind']}.",
        figures_table(outcome["figures"], outcome["floor"]),
    ]
    if samples := run.samples():
        step, key = samples[-1]
        picture = base64.b64encode(run.objects.get(key)).decode()
        lines.append(f"![samples at step {step}](data:image/png;base64,{picture})")
    create_markdown_artifact("\n\n".join(lines), key=slug("samples", name), description=f"Samples of {name}")


def figures_table(figures: dict[str, float], floor: dict[str, float]) -> str:
    """The figures as a Markdown table; empty where nothing was evaluated."""
    rows = [f"| {name} | {value:.4g} | {cell(floor.get(name))} |" for name, value in figures.items()]
    return (
        "\n".join(["| figure | this run | held-out real |", "| --- | ---: | ---: |", *rows]) if rows else ""
    )


def show_trials(name: str, result: Document) -> None:
    """The trials of a sweep over experiment `name`, the best first."""
    trials = sorted(result["trials"], key=lambda t: (t["state"] != "COMPLETE", t["objective"] or 0.0))
    # Prefect's UI takes the columns from the first row.
    params = dict.fromkeys(field for trial in trials for field in trial["params"])
    figures = dict.fromkeys(figure for trial in trials for figure in trial["figures"])
    rows = [
        {
            "trial": t["number"],
            "ended": t["end"],
            **{field: cell(t["params"].get(field)) for field in params},
            **{figure: cell(t["figures"].get(figure)) for figure in figures},
            "step": t["step"],
            "run": t["run_id"],
        }
        for t in trials
    ]
    said = f"{len(rows)} trials of sweep `{result['sweep_id']}`, best: {result['best']['number']}"
    create_table_artifact(rows, key=slug("trials", name), description=said)


def cell(value: object) -> str:
    """A value with four significant digits; nothing for None."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def slug(*words: str) -> str:
    """An artifact's key: lower-case letters, digits and dashes. Artifacts of one key are versions of each other."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(words).lower()).strip("-")


def show_decision(store: str, name: str, number: int, decided: Document) -> None:
    """What round `number` of retraining `name` decided: the conditions as a table, the grids side by side."""
    objects = open_objects(store)
    made = decided["promoted"]
    head = "keeps its champion" if made is None else f"promotes version {made['version']}"
    rows = [
        f"| {c['name']} | {c['kind']} | {cell(c['champion'])} | {cell(c['challenger'])} | {cell(c['difference'])} "
        f"[{cell(c['low'])}, {cell(c['high'])}] | {cell(c['bound'])} | {'ok' if c['ok'] else 'short'} |"
        for c in decided["checks"]
    ]
    lines = [
        f"# {name}, round {number}: {head}",
        decided["reason"],
        "\n".join(
            [
                "| figure | condition | champion | challenger | difference, interval | bound | |",
                "| --- | --- | ---: | ---: | ---: | ---: | --- |",
                *rows,
            ]
        ),
    ]
    shown = decided["pictures"].get("grids") or decided["pictures"].get("challenger")
    if shown:
        picture = base64.b64encode(objects.get(shown)).decode()
        lines.append(f"![champion and challenger, same latents](data:image/png;base64,{picture})")
    lines.append(f"`{decided['key']}` in `{objects.url}`")
    create_markdown_artifact(
        "\n\n".join(lines), key=slug("decision", name), description=f"Decisions of {name}"
    )
