"""Starting and resuming runs: `ganctl train` in a process of its own, so that the server never waits and a run outlives
it. The form of a recipe comes from such a process too (`orchestrator.form`): recipes need PyTorch, the server does not.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Literal

from pydantic import Field

from orchestrator.dashboard.asked import Asked
from orchestrator.dashboard.settings import Settings
from orchestrator.errors import AlreadyExists, ConfigError, GanctlError, NotFound, RunFailed
from orchestrator.store.ids import ID_PATTERN
from orchestrator.store.objects import Objects
from orchestrator.store.reader import Run

Document = dict[str, Any]

RECIPE = r"^[a-z0-9_]+(\.[a-z0-9_-]+)?$"
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$", max_length=200)]
Value = Annotated[str, Field(pattern=r"^[^\x00]*$", max_length=1000)]
READING = threading.Lock()
BEGIN_SECONDS, FORM_SECONDS, POLL_SECONDS = 180.0, 90.0, 0.2
GONE = ("stopped", "preempted", "interrupted", "lost", "queued")


class Launch(Asked):
    """The body of a launch. `overrides`: dotted field → value as on the command line."""

    recipe: str = Field(pattern=RECIPE, max_length=80)
    overrides: dict[Name, Value] = Field(
        default_factory=dict, max_length=200, json_schema_extra={"additionalProperties": False}
    )
    on: Literal["", "inline", "local", "cluster"] = ""


def words_of(asked: Launch, store: str, ray: str) -> list[str]:
    """The words after `ganctl`. Raises ConfigError where there is no cluster."""
    if asked.on == "cluster" and not ray:
        raise ConfigError("this dashboard knows no cluster; start it with `ganctl up`, or launch on `local`")
    on = {"": [], "cluster": ["--on", ray]}.get(asked.on, ["--on", asked.on])
    changes = [f"{name}={value}" for name, value in asked.overrides.items()]
    return ["train", asked.recipe, *changes, *on, "--store", store]


def launch(objects: Objects, settings: Settings, asked: Launch) -> Document:
    """Start the run; returns once it is announced. Raises RunFailed with the command's own words where it is not,
    NotFound for what is no recipe."""
    check_recipe(asked.recipe)
    return _begin(words_of(asked, objects.url, settings.ray), settings)


def resume(objects: Objects, settings: Settings, run_id: str) -> Document:
    """Go on with a run that nobody drives. Raises AlreadyExists where somebody does or it has ended."""
    run = Run(objects, run_id)
    run.document()
    state = run.state()
    if state not in GONE:
        raise AlreadyExists(f"run {run.id} is {state}: there is nothing to resume")
    return _begin(["train", "--resume", run.id, "--store", objects.url], settings)


def _begin(words: Sequence[str], settings: Settings) -> Document:
    folder = Path(tempfile.mkdtemp(prefix="ganctl-launch-"))
    log = folder / "log.txt"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "orchestrator.cli", *words],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # neither Ctrl-C nor the end of the server ends the run
            env=_environment(settings),
        )
    threading.Thread(target=process.wait, daemon=True).start()  # so that it does not stay a zombie
    deadline = time.monotonic() + BEGIN_SECONDS
    while time.monotonic() < deadline:
        over = process.poll() is not None
        said = log.read_text(errors="replace")
        if match := re.search(rf"^run ({ID_PATTERN.pattern}) ·", said, re.MULTILINE):
            return {"run": match[1], "pid": process.pid, "log": str(log), "command": command_of(words)}
        if over:
            raise RunFailed(_last_words(said))
        time.sleep(POLL_SECONDS)
    process.terminate()
    raise RunFailed(f"the run was not begun within {BEGIN_SECONDS:.0f} s; its log: {log}")


def command_of(words: Sequence[str]) -> str:
    """The same as a person would type it."""
    return shlex.join(["ganctl", *words])


def _environment(settings: Settings) -> dict[str, str]:
    """What this server was started with, for the store; and where Ray's token is, never the token."""
    ray = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": settings.ray_token_path}
    return {**os.environ, **(ray if settings.ray_token_path else {})}


def _last_words(said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (errors or lines or ["it ended without a word"])[-1][:500]


def check_recipe(name: str) -> None:
    """Raise NotFound for what is not one of those that come with ganctl, such as a file or module of somebody's."""
    if name not in _forms()["forms"]:
        raise NotFound(f"no recipe {name[:80]!r}")


def form(recipe: str) -> Document:
    """The fields of a recipe's experiment, as `orchestrator.form` tells; of "" the recipes alone. Raises NotFound."""
    if recipe:
        check_recipe(recipe)
    told = _forms()
    return {"recipes": told["recipes"], **told["forms"].get(recipe, {})}


def _forms() -> Document:
    """Of all recipes, read once: of several who ask meanwhile one has it done."""
    with READING:
        return _read_forms()


@cache
def _read_forms() -> Document:
    command = [sys.executable, "-m", "orchestrator.form"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=FORM_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise GanctlError(f"the recipes were not read within {FORM_SECONDS:.0f} s; ask again") from None
    if told.returncode:
        raise RunFailed(_last_words(told.stderr))
    found: Document = json.loads(told.stdout)
    return found


def pace(rows: Iterable[Mapping[str, Any]], name: str, family: str) -> Document | None:
    """Seconds a step took in earlier runs: of the same recipe, else of the same family. None where there are none.

    `rows` as `Library.rows`: newest first.
    """
    measured = [(row, _seconds_per_step(row)) for row in rows]
    for like, field, wanted in (("recipe", "name", name), ("family", "family", family)):
        times = [seconds for row, seconds in measured if seconds and row.get(field) == wanted][:50]
        if times:
            return {"seconds_per_step": median(times), "runs": len(times), "like": like}
    return None


def _seconds_per_step(row: Mapping[str, Any]) -> float | None:
    seconds, step = row.get("seconds"), row.get("step")
    return float(seconds) / int(step) if seconds and step else None
