"""Step time at one and at two workers, and what of it is spent waiting; beside PyTorch's DistributedDataParallel.

    python -m tests.benchmarks.scaling [--quick] [--seed N]

Two gloo workers of one thread each, the same batch a worker. The loop with DDP is what its users write for a GAN: both
networks wrapped, one backward pass a player, with the discriminator frozen in the generator's; the same networks, loss,
float32 and fused Adam; neither keeps an average of the weights. DDP cannot express a penalty whose gradient is taken
through the wrapped network, so the networks compared have none; `penalised` shows ours with R1 and R2.

The two take turns in the same processes; a ratio is the median over rounds of the ratio within a round, and a step
that of the median round. A two-core machine that does anything else makes workers wait for each other: see `sync`.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from gans.data.base import DataSpec, Field, Resident
from gans.families.dcgan import DCGAN
from gans.options import PLAIN, Train
from gans.sync import Alone, Group, Sync
from gans.training import PACE, Training, build
from tests.benchmarks.report import Report

BATCH, LATENT, SAMPLES = 32, 64, 512  # of one worker
SIZES = {"small": (8, 16), "medium": (16, 32), "large": (64, 32)}  # width, pixels
TARGET = 1.05
CPU = torch.device("cpu")
Steps = Callable[[int], None]


def pictures(size: int, seed: int) -> Resident:
    """Random RGB pictures."""
    x = torch.rand(SAMPLES, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return Resident({"x": x}, DataSpec({"x": Field("image", (3, size, size))}))


def family(width: int, **fields: Any) -> DCGAN:
    """Without batch norm, whose statistics DDP's users do not sum on a CPU."""
    return DCGAN(width=width, latent_dim=LATENT, norm_g="none", norm_d="none", **fields)


def ours(gan: DCGAN, size: int, seed: int, sync: Sync) -> tuple[Training, Steps]:
    """The loop of this package."""
    options = Train(batch=BATCH * sync.world, log_every=10**6, ema=False, **(PLAIN | {"fused": True}))
    training = Training(gan, pictures(size, seed), options, seed, CPU, sync)

    def steps(num: int) -> None:
        for _ in range(num):
            training.run_step()

    return training, steps


def ddp(gan: DCGAN, size: int, seed: int) -> Steps:
    """The same with DistributedDataParallel."""
    data = pictures(size, seed)
    nets = build(gan, data, seed)
    g, d = (DistributedDataParallel(nets[name]) for name in ("generator", "discriminator"))
    lr, betas = 2e-4, (0.5, 0.999)
    adam_g, adam_d = (torch.optim.Adam(net.parameters(), lr, betas, fused=True) for net in (g, d))
    generator = torch.Generator().manual_seed(seed + dist.get_rank())
    softplus = nn.functional.softplus

    def step() -> None:
        rows = torch.randint(SAMPLES, (BATCH,), generator=generator)
        real = data.tensors["x"][rows]
        with torch.no_grad():
            fake = g(torch.randn(BATCH, LATENT, generator=generator))
        adam_d.zero_grad()
        logits_real, logits_fake = d(real).flatten(), d(fake).flatten()
        (softplus(-logits_real) + softplus(logits_fake)).mean().backward()
        adam_d.step()
        d.requires_grad_(False)
        adam_g.zero_grad()
        fake = g(torch.randn(BATCH, LATENT, generator=generator))
        softplus(-d.module(fake).flatten()).mean().backward()
        adam_g.step()
        d.requires_grad_(True)

    def steps(num: int) -> None:
        for _ in range(num):
            step()

    return steps


def timed(steps: Steps, num: int) -> float:
    """Seconds a step, on the wall."""
    begun = time.perf_counter()
    steps(num)
    return (time.perf_counter() - begun) / num


def waits(training: Training, num: int) -> dict[str, float]:
    """Shares of the time of the next `num` steps."""
    training.options = training.options.model_copy(update={"log_every": num, "steps": training.steps + num})
    training.steps = training.steps // num * num
    pace = training.run_alone()
    return {name: pace[name] for name in PACE if name.endswith("_wait")}


def together(rank: int, folder: str, rounds: int, seed: int) -> None:
    """What each of the two workers does: rank 0 writes what it saw."""
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/init", rank=rank, world_size=2, timeout=timedelta(minutes=5)
    )
    seen: dict[str, Any] = {}
    for name, (width, size) in SIZES.items():
        gan = family(width)
        training, mine = ours(gan, size, seed, Group())
        contestants = {"ours": mine, "ddp": ddp(gan, size, seed)}
        _, theirs = ours(family(width, r1=1.0, r2=1.0), size, seed, Group())
        for steps in (*contestants.values(), theirs):
            steps(3)
        num = max(3, int(1.0 / _agreed(timed(mine, 3))))
        times: dict[str, list[float]] = {contestant: [] for contestant in contestants}
        for i in range(rounds):
            for contestant in sorted(contestants, reverse=i % 2 == 1):
                dist.barrier()
                times[contestant].append(timed(contestants[contestant], num))
        dist.barrier()
        seen[name] = {
            "times": times,
            "waits": waits(training, num),
            "penalised": timed(theirs, max(2, num // 4)),
        }
    if rank == 0:
        torch.save(seen, Path(folder) / "seen.pt")
    dist.destroy_process_group()


def _agreed(seconds: float) -> float:
    """Rank 0's, so that both take as many steps."""
    return Group().share(seconds)  # type: ignore[no-any-return]


def alone(rounds: int, seed: int) -> dict[str, float]:
    """Seconds a step on one worker."""
    found = {}
    for name, (width, size) in SIZES.items():
        _, steps = ours(family(width), size, seed, Alone())
        steps(3)
        num = max(3, int(1.0 / timed(steps, 3)))
        found[name] = median(timed(steps, num) for _ in range(rounds))
    return found


def main() -> int:
    """Print every figure; 1 if one with a target falls short of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="5 rounds instead of 15")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rounds, report = 5 if args.quick else 15, Report()
    one = alone(rounds, args.seed)
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(together, args=(folder, rounds, args.seed), nprocs=2)  # type: ignore[attr-defined]
        two = torch.load(Path(folder) / "seen.pt", weights_only=False)
    for name, (width, size) in SIZES.items():
        seen, times = two[name], two[name]["times"]
        weights = sum(
            p.numel() for net in build(family(width), pictures(size, 0), 0).values() for p in net.parameters()
        )
        report.add(f"{name}/weights", weights / 1e6, "M")
        report.add(f"{name}/1 worker", one[name] * 1e3, "ms")
        report.add(f"{name}/2 workers", median(times["ours"]) * 1e3, "ms")
        report.add(f"{name}/2 workers, DDP", median(times["ddp"]) * 1e3, "ms")
        report.add(f"{name}/2 workers, penalised", seen["penalised"] * 1e3, "ms")
        report.add(f"{name}/sync", seen["waits"]["sync_wait"], "of a step")
        report.add(f"{name}/data", seen["waits"]["data_wait"], "of a step")
        ratios = [a / b for a, b in zip(times["ours"], times["ddp"], strict=True)]
        report.add(f"{name}/ours against DDP", median(ratios), at_most=TARGET)
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main())
