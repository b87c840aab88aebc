"""What is wrong with a model's history. It looks at every record and at every checkpoint they name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.errors import NotFound, StoreError
from orchestrator.registry.candidates import weights_of
from orchestrator.registry.records import Promotion, decode, digest
from orchestrator.store import checkpoints
from orchestrator.store.layout import checkpoint_folder
from orchestrator.store.objects import Objects


def chain_problems(name: str, records: Mapping[int, bytes]) -> tuple[list[str], list[Promotion]]:
    """Gaps, changed records and breaks of the chain of digests; and the promotions that can be read."""
    found, readable = [], []
    for number in range(1, max(records) + 1):
        if number not in records:
            found.append(f"promotion {number} of model {name} is missing")
            continue
        try:
            promotion = decode(records[number], name, number)
        except StoreError as error:
            found.append(str(error))
            continue
        readable.append(promotion)
        before = digest(records[number - 1]) if number - 1 in records else ""
        if promotion.previous != before and (number == 1 or before):
            found.append(
                f"promotion {number} of model {name} was made after another promotion {number - 1} "
                "than the one that is there"
            )
    return found, readable


def checkpoint_problems(objects: Objects, readable: Sequence[Promotion]) -> list[str]:
    """Versions that name two checkpoints, and checkpoints that are gone or hold other weights."""
    found: list[str] = []
    versions: dict[int, Promotion] = {}
    for promotion in readable:
        first = versions.setdefault(promotion.version, promotion)
        if first.checkpoint != promotion.checkpoint:
            found.append(
                f"promotion {promotion.number} of model {promotion.name} gives version {promotion.version} "
                f"another checkpoint than promotion {first.number}"
            )
    for promotion in versions.values():
        if lost := lost_checkpoint(objects, promotion):
            found.append(f"version {promotion.version} of model {promotion.name}: {lost}")
    return found


def lost_checkpoint(objects: Objects, promotion: Promotion) -> str:
    """Why the promoted checkpoint cannot be used, "" where it can, as far as its marker and its listing tell."""
    try:
        marked = checkpoints.marker(objects, promotion.run_id, promotion.span)
    except NotFound as error:
        return str(error)
    folder = checkpoint_folder(promotion.run_id, *promotion.span)
    if weights_of(marked) != promotion.weights:
        return f"{folder} holds other weights than were promoted"
    there = set(objects.list(folder))
    gone = [name for name in marked["files"] if f"{folder}/{name}" not in there]
    return f"{folder} lacks {', '.join(gone)}" if gone else ""
