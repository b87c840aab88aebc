"""Runs in a store: `RunWriter` writes one attempt, `Run` reads one run, `Catalogue` finds them all."""

from orchestrator.store.catalogue import Catalogue
from orchestrator.store.reader import Run
from orchestrator.store.writer import RunWriter

__all__ = ["Catalogue", "Run", "RunWriter"]
