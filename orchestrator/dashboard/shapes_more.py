"""What /api answers of sweeps, models and actions; as in `shapes.py`."""

from __future__ import annotations

from typing_extensions import TypedDict

from orchestrator.dashboard.shapes import Acknowledged, Counts, Document, Number, Retrained, StepFigures, Text
from orchestrator.retrain.history import Event


class Swept(TypedDict):
    id: str
    name: Text
    state: str
    created: Number
    objectives: list[str]
    budget: Document
    trials: int
    ends: Counts
    best: Number
    device_seconds: float


class Sweeps(TypedDict):
    sweeps: list[Swept]


class Trial(TypedDict):
    number: int
    state: str
    end: str
    reason: Text
    run: Text
    step: int | None
    rung: int | None
    seed: int | None
    params: Document
    objectives: dict[str, Number]
    verdict: Text
    evidence: str
    remedy: str
    seconds: Number
    device_seconds: Number
    progress: Number
    changes: int


class Rung(TypedDict):
    step: int
    reached: int
    stopped: int
    lowest: Number
    median: Number
    highest: Number


class Costs(TypedDict):
    """Device-seconds, by end of the trials."""

    total: float
    by_end: dict[str, float]
    trials: Counts
    saved: dict[str, float]
    saved_total: float


class Axes(TypedDict):
    quality: str
    diversity: str


class Sweep(TypedDict):
    summary: Swept
    plan: Document
    space: Document
    trials: list[Trial]
    best: int | None
    axes: Axes
    front: list[int]
    importance: Document | None
    rungs: list[Rung]
    costs: Costs
    configurations: list[Document]
    pictures: dict[str, int]


class Promotion(TypedDict):
    number: int
    name: str
    version: int
    kind: str
    run: str
    step: int
    attempt: int
    weights: str
    decision: str
    reason: str
    by: str
    time: float
    code: dict[str, str]
    data: str
    previous: str
    digest: str


class ModelRow(Retrained):
    name: str
    champion: Promotion | None
    problem: Text


class Models(TypedDict):
    models: list[ModelRow]


class Picture(TypedDict):
    version: int
    run: str
    step: int | None


class Model(Retrained):
    name: str
    champion: Promotion | None
    promotions: list[Promotion]
    pictures: list[Picture]
    damaged: list[int]
    history: list[Event]
    decisions: list[Document]


class Done(TypedDict):
    """Every action's outcome has its id in the audit."""

    action: str


class Stopped(Done):
    run: str
    state: str
    driven: Document | None


class SweepStopped(Done):
    sweep: str
    state: str


class Promoted(Done):
    promotion: Promotion


class AlarmSeen(Acknowledged, Done):
    pass


class Begun(Done):
    run: str
    pid: int
    log: str
    command: str


class Dealt(Done):
    deck: str


class Judged(StepFigures, Done):
    session: str


class Audited(TypedDict):
    id: str
    time: float
    what: str
    arguments: Document
    who: dict[str, str]
    status: int | None
    outcome: Document | None


class Audit(TypedDict):
    actions: list[Audited]
