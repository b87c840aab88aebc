"""Checkpoints of one run: folders that exist only once their commit marker does.

`checkpoints/<step>-a<attempt>/<name>` are the files, written first, at any size; `commit.json`, one small
create-once object that lists them with sizes and SHA-256, is written last and deleted first. What has no
marker was never finished and is not seen.
"""

import hashlib
from collections.abc import Collection, Mapping

from orchestrator.errors import NotFound, StoreError
from orchestrator.store import documents
from orchestrator.store.layout import checkpoint_folder, checkpoint_span, run_key
from orchestrator.store.objects import Objects

MARKER = "commit.json"


def write(objects: Objects, run_id: str, step: int, attempt: int, files: Mapping[str, bytes]) -> None:
    """Write the files, then the marker. Raises AlreadyExists where that checkpoint is committed."""
    folder = checkpoint_folder(run_id, step, attempt)
    listing = {
        name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()
    }
    assert MARKER not in files
    for name, data in files.items():
        objects.put(f"{folder}/{name}", data)
    marker = documents.encode({"step": step, "attempt": attempt, "files": listing})
    objects.create(f"{folder}/{MARKER}", marker)


def committed(objects: Objects, run_id: str) -> list[tuple[int, int]]:
    """(step, attempt) of every finished checkpoint, oldest first: a later attempt is newer at any step."""
    return _finished(_folders(objects, run_id))


def read(objects: Objects, run_id: str, step: int | None = None) -> dict[str, bytes]:
    """The files of the newest checkpoint, or of the newest at `step`.

    Raises NotFound; StoreError if damaged.
    """
    spans = [span for span in committed(objects, run_id) if step in (None, span[0])]
    if not spans:
        at = "" if step is None else f" at step {step}"
        raise NotFound(f"run {run_id} has no finished checkpoint{at} in {objects.url}")
    folder = checkpoint_folder(run_id, *spans[-1])
    listing = documents.decode(objects.get(f"{folder}/{MARKER}"))["files"]
    files = objects.get_many(f"{folder}/{name}" for name in listing)
    whole = {name: files.get(f"{folder}/{name}", b"") for name in listing}
    for name, data in whole.items():
        if hashlib.sha256(data).hexdigest() != listing[name]["sha256"]:
            raise StoreError(
                f"store {objects.url}: {folder}/{name} is damaged (its SHA-256 is not the committed one); "
                f"delete {folder} to resume from the checkpoint before it"
            )
    return whole


def prune(objects: Objects, run_id: str, attempt: int, keep_last: int, keep: Collection[int]) -> None:
    """Delete finished checkpoints but the newest `keep_last` and those at steps in `keep`.

    So are unfinished ones that an attempt before `attempt` left behind.
    """
    assert keep_last > 0
    folders = _folders(objects, run_id)
    newest = _finished(folders)[-keep_last:]
    for folder, keys in folders.items():
        span = checkpoint_span(folder)
        wanted = (span in newest or span[0] in keep) if _marked(keys) else span[1] >= attempt
        if not wanted:
            for key in sorted(keys, key=lambda key: not key.endswith(f"/{MARKER}")):
                objects.delete(key)


def _folders(objects: Objects, run_id: str) -> dict[str, list[str]]:
    root = run_key(run_id, "checkpoints")
    found: dict[str, list[str]] = {}
    for key in objects.list(root):
        found.setdefault(key[len(root) + 1 :].partition("/")[0], []).append(key)
    return found


def _finished(folders: Mapping[str, list[str]]) -> list[tuple[int, int]]:
    spans = [checkpoint_span(folder) for folder, keys in folders.items() if _marked(keys)]
    return sorted(spans, key=lambda span: (span[1], span[0]))


def _marked(keys: list[str]) -> bool:
    return any(key.endswith(f"/{MARKER}") and key.count("/") == 4 for key in keys)
