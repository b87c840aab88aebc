"""Images a second of the training loop against the plain loop that one writes first, on the same DCGAN.

    python -m tests.benchmarks.step [--quick] [--seed N] [--threads N]

The plain loop is eager, float32 and NCHW, draws latents and runs the generator once for each player, calls
`backward` without freezing the discriminator, and steps torch's default Adam (on a CPU: one kernel a tensor). Both
loops keep an average of the generator. Each contestant is a process of its own, as it would be in use; they take
turns, and a speedup is the median over rounds of the ratio within a round. `off` has every option of the loop
switched off and is compared with a plain loop in its own process, so that both have the same allocator.

With one thread time is CPU time, which neighbours on a shared machine disturb less; otherwise wall time.
"""

from __future__ import annotations

import argparse
import copy
import multiprocessing
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from gans.data.base import DataSpec, Field, Resident
from gans.families.dcgan import DCGAN
from gans.options import PLAIN, Train
from gans.sync import Alone
from gans.training import Training, build
from tests.benchmarks.report import Report

BATCH, WIDTH, LATENT, SAMPLES = 64, 32, 100, 1024
TARGETS = {32: 2.0, 64: 3.0}
OFF_TARGET = 0.95
ABLATIONS = {name: {name: off} for name, off in PLAIN.items()}
Steps = Callable[[int], None]


def pictures(size: int, seed: int) -> Resident:
    """Random RGB pictures: the speed of a step does not depend on what they show."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(SAMPLES, 3, size, size, generator=generator) * 2 - 1
    return Resident({"x": x}, DataSpec({"x": Field("image", (3, size, size))}))


def plain_generator(size: int) -> nn.Sequential:
    """The layers of `gans.networks.conv_generator`."""
    width = WIDTH * size // 8
    layers: list[nn.Module] = [nn.ConvTranspose2d(LATENT, width, 4, 1, 0, bias=False)]
    layers += [nn.BatchNorm2d(width), nn.ReLU()]
    while width > WIDTH:
        up = nn.ConvTranspose2d(width, width // 2, 4, 2, 1, bias=False)
        layers += [up, nn.BatchNorm2d(width // 2), nn.ReLU()]
        width //= 2
    return nn.Sequential(*layers, nn.ConvTranspose2d(width, 3, 4, 2, 1), nn.Tanh())


def plain_discriminator(size: int) -> nn.Sequential:
    """The layers of `gans.networks.conv_discriminator`."""
    layers: list[nn.Module] = [nn.Conv2d(3, WIDTH, 4, 2, 1), nn.LeakyReLU(0.2)]
    width = WIDTH
    while width < WIDTH * size // 8:
        down = nn.Conv2d(width, width * 2, 4, 2, 1, bias=False)
        layers += [down, nn.BatchNorm2d(width * 2), nn.LeakyReLU(0.2)]
        width *= 2
    return nn.Sequential(*layers, nn.Conv2d(width, 1, 4, 1, 0), nn.Flatten(0))


def initialise(network: nn.Module) -> None:
    """Radford et al. 2016, section 4."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)


def plain_loop(size: int, seed: int) -> Steps:
    """The loop one writes first."""
    torch.manual_seed(seed)
    data = pictures(size, seed).tensors["x"]
    g, d = plain_generator(size), plain_discriminator(size)
    for mine, theirs in zip(
        (g, d), build(DCGAN(width=WIDTH), pictures(size, seed), seed).values(), strict=True
    ):
        assert [p.shape for p in mine.parameters()] == [p.shape for p in theirs.parameters()]
        initialise(mine)
    average = copy.deepcopy(g).requires_grad_(False)
    opt_g = torch.optim.Adam(g.parameters(), lr=2e-4, betas=(0.5, 0.999))
    opt_d = torch.optim.Adam(d.parameters(), lr=2e-4, betas=(0.5, 0.999))
    bce = nn.BCEWithLogitsLoss()
    ones, zeros = torch.ones(BATCH), torch.zeros(BATCH)

    def step() -> None:
        real = data[torch.randint(len(data), (BATCH,))]
        opt_d.zero_grad()
        with torch.no_grad():
            fake = g(torch.randn(BATCH, LATENT, 1, 1))
        (bce(d(real), ones) + bce(d(fake), zeros)).backward()
        opt_d.step()
        opt_g.zero_grad()
        bce(d(g(torch.randn(BATCH, LATENT, 1, 1))), ones).backward()
        opt_g.step()
        with torch.no_grad():
            for slow, fast in zip(average.parameters(), g.parameters(), strict=True):
                slow.lerp_(fast, 0.002)
            for copied, buffer in zip(average.buffers(), g.buffers(), strict=True):
                copied.copy_(buffer)

    return lambda n: repeat(step, n)


def our_loop(size: int, seed: int, options: dict[str, Any]) -> Steps:
    """The loop of `gans.train`, without its ticks."""
    train = Train(steps=10**9, batch=BATCH, **options)
    training = Training(DCGAN(width=WIDTH), pictures(size, seed), train, seed, torch.device("cpu"), Alone())
    return lambda n: repeat(training.run_step, n)


def repeat(step: Callable[[], None], n: int) -> None:
    """`n` steps."""
    for _ in range(n):
        step()


@dataclass(frozen=True)
class Contestant:
    """A loop to be timed: ours with `options`, or the plain one."""

    name: str
    options: dict[str, Any] | None = None

    def loop(self, size: int, seed: int) -> Steps:
        return plain_loop(size, seed) if self.options is None else our_loop(size, seed, self.options)


def serve(connection: Connection, contestants: list[Contestant], size: int, seed: int, threads: int) -> None:
    """Time steps of the contestant asked for until told to end."""
    torch.set_num_threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    loops = {c.name: c.loop(size, seed) for c in contestants}
    for loop in loops.values():
        loop(2)
    connection.send(None)
    while (request := connection.recv()) is not None:
        name, n = request
        begun = clock()
        loops[name](n)
        connection.send((clock() - begun) / n)


@contextmanager
def contest(
    groups: list[list[Contestant]], size: int, seed: int, threads: int
) -> Iterator[dict[str, Connection]]:
    """A process for each group of contestants; yields where to ask each of them for a time."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["gans.training", "gans.families.dcgan"])
    doors: dict[str, Connection] = {}
    processes = []
    for group in groups:
        here, there = context.Pipe()
        process = context.Process(target=serve, args=(there, group, size, seed, threads))
        process.start()
        processes.append((process, here))
        doors |= {c.name: here for c in group}
        here.recv()
    try:
        yield doors
    finally:
        for process, here in processes:
            here.send(None)
            process.join()


def race(
    groups: list[list[Contestant]], size: int, args: argparse.Namespace, threads: int
) -> dict[str, list[float]]:
    """Seconds a step of every contestant, round by round."""
    rounds = 5 if args.quick else 7
    n = 4 if size < 64 else 1
    times: dict[str, list[float]] = {c.name: [] for group in groups for c in group}
    with contest(groups, size, args.seed, threads) as doors:
        for _ in range(rounds):
            for name, door in doors.items():
                door.send((name, n))
                times[name].append(door.recv())
    return times


def speedup(slow: list[float], fast: list[float]) -> float:
    """Median over rounds of the ratio within a round."""
    return median(s / f for s, f in zip(slow, fast, strict=True))


def measure(size: int, args: argparse.Namespace, report: Report) -> None:
    """The figures with targets."""
    groups = [
        [Contestant("plain")],
        [Contestant("ours", {})],
        [Contestant("plain beside off"), Contestant("off", PLAIN)],
    ]
    times = race(groups, size, args, args.threads)
    for name in ("plain", "ours", "off"):
        report.add(f"step/{size}px/{name}", BATCH / median(times[name]), "images/s")
    report.add(f"step/{size}px/speedup", speedup(times["plain"], times["ours"]), "x", at_least=TARGETS[size])
    off = speedup(times["plain beside off"], times["off"])
    report.add(f"step/{size}px/speedup with all off", off, "x", at_least=OFF_TARGET)


def inform(size: int, args: argparse.Namespace, report: Report) -> None:
    """The share of each option (the speedup lost without it alone), and the race on two threads."""
    ablated = [[Contestant(name, options)] for name, options in ABLATIONS.items()]
    times = race([[Contestant("ours", {})], *ablated], size, args, args.threads)
    for name in ABLATIONS:
        report.add(f"step/{size}px/share of {name}", speedup(times[name], times["ours"]), "x")
    times = race([[Contestant("plain")], [Contestant("ours", {})]], size, args, 2)
    report.add(f"step/{size}px/2 threads/ours", BATCH / median(times["ours"]), "images/s")
    report.add(f"step/{size}px/2 threads/speedup", speedup(times["plain"], times["ours"]), "x")


def cpu() -> str:
    """The processor's name and what it offers for bf16."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = [f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f in facts.get("flags", "").split()]
    family = f"family {facts.get('cpu family', '?')} model {facts.get('model', '?')}"
    return f"{facts.get('model name', platform.processor())} ({family}; {' '.join(flags)})"


def main() -> int:
    """Print every figure; 1 if one with a target falls short of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds, targets only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    print(
        f"# {cpu()}, {args.threads} thread(s), torch {torch.__version__}; DCGAN, width {WIDTH}, batch {BATCH}"
    )
    report = Report()
    for size in TARGETS:
        measure(size, args, report)
    for size in () if args.quick else TARGETS:
        inform(size, args, report)
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main())
