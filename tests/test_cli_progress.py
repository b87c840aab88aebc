"""What a person sees of a run while it trains: the progress line, and `ganctl runs show`."""

from __future__ import annotations

import io
import json
import re
import time
from typing import Any

import pytest
from rich.console import Console

from orchestrator.cli import drawing
from orchestrator.launch import announce_run
from orchestrator.progress import Event, listening, of_run, tell
from orchestrator.recipes import load
from orchestrator.store.objects import open_objects
from orchestrator.store.writer import RunWriter
from tests.support.commands import ganctl

STALL = (
    "no step for 31 s (usually 0.4 s): rank 1 (host h, pid 7) has not come to step 130; rank 0 waits for it"
)
BEAT: dict[str, Any] = {
    "step": 120,
    "progress": 0.5,
    "verdict": "healthy",
    "seconds": 60.0,
    "images_per_second": 1234.5,
    "data_wait": 0.02,
    "sync_wait": 0.31,
    "figures": {"fid": 12.34, "coverage": 0.9},
    "changes": [],
}


def told(beat: dict[str, Any]) -> Event:
    events: list[Event] = []
    with listening(events.append):
        of_run("ring")(beat)
    [event] = events
    return event


@pytest.mark.parametrize(
    ("state", "silent", "told_of"), [("running", 45, True), ("running", 5, False), ("queued", 45, False)]
)
def test_workers_that_have_gone_silent_are_told_of(state: str, silent: float, told_of: bool) -> None:
    event = told(BEAT | {"state": state, "time": time.time() - silent})
    assert event.alarm.startswith("no word from its workers for 45 s") == told_of
    assert bool(event.alarm) == told_of


@pytest.mark.parametrize(
    ("fields", "note"),
    [
        ({}, "step 120 · healthy · 1,234 images/s · sync wait 31% · FID 12.3, coverage 0.90"),
        ({"sync_wait": 0.04, "figures": {}}, "step 120 · healthy · 1,234 images/s"),
        ({"data_wait": 0.2, "sync_wait": 0.0, "images_per_second": 3.21, "figures": {}},
         "step 120 · healthy · 3.21 images/s · data wait 20%"),
        ({"figures": {}, "changes": [{}], "doing": "evaluating for 9 s", "sync_wait": 0.0},
         "step 120 · healthy · 1,234 images/s · mended 1x · evaluating for 9 s"),
    ],
)  # fmt: skip
def test_a_heartbeat_becomes_a_line(fields: dict[str, Any], note: str) -> None:
    event = told(BEAT | fields)
    assert (event.note, event.done, event.alarm) == (note, 0.5, "")


def test_a_queued_run_has_a_line_too() -> None:
    event = told({"step": 0, "state": "queued", "metrics": {}})
    assert (event.note, event.done) == ("step 0", 0.0)


def test_a_stall_is_drawn_in_red_beside_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=240, color_system="standard", highlight=False)
    monkeypatch.setattr(drawing, "errors", console)
    with drawing.drawing():
        for done in (0.1, 0.2, 0.3):
            tell(Event("ring", done, "step 120"))
        tell(Event("ring", 0.3, "step 120", alarm=STALL))
    drawn = screen.getvalue()
    assert f"\x1b[31m{STALL}" in drawn
    assert re.search(r"\d\d:\d\d", drawn)


def test_runs_show_tells_pace_stall_and_the_best_checkpoint(file_store: str) -> None:
    objects = open_objects(file_store)
    run_id = announce_run(objects, load("demo"))
    writer = RunWriter.attach(objects, run_id)
    writer.keep_best = True
    for step, fid in ((40, 3.0), (80, 9.0), (120, None)):
        writer.log(step, {"loss": 0.0})
        writer.checkpoint(step, {}, fid=fid)
    writer.heartbeat(force=True, **BEAT, stalled=STALL)
    said = ganctl("runs", "show", run_id, "--store", file_store).stdout
    assert re.search(rf"^stalled +{re.escape(STALL)}$", said, re.M)
    assert re.search(r"^pace +1,234 images/s · sync wait 31% · 1 min left$", said, re.M)
    assert re.search(r"^best .*000000000040-a0001$", said, re.M)
    document = json.loads(ganctl("runs", "show", run_id, "--store", file_store, "--json").stdout)
    assert [(c["step"], c["best"]) for c in document["checkpoints"]] == [
        (40, True), (80, False), (120, False),
    ]  # fmt: skip
    assert document["stalled"] == STALL
    writer.leave("stopped")
    shown = ganctl("runs", "show", run_id, "--store", file_store)
    assert f"it goes on with: ganctl train --resume {run_id}" in shown.stderr
