"""The counts of what passes, beside those of prometheus_client's own histogram."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client import Histogram as Reference

from inferwatch.delivery.memory import MemorySink
from inferwatch.errors import DeliveryError
from inferwatch.events import REQUEST_TYPE, RESPONSE_TYPE, CloudEvent
from inferwatch_logger.proxy.traffic import Histogram, TimedSink, Traffic, durations

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
    passed: list[CloudEvent] = []
    traffic = Traffic(passed.append)
    traffic(CloudEvent("1", "s", REQUEST_TYPE, data=bytes(100)))
    traffic(CloudEvent("1", "s", RESPONSE_TYPE, data=bytes(2000), truncated=True))
    assert [event.type for event in passed] == [REQUEST_TYPE, RESPONSE_TYPE]
    found = {
        (sample.name, sample.labels["type"], sample.labels.get("le")): sample.value
        for family in traffic.metrics()
        for sample in family.samples
    }
    assert found["inferwatch_logger_payload_bytes_sum", "response", None] == 2000
    assert found["inferwatch_logger_payload_bytes_bucket", "request", "128.0"] == 1
    assert found["inferwatch_logger_payload_bytes_bucket", "response", "1024.0"] == 0
    assert found["inferwatch_logger_payload_truncated_total", "request", None] == 0
    assert found["inferwatch_logger_payload_truncated_total", "response", None] == 1


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
    counts = {
        (sample.labels["sink"], sample.labels["outcome"]): sample.value
        for sample in durations([taking, refusing]).samples
        if sample.name.endswith("_count")
    }
    assert counts == {("http", "success"): 3, ("http", "failure"): 1}
