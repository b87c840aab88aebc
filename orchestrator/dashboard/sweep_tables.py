"""A sweep as the dashboard shows it: one shape of row, whether the ledger still writes it or the result has it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orchestrator import evidence
from orchestrator.store.layout import run_key, sample_step
from orchestrator.store.objects import Objects
from orchestrator.sweep.folder import Sweep
from orchestrator.sweep.plan import OBJECTIVES
from orchestrator.sweep.ranking import figure

Document = dict[str, Any]
Row = Mapping[str, Any]

PICTURES = 60  # trials with a thumbnail: each is a listing
RUNNING = ("RUNNING", "WAITING")


def summary(sweep: Sweep) -> Document:
    """A sweep in the list."""
    rows, plan, experiment = sweep.rows, sweep.begun["plan"], sweep.begun.get("experiment") or {}
    told = [trial(row, plan["objectives"]) for row in rows]
    complete = [row["objectives"].get(plan["objectives"][0]) for row in told if row["state"] == "COMPLETE"]
    values = [value for value in complete if value is not None]
    pick = min if OBJECTIVES[plan["objectives"][0]] == "minimize" else max
    return {
        "id": sweep.id,
        "name": experiment.get("name"),
        "state": sweep.state,
        "created": sweep.begun.get("created"),
        "objectives": plan["objectives"],
        "budget": {name: plan.get(name) for name in ("trials", "hours", "device_hours") if plan.get(name)},
        "trials": len(rows),
        "ends": counted(row["end"] for row in told),
        "best": pick(values) if values else None,
        "device_seconds": sum(row["device_seconds"] or 0.0 for row in told),
    }


def trial(row: Row, objectives: Sequence[str]) -> Document:
    """A row of the result, or of the ledger of a sweep that runs, as one shape."""
    verdict = row.get("verdict")
    document = verdict if isinstance(verdict, Mapping) else {"kind": verdict, "evidence": row.get("evidence")}
    kept = ("number", "state", "reason", "step", "rung", "seed", "device_seconds", "retry_of", "replicate_of")
    return {
        **{name: row.get(name) for name in kept},
        "end": row.get("end") or _end(row),
        "run": row.get("run_id"),
        "params": dict(row.get("params") or {}),
        "objectives": _objectives(row, objectives),
        "verdict": document.get("kind"),
        "evidence": evidence.line(document),
        "remedy": document.get("remedy") or row.get("remedy") or "",
        "seconds": row.get("seconds", row.get("duration")),
        "progress": row.get("progress"),
        "changes": len(row.get("lineage") or ()),
    }


def _objectives(row: Row, objectives: Sequence[str]) -> Document:
    if "objectives" in row:
        shown = dict.fromkeys((*objectives, "fid", "coverage"))
        return {name: value for name in shown if (value := figure(row, name)) is not None}
    values = row.get("values") or (row.get("last") or {}).get("values")
    if values is None and row.get("rungs") and len(objectives) == 1:
        values = [list(row["rungs"].values())[-1]]
    return dict(zip(objectives, values or (), strict=False))


def _end(row: Row) -> str:
    """How a trial of the ledger stands or ended, in a word or two."""
    if row.get("paused") is not None:
        return "paused"
    state = str(row["state"]).lower()
    if state != "pruned":
        return "failed" if state == "fail" else state
    kind = row.get("verdict")
    if kind not in (None, "healthy", "unknown"):
        return str(kind)
    return str(row.get("reason") or "").partition(":")[0] or "stopped"


def counted(words: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = defaultdict(int)
    for word in words:
        counts[word] += 1
    return dict(counts)


def front(rows: Sequence[Document], x: str, y: str) -> list[int]:
    """Numbers of the completed trials that no other one beats in both, best in x first: by sorting, for it is asked
    for every few seconds."""
    points = [
        (_signed(x, row), _signed(y, row), row["number"])
        for row in rows
        if row["state"] == "COMPLETE" and None not in (row["objectives"].get(x), row["objectives"].get(y))
    ]
    best, found = math.inf, []
    for _, second, number in sorted(points):
        if second < best:
            best = second
            found.append(number)
    return found


def _signed(name: str, row: Document) -> float:
    value = float(row["objectives"][name])
    return value if OBJECTIVES[name] == "minimize" else -value


def axes(objectives: Sequence[str]) -> tuple[str, str]:
    """Quality and diversity: the first objective, and another, else coverage, else FID."""
    first = objectives[0]
    others = [*objectives[1:], "coverage", "fid"]
    return first, next(name for name in others if name != first)


def costs(rows: Sequence[Row], told: Sequence[Document], done: Mapping[str, Any]) -> Document:
    """Device-seconds spent and saved by stopping, by end: the result's account, or while it runs the same sum over
    the ledger's rows (a trial stopped at progress p after t would have taken t/p)."""
    if done:
        return dict(done)
    by_end: dict[str, float] = defaultdict(float)
    saved: dict[str, float] = defaultdict(float)
    for row, shown in zip(rows, told, strict=True):
        cost, progress = float(row.get("device_seconds") or 0.0), float(row.get("progress") or 0.0)
        by_end[shown["end"]] += cost
        if row["state"] == "PRUNED" and 0 < progress < 1:
            saved[shown["end"]] += cost * (1 / progress - 1)
    ends = counted(row["end"] for row in told)
    told_costs: Document = {"total": sum(by_end.values()), "by_end": dict(by_end), "trials": ends}
    return told_costs | {"saved": dict(saved), "saved_total": sum(saved.values())}


def rungs(curves: Mapping[int, Sequence[tuple[int, float]]], told: Sequence[Document]) -> list[Document]:
    """What happened at each step where trials were evaluated: how many reached it, how many went no further and
    were stopped, and the best and median value there."""
    stopped = {row["number"] for row in told if row["state"] == "PRUNED"}
    at: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for number, points in curves.items():
        for step, value in points:
            at[step].append((number, value))
    last = {number: max(step for step, _ in points) for number, points in curves.items() if points}
    found = []
    for step, values in sorted(at.items()):
        ordered = sorted(value for _, value in values)
        ended = sum(number in stopped and last[number] == step for number, _ in values)
        middle = ordered[len(ordered) // 2]
        told_rung = {"step": step, "reached": len(values), "stopped": ended}
        found.append(told_rung | {"lowest": ordered[0], "median": middle, "highest": ordered[-1]})
    return found


def pictures(objects: Objects, rows: Sequence[Document], wanted: Sequence[int]) -> dict[str, int]:
    """Run → the step of its last sample grid, of the trials `wanted`, and of others while there is room."""
    by_number = {row["number"]: row["run"] for row in rows if row["run"]}
    chosen = list(dict.fromkeys([*wanted, *by_number]))[:PICTURES]
    found = {}
    for number in chosen:
        if run := by_number.get(number):
            keys = objects.list(run_key(run, "samples"))
            if keys:
                found[run] = sample_step(keys[-1])
    return found
