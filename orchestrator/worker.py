"""What one rank does: consume the ticks of a training run and write them to the store.

The same function serves all distances: alone in this process, as one of many Ray Train workers, or as a trial of a
sweep. It knows nothing of Ray.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch

from gans.checkpoint import pack, spec_document, unpack
from gans.data.base import Dataset
from gans.data.views import imitated
from gans.errors import ConfigError, DataError
from gans.health import Monitor
from gans.loop import Tick, train
from gans.metrics import Evaluator, SampleProbe, extractor_for
from gans.pictures import encode, picture_of
from gans.sync import Alone, Sync
from orchestrator.errors import GanctlError, StoreError
from orchestrator.experiment import Experiment, parse
from orchestrator.store.extractors import StoreCache
from orchestrator.store.files import files_for
from orchestrator.store.objects import Objects, open_objects
from orchestrator.store.reader import Run
from orchestrator.store.writer import RunWriter, newest_attempt

PROBE_ROWS = 512

STATES = {"budget": "completed", "plateau": "completed", "mode collapse": "collapsed", "diverged": "diverged"}
"""The state a run is sealed with, by why it ended; other verdicts end it as `unhealthy`."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its sealed state, the verdict, the last evaluation and that of held-out real data."""

    run_id: str
    state: str
    step: int
    verdict: dict[str, Any]
    figures: dict[str, float]
    floor: dict[str, float]

    @property
    def healthy(self) -> bool:
        return self.state == "completed"


OnTick = Callable[[Tick], None]


def work(
    store_url: str,
    run_id: str,
    sync: Sync | None = None,
    device: torch.device | None = None,
    on_tick: OnTick | None = None,
) -> Outcome:
    """Run (or resume) run `run_id`, announced in the store, as rank `sync.rank`. Returns how it ended.

    A run whose experiment or data are wrong is sealed as failed; any other exception, a store out of reach among them,
    leaves it unsealed, to be resumed by the same call.
    """
    objects = open_objects(store_url)
    experiment = parse(Run(objects, run_id).document()["experiment"])
    rank = Rank(objects, run_id, experiment, sync or Alone(), device)
    try:
        with threads(int(max(1.0, experiment.scale.cpus_per_worker))):
            return rank.run(on_tick)
    except (ConfigError, DataError) as error:
        rank.abandon("failed", error)
        raise
    except BaseException as error:
        rank.interrupted(error)
        raise


@contextmanager
def threads(num: int) -> Iterator[None]:
    """PyTorch on `num` CPU threads: ranks that share cores must not fight for them."""
    before = torch.get_num_threads()
    torch.set_num_threads(num)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Rank:
    """One rank of one attempt. Rank 0 alone holds a writer, an evaluator and a monitor."""

    def __init__(
        self, objects: Objects, run_id: str, experiment: Experiment, sync: Sync, device: torch.device | None
    ) -> None:
        self.objects, self.run_id, self.experiment, self.sync, self.device = (
            objects,
            run_id,
            experiment,
            sync,
            device,
        )
        self.writer = RunWriter.attach(objects, run_id) if sync.rank == 0 else None
        self.floor: dict[str, float] = {}
        self.figures: dict[str, float] = {}

    def run(self, on_tick: OnTick | None) -> Outcome:
        e = self.experiment
        files = files_for(getattr(e.data, "path", ""))
        dataset, held_out = e.data.load("train", files), e.data.load("held_out", files)
        evaluator, monitor = self._judges(dataset, held_out) if self.writer else (None, None)
        ticks = train(
            e.gan,
            dataset,
            e.train,
            seed=e.seed,
            device=self.device,
            sync=self.sync,
            evaluate=evaluator,
            monitor=monitor,
            conditions=held_out,
            resume=self._latest(),
        )
        last: Tick | None = None
        for last in ticks:
            self._store(last, held_out)
            if on_tick is not None:
                on_tick(last)
        assert last is not None
        assert last.ended is not None
        return self._seal(last, dataset)

    def _judges(self, dataset: Dataset, held_out: Dataset) -> tuple[Evaluator, Monitor]:
        """The evaluator against held-out real data, and the health monitor with its probe."""
        e = self.experiment
        real, held = imitated(dataset, e.gan.imitates), imitated(held_out, e.gan.imitates)
        extractor = extractor_for(real, StoreCache(self.objects), e.train.extractor)
        evaluator = Evaluator(real, held, extractor, e.train.evaluate_samples, seed=0)
        self.floor = evaluator.floor
        rows = real.fetch(real.order(0, 0)[:PROBE_ROWS])["x"]
        probe = SampleProbe(rows, extractor) if len(rows) >= PROBE_ROWS // 2 else None
        return evaluator, Monitor(probe, e.health)

    def _latest(self) -> dict[str, Any] | None:
        """The newest committed checkpoint, the same one on every rank."""
        committed = Run(self.objects, self.run_id).checkpoints()
        step = self.sync.agree(committed[-1][0] if committed else -1)
        return None if step < 0 else unpack(Run(self.objects, self.run_id).read_checkpoint(step))

    def _store(self, tick: Tick, held_out: Dataset) -> None:
        """Metrics, heartbeat, samples and checkpoint of a tick. `tick.state()` is for all ranks."""
        state = tick.state() if tick.checkpoint and tick.ended != "diverged" else None
        if self.writer is None:
            return
        if tick.evaluation:
            self.figures = tick.evaluation
        row: dict[str, Any] = {k: v for k, v in tick.metrics.items() if math.isfinite(v)}
        row |= {"images": float(tick.images), "seconds": tick.seconds, "verdict": tick.verdict.kind}
        self.writer.log(tick.step, row | (tick.evaluation or {}))
        if tick.samples is not None:
            self._picture(tick, held_out)
        if state is not None:
            self.writer.checkpoint(tick.step, pack(state))
        self.writer.heartbeat(
            progress=tick.progress,
            verdict=tick.verdict.kind,
            figures=self.figures,
            force=tick.ended is not None,
        )

    def _picture(self, tick: Tick, held_out: Dataset) -> None:
        assert self.writer is not None
        assert tick.samples is not None
        real = held_out.fetch(held_out.order(0, 0)[:1000])[self.experiment.gan.imitates]
        image = picture_of(self.experiment.gan, *tick.samples, real)
        meta = {"run": self.run_id, "step": str(tick.step), "seed": str(self.experiment.seed)}
        self.writer.sample(tick.step, encode(image, meta))

    def _seal(self, tick: Tick, dataset: Dataset) -> Outcome:
        assert tick.ended is not None
        state = STATES.get(tick.ended, "unhealthy")
        verdict = tick.verdict.document()
        outcome = Outcome(self.run_id, state, tick.step, verdict, self.figures, self.floor)
        if self.writer is not None:
            end = {
                "ended": tick.ended,
                "verdict": tick.verdict.kind,
                "evidence": verdict["evidence"],
                "remedy": verdict["remedy"],
                "figures": self.figures,
                "floor": self.floor,
                "spec": spec_document(dataset.spec),
                "data": {"fingerprint": dataset.fingerprint(), "skipped": vars(dataset.skipped)},
                "seconds": tick.seconds,
                "images": tick.images,
            }
            self.writer.seal(state, end)
        return outcome

    def abandon(self, state: str, error: Exception) -> None:
        """Seal the run as failed, with the reason a person needs."""
        if self.writer is not None:
            self.writer.seal(state, {"error": str(error)})

    def interrupted(self, error: BaseException) -> None:
        """Leave the run resumable, with what stopped it in its heartbeat."""
        if self.writer is None:
            return
        said = str(error) if isinstance(error, GanctlError) else repr(error)
        trace = "".join(traceback.format_exception(error))[-4000:]
        with suppress(StoreError):  # `error` says it already, where the store is what failed
            if newest_attempt(self.objects, self.run_id) == self.writer.attempt:
                self.writer.flush()
                self.writer.heartbeat(force=True, state="interrupted", error=said, traceback=trace)


def outcome_of(run: Run) -> Outcome:
    """The outcome of a sealed run."""
    sealed = run.sealed()
    assert sealed is not None, f"run {run.id} has not ended"
    verdict = {"kind": sealed.get("verdict", "unknown")} | {k: sealed.get(k) for k in ("evidence", "remedy")}
    return Outcome(
        run.id, sealed["state"], sealed["step"], verdict, sealed.get("figures", {}), sealed.get("floor", {})
    )
