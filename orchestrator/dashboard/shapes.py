"""What /api answers, as types: the OpenAPI document tells them, and schemathesis holds the server to them.

Times are Unix seconds. More fields may come; those that stand here stay.
"""

from __future__ import annotations

from typing import Any, NotRequired

from typing_extensions import TypedDict

Document = dict[str, Any]
Number = float | None  # null: not told, or not finite
Text = str | None
Counts = dict[str, int]


class Server(TypedDict):
    what: str
    state: str  # up, down, not started
    where: Text


class Last(TypedDict):
    round: int
    state: str


class Retrained(TypedDict):
    retrained: bool
    paused: bool | None
    last: Last | None
    next: Text


class Retraining(TypedDict):
    name: str
    paused: bool | None
    last: Text
    next: Text


class Status(TypedDict):
    parts: list[Server]
    up: bool
    retrainings: list[Retraining]
    runs: list[Document]
    version: str
    role: str
    stale: str


class Runs(TypedDict):
    """Every run by column; all columns have `count` values, the newest run first."""

    etag: str
    count: int
    columns: dict[str, list[str | float | None]]
    stale: str
    seen: float


class RunAlarm(TypedDict):
    id: Text
    rule: str
    evidence: list[Document] | None
    remedy: Text
    error: Text
    step: int | None


class Run(TypedDict):
    """One run. `document` is its run.json, `live` its heartbeat, `sealed` how it ended."""

    document: Document
    live: Document | None
    sealed: Document | None
    state: str
    checkpoints: list[int]
    samples: list[int]
    attempts: list[Document]
    lineage: Document
    alarms: list[RunAlarm]
    driver: Document | None


class Buckets(TypedDict):
    min: list[Number]
    max: list[Number]
    last: list[Number]


Spell = TypedDict("Spell", {"from": int, "to": int, "kind": str, "evidence": list[Document]})


class Change(TypedDict):
    step: int
    why: str


class Curves(TypedDict):
    """`step`: where each bucket ends."""

    step: list[int]
    series: dict[str, Buckets]
    names: list[str]
    verdicts: list[Spell]
    changes: list[Change]


class Lines(TypedDict):
    lines: list[str]


class Compared(TypedDict):
    """`series`, `samples` (steps) and each row of `config` by run."""

    name: str
    step: list[int]
    series: dict[str, list[Number]]
    config: dict[str, Document]
    samples: dict[str, list[int]]


class Acknowledged(TypedDict):
    alarm: str
    by: str
    time: float
    note: str


class Alarm(TypedDict):
    id: str
    run: str
    name: Text
    sweep: Text
    rule: str
    evidence: str
    step: int | None
    action: str
    remedy: str
    state: str
    time: Number
    acknowledged: Acknowledged | None
    open: bool


class Alarms(TypedDict):
    alarms: list[Alarm]


class Standing(TypedDict):
    state: str
    why: str


class Scheduled(Standing):
    runs: list[Document]


class Cluster(TypedDict):
    ray: Standing
    prefect: Scheduled
    nodes: list[Document]
    jobs: list[Document]
    waiting: list[Document]
    runs: list[Document]


class Form(TypedDict):
    """Without a recipe: `recipes` and where a run can go."""

    recipes: list[Document]
    places: list[str]
    cluster: str
    store: str
    pace: Document | None
    recipe: NotRequired[str]
    name: NotRequired[str]
    family: NotRequired[str]
    summary: NotRequired[str]
    about: NotRequired[dict[str, str]]
    fields: NotRequired[list[Document]]


class Figures(TypedDict):
    """`error`: the share judged wrongly, in its 95 % interval from `low` to `high`."""

    num: int
    error: float
    low: float
    high: float
    error_real: Number
    error_generated: Number


class StepFigures(Figures):
    step: int


class Rated(TypedDict):
    decks: list[str]
    sessions: int
    all: Figures | None
    steps: list[StepFigures]


class Deck(TypedDict):
    deck: Text
    items: int
    step: int | None
