"""One run, as it is read, whether it is under way, lost or sealed."""

import time

import pyarrow as pa

from orchestrator.errors import NotFound
from orchestrator.store import attempts, checkpoints, documents, segments
from orchestrator.store.attempts import Starts
from orchestrator.store.documents import Document
from orchestrator.store.ids import check_id
from orchestrator.store.layout import live_key, run_key, sample_step
from orchestrator.store.metrics import from_parquet, merge
from orchestrator.store.objects import Objects
from orchestrator.store.writer import no_run

LOST_AFTER = 60.0  # seconds without a heartbeat


class Run:
    """What is known of run `id`. Every call reads the store anew. Raises NotFound for what is not an id."""

    def __init__(self, objects: Objects, run_id: str) -> None:
        self.objects = objects
        self.id = check_id(run_id)

    def document(self) -> Document:
        """run.json: what was asked for. Raises NotFound when there is no such run."""
        document = self._read(run_key(self.id, "run.json"))
        if document is None:
            raise no_run(self.objects, self.id)
        return document

    def sealed(self) -> Document | None:
        """sealed.json: how the run ended; None while it has not."""
        return self._read(run_key(self.id, "sealed.json"))

    def live(self) -> Document | None:
        """The newest heartbeat; None once the run is sealed."""
        return self._read(live_key(self.id))

    def state(self) -> str:
        """The state it was sealed with; else that of its heartbeat (`queued`, `running`, `interrupted`, `stopped`,
        `preempted`), or `lost` when one that runs has not been heard of for a minute."""
        sealed = self.sealed()
        if sealed is not None:
            return str(sealed["state"])
        live = self.live()
        if live is None:
            self.document()
        return state_of(live)

    def metrics(self) -> pa.Table:
        """All parts under one schema, by step; where attempts overlap the later one wins.

        Where housekeeping took the parts, the same table from the segment that they were merged into. Raises NotFound.
        """
        folder = run_key(self.id, "m")
        sealed = self.sealed()
        keys = (
            self.objects.list(folder) if sealed is None else [f"{folder}/{name}" for name in sealed["parts"]]
        )
        parts = self.objects.get_many(keys)
        missing = [key for key in keys if key not in parts]
        if missing:
            try:
                return segments.curve(self.objects, self.id)
            except NotFound:
                lacks = f"run {self.id} in {self.objects.url} lacks metric parts: {', '.join(missing)}"
                raise NotFound(lacks) from None
        return merge([from_parquet(data) for data in parts.values()], self._begun(sealed))

    def samples(self) -> list[tuple[int, str]]:
        """(step, key) of every sample grid, by step."""
        return [(sample_step(key), key) for key in self.objects.list(run_key(self.id, "samples"))]

    def checkpoints(self) -> list[tuple[int, int]]:
        """(step, attempt) of the finished checkpoints, oldest first."""
        return checkpoints.committed(self.objects, self.id, self._begun(self.sealed()))

    def best_checkpoint(self) -> tuple[int, int] | None:
        """The checkpoint with the lowest FID; None where none was evaluated."""
        return checkpoints.best(self.objects, self.id, self.checkpoints())

    def read_checkpoint(self, step: int | None = None) -> dict[str, bytes]:
        """The files of the newest finished checkpoint, or of that at `step`, verified. Raises NotFound."""
        return checkpoints.read(self.objects, self.id, self._begun(self.sealed()), step)

    def _begun(self, sealed: Document | None) -> Starts:
        """Where each attempt started; of a sealed run, those that were known to the one that sealed it."""
        return attempts.starts(self.objects, self.id) if sealed is None else list(sealed["from"])

    def _read(self, key: str) -> Document | None:
        try:
            return documents.decode(self.objects.get(key))
        except NotFound:
            return None


def state_of(live: Document | None) -> str:
    """The state of a run that is not sealed, from its heartbeat."""
    if live is None:
        return "lost"
    state = str(live.get("state", "running"))
    fresh = state != "running" or time.time() - live["time"] <= LOST_AFTER
    return state if fresh else "lost"
