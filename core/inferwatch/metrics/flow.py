"""Counters and histograms of the events and detector runs that pass."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from inferwatch.clock import NS_PER_S, Clock, parse_time
from inferwatch.events import CloudEvent
from inferwatch.metrics.ages import AgeCollector
from inferwatch.pipeline import Item
from inferwatch.wire.decode import PROTOCOLS


class FlowMetrics:
    """Watches a pipeline and the runs of its detectors. Each instance registers with the registry it is given."""

    def __init__(self, registry: CollectorRegistry, clock: Clock) -> None:
        self._clock = clock
        self._ages = AgeCollector()
        registry.register(self._ages)
        self._decoded = Counter(
            "inferwatch_events_decoded_total",
            "Events that were stored, by the protocol of their body; `unknown` are those that nobody can decode.",
            ["protocol"],
            registry=registry,
        )
        self._excluded = Counter(
            "inferwatch_events_excluded_total",
            "Events that are stored and not judged, by reason.",
            ["reason"],
            registry=registry,
        )
        self._pairs = Counter(
            "inferwatch_pairs_total",
            "Requests and responses: paired in time, alone when the time for it had passed, paired late.",
            ["outcome"],
            registry=registry,
        )
        self._uneven = Counter(
            "inferwatch_pairs_uneven_total",
            "Pairs whose request and response have different numbers of rows.",
            registry=registry,
        )
        self._pending = Gauge(
            "inferwatch_pairs_pending", "Halves that may still find their other half.", registry=registry
        )
        self._duration = Histogram(
            "inferwatch_detector_run_duration_seconds",
            "Seconds of one run of a detector.",
            ["detector_type"],
            registry=registry,
        )
        for protocol in PROTOCOLS:
            self._decoded.labels(protocol)
        for reason in ("explain", "health", "rule"):
            self._excluded.labels(reason)
        for outcome in ("paired", "request_only", "response_only", "late"):
            self._pairs.labels(outcome)

    def processed(self, items: Sequence[Item], joins: Mapping[str, int], pending: int) -> None:
        """Count events that were joined, the halves that had each outcome, and the pairs that are `uneven`."""
        now_ns = self._clock.now_ns()
        queued = (_queued_ns(item.event) for item in items)
        self._ages.observe("agent", [queued_ns / NS_PER_S for queued_ns in queued if queued_ns is not None])
        self._ages.observe("ingest", [(item.arrival_ns - item.time_ns) / NS_PER_S for item in items])
        self._ages.observe("detect", [(now_ns - item.time_ns) / NS_PER_S for item in items])
        for protocol, count in Tally(item.decoded.protocol for item in items).items():
            self._decoded.labels(protocol).inc(count)
        for reason, count in Tally(item.excluded for item in items if item.excluded is not None).items():
            self._excluded.labels(reason).inc(count)
        for outcome, count in joins.items():
            (self._uneven if outcome == "uneven" else self._pairs.labels(outcome)).inc(count)
        self._pending.set(pending)

    def ran(self, method: str, seconds: float) -> None:
        """Count one run of a detector's method."""
        self._duration.labels(method).observe(seconds)


def _queued_ns(event: CloudEvent) -> int | None:
    """Return how long KServe's agent had the event in its queue, where both of its times are there."""
    recorded = event.extensions.get("recordedtime")
    if recorded is None or event.time_ns is None:
        return None
    try:
        return parse_time(recorded) - event.time_ns
    except ValueError:
        return None
