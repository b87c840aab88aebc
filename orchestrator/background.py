"""What `ganctl up` has started on this machine, for the commands that come after it: one file of this person's own."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Background:
    """The supervisor's process and what runs below it. `prefect` is the API's url, `ray` the address of the Jobs API,
    `token` the file with Ray's token, `logs` the folder of their logs. `dashboard` is the address of the dashboard,
    `dashboard_token` the file with its token."""

    pid: int
    started: float
    store: str
    prefect: str
    ray: str
    token: str
    logs: str
    dashboard: str = ""
    dashboard_token: str = ""

    def lives(self) -> bool:
        """Whether the supervisor still runs."""
        with suppress(psutil.Error):
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.started) < 1.0 and process.is_running()
        return False

    def environment(self) -> dict[str, str]:
        """What a process needs to speak to Prefect and Ray."""
        return {
            "PREFECT_API_URL": self.prefect,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": self.token,
        }


def home() -> Path:
    """Where it is kept."""
    return Path.home() / ".ganctl" / "up"


def known() -> Background | None:
    """What runs now; None where nothing does."""
    with suppress(OSError, ValueError, TypeError):
        found = Background(**json.loads((home() / "up.json").read_text()))
        return found if found.lives() else None
    return None


def join() -> Background | None:
    """Have this process speak to what runs, unless its environment names servers of its own."""
    found = known()
    if found is not None:
        for name, value in found.environment().items():
            os.environ.setdefault(name, value)
    return found


def note(background: Background) -> None:
    """Say what runs now."""
    home().mkdir(parents=True, exist_ok=True, mode=0o700)
    part = home() / "up.json.part"
    part.write_text(json.dumps(asdict(background), indent=1))
    part.replace(home() / "up.json")


def forget() -> None:
    """Nothing runs any more."""
    (home() / "up.json").unlink(missing_ok=True)
