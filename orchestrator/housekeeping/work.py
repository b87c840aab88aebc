"""Carrying a plan out, so that whoever promotes, begins or compacts meanwhile wins, and being killed loses nothing.

A checkpoint is taken out of sight before it is deleted: its marker `commit.json` becomes `expired.json`. From then on
nobody can newly refer to it. Then, after `GRACE` seconds for those who had just looked at it, references are read
again: what is referred to gets its marker back. Killed at any point, the next housekeeping finds `expired.json` and
goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from orchestrator.errors import AlreadyExists, NotFound
from orchestrator.housekeeping import inventory
from orchestrator.housekeeping.inventory import EXPIRED, Folder
from orchestrator.housekeeping.plan import Group, Plan, Planner
from orchestrator.housekeeping.policy import Policy
from orchestrator.housekeeping.references import References
from orchestrator.progress import Event, tell
from orchestrator.store.catalogue import Catalogue
from orchestrator.store.checkpoints import MARKER
from orchestrator.store.layout import checkpoint_folder, run_key
from orchestrator.store.metrics import same
from orchestrator.store.objects import Objects
from orchestrator.store.reader import Run
from orchestrator.store.segments import Curves, newest

GRACE = 10.0  # seconds between taking checkpoints out of sight and deleting them
THREADS = 16


@dataclass
class Tally:
    """How many objects, of how many bytes together."""

    objects: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Report:
    """What may go, or where `deleted` has gone, by rule.

    `waiting`: sealed runs that the next compaction takes. `kept`: checkpoints that would go but for what refers to
    them, by that. `restored`: checkpoints whose deletion was called off. `problems`: what was left alone, and why.
    """

    store: str
    policy: dict[str, Any]
    deleted: bool
    rules: dict[str, Tally]
    kept: dict[str, int] = field(default_factory=dict)
    restored: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    waiting: int = 0
    snapshot: int = 0
    seconds: float = 0.0

    @property
    def total(self) -> Tally:
        """All rules together."""
        tallies = self.rules.values()
        return Tally(sum(t.objects for t in tallies), sum(t.bytes for t in tallies))


def run(objects: Objects, policy: Policy, delete: bool = False, now: float | None = None) -> Report:
    """Compact the store and delete what `policy` does not keep; unless `delete`, only say what that would be.

    `now` is the Unix time that ages are counted to. Raises StoreError.
    """
    begun = time.monotonic()
    now = time.time() if now is None else now
    if delete:
        Catalogue(objects).compact()
    references = References(objects, policy, now)
    stock = inventory.take(objects)
    plan = Planner(stock, policy, references, now).plan()
    worker = Worker(objects, references)
    gone = worker.carry_out(plan) if delete else list(plan.groups)
    rules: dict[str, Tally] = {}
    for item in (item for group in gone for item in group.items):
        tally = rules.setdefault(item.rule, Tally())
        tally.objects, tally.bytes = tally.objects + 1, tally.bytes + item.size
    waiting = sum(stored.row is None and _sealed(stored) for stored in stock.runs.values())
    return Report(
        objects.url,
        policy.model_dump(mode="json"),
        delete,
        rules,
        plan.kept,
        worker.restored or [checkpoint_folder(run_id, *folder.span) for run_id, folder in plan.restored],
        [*plan.problems, *worker.problems],
        waiting,
        stock.newest.number,
        time.monotonic() - begun,
    )


def _sealed(stored: inventory.Stored) -> bool:
    return run_key(stored.id, "sealed.json") in stored.entries


class Worker:
    """Deletes. `restored` and `problems` tell what was left."""

    def __init__(self, objects: Objects, references: References, grace: float | None = None) -> None:
        self.objects, self.references = objects, references
        self.grace = GRACE if grace is None else grace
        self.restored: list[str] = []
        self.problems: list[str] = []
        self._curves = Curves(objects)
        self._done = self._of = 0

    def carry_out(self, plan: Plan) -> list[Group]:
        """Delete what is planned and still may go; returns that."""
        self._done, self._of = 0, len(plan.items)
        hidden = [group for group in plan.groups if group.folder is not None]
        for run_id, folder in plan.restored:
            self._restore(run_id, folder)
        gone = self._checkpoints(hidden) if hidden else []
        current = newest(self.objects)
        named = {current.index, *(segment.key for segment in current.segments)}
        for group in plan.groups:
            if group.folder is None and self._still(group, named):
                self._delete(group)
                gone.append(group)
        tell(Event("housekeeping", 1.0, f"{self._done} objects deleted", end=True))
        return gone

    def _checkpoints(self, groups: Sequence[Group]) -> list[Group]:
        self._each(self._hide, groups)
        if any(group.folder is not None and group.folder.marker is not None for group in groups):
            time.sleep(self.grace)
        self.references.refresh()
        gone = []
        for group in groups:
            assert group.folder is not None
            if self._held(group, group.folder):
                self._restore(group.run_id, group.folder)
            else:
                gone.append(group)
        for group in gone:
            self._delete(group)
        return gone

    def _held(self, group: Group, folder: Folder) -> bool:
        """Whether anything refers to the checkpoint by now."""
        finished = group.rule in ("checkpoints", "failed")
        whole = finished and self.references.of_run(group.run_id, group.sweep)
        exact = self.references.of_checkpoint(group.run_id, *folder.span)
        return bool(whole or exact or self.references.damaged)

    def _hide(self, group: Group) -> None:
        """Make the marker `expired.json`, in that order: at any point one of the two is there."""
        assert group.folder is not None
        root = checkpoint_folder(group.run_id, *group.folder.span)
        with suppress(NotFound):
            self.objects.put(f"{root}/{EXPIRED}", self.objects.get(f"{root}/{MARKER}"))
            self.objects.delete(f"{root}/{MARKER}")

    def _restore(self, run_id: str, folder: Folder) -> None:
        """Make `expired.json` the marker again, of a checkpoint that is whole.

        One that had no marker when it was listed was not hidden by this housekeeping.
        """
        root = checkpoint_folder(run_id, *folder.span)
        there = {entry.key: entry.size for entry in self.objects.entries(root)}
        if f"{root}/{EXPIRED}" not in there or folder.marker is None:
            return
        files = folder.marker["files"]
        if f"{root}/{MARKER}" not in there:
            lost = [name for name in files if there.get(f"{root}/{name}") != files[name]["size"]]
            if lost:
                self.problems.append(f"{root} cannot be restored: it lacks {', '.join(lost)}")
                return
            with suppress(AlreadyExists, NotFound):
                self.objects.create(f"{root}/{MARKER}", self.objects.get(f"{root}/{EXPIRED}"))
        self.objects.delete(f"{root}/{EXPIRED}")
        self.restored.append(root)

    def _still(self, group: Group, named: set[str]) -> bool:
        """Whether a group that is no checkpoint may go by now."""
        if group.rule == "parts":
            return self._merged(group.run_id)
        if group.rule == "unannounced runs":
            return not self.objects.exists(run_key(group.run_id, "run.json"))
        return not named & {item.key for item in group.items}

    def _merged(self, run_id: str) -> bool:
        """Whether the segment tells the very curve that the parts do."""
        try:
            if same(self._curves.curve(run_id), Run(self.objects, run_id).metrics()):
                return True
        except NotFound as error:
            self.problems.append(f"parts of run {run_id} stay: {error}")
            return False
        self.problems.append(f"parts of run {run_id} stay: its segment tells another curve than they do")
        return False

    def _delete(self, group: Group) -> None:
        """Every object of the group in its order; of a checkpoint `expired.json` last, since that leads back to it."""
        keys = [item.key for item in group.items if not item.key.endswith(f"/{EXPIRED}")]
        self._each(self.objects.delete, keys)
        if group.folder is not None and group.folder.marker is not None:
            self.objects.delete(f"{checkpoint_folder(group.run_id, *group.folder.span)}/{EXPIRED}")
        self._done += len(group.items)
        if self._of:
            tell(Event("housekeeping", self._done / self._of, f"{self._done} of {self._of} objects"))

    def _each(self, work: Callable[[Any], None], over: Iterable[Any]) -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(work, over))
