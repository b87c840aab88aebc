"""Runs that have ended, to be promoted: bare ones, which cost nothing, and one with a real model; and promoters.

It is imported by the processes of tests: nothing heavy at the top.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from orchestrator.errors import Outrun
from orchestrator.registry.candidates import Candidate
from orchestrator.registry.registry import Registry
from orchestrator.store.objects import Objects, open_objects

FINGERPRINT = "data-1"


def bare_run(objects: Objects, fids: Mapping[int, float | None] | None = None, sealed: bool = True) -> str:
    """The id of a run with a checkpoint at each step of `fids` (2 and 4), whose weights are a few bytes."""
    from orchestrator.store.ids import new_id
    from orchestrator.store.writer import RunWriter

    writer = RunWriter.create(objects, new_id(), {"name": "bare", "family": "vanilla"})
    writer.keep_last = 9
    for step, fid in (fids or {2: None, 4: None}).items():
        weights = f"weights of {writer.run_id} at {step}".encode()
        writer.checkpoint(step, {"weights.safetensors": weights, "state.pt": b"rest"}, fid=fid)
    if sealed:
        writer.seal("completed", {"data": {"fingerprint": FINGERPRINT}})
    return writer.run_id


def trained_run(objects: Objects, tag: str = "cgan") -> str:
    """The id of a run of two steps of training more at its second checkpoint, 4, than at its first, 2."""
    from gans.checkpoint import pack, spec_document
    from gans.data.digits import Digits
    from orchestrator.experiment import Experiment
    from orchestrator.store.ids import new_id
    from orchestrator.store.writer import RunWriter
    from tests.support.runs import state_after, tiny

    family, dataset = tiny(tag)
    experiment = Experiment(name=f"{tag}.digits", gan=family, data=Digits(size=8))
    document = {"name": experiment.name, "family": tag, "experiment": experiment.document()}
    writer = RunWriter.create(objects, new_id(), document)
    for step in (2, 4):
        writer.checkpoint(step, pack(state_after(tag, steps=step)))
    data = {"fingerprint": dataset.fingerprint(), "skipped": {}}
    writer.seal("completed", {"spec": spec_document(dataset.spec), "data": data})
    return writer.run_id


def compete(url: str, run_id: str, who: str, rounds: int, start: Any, told: Any) -> None:
    """A promoter: `rounds` times, once all have met at the barrier `start`, it makes `run_id` the next champion of `m`.

    It puts (round, who, who won) into the queue `told`.
    """
    registry = Registry(open_objects(url))
    for after in range(rounds):
        start.wait(60)
        try:
            winner = registry.promote("m", Candidate(run_id), after, f"round {after}", by=who).by
        except Outrun as error:
            winner = error.winner.by if error.winner.by in str(error) else f"untold: {error}"
        told.put((after, who, winner))
        start.wait(60)


def promote_for_ever(url: str, run_id: str) -> None:
    """Promote `run_id` to `m` again and again, and write the number of each promotion to stdout once it is made."""
    registry = Registry(open_objects(url))
    while True:
        after = registry.newest("m")
        made = registry.promote("m", Candidate(run_id), after, "again")
        sys.stdout.write(f"{made.number}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    promote_for_ever(*sys.argv[1:])
