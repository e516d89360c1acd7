"""Numbers for Prometheus: requests as they come, jobs as the store has them when it is asked."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from pinetune.store import STATES, Store

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """A registry of its own: two applications in one process do not meet."""

    def __init__(self, store: Store) -> None:
        self._registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self._requests = Counter("pinetune_requests", "HTTP requests answered", labels, registry=self._registry)
        self._seconds = Histogram(
            "pinetune_request_seconds", "Time to the end of the reply", ("route",), buckets=SECONDS, registry=self._registry
        )
        self._registry.register(_Stored(store))

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """`route` is the route's pattern, never the path: the number of series must not grow with the number of objects."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        return generate_latest(self._registry)


class _Stored:
    """Read at each scrape."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def collect(self) -> Iterable[Metric]:
        counts = self._store.jobs.counts()
        jobs = GaugeMetricFamily("pinetune_jobs", "Fine-tuning jobs by state", labels=["status"])
        for status in STATES:
            jobs.add_metric([status], counts.get(status, 0))
        waiting = counts.get("validating_files", 0) + counts.get("queued", 0)
        yield jobs
        yield GaugeMetricFamily("pinetune_queue_jobs", "Fine-tuning jobs that wait for a worker or are being validated", value=waiting)
        yield GaugeMetricFamily("pinetune_job_events", "Events of all fine-tuning jobs together", value=self._store.events.count())

    def describe(self) -> Iterable[Metric]:
        return []
