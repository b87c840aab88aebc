"""Where everything lies: the one place that spells keys. docs/store.md shows the whole tree."""

import re
from typing import Literal

from orchestrator.store.ids import check_id, check_name

LIVE, DONE, SNAPSHOTS, SEGMENTS, INDEXES = "live", "done", "snap", "seg", "index"
MODELS = "models"
SWEEPS = "sweeps"
RUNS = "runs"
DEFAULT_STORE = "./ganctl-store"  # where neither --store nor GANCTL_STORE says another place
RETRAIN = "retrain"
ALARMS, AUDIT, RATE = "alarms", "audit", "rate"


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


def log_folder(run_id: str) -> str:
    """Where what the processes of a run printed lies."""
    return run_key(run_id, "logs")


def log_key(run_id: str, name: str) -> str:
    """What one process of a run printed; names begin with a time, so they sort by it."""
    return f"{log_folder(run_id)}/{name}.txt"


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


def model_folder(name: str) -> str:
    """Where a model's promotions lie. Raises ConfigError for what cannot be a name."""
    return f"{MODELS}/{check_name(name)}"


def promotion_key(name: str, number: int) -> str:
    """Promotion `number` of a model, padded so that names sort."""
    return f"{model_folder(name)}/{number:06d}.json"


def promotion_number(key: str) -> int | None:
    """The number of a promotion's key; None for what is no such key."""
    match = re.fullmatch(r"models/[^/]+/(\d{6})\.json", key)
    return int(match[1]) if match else None


def retrain_folder(name: str, folder: Literal["settings", "rounds", "seen"]) -> str:
    """One of the folders of a retraining. Raises ConfigError for what cannot be a model's name."""
    return f"{RETRAIN}/{check_name(name)}/{folder}"


def settings_key(name: str, number: int) -> str:
    """Settings `number` of a retraining, padded so that names sort."""
    return f"{retrain_folder(name, 'settings')}/{number:06d}.json"


def round_key(name: str, number: int, file: str) -> str:
    """`file` inside the folder of round `number` of a retraining."""
    return f"{retrain_folder(name, 'rounds')}/{number:06d}/{file}"


def seen_key(name: str, fingerprint: str, ending: Literal["json", "npy"] = "json") -> str:
    """Where it stands that a retraining has used this data; as `npy` the digests of its items."""
    return f"{retrain_folder(name, 'seen')}/{fingerprint}.{ending}"


def decision_key(folder: str, number: int) -> str:
    """Decision `number` of the round whose folder this is."""
    return f"{folder}/decision-{number}.json"


def decision_picture_key(folder: str, name: str, sha: str) -> str:
    """A picture that a decision refers to; `name` is champion, challenger or grids."""
    return f"{folder}/{name}-{sha}.png"


def acknowledgement_key(run_id: str, rule: str) -> str:
    """Where it stands that somebody has seen an alarm of a run; `rule` is a word of a-z and `-`."""
    return f"{ALARMS}/{check_id(run_id)}/{rule}.json"


def audit_key(action_id: str, file: Literal["asked", "outcome"]) -> str:
    """What a person asked the dashboard to do, or what came of it; the id sorts by time."""
    return f"{AUDIT}/{check_id(action_id, 'action')}-{file}.json"


def idempotency_key(digest: str) -> str:
    """Which action an idempotency key stands for; `digest` is that of the key and of who used it for what."""
    return f"{AUDIT}/keys/{digest}.json"


def rate_folder(run_id: str) -> str:
    """Where a run's decks of pictures to be judged and people's judgements lie."""
    return f"{RATE}/{check_id(run_id)}"


def deck_key(run_id: str, deck_id: str) -> str:
    """A deck: pictures, and which of them are real."""
    return f"{rate_folder(run_id)}/deck-{check_id(deck_id, 'deck')}.npz"


def judgements_key(run_id: str, session_id: str) -> str:
    """What one person said of one deck."""
    return f"{rate_folder(run_id)}/{check_id(session_id, 'session')}.parquet"


def key_number(key: str) -> int | None:
    """The number of the file or folder that `key` ends with, `.../000012.json` or `000012`; None where it has none."""
    match = re.fullmatch(r"(?:.*/)?(\d{6,})(?:\.json)?", key)
    return int(match[1]) if match else None


def _numbers(pattern: str, text: str) -> tuple[int, ...]:
    match = re.fullmatch(pattern, text)
    assert match, f"{text!r} is not one of our keys"
    return tuple(int(group) for group in match.groups())
