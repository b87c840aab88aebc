"""What one rank does: consume the ticks of a training run and write them to the store.

The same function serves all distances: alone in this process, as one of many Ray Train workers, or as a trial of a
sweep. It knows nothing of Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

import torch

from gans.checkpoint import spec_document, unpack
from gans.course import Change
from gans.data.base import Dataset
from gans.errors import ConfigError, DataError
from gans.health import Monitor
from gans.loop import Tick, train
from gans.packing import Pack
from gans.sync import Alone, Sync
from orchestrator.errors import GanctlError, Preempted, Stopped, StoreError, Superseded
from orchestrator.experiment import Experiment, parse
from orchestrator.outcome import STATES, Outcome, Turn, left
from orchestrator.record import Record, pace_of
from orchestrator.runlog import Log, trace_of
from orchestrator.scene import Scene
from orchestrator.stall import Announced, Watch
from orchestrator.start import weights
from orchestrator.store.objects import Objects, open_objects
from orchestrator.store.outbox import Outbox
from orchestrator.store.reader import Run
from orchestrator.store.writer import RunWriter

OnTick = Callable[[Tick], Turn | None]
Notice = Callable[[], str]
"""Why this rank must go away: `preempted`; empty while it may stay."""


def work(
    store_url: str,
    run_id: str,
    sync: Sync | None = None,
    device: torch.device | None = None,
    on_tick: OnTick | None = None,
    *,
    steered: bool = True,
    notice: Notice = str,
) -> Outcome:
    """Run (or resume) run `run_id`, announced in the store, as rank `sync.rank`. Returns how it ended.

    `on_tick`, given on every rank or on none, hears rank 0's ticks and, if `steered`, may answer with a `Turn` for all.
    A run whose experiment or data are wrong is sealed as failed; any other exception, a store out of reach among them,
    leaves it unsealed, to be resumed by the same call. Raises Stopped where somebody asked for that, Preempted after
    a `notice` on any rank, each with a checkpoint of the very step; Superseded where another attempt has begun.
    """
    steered = steered and on_tick is not None
    rank = Rank(open_objects(store_url), run_id, sync or Alone(), device, steered=steered, notice=notice)
    ticks, turn = rank.ticks(), None
    num_threads = int(max(1.0, rank.experiment.scale.cpus_per_worker))
    with rank.watched() as watch, threads(num_threads), suppress(StopIteration):
        while True:
            tick = ticks.send(turn)
            watch.ticked(tick.step, pace_of(tick))
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
    a `Turn` at every tick, and its checkpoints are in the store when it yields; `notice` is asked at every tick.
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
        notice: Notice = str,
    ) -> None:
        self.objects, self.run_id, self.sync, self.device = objects, run_id, sync, device
        self.experiment: Experiment = parse(Run(objects, run_id).document()["experiment"])
        self.steered, self.pack, self.notice = steered, pack, notice
        self.scene = scene or Scene(objects)
        self.writer = RunWriter.attach(objects, run_id, Outbox(), sync.world) if sync.rank == 0 else None
        self.log = Log(objects, run_id, f"rank{sync.rank}")
        self.record = Record(self.writer, self.experiment, self.log) if self.writer is not None else None
        self.watch: Watch | None = None
        self.superseded: Superseded | None = None
        self.floor: dict[str, float] = {}
        self.reason = ""
        self.saved = -1
        self.outcome: Outcome | None = None

    def watched(self) -> Watch:
        """The watch over this rank; rank 0's keeps the heartbeat fresh and says there what it sees."""

        def tell(stalled: str, doing: str) -> None:
            assert self.writer is not None
            assert self.watch is not None
            self.writer.ranks = self.watch.ranks
            self.writer.refresh(stalled=stalled, doing=doing, ranks=self.watch.ranks)

        log_every = self.experiment.train.log_every
        self.watch = Watch(self.sync, tell if self.sync.rank == 0 else None, log_every)
        return self.watch

    def _doing(self, what: str) -> AbstractContextManager[None]:
        return nullcontext() if self.watch is None else self.watch.doing(what)

    def ticks(self) -> Generator[Tick, Turn | None, None]:
        """Train, store, and yield every tick once it is stored; `outcome` is there after the last one.

        A `Turn` that is sent to a steered rank holds from the next step on. What is printed in between is in the
        run's log: of several ranks of one process, each has its own.
        """
        run, turn = self._run(), None
        try:
            with suppress(StopIteration):
                while True:
                    with self.log.capturing():
                        tick = run.send(turn)
                    turn = yield tick
        except (ConfigError, DataError) as error:
            self.abandon(error)
            raise
        except (Stopped, Preempted) as error:
            self.log.say(str(error))
            raise
        except BaseException as error:
            self.interrupted(error)
            raise
        finally:
            run.close()
            self.log.close()

    def _run(self) -> Generator[Tick, Turn | None, None]:
        dataset, held_out = self.scene.data(self.experiment)
        ticks = self._begin(dataset, held_out)
        change: Change | None = None
        tick: Tick | None = None
        with suppress(StopIteration):
            while True:
                tick = ticks.send(change)
                self._store(tick, held_out)
                turn = yield tick
                self._heed(tick, turn)
                change = self._told(turn)
        assert tick is not None
        self.outcome = self._seal(tick, dataset)

    def _begin(self, dataset: Dataset, held_out: Dataset) -> Generator[Tick, Change | None, None]:
        e = self.experiment
        evaluate, monitor = None, None
        if self.writer is not None:
            evaluator, probe = self.scene.judges(e)
            self.floor, monitor = evaluator.floor, Monitor(probe, e.health)
            ranks = f"{self.sync.world} ranks" if self.sync.world > 1 else "one rank"
            self.log.say(f"attempt {self.writer.attempt} of {e.name}, {ranks}, from step {self.writer.start}")
            evaluate = Announced(evaluator, self._doing)
        resume = self._start()
        return train(
            e.gan,
            dataset,
            e.train,
            seed=e.seed,
            device=self.device,
            sync=self.sync,
            evaluate=evaluate,
            monitor=monitor,
            conditions=held_out,
            start=weights(e, self.objects),
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

    def _start(self) -> dict[str, Any] | None:
        """The checkpoint that this attempt goes on from, the same one on every rank."""
        step = self.sync.agree(self.writer.start if self.writer is not None else 0)
        if step == 0:
            return None
        self.saved = step
        state = unpack(Run(self.objects, self.run_id).read_checkpoint(step))
        if self.record is not None:
            self.record.resume(state)
        return state

    def _heed(self, tick: Tick, turn: Turn | None) -> None:
        """Go away where any rank must, or is told to, with a checkpoint of this step. Raises Stopped, Preempted,
        Superseded."""
        if tick.ended is not None:
            return
        mine = "superseded" if self.superseded else self.notice()
        mine = mine or (self.writer.wish if self.writer is not None else "")
        mine = mine or (turn.leave if turn is not None else "")
        if not self.sync.any(bool(mine)):
            return
        why = self.sync.share(mine) or "preempted"
        if why == "superseded":
            raise self.superseded or Superseded(f"another attempt has taken run {self.run_id} over")
        state = tick.state() if tick.step > self.saved else None
        if self.record is not None:
            if state is not None:
                self.record.checkpoint(tick, state)
            self.record.writer.leave(why, **self.record.beat(tick))
        raise left(self.run_id, why, tick.step)

    def _store(self, tick: Tick, held_out: Dataset) -> None:
        """Metrics, heartbeat, samples and checkpoint of a tick. `tick.state()` is for all ranks."""
        due = tick.checkpoint and tick.ended != "diverged" and tick.step > self.saved
        state = tick.state() if due else None
        self.saved = tick.step if due else self.saved
        if self.record is None:
            return
        try:
            with self._doing("writing a checkpoint" if due else "writing"):
                self.record.tick(tick, held_out, state)
                if due and self.steered:
                    self.record.writer.drain()  # whoever hears of this tick may look for its checkpoint
        except Superseded as error:
            self.superseded = error  # the other ranks must hear of it before this one goes

    def _seal(self, tick: Tick, dataset: Dataset) -> Outcome:
        assert tick.ended is not None
        ignored = tick.verdict.healthy or self.experiment.train.on_collapse == "ignore"
        why = tick.ended if ignored or STATES.get(tick.ended) != "completed" else tick.verdict.kind
        state = STATES.get(why, "unhealthy")
        verdict = tick.verdict.document()
        reason = self.reason if state == "pruned" else ""
        figures = self.record.figures if self.record is not None else {}
        changes = self.record.changes if self.record is not None else []
        outcome = Outcome(self.run_id, state, tick.step, verdict, figures, self.floor, changes, reason)
        if self.writer is not None:
            end = {
                "ended": tick.ended,
                "verdict": tick.verdict.kind,
                "evidence": verdict["evidence"],
                "remedy": verdict["remedy"],
                "figures": figures,
                "floor": self.floor,
                "changes": changes,
                "reason": reason,
                "spec": spec_document(dataset.spec),
                "data": {"fingerprint": dataset.fingerprint(), "skipped": vars(dataset.skipped)},
                "seconds": tick.seconds,
                "images": tick.images,
            }
            self.writer.seal(state, end)
            self.log.say(f"{state} at step {tick.step}: {reason or why}")
        return outcome

    def abandon(self, error: Exception) -> None:
        """Seal the run as failed, with the reason a person needs."""
        self.log.say(trace_of(error))
        if self.writer is not None:
            self.writer.seal("failed", {"error": str(error)})

    def interrupted(self, error: BaseException) -> None:
        """Leave the run resumable, with what stopped it in its heartbeat."""
        trace = trace_of(error)
        self.log.say(trace)
        if self.writer is None:
            return
        said = str(error) if isinstance(error, GanctlError) else repr(error)
        with suppress(StoreError):  # `error` says it already, where the store is what failed
            self.writer.leave("interrupted", error=said, traceback=trace[-4000:])


def _listed(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value:.4g}" for name, value in fields.items())
