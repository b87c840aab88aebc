"""Which run has which device: what Ray says of its workers, with the runs that the store says they are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orchestrator.store import documents
from orchestrator.store.ids import ID_PATTERN
from orchestrator.store.layout import attempt_key
from orchestrator.store.objects import Objects

Document = dict[str, Any]
Row = Mapping[str, Any]

ACTIVE = ("running", "queued", "interrupted")
RUNS, SLOTS = 500, 512  # that are shown, at most


def cluster(objects: Objects, rows: Iterable[Row], ray: Document) -> Document:
    """Ray's nodes with their `devices`, its jobs, and `runs`: the active ones, with the process that holds each."""
    active = [row for row in rows if row["state"] in ACTIVE][:RUNS]
    places = processes(objects, active)
    by_process = {(at["host"], at["pid"]): row for row in active if (at := places.get(str(row["id"])))}
    by_job: dict[str, str] = {job["job"]: job["id"] for job in ray["jobs"] if job.get("job")}
    known = {row["id"]: row for row in active}
    nodes = [
        {name: node[name] for name in ("id", "name", "address", "head", "state", "cpu", "memory", "gpus")}
        | {"devices": devices(node, by_process, by_job, known)}
        for node in ray["nodes"]
    ]
    runs = [{n: row.get(n) for n in ("id", "name", "state", "sweep", "step")} for row in active]
    told = [run | {n: places.get(str(run["id"]), {}).get(n) for n in ("host", "pid")} for run in runs]
    return {"nodes": nodes, "jobs": ray["jobs"], "waiting": ray["waiting"], "runs": told}


def processes(objects: Objects, rows: Sequence[Row]) -> dict[str, Document]:
    """Host and pid of the first rank of each run's attempt."""
    keys = {row["id"]: attempt_key(row["id"], row["attempt"]) for row in rows if row.get("attempt")}
    found = objects.get_many(keys.values())
    return {run: documents.decode(found[key]) for run, key in keys.items() if key in found}


def devices(
    node: Document,
    by_process: Mapping[Any, Row],
    by_job: Mapping[str, str],
    known: Mapping[str, Row],
) -> list[Document]:
    """The node's GPUs, or CPUs where it has none, each with who holds it: `holders` of run, sweep, job and share."""
    total = node["resources"]
    kind = "GPU" if total.get("GPU") else "CPU"
    slots: dict[str, list[Document]] = {str(i): [] for i in range(min(int(total.get(kind) or 0), SLOTS))}
    for worker in node.get("workers") or ():
        row = by_process.get((node["name"], worker["pid"])) or _of_job(by_job.get(worker["job"], ""), known)
        who = {"run": row.get("id"), "sweep": row.get("sweep"), "pid": worker["pid"]}
        for slot, share in (worker["used"].get(kind) or {}).items():
            holder = who | {"share": share, "job": by_job.get(worker["job"], worker["job"])}
            slots.setdefault(slot, []).append(holder)
    return [{"kind": kind, "slot": slot, "holders": holders} for slot, holders in slots.items()]


def _of_job(submission: str, known: Mapping[str, Row]) -> Row:
    """The run or sweep that a job is named after: `<id>`, or `<id>-2` where it was submitted again."""
    match = re.match(rf"(?:[a-z]+-)?({ID_PATTERN.pattern})", submission)
    if match is None:
        return {}
    return known.get(match[1]) or {"id": None, "sweep": match[1]}
