"""What Prometheus sees of capture, in a model server and in the sidecar alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Final
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from inferwatch.delivery.delivery import Delivery
from inferwatch_logger.recorder import Recorder
from inferwatch_logger.tallies import TYPES, Histogram
from inferwatch_logger.timed_sink import TimedSink

_PREFIX: Final = "inferwatch_logger"
_WHOSE: Final = ("model_namespace", "model_name", "sink")
_OUTCOMES: Final = ("success", "failure")


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """One recorder and its delivery."""

    recorder: Recorder
    delivery: Delivery

    def model(self) -> tuple[str, str]:
        """Return namespace and name of the served model; no name where paths name it."""
        capture = self.recorder.capture
        return capture.attributes["namespace"], "" if capture.by_path else capture.attributes["inferenceservicename"]


class CaptureCollector(Collector):
    """Collects the metrics of all its sources; those with the same labels are summed."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = list(sources)

    def describe(self) -> Iterable[Metric]:
        """Return no names: that there are none twice is seen to by there being one collector a registry."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family."""
        yield from self._accounts()
        yield from self._room()
        yield from self._payloads()
        yield from self._sampling()
        yield _durations([sink for source in self.sources for sink in source.delivery.sinks])
        errors = sum(source.recorder.guarded.errors for source in self.sources)
        yield CounterMetricFamily(
            f"{_PREFIX}_errors", "Steps of capture that failed; the request was served.", value=errors
        )

    def _accounts(self) -> Iterator[Metric]:
        captured, delivered, dropped = _Sum(), _Sum(), _Sum()
        spooled, in_flight = _Sum(), _Sum()
        for source in self.sources:
            for sink, account in source.delivery.accounts().items():
                whose = (*source.model(), sink)
                captured.add(whose, account.captured)
                delivered.add(whose, account.delivered)
                for reason, count in account.dropped.items():
                    dropped.add((*whose, reason), count)
                spooled.add((sink,), account.queued)
                in_flight.add((sink,), account.in_flight)
        yield captured.counter("captured", "Events to be delivered to a sink.", _WHOSE)
        yield delivered.counter("delivered", "Events that a sink took.", _WHOSE)
        yield dropped.counter("dropped", "Events that a sink will never have, by reason.", (*_WHOSE, "reason"))
        yield spooled.gauge("spooled_events", "Events that wait for a sink.", ("sink",))
        yield in_flight.gauge("in_flight_events", "Events sent to a sink and not acknowledged.", ("sink",))

    def _room(self) -> Iterator[Metric]:
        taken = [source.delivery.fill() for source in self.sources]
        for name, words, value in (
            ("queue_bytes", "Bytes that undelivered events take.", sum(used for used, _ in taken)),
            ("queue_capacity_bytes", "Bytes that they may take.", sum(room for _, room in taken)),
            (
                "spool_failures",
                "Queue files that could not be made, so that events wait in memory.",
                sum(source.delivery.spool_fault is not None for source in self.sources),
            ),
        ):
            yield GaugeMetricFamily(f"{_PREFIX}_{name}", words, value=value)

    def _payloads(self) -> Iterator[Metric]:
        tallies = [source.recorder.tallies for source in self.sources]
        sizes = HistogramMetricFamily(f"{_PREFIX}_payload_bytes", "Bytes of a captured payload.", labels=("type",))
        truncated, withheld = _Sum(), _Sum()
        for role, name in enumerate(TYPES):
            sizes.add_metric((name,), *_together([each.sizes[role] for each in tallies]))
            truncated.add((name,), sum(each.truncated[role] for each in tallies))
            withheld.add((name,), sum(each.withheld[role] for each in tallies))
        yield sizes
        yield truncated.counter("payload_truncated", "Payloads that were cut at `max_body_bytes`.", ("type",))
        words = "Payloads whose body was withheld, as it could not be searched for what is to be redacted."
        yield withheld.counter("payload_withheld", words, ("type",))

    def _sampling(self) -> Iterator[Metric]:
        tallies = [source.recorder.tallies for source in self.sources]
        for name, words, value in (
            ("sampled_out", "Requests that sampling left out.", sum(each.sampled_out for each in tallies)),
            (
                "sampled_by_chance",
                "Requests that had no value that sampling goes by.",
                sum(each.sampled_by_chance for each in tallies),
            ),
        ):
            yield CounterMetricFamily(f"{_PREFIX}_{name}", words, value=value)


def register(registry: CollectorRegistry | bool, recorder: Recorder, delivery: Delivery) -> None:
    """Let a registry, the default one where True, have the metrics of a recorder and its delivery."""
    where = REGISTRY if isinstance(registry, bool) else registry
    with _lock:
        collector = _collectors.get(where)
        if collector is None:
            collector = _collectors[where] = CaptureCollector([Source(recorder, delivery)])
            where.register(collector)
        else:
            collector.sources.append(Source(recorder, delivery))


_lock = Lock()
_collectors: WeakKeyDictionary[CollectorRegistry, CaptureCollector] = WeakKeyDictionary()


class _Sum:
    """Values by their labels; equal labels are summed."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, ...], float] = {}

    def add(self, labels: tuple[str, ...], value: float) -> None:
        self._values[labels] = self._values.get(labels, 0) + value

    def counter(self, name: str, words: str, labels: Sequence[str]) -> Metric:
        return self._filled(CounterMetricFamily(f"{_PREFIX}_{name}", words, labels=labels))

    def gauge(self, name: str, words: str, labels: Sequence[str]) -> Metric:
        return self._filled(GaugeMetricFamily(f"{_PREFIX}_{name}", words, labels=labels))

    def _filled(self, family: CounterMetricFamily | GaugeMetricFamily) -> Metric:
        for labels, value in self._values.items():
            family.add_metric(labels, value)
        return family


def _durations(sinks: Sequence[object]) -> Metric:
    """Return how long deliveries took, by the kind of sink: the scheme of its URL."""
    family = HistogramMetricFamily(
        f"{_PREFIX}_delivery_duration_seconds",
        "Seconds of one delivery to a sink, of one or several events.",
        labels=("sink", "outcome"),
    )
    timed = [sink for sink in sinks if isinstance(sink, TimedSink)]
    for kind in sorted({sink.kind for sink in timed}):
        for outcome in _OUTCOMES:
            several = [sink.durations[outcome] for sink in timed if sink.kind == kind]
            family.add_metric((kind, outcome), *_together(several))
    return family


def _together(several: Sequence[Histogram]) -> tuple[list[tuple[str, float]], float]:
    columns = zip(*(one.cumulative() for one in several), strict=True)
    return [(column[0][0], sum(count for _, count in column)) for column in columns], sum(one.sum for one in several)
