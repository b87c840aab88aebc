"""A run that does not move names the rank that it waits for."""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
import socket
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gans.sync import Alone, Group
from orchestrator.launch import announce_run
from orchestrator.recipes import load
from orchestrator.stall import MOST, Announced, Patience, Post, Watch, blame, paces
from orchestrator.store.objects import open_objects
from orchestrator.store.reader import Run

QUICK = Patience(period=0.1, least=0.6, times=5.0)


def wait_for(said: list[tuple[str, str]], text: str, seconds: float = 20) -> str:
    """The first telling with `text` in it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for stalled, doing in list(said):
            if text in stalled + doing:
                return stalled + doing
        time.sleep(0.05)
    raise AssertionError(f"nobody said {text!r}: {said[-5:]}")


def posted(rank: int, calls: int, waiting: bool) -> Post:
    return Post(rank, f"host{rank}", 100 + rank, calls, waiting, 1)


@pytest.mark.parametrize(
    ("posts", "silent", "said"),
    [
        ([posted(0, 7, True), posted(1, 6, False)], set(),
         "rank 1 (host host1, pid 101) has not come to step 130; rank 0 waits for it"),
        ([posted(0, 7, True), posted(1, 7, True)], {1},
         "rank 1 (host host1, pid 101) has not come to step 130 and does not answer; rank 0 waits for it"),
        ([posted(0, 6, False), posted(1, 7, True), posted(2, 7, True)], set(),
         "rank 0 (host host0, pid 100) has not come to step 130; ranks 1, 2 wait for it"),
        ([posted(0, 7, False), posted(1, 7, True)], set(),
         "rank 0 (host host0, pid 100) has not come to step 130; rank 1 waits for it"),
        ([posted(0, 7, True), posted(1, 7, True)], set(), "all ranks wait for each other"),
        ([posted(0, 0, False)], set(), "rank 0 (host host0, pid 100) has not come to step 130"),
    ],
)  # fmt: skip
def test_the_rank_that_the_others_wait_for_is_named(posts: list[Post], silent: set[int], said: str) -> None:
    assert blame(posts, silent, 130).startswith(said)


def test_a_step_that_takes_much_longer_than_usual_is_a_stall_until_the_next_one_comes() -> None:
    said: list[tuple[str, str]] = []
    with Watch(Alone(), lambda *told: said.append(told), 10, QUICK) as watch:
        for step in range(10, 60, 10):
            watch.ticked(step)
            time.sleep(0.05)
        assert [told for told in said if told[0]] == []
        stalled = wait_for(said, "no step for")
        assert stalled.startswith("no step for 1 s (usually 0.1 s): rank 0 (host")
        assert stalled.endswith("has not come to step 60")
        watch.ticked(60)
        said.clear()
        time.sleep(0.3)
        assert said
        assert {told[0] for told in said} == {""}


def test_what_rank_0_does_by_itself_is_no_stall() -> None:
    class Slow:
        num_samples = 7

        def __call__(self, x: Any, labels: Any = None) -> dict[str, float]:
            time.sleep(1.5)
            return {"fid": 1.0}

    said: list[tuple[str, str]] = []
    with Watch(Alone(), lambda *told: said.append(told), 10, QUICK) as watch:
        for step in (10, 20, 30):
            watch.ticked(step)
            time.sleep(0.05)
        evaluate = Announced(Slow(), watch.doing)
        assert evaluate.num_samples == 7
        assert evaluate(None) == {"fid": 1.0}  # type: ignore[arg-type]
        watch.ticked(40)
    assert {told[0] for told in said} == {""}
    assert "evaluating for 1 s" in {told[1] for told in said}


def test_of_many_ranks_those_are_told_that_the_others_wait_for() -> None:
    posts = [replace(posted(i, 5, False), pace={"sync_wait": 0.9 - i / 1000}) for i in range(200)]
    assert [row["rank"] for row in paces([posted(200, 5, False), *posts])] == [*range(200 - MOST, 200)]


def rank(number: int, address: str, told: Any) -> None:
    """Add numbers with the other rank, ten times a tick, until killed."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{address}", rank=number, world_size=2, timeout=timedelta(seconds=60)
    )
    group, step = Group(), 0
    with Watch(group, (lambda *said: told.put(said)) if number == 0 else None, 10, QUICK) as watch:
        while True:
            for _ in range(10):
                group.total(torch.ones(1))
                time.sleep(0.002)
            step += 10
            watch.ticked(step, {"sync_wait": 0.1 + number})
            if step == 50:
                told.put(("", "moving"))
            if [row["sync_wait"] for row in watch.ranks] == [0.1, 1.1]:
                told.put(("", "both go on"))


@pytest.mark.parametrize("culprit", [0, 1])
def test_of_two_ranks_the_frozen_one_is_named(culprit: int, tmp_path: Path) -> None:
    context = mp.get_context("spawn")
    queues: list[Any] = [context.Queue(), context.Queue()]  # one each: who is frozen may hold a queue's lock
    told, place = queues[0], str(tmp_path / "rendezvous")
    ranks = [context.Process(target=rank, args=(n, place, queues[n])) for n in (0, 1)]
    try:
        for process in ranks:
            process.start()
        for queue in queues:
            _first(queue, lambda said: said[1] == "moving")
        _first(told, lambda said: said[1] == "both go on")
        pid = ranks[1].pid
        assert pid is not None
        if culprit == 1:
            os.kill(pid, signal.SIGSTOP)
            name = f"rank 1 (host {socket.gethostname()}, pid {pid}) has not come to step "
            said = _first(told, lambda said: "does not answer" in said[0])
            assert said.startswith("no step for ")
            assert name in said
            assert said.endswith("and does not answer; rank 0 waits for it")
            os.kill(pid, signal.SIGCONT)
            assert _first(told, lambda said: said[0] == "") == ""
        else:  # nobody tells while rank 0 itself is frozen, and nothing is wrong once it goes on
            assert ranks[0].pid is not None
            os.kill(ranks[0].pid, signal.SIGSTOP)
            time.sleep(1.5)
            while not told.empty():
                told.get()
            os.kill(ranks[0].pid, signal.SIGCONT)
            assert _first(told, lambda said: said[0] == "") == ""
    finally:
        for process in ranks:
            process.kill()
            process.join()


def _first(told: Any, wanted: Any, seconds: float = 60) -> str:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if wanted(said := told.get(timeout=seconds)):
            return str(said[0])
    raise AssertionError("nobody said so")


def trained(number: int, address: str, store: str, run_id: str) -> None:
    """One of two ranks that train run `run_id`."""
    import torch.distributed as dist

    from orchestrator.worker import work

    dist.init_process_group("gloo", init_method=f"file://{address}", rank=number, world_size=2)
    work(store, run_id, Group())


@pytest.mark.slow
def test_a_run_of_two_ranks_says_how_fast_each_goes(tmp_path: Path) -> None:
    objects = open_objects(str(tmp_path / "store"))
    fields = {
        "train.seconds": 8,
        "train.log_every": 5,
        "train.evaluate_every": 0,
        "train.on_collapse": "ignore",
    }
    run_id = announce_run(objects, load("vanilla.ring").override(fields | {"data.num": 500, "gan.width": 16}))
    context = mp.get_context("spawn")
    given = [(n, str(tmp_path / "rendezvous"), objects.url, run_id) for n in (0, 1)]
    ranks = [context.Process(target=trained, args=args) for args in given]
    beats: list[Any] = []
    try:
        for process in ranks:
            process.start()
        while any(process.is_alive() for process in ranks):
            beats += [beat["ranks"] for beat in [Run(objects, run_id).live()] if beat and beat.get("ranks")]
            time.sleep(0.2)
    finally:
        for process in ranks:
            process.kill()
            process.join()
    sealed = Run(objects, run_id).sealed()
    assert sealed is not None
    for told in (beats[-1], sealed["ranks"]):
        assert [row["rank"] for row in told] == [0, 1]
        assert all({"host", "images_per_second", "data_wait", "sync_wait"} <= row.keys() for row in told)
    assert sealed["ranks"][0] != sealed["ranks"][1] | {"rank": 0}
