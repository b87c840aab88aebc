"""A folder on a disk that fills up while a run writes to it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.errors import StoreError
from orchestrator.launch import submit
from orchestrator.store.local import ABANDONED_AFTER, TEMPORARY
from orchestrator.store.metrics import from_parquet
from orchestrator.store.objects import Objects, open_objects
from orchestrator.store.reader import Run
from tests.support.threads import one_thread
from tests.support.whole import check_whole, tiny, undisturbed, writes_often

__all__ = ["one_thread", "undisturbed", "writes_often"]

SIZE = 16 * 2**20
PAGE = 4096


class Disk:
    """A disk of 16 MiB; `store` is the url of a folder on it."""

    def __init__(self, root: Path) -> None:
        self._ballast = root / "ballast"
        self.store = f"file://{root}/store"
        self.tidy = Path(root, "store", TEMPORARY)

    def fill(self, free: int) -> None:
        """Leave `free` bytes."""
        disk = os.statvfs(self._ballast.parent)
        self._ballast.write_bytes(bytes(disk.f_bavail * disk.f_frsize - free))

    def clear(self) -> None:
        """Free what was filled."""
        self._ballast.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Needs the right to mount."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here, run as root: {mounted.stderr.strip()}")
    yield Disk(folder)
    subprocess.run(["umount", str(folder)], check=True)


pytestmark = pytest.mark.usefixtures("writes_often")


def check_no_halves(objects: Objects, run_id: str, disk: Disk) -> None:
    """Whatever a reader sees is whole."""
    assert list(disk.tidy.iterdir()) == []
    run = Run(objects, run_id)
    for key in objects.list(f"runs/{run_id}/m"):
        assert len(from_parquet(objects.get(key)))
    for step, _ in run.checkpoints():
        run.read_checkpoint(step)
    steps = run.metrics()["step"].to_pylist()
    assert steps == list(range(10, steps[-1] + 1, 10))


@pytest.mark.parametrize("free", [0, 2 * PAGE], ids=["nothing fits", "only small objects fit"])
def test_a_run_stops_when_the_disk_is_full_and_goes_on_once_there_is_room(
    free: int, disk: Disk, undisturbed: dict[str, torch.Tensor]
) -> None:
    def fill_at_50(beat: dict[str, Any]) -> None:
        if beat["step"] == 50:
            disk.fill(free)

    job = submit(tiny(), disk.store)
    with pytest.raises(StoreError) as caught:
        job.wait(fill_at_50)
    said = str(caught.value)
    assert "\n" not in said
    assert said.startswith(f"store {disk.store}: the disk is full (writing ")
    assert said.endswith("free space there or choose another --store")
    objects = open_objects(disk.store)
    assert Run(objects, job.run_id).sealed() is None
    check_no_halves(objects, job.run_id, disk)
    disk.clear()
    submit(tiny(), disk.store, run_id=job.run_id).wait()
    check_whole(objects, job.run_id, undisturbed)
    assert Run(objects, job.run_id).metrics()["attempt"].unique().to_pylist() == [1, 2]


def test_a_run_is_not_begun_on_a_full_disk(disk: Disk) -> None:
    disk.fill(free=0)
    with pytest.raises(StoreError, match="the disk is full"):
        submit(tiny(), disk.store)
    assert open_objects(disk.store).list("") == []


def test_what_a_killed_writer_left_half_written_is_cleared_away_a_day_later(tmp_path: Path) -> None:
    halves = tmp_path / TEMPORARY
    halves.mkdir()
    for name, age in (("old", ABANDONED_AFTER + 60), ("young", 60)):
        (halves / name).write_bytes(b"half")
        os.utime(halves / name, times=(time.time() - age,) * 2)
    objects = open_objects(str(tmp_path))
    objects.put("k", b"x")
    assert [path.name for path in halves.iterdir()] == ["young"]
    assert objects.list("") == ["k"]
