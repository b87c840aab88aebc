"""Which model is in use under a name, since when, by whom and why: promotions, numbered, each created once.

The champion is the promotion with the highest number. To promote is to create the next number, so that of any number
of promoters one wins and the others are told by whom; nothing is ever changed or deleted. A promoter that is killed
leaves either nothing or a whole record. It knows nothing of torch, and reads no weights.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches

from orchestrator.errors import AlreadyExists, ConfigError, NotFound, Outrun, StoreError
from orchestrator.registry.audit import chain_problems, checkpoint_problems, lost_checkpoint
from orchestrator.registry.candidates import Candidate, Checkpoint, choose
from orchestrator.registry.records import Kind, Promotion, decode, digest, encode, identity
from orchestrator.store.ids import NAME_PATTERN
from orchestrator.store.layout import MODELS, model_folder, promotion_key, promotion_number
from orchestrator.store.objects import Objects
from orchestrator.version import code_version


class Registry:
    """The models of a store. Every call reads it anew.

    Raises ConfigError for what cannot be a model's name, StoreError where a record that is needed is damaged.
    """

    def __init__(self, objects: Objects) -> None:
        self.objects = objects

    def names(self) -> list[str]:
        """Every model that was ever promoted, by name: one listing of folders."""
        return [name for name in self.objects.folders(MODELS) if NAME_PATTERN.fullmatch(name)]

    def newest(self, name: str) -> int:
        """The champion's number, 0 where nothing was promoted: one listing."""
        return max(_numbers(self.objects.list(model_folder(name))), default=0)

    def champion(self, name: str) -> Promotion | None:
        """The promotion that holds now; None where nothing was promoted. One listing and one read."""
        number = self.newest(name)
        return self.promotion(name, number) if number else None

    def require(self, name: str) -> Promotion:
        """The champion. Raises NotFound naming the models there are."""
        champion = self.champion(name)
        if champion is None:
            raise self._no_model(name)
        return champion

    def promotion(self, name: str, number: int) -> Promotion:
        """Promotion `number`. Raises NotFound."""
        return decode(self.objects.get(promotion_key(name, number)), name, number)

    def history(self, name: str) -> list[Promotion]:
        """Every promotion, the oldest first; none where nothing was promoted."""
        return [decode(data, name, number) for number, data in self._records(name).items()]

    def readable(self, name: str) -> tuple[list[Promotion], list[int]]:
        """What can be read of a history that may be damaged, the oldest first, and the numbers of damaged records.

        Raises NotFound where nothing was promoted.
        """
        records = self._records(name)
        if not records:
            raise self._no_model(name)
        found = _readable(name, records)
        return found, sorted(records.keys() - {promotion.number for promotion in found})

    def problems(self, name: str, witness: str = "") -> list[str]:
        """What is wrong with the history: gaps, changed or foreign records, a broken chain of digests, lost
        checkpoints. `witness` is the digest of a record that was noted earlier: one has to have it. Raises NotFound.
        """
        keys = self.objects.list(model_folder(name))
        records = self._records(name, keys)
        if not records:
            raise self._no_model(name)
        found = [f"{key} is no promotion" for key in keys if not promotion_number(key)]
        broken, readable = chain_problems(name, records)
        found += broken + checkpoint_problems(self.objects, readable)
        if witness and witness not in map(digest, records.values()):
            found.append(f"no promotion of model {name} has the digest {witness}")
        return found

    def promote(
        self, name: str, candidate: Candidate, after: int, reason: str, decision: str = "", by: str = ""
    ) -> Promotion:
        """Make `candidate` the champion, as promotion `after` + 1. `after` is the number of the champion that it was
        compared with, 0 for none.

        Raises Outrun, which names the winner, where another promotion came after that one; NotFound where the
        candidate has no such committed checkpoint; ConfigError where its run has not ended or there is no promotion
        `after`; ConditionalWritesMissing where the store cannot promise that one of many promoters wins.
        """
        newest = self.newest(name)
        if newest > after >= 0:
            raise self._outrun(name, after + 1)
        if newest != after:
            raise ConfigError(f"after {after}: the newest promotion of model {name} is {newest}")
        chosen = choose(self.objects, candidate)
        records = self._records(name)
        version = _version_of(chosen, _readable(name, records), len(records))
        return self._append(name, after, version, "promotion", chosen, reason, decision, by)

    def rollback(self, name: str, to: int | None = None, reason: str = "", by: str = "") -> Promotion:
        """Make an older version the champion again, as the next promotion. `to`: its number; by default the version
        that was in use when the champion's was first promoted.

        It needs the store alone, and works where newer records are damaged. Raises NotFound where there is no such
        version or its checkpoint is gone, ConfigError where it is the champion, Outrun, ConditionalWritesMissing.
        """
        records = self._records(name)
        if not records:
            raise self._no_model(name)
        newest, readable = max(records), _readable(name, records)
        champion = readable[-1] if readable and readable[-1].number == newest else None
        target = _before(name, champion, readable) if to is None else _version(name, to, readable)
        if champion is not None and target.version == champion.version:
            raise ConfigError(f"version {target.version} is the champion of model {name} already")
        if lost := lost_checkpoint(self.objects, target):
            raise NotFound(f"version {target.version} of model {name}: {lost}")
        chosen = Checkpoint(*target.checkpoint, target.data)
        left = "a damaged record" if champion is None else f"version {champion.version}"
        why = reason or f"rollback from {left}"
        return self._append(name, newest, target.version, "rollback", chosen, why, "", by)

    def _append(
        self,
        name: str,
        after: int,
        version: int,
        kind: Kind,
        chosen: Checkpoint,
        reason: str,
        decision: str,
        by: str,
    ) -> Promotion:
        """Create record `after` + 1. Raises Outrun, ConditionalWritesMissing."""
        promotion = Promotion(
            number=after + 1,
            name=name,
            version=version,
            kind=kind,
            run_id=chosen.run_id,
            step=chosen.step,
            attempt=chosen.attempt,
            weights=chosen.weights,
            decision=decision,
            reason=reason,
            by=by or identity(),
            time=time.time(),
            code=code_version(),
            data=chosen.data,
            previous=digest(self.objects.get(promotion_key(name, after))) if after else "",
        )
        self.objects.require_conditional_writes()
        try:
            self.objects.create(promotion_key(name, after + 1), encode(promotion))
        except AlreadyExists:
            raise self._outrun(name, after + 1) from None
        return promotion

    def _records(self, name: str, keys: Sequence[str] | None = None) -> dict[int, bytes]:
        """The bytes of every record, by number, ascending."""
        keys = self.objects.list(model_folder(name)) if keys is None else keys
        places = {promotion_key(name, number): number for number in _numbers(keys)}
        return {places[key]: data for key, data in self.objects.get_many(places).items()}

    def _outrun(self, name: str, number: int) -> Outrun:
        winner = self.promotion(name, number)
        when = datetime.fromtimestamp(winner.time, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return Outrun(
            f"model {name}: {winner.by} was faster: promotion {number}, at {when}, of version {winner.version} (run "
            f"{winner.run_id} at step {winner.step}): {winner.reason}; compare with that one and decide again",
            winner,
        )

    def _no_model(self, name: str) -> NotFound:
        names = self.names()
        nearest = get_close_matches(name, names, n=1)
        hint = f"; did you mean `{nearest[0]}`?" if nearest else ";"
        there = f"models: {', '.join(names)}" if names else "nothing was promoted yet"
        return NotFound(f"no model {name!r} in {self.objects.url}{hint} {there}")


def _numbers(keys: Sequence[str]) -> list[int]:
    return sorted(number for key in keys if (number := promotion_number(key)))


def _readable(name: str, records: Mapping[int, bytes]) -> list[Promotion]:
    """The promotions that are not damaged, the oldest first."""
    found = []
    for number, data in records.items():
        try:
            found.append(decode(data, name, number))
        except StoreError:
            continue
    return found


def _version_of(chosen: Checkpoint, readable: Sequence[Promotion], num_records: int) -> int:
    """The version that this checkpoint is: its old one, else the next; no number is given that a damaged record
    may have given."""
    known = {promotion.checkpoint: promotion.version for promotion in readable}
    newest = max(known.values(), default=0) + num_records - len(readable)
    return known.get(chosen.identity, newest + 1)


def _before(name: str, champion: Promotion | None, readable: Sequence[Promotion]) -> Promotion:
    """What was in use when the champion's version came; for a damaged champion, the newest record that reads."""
    earlier = list(readable)
    if champion is not None:
        first = next(p.number for p in readable if p.version == champion.version)
        earlier = [p for p in readable if p.number < first]
    if not earlier:
        raise NotFound(f"model {name} has no version before its champion's; `ganctl models show {name}`")
    return earlier[-1]


def _version(name: str, version: int, readable: Sequence[Promotion]) -> Promotion:
    found = [p for p in readable if p.version == version]
    if not found:
        known = ", ".join(map(str, sorted({p.version for p in readable}))) or "none that can be read"
        raise NotFound(f"model {name} has no version {version}; versions: {known}")
    return found[0]
