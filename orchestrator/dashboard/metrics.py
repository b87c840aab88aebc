"""What the library knows, as Prometheus scrapes it: `GET /metrics`, with the token as bearer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orchestrator.dashboard.alarms import rules_of
from orchestrator.dashboard.library import Library
from orchestrator.dashboard.replies import from_memory

MOST = 100  # runs under way that have series of their own, the newest: each label is a series for ever
UNDER_WAY = ("running", "queued", "paused")
OF_A_RUN = {
    "fid": "Newest FID of a run under way.",
    "coverage": "Newest coverage of a run under way.",
    "step": "Step of a run under way.",
    "images_per_second": "Images a second of a run under way.",
}


@from_memory
def metrics(request: Request) -> Response:
    """GET /metrics: runs by state and verdict, alarms by rule, figures of runs under way; whether the store answers."""
    library: Library = request.app.state.library
    library.wanted()
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Told(library.rows(), library.stale, library.seen))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


class Told(Collector):
    """The metrics of the runs in `rows`; `stale` says why they may be old, `seen` when the store last answered."""

    def __init__(self, rows: Iterable[Mapping[str, Any]], stale: str, seen: float) -> None:
        self._rows, self._stale, self._seen = list(rows), stale, seen

    def collect(self) -> Iterator[Metric]:
        """Every metric; called by the registry."""
        yield self._counted(
            "ganctl_runs",
            "Runs in the store.",
            ("state", "verdict"),
            ((str(row["state"]), str(row.get("verdict") or "unknown")) for row in self._rows),
        )
        yield self._counted(
            "ganctl_alarms",
            "Alarms that runs raise, those of trials left out.",
            ("rule",),
            ((rule,) for row in self._rows if not row.get("sweep") for rule in rules_of(row)),
        )
        yield from self._figures()
        up = GaugeMetricFamily("ganctl_store_up", "Whether the store answered the last look.")
        up.add_metric([], 0.0 if self._stale else 1.0)
        yield up
        seen = GaugeMetricFamily("ganctl_store_seen_timestamp_seconds", "When the store last answered.")
        seen.add_metric([], self._seen)
        yield seen

    def _figures(self) -> Iterator[Metric]:
        newest = [row for row in self._rows if row["state"] in UNDER_WAY][:MOST]
        for name, says in OF_A_RUN.items():
            family = GaugeMetricFamily(f"ganctl_run_{name}", says, labels=("run", "name", "family", "sweep"))
            for row in newest:
                value = row.get(name, row.get("metrics", {}).get(name))
                if value is not None:
                    labels = (str(row[key] or "") for key in ("id", "name", "family", "sweep"))
                    family.add_metric(list(labels), float(value))
            yield family

    @staticmethod
    def _counted(name: str, says: str, labels: tuple[str, ...], found: Iterable[tuple[str, ...]]) -> Metric:
        family = GaugeMetricFamily(name, says, labels=labels)
        for values, num in sorted(Counter(found).items()):
            family.add_metric(list(values), num)
        return family


routes = [Route("/metrics", metrics)]
