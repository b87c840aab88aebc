"""Which checkpoints are referred to, and so are kept whatever the policy says.

By promotions, all of them, since a rollback may name any; by sweeps; by the last round of each retraining; and by the
`start` of runs, sweeps and retrainings. `refresh` reads what is new since the last time: nothing here is ever changed
but the documents of a sweep.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from orchestrator.errors import StoreError
from orchestrator.housekeeping.policy import Policy, due
from orchestrator.registry.records import decode as decode_promotion
from orchestrator.store.documents import Document, decode
from orchestrator.store.ids import ID_PATTERN
from orchestrator.store.layout import (
    DONE,
    LIVE,
    MODELS,
    RETRAIN,
    SWEEPS,
    key_number,
    promotion_number,
    run_key,
)
from orchestrator.store.objects import Entry, Objects

MENTION = re.compile(rf"(?<![\w-])({ID_PATTERN.pattern})(?:@(\d+))?(?![\w-])")
SWEEP_DOCUMENT = rf"{SWEEPS}/{ID_PATTERN.pattern}/(sweep|result)\.json"
ANY = -1  # an attempt that is not known


class References:
    """What is referred to in the store as of the last `refresh`. `damaged`: promotions that cannot be read."""

    def __init__(self, objects: Objects, policy: Policy, now: float) -> None:
        self.objects, self.policy, self.now = objects, policy, now
        self.damaged: list[str] = []
        self.digests: set[str] = set()  # keys of the digests that last rounds are compared by
        self._read: dict[tuple[str, int, float], bytes] = {}
        self._starts: dict[str, str] = {}  # by run, of every run that was ever seen
        self._runs: dict[str, str] = {}
        self._spans: dict[tuple[str, int, int], str] = {}
        self._sweeps: set[str] = set()

    def refresh(self, runs: Iterable[str] = ()) -> None:
        """Read the store. `runs` are to be looked at besides those that are live or done."""
        self._runs, self._spans, self._sweeps = {}, {}, set()
        self.damaged, self.digests = [], set()
        self._look_at_sweeps()
        self._look_at_rounds()
        self._look_at_starts(runs)
        self._look_at_promotions()  # the last, so that none is newer than what is decided on

    def of_run(self, run_id: str, sweep: str | None = None) -> str:
        """What refers to every checkpoint of the run, "" for nothing. `sweep` is the one that its documents name."""
        if sweep and sweep in self._sweeps:
            return f"sweep {sweep}"
        return self._runs.get(run_id, "")

    def names_run(self, run_id: str) -> str:
        """What refers to the run or to any checkpoint of it, "" for nothing."""
        spans = (why for (named, _, _), why in self._spans.items() if named == run_id)
        return self._runs.get(run_id, "") or next(spans, "")

    def of_checkpoint(self, run_id: str, step: int, attempt: int) -> str:
        """What refers to this very checkpoint, "" for nothing."""
        known = (self._spans.get((run_id, step, number)) for number in (attempt, ANY))
        return next(filter(None, known), "")

    def _look_at_promotions(self) -> None:
        for key, data in self._documents(MODELS, lambda key: promotion_number(key) is not None).items():
            _, name, _ = key.split("/")
            number = promotion_number(key)
            assert number is not None
            try:
                promotion = decode_promotion(data, name, number)
            except StoreError as error:
                self.damaged.append(str(error))
                continue
            span = (promotion.run_id, *promotion.span)
            self._spans[span] = f"promotion {number} of model {name}"

    def _look_at_sweeps(self) -> None:
        """Runs name their sweep; its result names them, too, and says which are the best."""
        entries = {entry.key: entry for entry in self.objects.entries(SWEEPS)}
        read = self._fetch(e for k, e in entries.items() if re.fullmatch(SWEEP_DOCUMENT, k))
        for key, data in read.items():
            _, sweep_id, name = key.split("/")
            why, document = f"sweep {sweep_id}", decode(data)
            if name == "sweep.json":
                self._mentions(str((document.get("experiment") or {}).get("start") or ""), why)
            finished = entries.get(f"{SWEEPS}/{sweep_id}/result.json")
            running = f"{SWEEPS}/{sweep_id}/live.json" in entries
            few = finished and not running and due(finished.modified, self.policy.sweeps_days, self.now)
            if name == "sweep.json" and not few:
                self._sweeps.add(sweep_id)
            if name == "result.json":
                for run_id in _named(document, bool(few)):
                    self._runs[run_id] = why

    def _look_at_rounds(self) -> None:
        """Of each retraining the last round, and the settings that hold."""
        entries = {entry.key: entry for entry in self.objects.entries(RETRAIN)}
        wanted: dict[str, str] = {}
        for folder in sorted({key.split("/")[1] for key in entries}):
            settings = [k for k in entries if k.startswith(f"{RETRAIN}/{folder}/settings/") and key_number(k)]
            if settings:
                wanted[max(settings)] = f"retraining {folder}"
            root = f"{RETRAIN}/{folder}/rounds/"
            rounds = [k for k in entries if k.startswith(root) and k.endswith(".json")]
            last = max((k[len(root) :].partition("/")[0] for k in rounds), default="")
            why = f"round {int(last)} of {folder}" if last.isdecimal() else ""
            wanted |= {k: why for k in rounds if why and k.startswith(f"{root}{last}/")}
        for key, data in self._fetch(entries[key] for key in wanted).items():
            self._mentions(data.decode(), wanted[key])
            if key.endswith("/begun.json"):
                self.digests.add(
                    f"{key.rpartition('/rounds/')[0]}/seen/{decode(data).get('fingerprint')}.npy"
                )

    def _look_at_starts(self, runs: Iterable[str]) -> None:
        """Every run that was announced may be made again from where it started."""
        keys = [*self.objects.list(LIVE), *self.objects.list(DONE)]
        seen = {*runs, *(key.rpartition("/")[2].removesuffix(".json") for key in keys)}
        asked = {run_key(run_id, "run.json"): run_id for run_id in seen if ID_PATTERN.fullmatch(run_id)}
        unknown = [key for key, run_id in asked.items() if run_id not in self._starts]
        for key, data in self.objects.get_many(unknown).items():
            start = (decode(data).get("experiment") or {}).get("start")
            self._starts[asked[key]] = str(start or "")
        for run_id, start in self._starts.items():
            self._mentions(start, f"start of run {run_id}")

    def _mentions(self, text: str, why: str) -> None:
        """Whatever run, or checkpoint as RUN@STEP, `text` names is referred to."""
        for run_id, step in MENTION.findall(text):
            if step:
                self._spans[run_id, int(step), ANY] = why
            else:
                self._runs[run_id] = why

    def _documents(self, folder: str, wanted: Callable[[str], bool]) -> dict[str, bytes]:
        return self._fetch(entry for entry in self.objects.entries(folder) if wanted(entry.key))

    def _fetch(self, entries: Iterable[Entry]) -> dict[str, bytes]:
        """The objects by key; those that have not changed since the last refresh are not read again."""
        at = {entry.key: (entry.key, entry.size, entry.modified) for entry in entries}
        unread = [key for key, version in at.items() if version not in self._read]
        for key, data in self.objects.get_many(unread).items():
            self._read[at[key]] = data
        return {key: self._read[version] for key, version in at.items() if version in self._read}


def _named(result: Document, few: bool) -> list[str]:
    """The runs of a sweep's result; of `few` those of its best trial and its front."""
    trials: list[dict[str, Any]] = result.get("trials") or []
    front = result.get("front") or []
    best = (result.get("best") or {}).get("number")
    kept = [t for t in trials if not few or t.get("number") in front or t.get("number") == best]
    return [str(trial["run_id"]) for trial in kept if trial.get("run_id")]
