"""Where everything lies: the one place that spells keys. docs/store.md shows the whole tree."""

import re

from orchestrator.store.ids import check_id

LIVE, DONE, SNAPSHOTS, SEGMENTS, INDEXES = "live", "done", "snap", "seg", "index"


def run_key(run_id: str, name: str) -> str:
    """`name` inside the run's folder. Raises NotFound for what is not an id."""
    return f"runs/{check_id(run_id)}/{name}"


def live_key(run_id: str) -> str:
    return f"{LIVE}/{check_id(run_id)}.json"


def done_key(run_id: str) -> str:
    return f"{DONE}/{check_id(run_id)}.json"


def wish_key(run_id: str) -> str:
    """Where somebody asks a run to stop."""
    return run_key(run_id, "stop.json")


def driver_key(run_id: str) -> str:
    """Where it says which process or job drives a run."""
    return run_key(run_id, "driver.json")


def attempt_key(run_id: str, attempt: int) -> str:
    return run_key(run_id, f"attempts/{attempt:04d}.json")


def part_key(run_id: str, attempt: int, first: int, last: int) -> str:
    """A metric part; it carries attempt, first and last step, padded so that names sort."""
    return run_key(run_id, f"m/a{attempt:04d}-{first:012d}-{last:012d}.parquet")


def checkpoint_folder(run_id: str, step: int, attempt: int) -> str:
    return run_key(run_id, f"checkpoints/{step:012d}-a{attempt:04d}")


def checkpoint_span(folder: str) -> tuple[int, int]:
    """(step, attempt) of a checkpoint's folder name."""
    step, attempt = _numbers(r"(\d+)-a(\d+)", folder)
    return step, attempt


def sample_key(run_id: str, step: int, sha: str) -> str:
    return run_key(run_id, f"samples/{step:012d}-{sha}.png")


def sample_step(key: str) -> int:
    return _numbers(r"(\d+)-[0-9a-f]+\.png", key.rpartition("/")[2])[0]


def _numbers(pattern: str, text: str) -> tuple[int, ...]:
    match = re.fullmatch(pattern, text)
    assert match, f"{text!r} is not one of our keys"
    return tuple(int(group) for group in match.groups())
