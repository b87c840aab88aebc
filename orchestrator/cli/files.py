"""Files a command leaves behind: all of one or none of it, and never over what is there unless that was said."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import typer

from orchestrator.errors import GanctlError

OUTPUT = "--output"


def check_output(path: Path, force: bool) -> None:
    """Refuse, before any work is done, a place that cannot be written. Raises a usage error."""
    if not path.absolute().parent.is_dir():
        raise typer.BadParameter(f"folder {path.parent} does not exist; make it first", param_hint=OUTPUT)
    if path.exists() and not force and not (path.is_dir() and not any(path.iterdir())):
        raise typer.BadParameter(f"{path} is there already; give another, or --force", param_hint=OUTPUT)


def write_file(path: Path, data: bytes) -> None:
    """Write `path` through a temporary file beside it. Raises GanctlError where the disk refuses."""
    with _beside(path) as scratch:
        whole = scratch / path.name
        whole.write_bytes(data)
        whole.replace(path)


def write_folder(path: Path, files: dict[str, bytes]) -> None:
    """Write `files` by name into the folder `path`; one that is there keeps its other files."""
    with _beside(path) as scratch:
        made = scratch / path.name
        made.mkdir()
        for name, data in files.items():
            (made / name).write_bytes(data)
        if not path.exists():
            made.replace(path)
            return
        for name in files:
            (made / name).replace(path / name)


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A scratch folder on the same disk as `path`, gone afterwards; the disk's refusal as one line."""
    try:
        scratch = Path(tempfile.mkdtemp(prefix=".ganctl-", dir=path.absolute().parent))
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise GanctlError(f"cannot write {path}: {reason}; give another {OUTPUT}, or mend that") from error
