"""Renders what is known at the moment of a scrape, so that a feature or a model that leaves disappears with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from inferwatch._version import __version__
from inferwatch.clock import NS_PER_S
from inferwatch.events import Service
from inferwatch.finding import FeatureFinding
from inferwatch.payload_log.ledger import Ledger
from inferwatch.status import DetectorStatus

TOP_FEATURES = 5
"""Features of a detector that get a series although they are not in alarm: those with the highest scores."""

MOST_FEATURE_SERIES = 20_000
MODEL = ("model_namespace", "model_name", "model_endpoint", "model_version")
DETECTOR = (*MODEL, "detector")

Sample = tuple[Sequence[str], float]


@dataclass(frozen=True, slots=True)
class ReferenceInfo:
    """What is exported of a model's reference."""

    service: Service
    reference_id: str
    created_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class AccountCollector(Collector):
    """Collects which part of what version runs, and the ledger of the events that came over a transport."""

    component: str
    transport: str
    ledger: Callable[[], Ledger]

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family."""
        yield _gauge(
            "build_info", "The running version.", ("version", "component"), [((__version__, self.component), 1)]
        )
        yield from _account(self.ledger(), self.transport)


@dataclass(frozen=True, slots=True, eq=False)
class SnapshotCollector(Collector):
    """Collects the ledger, the store's size, and where every detector stands, from the callables it is given.

    `store` returns the rows and the bytes of the payload log, `queue` the bytes that wait for it and how many may.
    """

    component: str
    ledger: Callable[[], Ledger]
    store: Callable[[], tuple[int, int]]
    statuses: Callable[[], Sequence[DetectorStatus]]
    references: Sequence[ReferenceInfo]
    most_feature_series: int = MOST_FEATURE_SERIES
    queue: Callable[[], tuple[int, int]] = lambda: (0, 0)
    transport: str = "http"

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family."""
        yield from AccountCollector(self.component, self.transport, self.ledger).collect()
        rows, size_bytes = self.store()
        yield _gauge("store_rows", "Rows in the payload log.", (), [((), rows)])
        yield _gauge("store_bytes", "Bytes of the payload log.", (), [((), size_bytes)])
        waiting_bytes, capacity_bytes = self.queue()
        yield _gauge("ingest_queue_bytes", "Bytes of events that wait for their commit.", (), [((), waiting_bytes)])
        yield _gauge("ingest_queue_capacity_bytes", "Bytes that may wait.", (), [((), capacity_bytes)])
        yield from self._references()
        statuses = self.statuses()
        yield from _detectors(statuses)
        yield from _drift([status for status in statuses if status.kind == "drift"])
        yield from self._features(statuses)
        yield from _instances([status for status in statuses if not status.windowed])

    def _references(self) -> Iterator[Metric]:
        info = InfoMetricFamily("inferwatch_model", "The models that are watched.", labels=MODEL)
        for reference in self.references:
            info.add_metric((*reference.service, "", ""), {"reference_id": reference.reference_id})
        yield info
        yield _gauge(
            "reference_created_timestamp_seconds",
            "When the reference was made.",
            MODEL,
            [((*reference.service, "", ""), reference.created_ns / NS_PER_S) for reference in self.references],
        )

    def _features(self, statuses: Sequence[DetectorStatus]) -> Iterator[Metric]:
        """Yield series for features in alarm first, then for the highest scores, within the cap."""
        chosen = [(status, feature) for status in statuses for feature in _worth_a_series(status)]
        chosen.sort(key=lambda pair: not pair[1].fired)
        kept, left = chosen[: self.most_feature_series], chosen[self.most_feature_series :]
        yield _gauge(
            "feature_drift_score",
            "Score of a feature in the newest window, on the scale of the detector's threshold.",
            (*DETECTOR, "statistic", "feature"),
            [((*_place(status), status.method, feature.name), feature.score) for status, feature in kept],
        )
        suppressed = sum(feature.fired for _, feature in left)
        yield _gauge("feature_series_suppressed", "Features in alarm that the cap keeps out.", (), [((), suppressed)])


def label(text: str) -> str:
    """Return a text that may stand as a label's value: at most 256 characters, none of them a control character."""
    return "".join(character if character.isprintable() else " " for character in text[:256])


def _account(ledger: Ledger, transport: str) -> Iterator[Metric]:
    payloads = {(outcome, role): 0 for outcome in ("stored", "duplicate") for role in ("request", "response")}
    payloads |= ledger.payloads
    for outcome, count in (("stored", ledger.stored), ("duplicate", ledger.duplicate)):
        if uncounted := count - sum(part for (kind, _), part in payloads.items() if kind == outcome):
            payloads[outcome, "payload"] = uncounted
    received = [
        *(((transport, role, outcome), count) for (outcome, role), count in payloads.items()),
        *(((transport, kind, "ignored"), count) for kind, count in ledger.ignored.items()),
        ((transport, "unknown", "malformed"), sum(ledger.malformed.values())),
        ((transport, "unknown", "refused"), sum(ledger.refused.values())),
    ]
    yield _counter(
        "events_received", "Events that came in, by what became of them.", ("transport", "type", "outcome"), received
    )
    yield _counter(
        "events_clamped",
        "Events whose time was more than 5 minutes ahead of their arrival, which then stands for it.",
        (),
        [((), ledger.clamped)],
    )
    dead = [((reason,), count) for reason, count in ledger.malformed.items()]
    yield _counter("dead_letter_events", "Malformed events kept in the dead letter, by reason.", ("reason",), dead)


def _detectors(statuses: Sequence[DetectorStatus]) -> Iterator[Metric]:
    runs = [
        ((*_place(status), outcome), count)
        for status in statuses
        for outcome, count in (("success", status.windows), ("error", status.failures))
    ]
    yield _counter(
        "detector_runs", "Runs of a detector: windows judged, or batches of rows.", (*DETECTOR, "outcome"), runs
    )
    yield _gauge(
        "detector_last_success_timestamp_seconds",
        "Event time of the newest row that the detector judged.",
        DETECTOR,
        [(_place(status), status.last_run_ns / NS_PER_S) for status in statuses if status.last_run_ns is not None],
    )
    late = [(_place(status), status.late) for status in statuses if status.windowed]
    yield _counter("detector_late_rows", "Rows that came when their window was closed.", DETECTOR, late)
    unfit = [(_place(status), status.unfit) for status in statuses]
    yield _counter("detector_unfit_rows", "Rows of another width or of other columns, judged by none.", DETECTOR, unfit)
    windowed = [(status, status.window_rows) for status in statuses if status.window_rows is not None]
    yield _gauge(
        "detector_window_samples",
        "Rows that the open window holds.",
        DETECTOR,
        [(_place(status), max(0, rows - (status.needs_rows or 0))) for status, rows in windowed],
    )
    yield _gauge(
        "detector_window_min_samples",
        "Rows that a window needs.",
        DETECTOR,
        [(_place(status), rows) for status, rows in windowed],
    )


def _drift(statuses: Sequence[DetectorStatus]) -> Iterator[Metric]:
    judged = [(status, status.newest) for status in statuses if status.newest is not None]
    statistic = (*DETECTOR, "statistic")
    yield _gauge(
        "drift_score",
        "Score of the newest window; above the threshold it is an alarm.",
        statistic,
        [((*_place(status), status.method), newest.score) for status, newest in judged],
    )
    yield _gauge(
        "drift_threshold",
        "Threshold that keeps the promised rate of false alarms.",
        statistic,
        [((*_place(status), status.method), newest.threshold) for status, newest in judged],
    )
    yield _gauge(
        "drift_p_value",
        "p-value of the newest window, corrected for the number of features.",
        statistic,
        [((*_place(status), status.method), newest.p_value) for status, newest in judged if newest.p_value is not None],
    )
    yield _gauge(
        "drift_detected",
        "1 while the newest window is in alarm.",
        DETECTOR,
        [(_place(status), status.state == "alarm") for status, _ in judged],
    )
    yield _gauge(
        "features_monitored",
        "Features that the detector judges.",
        DETECTOR,
        [(_place(status), len(newest.features)) for status, newest in judged],
    )
    yield _gauge(
        "features_drifted",
        "Features that changed in the newest window.",
        DETECTOR,
        [(_place(status), sum(feature.fired for feature in newest.features)) for status, newest in judged],
    )


def _instances(statuses: Sequence[DetectorStatus]) -> Iterator[Metric]:
    names = (*DETECTOR, "kind")
    yield _counter(
        "instances_scored",
        "Rows that were judged one by one.",
        names,
        [((*_place(s), s.kind), s.scored) for s in statuses],
    )
    yield _counter(
        "instances_flagged", "Rows that were flagged.", names, [((*_place(s), s.kind), s.flagged) for s in statuses]
    )


def _worth_a_series(status: DetectorStatus) -> list[FeatureFinding]:
    features = status.newest.features if status.newest else ()
    return [feature for rank, feature in enumerate(features) if feature.fired or rank < TOP_FEATURES]


def _place(status: DetectorStatus) -> tuple[str, ...]:
    return status.namespace, status.name, status.endpoint, "", status.detector


def _gauge(name: str, what: str, labels: Sequence[str], samples: Iterable[Sample]) -> Metric:
    family = GaugeMetricFamily(f"inferwatch_{name}", what, labels=labels)
    for values, number in samples:
        family.add_metric([label(value) for value in values], float(number))
    return family


def _counter(name: str, what: str, labels: Sequence[str], samples: Iterable[Sample]) -> Metric:
    family = CounterMetricFamily(f"inferwatch_{name}", what, labels=labels)
    for values, number in samples:
        family.add_metric([label(value) for value in values], float(number))
    return family
