"""Checkpoints of one run: folders that exist only once their commit marker does.

`checkpoints/<step>-a<attempt>/<name>` are the files, written first, at any size; `commit.json`, one small
create-once object that lists them with sizes and SHA-256, is written last and deleted first. What has no
marker was never finished and is not seen.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence

from orchestrator.errors import NotFound, StoreError
from orchestrator.store import documents
from orchestrator.store.attempts import counts
from orchestrator.store.documents import Document
from orchestrator.store.layout import checkpoint_folder, checkpoint_span, run_key
from orchestrator.store.objects import Objects

MARKER = "commit.json"
Span = tuple[int, int]


def write(objects: Objects, run_id: str, step: int, attempt: int, files: Mapping[str, bytes]) -> Document:
    """Write the files; returns the marker that `commit` makes a checkpoint of them with."""
    assert MARKER not in files
    folder = checkpoint_folder(run_id, step, attempt)
    for name, data in files.items():
        objects.put(f"{folder}/{name}", data)
    listing = {
        name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()
    }
    return {"step": step, "attempt": attempt, "files": listing}


def commit(objects: Objects, run_id: str, marker: Document) -> None:
    """Write the marker. Raises AlreadyExists where that checkpoint is committed."""
    folder = checkpoint_folder(run_id, marker["step"], marker["attempt"])
    objects.create(f"{folder}/{MARKER}", documents.encode(marker))


def committed(objects: Objects, run_id: str, begun: Sequence[int]) -> list[Span]:
    """(step, attempt) of every finished checkpoint that counts, oldest first. `begun` is `attempts.starts`."""
    return _finished(_folders(objects, run_id), begun)


def best(objects: Objects, run_id: str, spans: Sequence[Span]) -> Span | None:
    """Which of the checkpoints has the lowest FID; None where none was evaluated."""
    keys = {f"{checkpoint_folder(run_id, *span)}/{MARKER}": span for span in spans}
    markers = {keys[key]: documents.decode(data) for key, data in objects.get_many(keys).items()}
    scored = {span: marker["fid"] for span, marker in markers.items() if marker["fid"] is not None}
    return min(scored, key=lambda span: scored[span], default=None)


def read(objects: Objects, run_id: str, begun: Sequence[int], step: int | None = None) -> dict[str, bytes]:
    """The files of the newest checkpoint, or of the newest at `step`.

    Raises NotFound; StoreError if damaged.
    """
    spans = [span for span in committed(objects, run_id, begun) if step in (None, span[0])]
    if not spans:
        at = "" if step is None else f" at step {step}"
        raise NotFound(f"run {run_id} has no finished checkpoint{at} in {objects.url}")
    return read_span(objects, run_id, spans[-1])


def read_span(objects: Objects, run_id: str, span: Span) -> dict[str, bytes]:
    """The files of that very checkpoint. Raises NotFound where it is not committed; StoreError if damaged."""
    folder = checkpoint_folder(run_id, *span)
    listing = marker(objects, run_id, span)["files"]
    files = objects.get_many(f"{folder}/{name}" for name in listing)
    whole = {name: files.get(f"{folder}/{name}", b"") for name in listing}
    for name, data in whole.items():
        if hashlib.sha256(data).hexdigest() != listing[name]["sha256"]:
            raise StoreError(
                f"store {objects.url}: {folder}/{name} is damaged (its SHA-256 is not the committed one); "
                f"delete {folder} to resume from the checkpoint before it"
            )
    return whole


def marker(objects: Objects, run_id: str, span: Span) -> Document:
    """commit.json of that very checkpoint: step, attempt, FID or None, files. Raises NotFound."""
    try:
        return documents.decode(objects.get(f"{checkpoint_folder(run_id, *span)}/{MARKER}"))
    except NotFound:
        raise NotFound(
            f"run {run_id} has no finished checkpoint at step {span[0]} of attempt {span[1]} in {objects.url}"
        ) from None


def prune(
    objects: Objects,
    run_id: str,
    begun: Sequence[int],
    keep_last: int,
    keep: Collection[int] = (),
    keep_best: bool = False,
) -> None:
    """Delete finished checkpoints but the newest `keep_last`, those at steps in `keep`, and, if asked, the best one.

    So are those that do not count, and unfinished ones that an earlier attempt left behind. Two stay at least: an
    attempt that begins just now may go on from the last but one.
    """
    assert keep_last > 0
    folders, attempt = _folders(objects, run_id), len(begun)
    finished = _finished(folders, begun)
    wanted = {*finished[-max(keep_last, 2) :], *(span for span in finished if span[0] in keep)}
    if keep_best and len(finished) > len(wanted):
        wanted |= {span for span in [best(objects, run_id, finished)] if span is not None}
    for folder, keys in folders.items():
        span = checkpoint_span(folder)
        mine = span[1] == attempt and not _marked(keys)
        if span not in wanted and span[1] <= attempt and not mine:
            for key in sorted(keys, key=lambda key: not key.endswith(f"/{MARKER}")):
                objects.delete(key)


def _folders(objects: Objects, run_id: str) -> dict[str, list[str]]:
    root = run_key(run_id, "checkpoints")
    found: dict[str, list[str]] = {}
    for key in objects.list(root):
        found.setdefault(key[len(root) + 1 :].partition("/")[0], []).append(key)
    return found


def _finished(folders: Mapping[str, list[str]], begun: Sequence[int]) -> list[Span]:
    spans = [checkpoint_span(folder) for folder, keys in folders.items() if _marked(keys)]
    return sorted(span for span in spans if counts(*span, begun))


def _marked(keys: list[str]) -> bool:
    return any(key.endswith(f"/{MARKER}") and key.count("/") == 4 for key in keys)
