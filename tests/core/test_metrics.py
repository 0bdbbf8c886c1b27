"""Prometheus sees what is, under the names of the public contract, with bounded labels."""

from __future__ import annotations

from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from inferwatch.clock import NS_PER_S, ManualClock
from inferwatch.events import Role, Service, Stream
from inferwatch.finding import FeatureFinding, Finding, Window
from inferwatch.metrics import FlowMetrics, ReferenceInfo, SnapshotCollector
from inferwatch.metrics.snapshot import TOP_FEATURES
from inferwatch.payload_log.ledger import Ledger
from inferwatch.pipeline import Item
from inferwatch.status import DetectorStatus
from inferwatch.wire.decode import decode
from tests.inferences import NOON, request, response

M = {"model_namespace": "default", "model_name": "income", "model_endpoint": "default", "model_version": ""}
INPUTS = {**M, "detector": "inputs"}
HISTOGRAM = {**INPUTS, "statistic": "histogram"}
ROWS = {**M, "detector": "rows"}
STREAM = Stream("default", "income", "predictor", "default")


def feature(name: str, score: float, *, fired: bool = False) -> FeatureFinding:
    return FeatureFinding(name, score, 1.0, 0.5, fired=fired)


def drift(*features: FeatureFinding, score: float = 4.0) -> Finding:
    return Finding("drift", "histogram", score, 3.0, NOON, Window(NOON, NOON, 500), p_value=1e-4, features=features)


DRIFT = DetectorStatus(
    *STREAM,
    "inputs",
    "drift",
    "histogram",
    state="alarm",
    window_rows=500,
    needs_rows=120,
    last_run_ns=NOON,
    windows=7,
    failures=1,
    newest=drift(feature("age", 4.0, fired=True), feature("job", 0.5)),
)
OUTLIER = DetectorStatus(
    *STREAM,
    "rows",
    "outlier",
    "mahalanobis",
    state="ok",
    windowed=False,
    last_run_ns=NOON,
    windows=9,
    scored=900,
    flagged=2,
)
LEDGER = Ledger(
    stored=5,
    duplicate=1,
    ignored={"my.type": 2},
    malformed={"envelope": 3},
    refused={"storage": 4},
    clamped=2,
    payloads={("stored", "request"): 3, ("stored", "response"): 2},
)


class Scrape:
    """The samples of one scrape, by name and labels."""

    def __init__(self, collector: SnapshotCollector | None = None, registry: CollectorRegistry | None = None) -> None:
        self._registry = registry or CollectorRegistry()
        if collector is not None:
            self._registry.register(collector)
        text = generate_latest(self._registry).decode()
        self.samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
        openmetrics = list(parse_openmetrics(generate_openmetrics(self._registry).decode()))  # type: ignore[no-untyped-call]
        assert {name for name, _ in self.samples} <= {s.name for family in openmetrics for s in family.samples} | {
            f"{family.name}_created" for family in openmetrics
        }

    def __call__(self, name: str, **labels: str) -> float:
        return self.samples[name, frozenset(labels.items())]

    def of(self, name: str) -> list[dict[str, str]]:
        return [dict(labels) for found, labels in self.samples if found == name]


def collector(*statuses: DetectorStatus, most_feature_series: int = 20_000) -> SnapshotCollector:
    reference = ReferenceInfo(Service("default", "income"), "abc", NOON)
    return SnapshotCollector(
        "up", lambda: LEDGER, lambda: (12, 3456), lambda: statuses, [reference], most_feature_series
    )


def test_a_snapshot_has_the_names_and_values_of_the_contract() -> None:
    scrape = Scrape(collector(DRIFT, OUTLIER))
    m = {**M, "model_endpoint": ""}
    assert scrape.of("inferwatch_build_info")[0]["component"] == "up"
    assert scrape("inferwatch_store_rows") == 12
    assert scrape("inferwatch_store_bytes") == 3456
    assert scrape("inferwatch_model_info", **m, reference_id="abc") == 1
    assert scrape("inferwatch_reference_created_timestamp_seconds", **m) == NOON / NS_PER_S
    assert scrape("inferwatch_detector_runs_total", **INPUTS, outcome="success") == 7
    assert scrape("inferwatch_detector_runs_total", **INPUTS, outcome="error") == 1
    assert scrape("inferwatch_detector_last_success_timestamp_seconds", **INPUTS) == NOON / NS_PER_S
    assert scrape("inferwatch_detector_window_samples", **INPUTS) == 380
    assert scrape("inferwatch_detector_window_min_samples", **INPUTS) == 500
    assert scrape("inferwatch_drift_score", **HISTOGRAM) == 4
    assert scrape("inferwatch_drift_threshold", **HISTOGRAM) == 3
    assert scrape("inferwatch_drift_p_value", **HISTOGRAM) == 1e-4
    assert scrape("inferwatch_drift_detected", **INPUTS) == 1
    assert scrape("inferwatch_features_monitored", **INPUTS) == 2
    assert scrape("inferwatch_features_drifted", **INPUTS) == 1
    assert scrape("inferwatch_feature_drift_score", **HISTOGRAM, feature="age") == 4
    assert scrape("inferwatch_feature_drift_score", **HISTOGRAM, feature="job") == 0.5
    assert scrape("inferwatch_feature_series_suppressed") == 0
    assert scrape("inferwatch_instances_scored_total", **ROWS, kind="outlier") == 900
    assert scrape("inferwatch_instances_flagged_total", **ROWS, kind="outlier") == 2


def test_the_ledgers_words_are_the_outcomes() -> None:
    scrape = Scrape(collector())
    received = {
        (labels["type"], labels["outcome"]): scrape("inferwatch_events_received_total", **labels)
        for labels in scrape.of("inferwatch_events_received_total")
    }
    assert received == {
        ("request", "stored"): 3,
        ("response", "stored"): 2,
        ("request", "duplicate"): 0,
        ("response", "duplicate"): 0,
        ("payload", "duplicate"): 1,  # counted before payloads were told apart
        ("my.type", "ignored"): 2,
        ("unknown", "malformed"): 3,
        ("unknown", "refused"): 4,
    }
    assert sum(received.values()) == LEDGER.received
    assert scrape("inferwatch_dead_letter_events_total", reason="envelope") == 3
    assert scrape("inferwatch_events_clamped_total") == 2


def test_what_has_not_been_judged_has_no_verdict() -> None:
    waiting = replace(DRIFT, state="waiting", newest=None, last_run_ns=None, windows=0, needs_rows=3500)
    scrape = Scrape(collector(waiting))
    for name in ("drift_score", "drift_threshold", "drift_detected", "detector_last_success_timestamp_seconds"):
        assert scrape.of(f"inferwatch_{name}") == []
    assert scrape("inferwatch_detector_window_samples", **INPUTS) == 0
    assert Scrape(collector(replace(DRIFT, newest=replace(drift(), p_value=None)))).of("inferwatch_drift_p_value") == []


def test_a_model_that_leaves_disappears() -> None:
    statuses = [DRIFT, replace(DRIFT, name="other")]
    present = collector()
    registry = CollectorRegistry()
    registry.register(replace(present, statuses=lambda: statuses))
    assert len(Scrape(registry=registry).of("inferwatch_drift_score")) == 2
    statuses.pop()
    assert [labels["model_name"] for labels in Scrape(registry=registry).of("inferwatch_drift_score")] == ["income"]


def test_of_many_features_only_those_worth_looking_at_get_a_series() -> None:
    calm = [feature(f"calm {number}", 1.0 / (number + 1)) for number in range(50)]
    shown = Scrape(collector(replace(DRIFT, newest=drift(*calm)))).of("inferwatch_feature_drift_score")
    assert {labels["feature"] for labels in shown} == {f"calm {number}" for number in range(TOP_FEATURES)}
    loud = [feature(f"loud {number}", 9.0, fired=True) for number in range(30)]
    shown = Scrape(collector(replace(DRIFT, newest=drift(*loud, *calm)))).of("inferwatch_feature_drift_score")
    assert {labels["feature"] for labels in shown} == {f"loud {number}" for number in range(30)}


def test_the_cap_keeps_alarms_first_and_counts_those_it_keeps_out() -> None:
    calm = replace(DRIFT, name="calm", newest=drift(*(feature(f"c{number}", 0.1) for number in range(5)), score=0.1))
    loud = replace(DRIFT, newest=drift(*(feature(f"l{number}", 9.0, fired=True) for number in range(6))))
    for cap, features, suppressed in [(8, 8, 0), (6, 6, 0), (4, 4, 2), (0, 0, 6)]:
        scrape = Scrape(collector(calm, loud, most_feature_series=cap))
        shown = scrape.of("inferwatch_feature_drift_score")
        assert len(shown) == features
        assert sum(labels["feature"].startswith("l") for labels in shown) == min(cap, 6)
        assert scrape("inferwatch_feature_series_suppressed") == suppressed


def test_label_values_are_short_and_without_control_characters() -> None:
    wild = replace(DRIFT, newest=drift(feature('a\n"b\\\x00\x1b' + "é" * 999, 9.0, fired=True)))
    (labels,) = Scrape(collector(wild)).of("inferwatch_feature_drift_score")
    assert labels["feature"] == 'a "b\\  ' + "é" * 249
    assert len(labels["feature"]) == 256


def item(event_role: Role, second: float, excluded: str | None = None, *, late_s: float = 0, **more: str) -> Item:
    event = request("a", second, [[1]], **more) if event_role is Role.REQUEST else response("a", second, [1], **more)
    time_ns = NOON + round(second * NS_PER_S)
    arrival_ns = time_ns + round(late_s * NS_PER_S)
    return Item(
        event, STREAM, event_role, time_ns, decode(event.data, event_role), "k", excluded, arrival_ns, "request_only"
    )


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def test_what_passes_is_counted(registry: CollectorRegistry) -> None:
    clock = ManualClock(NOON)
    flow = FlowMetrics(registry, clock)
    clock.advance(10)
    items = [item(Role.REQUEST, 0), item(Role.RESPONSE, 9.95), item(Role.RESPONSE, 60), item(Role.REQUEST, 0, "health")]
    flow.processed(items, {"paired": 1, "request_only": 2, "response_only": 1, "uneven": 1}, 17)
    flow.ran("histogram", 0.02)
    scrape = Scrape(registry=registry)
    assert scrape("inferwatch_pairs_total", outcome="paired") == 1
    assert scrape("inferwatch_pairs_total", outcome="request_only") == 2
    assert scrape("inferwatch_pairs_total", outcome="response_only") == 1
    assert scrape("inferwatch_pairs_uneven_total") == 1
    assert scrape("inferwatch_pairs_pending") == 17
    assert scrape("inferwatch_events_decoded_total", protocol="v1") == sum(i.decoded.protocol == "v1" for i in items)
    assert scrape("inferwatch_events_decoded_total", protocol="unknown") == 0
    assert scrape("inferwatch_events_excluded_total", reason="health") == 1
    assert scrape("inferwatch_events_excluded_total", reason="explain") == 0
    assert (
        scrape("inferwatch_event_age_seconds_bucket", stage="detect", le="0.1") == 2
    )  # an event ahead of us is 0 s old
    assert scrape("inferwatch_event_age_seconds_bucket", stage="detect", le="5.0") == 2
    assert scrape("inferwatch_event_age_seconds_bucket", stage="detect", le="15.0") == 4
    assert scrape("inferwatch_event_age_seconds_sum", stage="detect") == pytest.approx(20.05)
    assert scrape("inferwatch_detector_run_duration_seconds_count", detector_type="histogram") == 1
    assert scrape("inferwatch_detector_run_duration_seconds_sum", detector_type="histogram") == pytest.approx(0.02)


def test_the_age_of_events_says_where_they_waited(registry: CollectorRegistry) -> None:
    """KServe's agent states when it took an event out of its queue."""
    clock = ManualClock(NOON)
    flow = FlowMetrics(registry, clock)
    clock.advance(60)
    queued = item(Role.REQUEST, 0, late_s=40, recordedtime="2026-11-21T12:00:30.25Z")
    flow.processed([queued, item(Role.REQUEST, 59, late_s=0.5), item(Role.REQUEST, 0, recordedtime="soon")], {}, 0)
    scrape = Scrape(registry=registry)
    assert scrape("inferwatch_event_age_seconds_count", stage="agent") == 1
    assert scrape("inferwatch_event_age_seconds_sum", stage="agent") == pytest.approx(30.25)
    assert scrape("inferwatch_event_age_seconds_count", stage="ingest") == 3
    assert scrape("inferwatch_event_age_seconds_sum", stage="ingest") == pytest.approx(40.5)
    assert scrape("inferwatch_event_age_seconds_sum", stage="detect") == pytest.approx(121)


def test_what_waits_for_the_log_is_shown_beside_what_may() -> None:
    scrape = Scrape(replace(collector(), queue=lambda: (7, 100)))
    assert scrape("inferwatch_ingest_queue_bytes") == 7
    assert scrape("inferwatch_ingest_queue_capacity_bytes") == 100


def test_counters_are_there_before_anything_passes(registry: CollectorRegistry) -> None:
    FlowMetrics(registry, ManualClock(NOON))
    scrape = Scrape(registry=registry)
    for outcome in ("paired", "request_only", "response_only", "late"):
        assert scrape("inferwatch_pairs_total", outcome=outcome) == 0
    for reason in ("explain", "health", "rule"):
        assert scrape("inferwatch_events_excluded_total", reason=reason) == 0


def test_two_instances_do_not_share_anything() -> None:
    one, other = CollectorRegistry(), CollectorRegistry()
    FlowMetrics(one, ManualClock(NOON)).ran("a", 1.0)
    FlowMetrics(other, ManualClock(NOON))
    assert Scrape(registry=other).of("inferwatch_detector_run_duration_seconds_count") == []
