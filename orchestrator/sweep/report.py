"""A sweep as one page, report.html: it opens anywhere, offline, and asks nobody for anything."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image
from plotly.offline import get_plotlyjs

from orchestrator import evidence
from orchestrator.experiment import Experiment
from orchestrator.store.layout import run_key
from orchestrator.store.objects import Objects
from orchestrator.sweep import charts
from orchestrator.sweep.folder import SweepResult
from orchestrator.sweep.parallel import BEST_TO_WORST, parallel
from orchestrator.sweep.plan import Plan
from orchestrator.sweep.ranking import figure, front_of, ordered

Document = dict[str, Any]

PICTURES = (
    200  # trials with a thumbnail, the best ones: each is an object to fetch and some kilobytes of the page
)
THUMBNAIL, BEST = 112, 320  # pixels


def report(
    objects: Objects,
    result: SweepResult,
    values: Sequence[Mapping[str, Any]],
    plan: Plan,
    experiment: Experiment,
) -> str:
    """The page. `values`: the learning curves, `number, step, value` each."""
    rows = ordered(result.trials, plan.objectives[0])
    x, y = axes_of(plan.objectives)
    front = front_of(rows, (x, y))
    shares = {name: found["shares"] for name, found in result.importance.items() if found["shares"]}
    pictures = thumbnails(objects, rows[:PICTURES], THUMBNAIL)
    drawn = {
        "parallel": parallel(rows, plan.objectives, experiment.search),
        "scatter": charts.scatter(rows, x, y, front),
        "curves": charts.curves(values, rows, scored_by(plan.objectives)),
        "importance": charts.importances(shares) if shares else None,
    }
    environment = Environment(
        loader=PackageLoader("orchestrator.sweep", "."), autoescape=True, undefined=StrictUndefined
    )
    environment.filters |= {
        "short": charts.short,
        "label": charts.label_of,
        "span": span,
        "sign": evidence.sign,
    }
    return environment.get_template("report.html").render(
        result=result,
        rows=rows,
        best=result.best,
        best_picture=thumbnails(objects, [result.best], BEST).get(result.best["number"])
        if result.best
        else None,
        plan=plan,
        budget=budget_of(plan),
        experiment=experiment.document(),
        space={name: str(distribution) for name, distribution in experiment.search.root.items()},
        begun=datetime.strptime(result.sweep_id[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC),
        written=datetime.now(UTC),
        axes=(x, y),
        scored_by=scored_by(plan.objectives),
        front=front,
        figures=list(dict.fromkeys((*plan.objectives, "fid", "coverage"))),
        figure=figure,
        colour=charts.colour_of,
        gradient=BEST_TO_WORST,
        ends=sorted(result.costs["by_end"].items(), key=lambda cost: -cost[1]),
        pictures=pictures,
        why_no_importance=next((f["reason"] for f in result.importance.values() if f["reason"]), ""),
        charts={name: _inline(name, chart) for name, chart in drawn.items()},
        plotly=Markup(get_plotlyjs()),
    )


def axes_of(objectives: Sequence[str]) -> tuple[str, str]:
    """The two figures that are drawn against each other: the first two objectives, else quality and diversity."""
    if len(objectives) > 1:
        return objectives[0], objectives[1]
    [only] = objectives
    return ("fid", "coverage") if only == "fid" else ("fid", only)


def scored_by(objectives: Sequence[str]) -> str:
    """What a learning curve shows: the objective, or what several are scalarised to."""
    return objectives[0] if len(objectives) == 1 else f"scalarised {', '.join(objectives)} (lower is better)"


def budget_of(plan: Plan) -> str:
    """`24 trials or 2 h`, whichever is spent first."""
    parts = {"trials": plan.trials, "h": plan.hours, "device-hours": plan.device_hours}
    return " or ".join(f"{value:g} {unit}" for unit, value in parts.items() if value is not None)


def span(seconds: float | None) -> str:
    """`48 s`, `3.2 min`, `1.4 h`."""
    if seconds is None:
        return charts.NONE
    for unit, length in (("h", 3600.0), ("min", 60.0)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def thumbnails(objects: Objects, rows: Sequence[Document], size: int) -> dict[int, str]:
    """Number of a trial to its last sample grid, at most `size` pixels a side, as a data URI."""
    newest: dict[int, str] = {}
    for row in rows:
        if row["run_id"] and row["end"] != "interrupted":
            keys = objects.list(run_key(row["run_id"], "samples"))
            newest |= {row["number"]: keys[-1]} if keys else {}
    found = objects.get_many(newest.values())
    return {number: _thumbnail(found[key], size) for number, key in newest.items() if key in found}


def _thumbnail(png: bytes, size: int) -> str:
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    times = size // max(picture.size)
    if times > 1:
        picture = picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
    picture.thumbnail((size, size))
    sink = io.BytesIO()
    picture.save(sink, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(sink.getvalue()).decode()}"


def _inline(name: str, chart: Any) -> Markup | None:
    """A chart as a div and the script that draws it; Plotly escapes what could end the script."""
    if chart is None:
        return None
    config = {"displaylogo": False, "displayModeBar": False}
    return Markup(
        chart.to_html(config=config, include_plotlyjs=False, full_html=False, div_id=f"chart-{name}")
    )
