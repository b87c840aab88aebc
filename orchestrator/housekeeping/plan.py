"""What may go, by which rule and why, in the order in which it is deleted. It deletes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from orchestrator.housekeeping import inventory
from orchestrator.housekeeping.inventory import EXPIRED, Folder, Inventory, Stored
from orchestrator.housekeeping.policy import DAY, Policy, due
from orchestrator.housekeeping.references import References
from orchestrator.store.attempts import counts
from orchestrator.store.checkpoints import MARKER
from orchestrator.store.layout import INDEXES, RETRAIN, SEGMENTS
from orchestrator.store.objects import PROBES, Entry, Objects
from orchestrator.store.segments import Snapshot

Rule = Literal[
    "checkpoints",
    "failed",
    "void checkpoints",
    "unfinished checkpoints",
    "parts",
    "digests",
    "unannounced runs",
    "segments",
    "snapshots",
    "probes",
]


@dataclass(frozen=True)
class Item:
    """An object that may go: its key and size in bytes, the rule that says so, and why in words."""

    key: str
    size: int
    rule: Rule
    why: str


@dataclass(frozen=True)
class Group:
    """Objects that go together or not at all, in this order; of run `run_id`, where they are a run's."""

    rule: Rule
    items: tuple[Item, ...]
    run_id: str = ""
    folder: Folder | None = None
    sweep: str | None = None


@dataclass(frozen=True)
class Plan:
    """`groups` are to go, in this order. `kept` counts the checkpoints that would have gone, by what refers to them;
    `restored` are checkpoints that an earlier housekeeping had begun to delete and that are to stay after all.
    """

    groups: tuple[Group, ...]
    kept: dict[str, int] = field(default_factory=dict)
    restored: tuple[tuple[str, Folder], ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def items(self) -> list[Item]:
        """Every object that may go, in the order in which it is deleted."""
        return [item for group in self.groups for item in group.items]


def plan(objects: Objects, policy: Policy, now: float) -> Plan:
    """What of the store may go by `policy` at the Unix time `now`. It reads, and writes nothing."""
    references = References(objects, policy, now)
    return Planner(inventory.take(objects), policy, references, now).plan()


class Planner:
    """One look at a store, judged by a policy. `references` are refreshed, and hold what the plan was made by."""

    def __init__(self, stock: Inventory, policy: Policy, references: References, now: float) -> None:
        self.stock, self.policy, self.references, self.now = stock, policy, references, now
        self._kept: dict[str, int] = {}
        self._restored: list[tuple[str, Folder]] = []

    def plan(self) -> Plan:
        """The plan."""
        self.references.refresh(self.stock.runs)
        runs = sorted(self.stock.runs.values(), key=lambda run: run.id)
        groups = [group for run in runs if run.sealed is not None for group in self._checkpoints(run)]
        groups += [group for run in runs if run.sealed is not None for group in self._parts(run)]
        groups += [group for run in runs for group in self._unannounced(run)]
        groups += [*self._replaced(), *self._digests(), *self._probes()]
        return Plan(tuple(groups), self._kept, tuple(self._restored), tuple(self.references.damaged))

    def _checkpoints(self, run: Stored) -> Iterator[Group]:
        """Checkpoints of a sealed run: those that have expired, and what is none."""
        assert run.sealed is not None
        begun = list(run.sealed["from"])
        finished = [f for f in run.folders if f.marker is not None and counts(*f.span, begun)]
        scored = [f for f in finished if f.marker and f.marker.get("fid") is not None]
        best = min(scored, key=lambda f: (f.marker or {})["fid"], default=None)
        dear = {id(f) for f in (best, finished[-1] if finished else None) if f is not None}
        for folder in run.folders:
            if folder.marker is None:
                rule, why = self._garbage("unfinished checkpoints", folder, "it was never finished")
            elif folder not in finished:
                rule, why = self._garbage(
                    "void checkpoints", folder, "a later attempt went on from before it"
                )
            else:
                rule, why = self._expired(run, id(folder) in dear)
            refers = self._refers(run, folder, whole=folder in finished)
            if rule is not None and refers:
                self._kept[refers] = self._kept.get(refers, 0) + 1
            if rule is not None and not refers:
                order = sorted(folder.files, key=lambda name: (name != MARKER, name == EXPIRED, name))
                items = tuple(_item(folder.files[name], rule, why) for name in order)
                yield Group(rule, items, run.id, folder, run.sealed.get("sweep"))
            elif EXPIRED in folder.files:
                self._restored.append((run.id, folder))

    def _refers(self, run: Stored, folder: Folder, whole: bool) -> str:
        assert run.sealed is not None
        if self.references.damaged:
            return "a promotion that cannot be read"
        of_run = self.references.of_run(run.id, run.sealed.get("sweep")) if whole else ""
        return self.references.of_checkpoint(run.id, *folder.span) or of_run

    def _garbage(self, rule: Rule, folder: Folder, why: str) -> tuple[Rule | None, str]:
        since = 0.0 if folder.hidden else folder.written  # what was begun is finished
        return (rule, why) if due(since, self.policy.orphans_days, self.now) else (None, "")

    def _expired(self, run: Stored, dear: bool) -> tuple[Rule | None, str]:
        """The rule by which a finished checkpoint goes; `dear` is the newest and the best."""
        assert run.sealed is not None
        state, age = str(run.sealed["state"]), (self.now - run.ended) / DAY
        if state != "completed":
            gone = due(run.ended, self.policy.failed_days, self.now)
            return ("failed", f"its run ended as {state} {age:.0f} days ago") if gone else (None, "")
        days = self.policy.last_checkpoints_days if dear else self.policy.checkpoints_days
        gone = due(run.ended, days, self.now)
        return ("checkpoints", f"its run completed {age:.0f} days ago") if gone else (None, "")

    def _parts(self, run: Stored) -> Iterator[Group]:
        """Parts whose rows are in a segment of the newest snapshot."""
        if run.row is None or not run.parts:
            return
        segment = self.stock.loose.get(run.row["segment"])
        since = run.row["merged"] or (segment.modified if segment else self.now)
        if segment is not None and due(since, self.policy.parts_days, self.now):
            yield Group("parts", _items(run.parts, "parts", f"merged into {segment.key}"), run.id)

    def _unannounced(self, run: Stored) -> Iterator[Group]:
        """What lies under the id of a run that has no run.json and is in no snapshot."""
        newest = max(entry.modified for entry in run.entries.values())
        if run.announced or not due(newest, self.policy.orphans_days, self.now):
            return
        if refers := self.references.names_run(run.id):
            self._kept[refers] = self._kept.get(refers, 0) + 1
            return
        items = _items(run.entries.values(), "unannounced runs", "there is no run.json")
        yield Group("unannounced runs", items, run.id)

    def _replaced(self) -> Iterator[Group]:
        """Segments and indexes that the newest snapshot does not name, then older snapshots."""
        shots = [self.stock.snapshots[key] for key in sorted(self.stock.snapshots)]
        until: dict[str, float] = {}  # by key: since when no snapshot names it
        for (_, shot), (after, _) in pairwise(shots):
            until |= dict.fromkeys(_named(shot), after.modified)
        current = set(_named(self.stock.newest))
        for key, entry in self.stock.loose.items():
            if key.startswith((f"{SEGMENTS}/", f"{INDEXES}/")) and key not in current:
                since = max(until.get(key, 0.0), entry.modified)
                if due(since, self.policy.orphans_days, self.now):
                    yield Group(
                        "segments", _items([entry], "segments", "the newest snapshot does not name it")
                    )
        for (entry, _), (after, newer) in pairwise(shots):
            if due(after.modified, self.policy.orphans_days, self.now):
                yield Group("snapshots", _items([entry], "snapshots", f"replaced by snapshot {newer.number}"))

    def _digests(self) -> Iterator[Group]:
        for key, entry in self.stock.loose.items():
            old = due(entry.modified, self.policy.digests_days, self.now)
            if key.startswith(f"{RETRAIN}/") and old and key not in self.references.digests:
                yield Group("digests", _items([entry], "digests", "the last round used other data"))

    def _probes(self) -> Iterator[Group]:
        for key, entry in self.stock.loose.items():
            if key.startswith(f"{PROBES}/") and due(entry.modified, self.policy.orphans_days, self.now):
                yield Group("probes", _items([entry], "probes", "whoever wrote it was killed"))


def _named(shot: Snapshot) -> list[str]:
    return [shot.index, *(segment.key for segment in shot.segments)]


def _item(entry: Entry, rule: Rule, why: str) -> Item:
    return Item(entry.key, entry.size, rule, why)


def _items(entries: Iterable[Entry], rule: Rule, why: str) -> tuple[Item, ...]:
    return tuple(_item(entry, rule, why) for entry in sorted(entries, key=lambda entry: entry.key))
