"""What operators watch, in Prometheus' text form.

Figures of the runtime are read when they are asked for: counting costs the hot paths nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Buckets from a page of a timeline to a body that arrives slowly, in seconds.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)
_METHODS = frozenset({"GET", "HEAD", "POST", "PATCH", "DELETE", "PUT", "OPTIONS"})
_STREAMS = frozenset({"followSession", "followSessions"})

Gauges = Callable[[], dict[str, tuple[str, float]]]


class Metrics:
    """Counts requests and shows the runtime's figures.

    Args:
        gauges: Returns name, description and value of what there is now.
        counters: Returns the same of what only grows.
    """

    def __init__(self, gauges: Gauges, counters: Gauges) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Figures(gauges, counters))
        self._requests = Counter(
            "capsule_http_requests", "Requests that were answered.",
            ("method", "operation", "status"), registry=self._registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "capsule_http_request_seconds", "How long requests took, without event streams.",
            ("operation",), buckets=_BUCKETS, registry=self._registry,
        )  # fmt: skip

    def request(self, method: str, operation: str, status: int, seconds: float) -> None:
        """Count a request.

        Args:
            method: Its method.
            operation: What it asked for; empty: nothing that there is.
            status: What was answered; 0: the client had gone.
            seconds: How long it took.
        """
        known = method if method in _METHODS else "other"
        self._requests.labels(known, operation, str(status)).inc()
        if operation not in _STREAMS:
            self._seconds.labels(operation).observe(seconds)

    def text(self) -> bytes:
        """Return all of it."""
        return generate_latest(self._registry)


class _Figures(Collector):
    def __init__(self, gauges: Gauges, counters: Gauges) -> None:
        self._gauges = gauges
        self._counters = counters

    def collect(self) -> Iterator[Metric]:
        for name, (description, value) in self._gauges().items():
            yield GaugeMetricFamily(f"capsule_{name}", description, value)
        for name, (description, value) in self._counters().items():
            yield CounterMetricFamily(f"capsule_{name}", description, value)
