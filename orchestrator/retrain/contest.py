"""The end of a round: champion and challenger are judged, and the better one is in use from then on."""

from __future__ import annotations

from contextlib import suppress
from itertools import count
from typing import Any

from orchestrator.errors import AlreadyExists, Outrun
from orchestrator.registry import Candidate, Registry
from orchestrator.retrain.challenger import retraining_of
from orchestrator.retrain.round import Round
from orchestrator.store import documents
from orchestrator.store.layout import decision_key

Document = dict[str, Any]
CONTESTS = 20


def contest(round_: Round, run_id: str, by: str = "") -> Document:
    """Judge the checkpoint with the best figure of run `run_id` against the champion, and promote it if the gate says
    so. A champion that somebody else promotes meanwhile is met in another contest.

    Returns the decision document, with its `key`, and `promoted`: the promotion's number and version, or None. A round
    that is taken over finds the decisions that there are and goes on from the last.
    Raises what `judging.compare.judge` and `Registry.promote` raise.
    """
    registry = Registry(round_.objects)
    for number in count(1):
        decision = _decision(round_, run_id, number)
        champion = decision["contestants"].get("champion")
        after = champion["promotion"] if champion else 0
        if decision["verdict"] != "promote":
            return decision | {"promoted": None}
        held = registry.champion(round_.name)
        mine = decision["contestants"]["challenger"]
        if (
            held is not None and held.decision == decision["key"]
        ):  # promoted, by a driver that died before it said so
            return decision | {"promoted": {"number": held.number, "version": held.version}}
        try:
            made = registry.promote(
                round_.name,
                Candidate(mine["run_id"], mine["step"]),
                after,
                decision["reason"],
                decision["key"],
                by,
            )
        except Outrun:
            if number == CONTESTS:
                raise
            continue
        return decision | {"promoted": {"number": made.number, "version": made.version}}
    raise AssertionError


def _decision(round_: Round, run_id: str, number: int) -> Document:
    """Decision `number` of the round, made unless it is there."""
    key = decision_key(round_.folder, number)
    if not round_.objects.exists(key):
        with suppress(AlreadyExists):
            _judge(round_, run_id, number)
    return documents.decode(round_.objects.get(key)) | {"key": key}


def _judge(round_: Round, run_id: str, number: int) -> None:
    from orchestrator.judging.compare import Contestant, judge
    from orchestrator.judging.document import write
    from orchestrator.registry.candidates import choose

    retraining = retraining_of(round_)
    mine = choose(round_.objects, Candidate(run_id))
    challenger = Contestant(mine.run_id, mine.step, mine.attempt, mine.weights)
    held = Registry(round_.objects).champion(round_.name)
    champion = None
    if held is not None:
        champion = Contestant(held.run_id, held.step, held.attempt, held.weights, held.number)
    judgement = judge(
        round_.objects, retraining.trains(), challenger, champion, retraining.evaluation, retraining.gate
    )
    write(round_.objects, round_.folder, number, judgement)
