"""What Prometheus sees of capture, beside what the accounts and prometheus_client's own histogram say."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Histogram as Reference

from inferwatch.delivery.memory import MemorySink
from inferwatch.errors import DeliveryError
from inferwatch.events import REQUEST_TYPE, RESPONSE_TYPE, CloudEvent
from inferwatch_logger import CaptureMiddleware
from inferwatch_logger.tallies import Histogram, Tallies
from inferwatch_logger.timed_sink import TimedSink
from tests.logger.asgi import PLAIN, call

BOUNDS = (1.0, 2.5, 10.0)


@given(st.lists(st.floats(0, 20) | st.sampled_from(BOUNDS), max_size=30))
def test_buckets_are_those_of_prometheus(values: list[float]) -> None:
    ours = Histogram(BOUNDS)
    theirs = Reference("values", "", buckets=BOUNDS, registry=CollectorRegistry())
    for value in values:
        ours.observe(value)
        theirs.observe(value)
    (family,) = theirs.collect()
    assert ours.cumulative() == [
        (sample.labels["le"], sample.value) for sample in family.samples if sample.name == "values_bucket"
    ]
    assert ours.sum == pytest.approx(sum(values))


def test_sizes_and_cuts_by_type() -> None:
    tallies = Tallies()
    tallies.count(CloudEvent("1", "s", REQUEST_TYPE, data=bytes(100)))
    tallies.count(CloudEvent("1", "s", RESPONSE_TYPE, data=bytes(2000), truncated=True))
    assert [sizes.sum for sizes in tallies.sizes] == [100, 2000]
    assert tallies.truncated == [0, 1]


def test_deliveries_are_timed_by_their_outcome() -> None:
    event = CloudEvent("1", "s", REQUEST_TYPE)
    taking = TimedSink(MemorySink())
    refusing = TimedSink(MemorySink(lambda _: DeliveryError("no", retryable=False)))

    async def deliver() -> None:
        for _ in range(3):
            await taking.send([event])
        with pytest.raises(DeliveryError):
            await refusing.send([event])

    asyncio.run(deliver())
    counted = [
        {outcome: histogram.cumulative()[-1][1] for outcome, histogram in sink.durations.items()}
        for sink in (taking, refusing)
    ]
    assert counted == [{"success": 3, "failure": 0}, {"success": 0, "failure": 1}]


def refused_response(event: CloudEvent) -> DeliveryError | None:
    return DeliveryError("no", retryable=False) if event.type == RESPONSE_TYPE else None


def test_a_registry_has_the_metrics_of_all_that_register_with_it() -> None:
    registry = CollectorRegistry()

    async def test() -> None:
        for name in ("income", "iris"):
            for _ in range(2):  # as two applications of one process
                sink = MemorySink(
                    lambda event: DeliveryError("no", retryable=False) if event.type == RESPONSE_TYPE else None
                )
                middleware = CaptureMiddleware(
                    PLAIN, sink=sink, name=name, metrics=registry, max_body_bytes=10, redact=["$.instances"]
                )
                await call(middleware)
                await middleware.aclose()

    asyncio.run(test())
    of = {"model_namespace": "default", "sink": "MemorySink"}
    for name in ("income", "iris"):
        whose = of | {"model_name": name}
        assert registry.get_sample_value("inferwatch_logger_captured_total", whose) == 4
        assert registry.get_sample_value("inferwatch_logger_delivered_total", whose) == 2
        assert registry.get_sample_value("inferwatch_logger_dropped_total", whose | {"reason": "refused"}) == 2
    value = registry.get_sample_value
    assert value("inferwatch_logger_payload_bytes_count", {"type": "request"}) == 4
    assert value("inferwatch_logger_payload_truncated_total", {"type": "response"}) == 4
    assert value("inferwatch_logger_payload_withheld_total", {"type": "request"}) == 4
    assert value("inferwatch_logger_queue_bytes") == 0
    assert value("inferwatch_logger_queue_capacity_bytes") == 4 * 67_108_864
    assert value("inferwatch_logger_spooled_events", {"sink": "MemorySink"}) == 0
    assert value("inferwatch_logger_in_flight_events", {"sink": "MemorySink"}) == 0
    assert value("inferwatch_logger_delivery_duration_seconds_count", {"sink": "http", "outcome": "failure"}) == 4
    assert value("inferwatch_logger_sampled_out_total") == 0
    assert value("inferwatch_logger_errors_total") == 0


def test_a_queue_file_that_cannot_be_made_is_counted(tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"")

    async def test() -> list[float | None]:
        found = []
        for spool in (tmp_path / "free", tmp_path / "taken"):
            registry = CollectorRegistry()
            middleware = CaptureMiddleware(PLAIN, sink=MemorySink(), metrics=registry, spool=spool, queue_bytes=65_536)
            assert middleware.delivery is not None
            middleware.delivery.start()
            found.append(registry.get_sample_value("inferwatch_logger_spool_failures"))
            await middleware.delivery.aclose()
        return found

    assert asyncio.run(test()) == [0, 1]


def test_the_default_registry_is_touched_only_where_asked() -> None:
    program = (
        "import sys, inferwatch_logger as logger\n"
        "assert 'prometheus_client' not in sys.modules\n"
        "import prometheus_client\n"
        "shown = lambda: b'inferwatch_logger' in prometheus_client.generate_latest()\n"
        "before = shown()\n"
        "for _ in range(2): logger.CaptureMiddleware(None, sink='http://s', name='m', metrics=True)\n"
        "print(before, shown())"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told == "False True\n"


def test_metrics_can_be_shown_before_any_request() -> None:
    registry = CollectorRegistry()
    CaptureMiddleware(PLAIN, sink=MemorySink(), metrics=registry)
    assert b'inferwatch_logger_captured_total{model_name="",model_namespace="default"' in generate_latest(registry)
