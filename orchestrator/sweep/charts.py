"""The charts of a sweep's report, drawn by Plotly, which reads some HTML in texts: names are escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go

from orchestrator.sweep.plan import OBJECTIVES
from orchestrator.sweep.ranking import figure

Document = Mapping[str, Any]

COMPLETE = "complete"
COLOURS = {
    COMPLETE: "#1f8a9e",
    "mode collapse": "#d8404f",
    "partial collapse": "#ee8434",
    "diverged": "#9b5de5",
    "discriminator overpowering": "#d16ba5",
    "vanishing gradient": "#a47148",
    "oscillation": "#b5a12a",
    "failed": "#6c757d",
    "interrupted": "#adb5bd",
}
STOPPED = "#8d99ae"  # at a rung, out of budget, asked to stop
LABELS = {"fid": "FID", "kid": "KID", "class_kl": "class KL", "mode_kl": "mode KL", "hq": "HQ"}
NONE = "–"
FEW, MANY = 12, 50  # trials that can be told apart by number, and by line


def colour_of(end: str) -> str:
    """The colour of an end, readable on white and on black."""
    return COLOURS.get(end, STOPPED)


def label_of(name: str) -> str:
    """A figure or parameter as a person calls it: `FID`, `lr_ratio`."""
    return LABELS.get(name, name.rpartition(".")[2])


def scatter(rows: Sequence[Document], x: str, y: str, front: Sequence[int]) -> go.Figure:
    """Two figures of every trial that has both, and the Pareto front of the completed ones."""
    chart = go.Figure()
    by_number = {row["number"]: row for row in rows}
    points = [(figure(by_number[number], x), figure(by_number[number], y)) for number in front]
    xs, ys = zip(*points, strict=True) if points else ((), ())
    line_style = {"color": COLOURS[COMPLETE], "width": 1.5, "dash": "dot"}
    chart.add_scatter(x=xs, y=ys, mode="lines", line=line_style, name="Pareto front", hoverinfo="skip")
    for end in ends_of(rows):
        group = [r for r in rows if r["end"] == end and None not in (figure(r, x), figure(r, y))]
        if not group:
            continue
        marker = {
            "color": colour_of(end),
            "size": 11,
            "symbol": "circle" if end == COMPLETE else "x-thin",
            "line": {"width": 2, "color": colour_of(end)},
        }
        chart.add_scatter(
            x=[figure(row, x) for row in group],
            y=[figure(row, y) for row in group],
            mode="markers+text",
            text=[str(row["number"]) if row["number"] in front[:FEW] else "" for row in group],
            textposition="top center",
            marker=marker,
            name=escape(end),
            hovertext=[_hover(row) for row in group],
            hovertemplate=f"%{{hovertext}}<br>{label_of(x)} %{{x:.4g}} · {label_of(y)} %{{y:.4g}}<extra></extra>",
        )
    _axes(chart, x, y, [figure(r, x) for r in rows], [figure(r, y) for r in rows])
    return plain(chart, height=380)


def curves(values: Sequence[Document], rows: Sequence[Document], name: str) -> go.Figure:
    """The objective `name` over the steps, a line a trial; one trace an end, so that the legend switches them."""
    chart = go.Figure()
    by_number: dict[int, list[Document]] = {}
    for value in values:
        by_number.setdefault(value["number"], []).append(value)
    for end in reversed(ends_of(rows)):  # completed ones on top
        x: list[Any] = []
        y: list[Any] = []
        text: list[Any] = []
        for row in (r for r in rows if r["end"] == end):
            curve = by_number.get(row["number"], [])
            x += [*(v["step"] for v in curve), None]
            y += [*(v["value"] for v in curve), None]
            text += [*(_hover(row) for _ in curve), None]
        if any(v is not None for v in x):
            chart.add_scatter(
                x=x,
                y=y,
                mode="lines+markers",
                opacity=max(0.2, min(1.0, MANY / len(rows))),
                name=escape(end),
                line={"color": colour_of(end), "width": 1.6},
                marker={"size": 5, "symbol": "circle" if end == COMPLETE else "x"},
                hovertext=text,
                hovertemplate="%{hovertext}<br>step %{x}: %{y:.4g}<extra></extra>",
            )
    _axes(chart, "step", name, [], [v["value"] for v in values])
    chart.update_layout(legend_traceorder="reversed")
    return plain(chart, height=380)


def importances(shares: Mapping[str, Mapping[str, float]]) -> go.Figure:
    """PED-ANOVA shares, a bar a parameter, side by side for the objectives."""
    chart = go.Figure()
    names = list(dict.fromkeys(name for share in shares.values() for name in share))
    names.sort(key=lambda name: sum(share.get(name, 0.0) for share in shares.values()))
    colours = (COLOURS[COMPLETE], COLOURS["partial collapse"], COLOURS["diverged"], COLOURS["oscillation"])
    for i, (objective, share) in reversed(list(enumerate(shares.items()))):  # Plotly draws upwards
        chart.add_bar(
            y=[escape(label_of(name)) for name in names],
            x=[share.get(name, 0.0) for name in names],
            orientation="h",
            name=label_of(objective),
            marker={"color": colours[i % len(colours)]},
            hovertemplate="%{y}: %{x:.0%}<extra></extra>",
        )
    chart.update_xaxes(tickformat=".0%", rangemode="tozero")
    chart.update_yaxes(automargin=True)
    chart.update_layout(showlegend=len(shares) > 1, bargap=0.35, legend_traceorder="reversed")
    return plain(chart, height=max(220, 60 + 34 * len(names)))


def ends_of(rows: Sequence[Document]) -> list[str]:
    """Every end there is: `complete` first, then in the order of COLOURS, then others."""
    order = {end: i for i, end in enumerate(COLOURS)}
    return sorted({row["end"] for row in rows}, key=lambda end: (order.get(end, len(order)), end))


def wide(name: str, values: Sequence[float]) -> bool:
    """Whether a figure that is to be small spans so much that only a log scale shows it."""
    return OBJECTIVES.get(name) == "minimize" and bool(values) and 0 < 20 * min(values) < max(values)


def _axes(chart: go.Figure, x: str, y: str, xs: Sequence[Any], ys: Sequence[Any]) -> None:
    for axis, name, values in ((chart.update_xaxes, x, xs), (chart.update_yaxes, y, ys)):
        log = wide(name, [value for value in values if value is not None])
        better = {"minimize": " (lower is better)", "maximize": " (higher is better)"}
        said = label_of(name) + better.get(OBJECTIVES.get(name, ""), "")
        axis(title=said, type="log" if log else "linear", dtick=1 if log else None)


def _hover(row: Document) -> str:
    params = "<br>".join(f"{escape(label_of(k))} {escape(short(v))}" for k, v in row["params"].items())
    return f"<b>trial {row['number']}</b> · {escape(row['end'])}<br>{params}"


def short(value: Any) -> str:
    """A value in few characters."""
    return NONE if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def plain(chart: go.Figure, height: int, margin: Mapping[str, int] | None = None) -> go.Figure:
    """No background of its own; the page's style sheet colours text and grid for light and dark."""
    return chart.update_layout(
        template="none",
        height=height,
        margin=margin or {"l": 64, "r": 16, "t": 16, "b": 48},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 12},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        hoverlabel={"align": "left"},
    )
