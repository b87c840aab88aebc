"""Parallel coordinates of a sweep: a line a trial, through its parameters and figures to how it ended."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import plotly.graph_objects as go

from orchestrator.sweep.charts import COMPLETE, NONE, colour_of, ends_of, label_of, plain, wide
from orchestrator.sweep.plan import OBJECTIVES
from orchestrator.sweep.ranking import figure
from orchestrator.sweep.space import Choice, Distribution, Int, LogUniform, Space

Document = Mapping[str, Any]

BEST_TO_WORST = ("#0c6e82", "#2fa39b", "#8cc084", "#dcc15f")
FEW = 8  # whole numbers that each get a tick
LONGEST = 20  # characters of a tick


@dataclass(frozen=True)
class Axis:
    """Where each trial crosses an axis, and its ticks: place and text."""

    values: list[float]
    ticks: list[tuple[float, str]]

    def dimension(self, label: str) -> dict[str, Any]:
        places = [*self.values, *(place for place, _ in self.ticks)]
        low, high = min(places), max(places)
        pad = 0.04 * (high - low) or 1.0
        return {
            "label": label,
            "values": self.values,
            "range": [low - pad, high + pad],
            "tickvals": [place for place, _ in self.ticks],
            "ticktext": [text for _, text in self.ticks],
        }


def parallel(rows: Sequence[Document], objectives: Sequence[str], space: Space) -> go.Figure:
    """Completed trials are coloured from the best to the worst by the first objective, others by how they ended."""
    figures = dict.fromkeys((*objectives, "fid", "coverage"))
    columns = {name: [row["params"].get(name) for row in rows] for name in space.root}
    columns |= {name: [figure(row, name) for row in rows] for name in figures}
    axes = {name: _axis(name, values, space.root.get(name)) for name, values in columns.items()}
    ends = ends_of(rows)
    axes["end"] = _named([row["end"] for row in rows], ends)
    dimensions = [axis.dimension(escape(label_of(name))) for name, axis in axes.items() if axis is not None]
    stopped = [end for end in ends if end != COMPLETE]
    line = {
        "color": _colours(rows, objectives[0], stopped),
        "cmin": 0.0,
        "cmax": 1.0 + len(stopped),
        "colorscale": _scale(stopped),
    }
    chart = go.Figure(go.Parcoords(line=line, dimensions=dimensions, labelangle=0, tickfont={"size": 11}))
    return plain(chart, height=360, margin={"l": 64, "r": 40, "t": 48, "b": 24})


def _colours(rows: Sequence[Document], objective: str, stopped: Sequence[str]) -> list[float]:
    """Completed trials by rank, from 0 for the best to just below 1; each other end in an interval of its own."""
    completed = [row for row in rows if row["end"] == COMPLETE]
    completed.sort(key=lambda row: row["objectives"][objective], reverse=OBJECTIVES[objective] == "maximize")
    ranks = {row["number"]: 0.99 * i / max(1, len(completed) - 1) for i, row in enumerate(completed)}
    return [
        ranks[row["number"]] if row["number"] in ranks else 1.5 + stopped.index(row["end"]) for row in rows
    ]


def _scale(stopped: Sequence[str]) -> list[tuple[float, str]]:
    """The gradient of the ranks on the first unit, and a colour for each end on the units after it."""
    top = 1.0 + len(stopped)
    scale = [(i / (len(BEST_TO_WORST) - 1) / top, colour) for i, colour in enumerate(BEST_TO_WORST)]
    for i, end in enumerate(stopped, 1):
        scale += [(i / top, colour_of(end)), ((i + 1) / top, colour_of(end))]
    return scale


def _axis(name: str, values: Sequence[Any], distribution: Distribution | None) -> Axis | None:
    """Categories for a choice and for text, else numbers, on a log scale where they were drawn so or span much.

    None where no trial has a value.
    """
    known = [value for value in values if value is not None]
    if not known:
        return None
    if isinstance(distribution, Choice) or any(isinstance(value, str | bool) for value in known):
        ordered = sorted(known, key=lambda value: (isinstance(value, str), value))
        return _named(values, list(dict.fromkeys(map(str, ordered))))
    drawn = isinstance(distribution, LogUniform) or (isinstance(distribution, Int) and distribution.log)
    return _numbers(values, drawn or wide(name, known))


def _named(values: Sequence[Any], options: Sequence[str]) -> Axis:
    options = [*options, NONE] if None in values else list(options)
    places = [float(options.index(NONE if value is None else str(value))) for value in values]
    return Axis(places, [(float(i), shorten(option)) for i, option in enumerate(options)])


def shorten(text: str) -> str:
    """`text`, cut where it would reach the next axis."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _numbers(values: Sequence[Any], log: bool) -> Axis:
    """A trial without a value crosses below all others."""
    known = [math.log10(value) if log else float(value) for value in values if value is not None]
    low, high = min(known), max(known)
    if not log and high - low < FEW and all(value == round(value) for value in known):
        ticks = [(float(i), str(i)) for i in range(int(low), int(high) + 1)]
    else:
        places = [low + (high - low) * i / 4 for i in range(5)] if high > low else [low]
        ticks = [(place, f"{10**place if log else place:.3g}") for place in places]
    missing = low - 0.16 * ((high - low) or 1.0)
    scaled = iter(known)
    crossed = [missing if value is None else next(scaled) for value in values]
    return Axis(crossed, [*ticks, (missing, NONE)] if None in values else ticks)
