"""What passes through a sidecar, counted for its metrics: the size of events, and how long sinks take."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

from inferwatch.events import CloudEvent, Role

if TYPE_CHECKING:
    from inferwatch.protocols import Sink

_SIZES: Final = (128, 1024, 8192, 65_536, 524_288, 1_048_576, 16_777_216)
_SECONDS: Final = (0.005, 0.025, 0.1, 0.25, 1.0, 5.0)
_TYPES: Final = ("request", "response")


class Histogram:
    """Counts values by buckets, at a fraction of the cost of prometheus_client's, which locks."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.sum = 0.0
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)

    def observe(self, value: float) -> None:
        """Count a value."""
        self.sum += value
        self._counts[bisect_left(self._bounds, value)] += 1

    def cumulative(self) -> list[tuple[str, float]]:
        """Return each bound with the number of values up to it."""
        total = 0
        found: list[tuple[str, float]] = []
        for bound, count in zip((*self._bounds, float("inf")), self._counts, strict=True):
            total += count
            found.append(("+Inf" if bound == float("inf") else str(float(bound)), total))
        return found


class Traffic:
    """Counts events on their way to delivery."""

    def __init__(self, emit: Callable[[CloudEvent], None]) -> None:
        self._emit = emit
        self._sizes = tuple(Histogram(_SIZES) for _ in _TYPES)
        self._truncated = [0, 0]

    def __call__(self, event: CloudEvent) -> None:
        """Count the event and pass it on."""
        role = event.role or Role.REQUEST
        self._sizes[role].observe(len(event.data))
        self._truncated[role] += event.truncated
        self._emit(event)

    def metrics(self) -> Sequence[Metric]:
        """Return the size of payloads as captured, and how many were cut."""
        sizes = HistogramMetricFamily(
            "inferwatch_logger_payload_bytes", "Bytes of a captured payload.", labels=("type",)
        )
        truncated = CounterMetricFamily(
            "inferwatch_logger_payload_truncated", "Payloads that were cut at `max_body_bytes`.", labels=("type",)
        )
        for role, name in enumerate(_TYPES):
            sizes.add_metric((name,), self._sizes[role].cumulative(), self._sizes[role].sum)
            truncated.add_metric((name,), self._truncated[role])
        return sizes, truncated


class TimedSink:
    """Delivers to another sink, and notes how long that took."""

    def __init__(self, sink: Sink) -> None:
        self.url = str(getattr(sink, "url", type(sink).__name__))
        self.durations = {"success": Histogram(_SECONDS), "failure": Histogram(_SECONDS)}
        self._sink = sink

    async def send(self, events: Sequence[CloudEvent], /) -> None:
        """Deliver the events, as the sink does."""
        began = perf_counter()
        outcome = "failure"
        try:
            await self._sink.send(events)
            outcome = "success"
        finally:
            self.durations[outcome].observe(perf_counter() - began)

    async def aclose(self) -> None:
        """Close the sink."""
        await self._sink.aclose()


def durations(sinks: Sequence[TimedSink]) -> Metric:
    """Return how long deliveries took, by the kind of sink: the scheme of its URL."""
    family = HistogramMetricFamily(
        "inferwatch_logger_delivery_duration_seconds",
        "Seconds of one delivery to a sink, of one or several events.",
        labels=("sink", "outcome"),
    )
    for kind in sorted({_kind(sink) for sink in sinks}):
        for outcome in ("success", "failure"):
            several = [sink.durations[outcome] for sink in sinks if _kind(sink) == kind]
            family.add_metric((kind, outcome), *_together(several))
    return family


def _kind(sink: TimedSink) -> str:
    return "kafka" if sink.url.startswith("kafka:") else "http"


def _together(several: Sequence[Histogram]) -> tuple[list[tuple[str, float]], float]:
    columns = zip(*(one.cumulative() for one in several), strict=True)
    return [(column[0][0], sum(count for _, count in column)) for column in columns], sum(one.sum for one in several)
