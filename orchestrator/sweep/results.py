"""What a sweep came to: a row for every trial, the best, the Pareto front, what each end cost; as JSON and Parquet.

It reads the ledger and the sealed runs, and decides nothing.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from optuna.trial import FrozenTrial

from orchestrator.errors import RunFailed
from orchestrator.experiment import Experiment
from orchestrator.store.documents import decode, encode
from orchestrator.store.layout import run_key
from orchestrator.store.objects import Objects
from orchestrator.sweep import account
from orchestrator.sweep.folder import SweepResult, sweep_key
from orchestrator.sweep.importance import importance
from orchestrator.sweep.ledger import Ledger
from orchestrator.sweep.plan import Plan
from orchestrator.sweep.ranking import best_of, front_of
from orchestrator.sweep.report import report

Document = dict[str, Any]

NOT_ENDED = ("WAITING", "RUNNING")


def finish(
    objects: Objects, sweep_id: str, ledger: Ledger, plan: Plan, experiment: Experiment
) -> SweepResult:
    """Read back what every trial came to and write trials.parquet, study.parquet, report.html and result.json.

    Raises RunFailed where no trial completed, once everything is written.
    """
    trials = [t for t in ledger.trials() if account.ran(t) and t.state.name not in NOT_ENDED]
    rows = rows_of(objects, trials, plan)
    result = SweepResult(
        sweep_id,
        rows,
        best_of(rows, plan),
        next((row["floor"] for row in rows if row["floor"]), {}),
        front_of(rows, plan.objectives),
        ledger.configurations(),
        ledger.costs(),
        {name: asdict(found) for name, found in importance(trials, plan.objectives).items()},
    )
    values = [{"number": t.number, "step": s, "value": v} for t in trials for s, v in _curve(t, plan)]
    files = {
        "trials.parquet": _parquet([_flat(row) for row in rows]),
        "study.parquet": _parquet(values),
        "report.html": report(objects, result, values, plan, experiment).encode(),
        "result.json": encode(vars(result)),  # the last: who finds it finds the others
    }
    for name, data in files.items():
        objects.put(sweep_key(sweep_id, name), data)
    for name in ("live.json", "stop.json"):
        objects.delete(sweep_key(sweep_id, name))
    if result.best is None:
        ends = ", ".join(f"trial {row['number']} {_why(row)}" for row in rows) or "none ended"
        raise RunFailed(
            f"sweep {sweep_id}: no trial completed ({ends}); widen the space, "
            f"or go on with a larger budget: ganctl sweep resume {sweep_id} --trials N"
        )
    return result


def rows_of(objects: Objects, trials: Sequence[FrozenTrial], plan: Plan) -> list[Document]:
    """One row a trial: what the ledger says of it, and what its run was sealed with."""
    told = [account.row(trial) | {"end": account.end(trial)} for trial in trials]
    keys = {row["run_id"]: run_key(row["run_id"], "sealed.json") for row in told if row["run_id"]}
    found = objects.get_many(keys.values())
    sealed = {run_id: decode(found[key]) for run_id, key in keys.items() if key in found}
    return [_row(row, sealed.get(row["run_id"], {}) if row["counts"] else {}, plan) for row in told]


def _row(told: Document, sealed: Document, plan: Plan) -> Document:
    """`sealed` is empty for a trial that was cut off: its run is that of the trial begun in its place."""
    figures = sealed.get("figures") or {}
    values = told["values"] or [figures.get(name) for name in plan.objectives]
    verdict = {"kind": told["verdict"] or sealed.get("verdict"), "evidence": told["evidence"] or []}
    kept = ("number", "state", "end", "params", "rung", "run_id", "reason", "device_seconds", "seed")
    return {
        **{name: told[name] for name in kept},
        **{name: told[name] for name in ("retry_of", "replicate_of", "lineage")},
        "objectives": dict(zip(plan.objectives, values, strict=True)),
        "objective": told["values"][0] if told["values"] else None,
        "figures": figures,
        "floor": sealed.get("floor") or {},
        "verdict": verdict | {"remedy": told["remedy"] or sealed.get("remedy") or ""},
        "step": sealed.get("step", told["step"]),
        "seconds": told["duration"],
        "changes": sealed.get("changes") or [],
    }


def _curve(trial: FrozenTrial, plan: Plan) -> list[tuple[int, float]]:
    """The objective (of several their scalarisation) at every step where it was measured, the end included."""
    points = dict(trial.intermediate_values)
    step = account.row(trial)["step"]
    if trial.values and step is not None:
        points[step] = plan.kept(trial.values)
    return sorted(points.items())


def _why(row: Mapping[str, Any]) -> str:
    """How a row ended, a failed one with its reason."""
    return str(row["reason"] if row["end"] == "failed" and row["reason"] else row["end"])


def _flat(row: Document) -> Document:
    """A row of plain columns: `params.x`, `figures.x`, `verdict`, lists as JSON text."""
    nested = ("params", "objectives", "figures", "floor", "verdict", "lineage", "changes")
    flat = {name: value for name, value in row.items() if name not in (*nested, "end")}
    flat["ended"] = row["end"]  # `end` is a word of SQL
    flat |= {"verdict": row["verdict"]["kind"], "remedy": row["verdict"]["remedy"]}
    flat |= {"evidence": json.dumps(row["verdict"]["evidence"])}
    flat |= {name: json.dumps(row[name]) for name in ("lineage", "changes")}
    return flat | {
        f"{part}.{k}": v for part in ("params", "objectives", "figures") for k, v in row[part].items()
    }


def _parquet(rows: Sequence[Document]) -> bytes:
    columns = dict.fromkeys(name for row in rows for name in row)  # a pruned trial has no figures
    table = pa.table({name: _column([row.get(name) for row in rows]) for name in columns})
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def _column(values: list[Any]) -> pa.Array:
    """One type a column: text where a choice is among values of several."""
    kinds = {
        float if isinstance(v, int) and not isinstance(v, bool) else type(v) for v in values if v is not None
    }
    return pa.array(values if len(kinds) <= 1 else [None if v is None else str(v) for v in values])
