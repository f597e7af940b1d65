"""Numbers for Prometheus; none of them says what was asked or heard."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1200.0)


class Metrics:
    """Of one server; several servers in one process do not share them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "moss_agent_requests_total", "Requests answered.", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "moss_agent_request_seconds", "From a request to the end of its answer.", ["route"],
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self.first_part = Histogram(
            "moss_agent_first_part_seconds", "From a chat request's turn to the first part of its answer.",
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self.tokens = Counter(
            "moss_agent_tokens_total", "Tokens read and written by chat.", ["kind"], registry=self.registry
        )
        self.audio = Counter(
            "moss_agent_transcribed_seconds_total", "Seconds of audio transcribed.", registry=self.registry
        )

    def watch(self, gauges: Callable[[], dict[str, tuple[str, float]]]) -> None:
        """Show numbers that are read when they are asked for: name to description and value."""
        self.registry.register(_Watched(gauges))

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)


class _Watched:
    def __init__(self, gauges: Callable[[], dict[str, tuple[str, float]]]) -> None:
        self._gauges = gauges

    def collect(self) -> Iterable[Metric]:
        for name, (description, value) in self._gauges().items():
            yield GaugeMetricFamily(name, description, value)
