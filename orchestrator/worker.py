"""What one rank does: consume the ticks of a training run and write them to the store.

The same function serves all distances: alone in this process, as one of many Ray Train workers, or as a trial of a
sweep. It knows nothing of Ray.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import torch

from gans.checkpoint import pack, spec_document, unpack
from gans.course import Change
from gans.data.base import Dataset
from gans.errors import ConfigError, DataError
from gans.health import Monitor
from gans.loop import Tick, train
from gans.packing import Pack
from gans.pictures import encode, picture_of
from gans.sync import Alone, Sync
from orchestrator.errors import GanctlError, StoreError
from orchestrator.experiment import Experiment, parse
from orchestrator.outcome import STATES, Outcome, Turn
from orchestrator.scene import Scene
from orchestrator.store.objects import Objects, open_objects
from orchestrator.store.reader import Run
from orchestrator.store.writer import RunWriter, newest_attempt

OnTick = Callable[[Tick], Turn | None]


def work(
    store_url: str,
    run_id: str,
    sync: Sync | None = None,
    device: torch.device | None = None,
    on_tick: OnTick | None = None,
) -> Outcome:
    """Run (or resume) run `run_id`, announced in the store, as rank `sync.rank`. Returns how it ended.

    `on_tick`, given on every rank or on none, hears rank 0's ticks and may answer with a `Turn` for all.
    A run whose experiment or data are wrong is sealed as failed; any other exception, a store out of reach among them,
    leaves it unsealed, to be resumed by the same call.
    """
    rank = Rank(open_objects(store_url), run_id, sync or Alone(), device, steered=on_tick is not None)
    ticks, turn = rank.ticks(), None
    with threads(int(max(1.0, rank.experiment.scale.cpus_per_worker))), suppress(StopIteration):
        while True:
            tick = ticks.send(turn)
            try:
                turn = on_tick(tick) if on_tick is not None and rank.sync.rank == 0 else None
            except BaseException as error:
                ticks.throw(error)  # the run says what cut it off
    assert rank.outcome is not None
    return rank.outcome


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
    """One rank of one attempt. Rank 0 alone holds a writer, an evaluator and a monitor.

    `scene` is shared by runs on the same data; `pack` trains several ranks as one model; a `steered` rank may be told
    a `Turn` at every tick.
    """

    def __init__(
        self,
        objects: Objects,
        run_id: str,
        sync: Sync,
        device: torch.device | None = None,
        *,
        steered: bool = False,
        scene: Scene | None = None,
        pack: Pack | None = None,
    ) -> None:
        self.objects, self.run_id, self.sync, self.device = objects, run_id, sync, device
        self.experiment: Experiment = parse(Run(objects, run_id).document()["experiment"])
        self.steered, self.pack = steered, pack
        self.scene = scene or Scene(objects)
        self.writer = RunWriter.attach(objects, run_id) if sync.rank == 0 else None
        self.floor: dict[str, float] = {}
        self.figures: dict[str, float] = {}
        self.changes: list[dict[str, Any]] = []
        self.reason = ""
        self.logged = self.saved = -1
        self.outcome: Outcome | None = None

    def ticks(self) -> Generator[Tick, Turn | None, None]:
        """Train, store, and yield every tick once it is stored; `outcome` is there after the last one.

        A `Turn` that is sent to a steered rank holds from the next step on.
        """
        try:
            yield from self._run()
        except (ConfigError, DataError) as error:
            self.abandon(error)
            raise
        except BaseException as error:
            self.interrupted(error)
            raise

    def _run(self) -> Generator[Tick, Turn | None, None]:
        dataset, held_out = self.scene.data(self.experiment)
        ticks = self._begin(dataset, held_out)
        change: Change | None = None
        tick: Tick | None = None
        with suppress(StopIteration):
            while True:
                tick = ticks.send(change)
                self._store(tick, held_out)
                change = self._told((yield tick))
        assert tick is not None
        self.outcome = self._seal(tick, dataset)

    def _begin(self, dataset: Dataset, held_out: Dataset) -> Generator[Tick, Change | None, None]:
        e = self.experiment
        evaluator, monitor = None, None
        if self.writer is not None:
            self.writer.keep_last = e.train.keep_checkpoints
            evaluator, probe = self.scene.judges(e)
            self.floor, monitor = evaluator.floor, Monitor(probe, e.health)
        resume = self._latest()
        return train(
            e.gan,
            dataset,
            e.train,
            seed=e.seed,
            device=self.device,
            sync=self.sync,
            evaluate=evaluator,
            monitor=monitor,
            conditions=held_out,
            resume=resume,
            pack=self.pack,
        )

    def _told(self, turn: Turn | None) -> Change | None:
        """Rank 0's `turn` as the change that every rank makes."""
        turn = self.sync.share(turn) if self.steered else None
        if turn is None:
            return None
        self.reason = turn.reason
        if not turn.run_id:
            return Change(end="pruned", why=turn.reason)
        weights = unpack(Run(self.objects, turn.run_id).read_checkpoint(turn.step))
        fields = {name.removeprefix("gan."): value for name, value in turn.fields.items()}
        why = f"{turn.reason}: the weights of run {turn.run_id} at step {turn.step}, {_listed(turn.fields)}"
        return Change(fields, weights, why=why)

    def _latest(self) -> dict[str, Any] | None:
        """The newest committed checkpoint, the same one on every rank."""
        committed = Run(self.objects, self.run_id).checkpoints()
        step = self.sync.agree(committed[-1][0] if committed else -1)
        return None if step < 0 else unpack(Run(self.objects, self.run_id).read_checkpoint(step))

    def _store(self, tick: Tick, held_out: Dataset) -> None:
        """Metrics, heartbeat, samples and checkpoint of a tick. `tick.state()` is for all ranks."""
        due = tick.checkpoint and tick.ended != "diverged" and tick.step > self.saved
        state = tick.state() if due else None
        self.saved = tick.step if due else self.saved
        if self.writer is None:
            return
        if tick.evaluation:
            self.figures = tick.evaluation
        if tick.step > self.logged:  # an end that was ordered repeats the tick it was ordered at
            self.logged = tick.step
            row: dict[str, Any] = {k: v for k, v in tick.metrics.items() if math.isfinite(v)}
            row |= {"images": float(tick.images), "seconds": tick.seconds, "verdict": tick.verdict.kind}
            if turned := tick.changes[len(self.changes) :]:
                row["change"] = "; ".join(change["why"] for change in turned)
            self.changes = list(tick.changes)
            self.writer.log(tick.step, row | (tick.evaluation or {}))
        if tick.samples is not None:
            self._picture(tick, held_out)
        if state is not None:
            self.writer.checkpoint(tick.step, pack(state))
        self.writer.heartbeat(
            progress=tick.progress,
            verdict=tick.verdict.kind,
            figures=self.figures,
            changes=self.changes,
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
        ignored = tick.verdict.healthy or self.experiment.train.on_collapse == "ignore"
        why = tick.ended if ignored or STATES.get(tick.ended) != "completed" else tick.verdict.kind
        state = STATES.get(why, "unhealthy")
        verdict = tick.verdict.document()
        reason = self.reason if state == "pruned" else ""
        outcome = Outcome(
            self.run_id, state, tick.step, verdict, self.figures, self.floor, self.changes, reason
        )
        if self.writer is not None:
            end = {
                "ended": tick.ended,
                "verdict": tick.verdict.kind,
                "evidence": verdict["evidence"],
                "remedy": verdict["remedy"],
                "figures": self.figures,
                "floor": self.floor,
                "changes": self.changes,
                "reason": reason,
                "spec": spec_document(dataset.spec),
                "data": {"fingerprint": dataset.fingerprint(), "skipped": vars(dataset.skipped)},
                "seconds": tick.seconds,
                "images": tick.images,
            }
            self.writer.seal(state, end)
        return outcome

    def abandon(self, error: Exception) -> None:
        """Seal the run as failed, with the reason a person needs."""
        if self.writer is not None:
            self.writer.seal("failed", {"error": str(error)})

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


def _listed(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value:.4g}" for name, value in fields.items())
