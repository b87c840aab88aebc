"""Feature extractors cached in the store by content, so that a data set's classifier is trained once."""

import contextlib

from orchestrator.errors import AlreadyExists, NotFound
from orchestrator.store.objects import Objects


class StoreCache:
    """`gans.metrics.Cache` under `cache/` of a store. Of two that compute the same entry, one is kept."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects

    def get(self, key: str) -> bytes | None:
        try:
            return self.objects.get(f"cache/{key}")
        except NotFound:
            return None

    def put(self, key: str, data: bytes) -> None:
        with contextlib.suppress(AlreadyExists):
            self.objects.create(f"cache/{key}", data)
