"""The Kafka binding of CloudEvents: every event comes back, and messages of others are read as the binding says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatch.errors import InvalidEvent
from inferwatch.events import CloudEvent, Stream
from inferwatch.wire.kafka import from_kafka, key_of, to_kafka, to_kafka_structured

TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs", "Cn"]), min_size=1, max_size=20)
NAMES = st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True).filter(
    lambda name: (
        name not in {"id", "source", "type", "time", "specversion", "datacontenttype", "data", "truncated", "metadata"}
        and name not in {"authorization", "cookie"}
    )
)
EVENTS = st.builds(
    CloudEvent,
    id=TEXT,
    source=TEXT,
    type=TEXT,
    time_ns=st.none() | st.integers(-(2**62), 2**62),
    content_type=st.none() | st.just("application/json") | st.just("text/plain; charset=utf-8"),
    extensions=st.dictionaries(NAMES, TEXT, max_size=5),
    data=st.binary(max_size=50),
)


@given(EVENTS)
def test_every_event_comes_back(event: CloudEvent) -> None:
    message = to_kafka(event)
    assert from_kafka(message.headers, message.value) == [event]
    assert message.key == key_of(event.stream)


@given(EVENTS)
def test_every_event_comes_back_from_structured_mode(event: CloudEvent) -> None:
    message = to_kafka_structured(event)
    (back,) = from_kafka(message.headers, message.value)
    assert isinstance(back, CloudEvent)
    assert back.attributes() == event.attributes()
    assert message.key == key_of(event.stream)


def test_headers_are_named_and_encoded_as_the_binding_says() -> None:
    event = CloudEvent("1 %41", "/s", "t", 0, "application/json", {"namespace": "m\u00e9"}, b"{}")
    assert dict(to_kafka(event).headers) == {
        "ce_specversion": b"1.0",
        "ce_id": b"1 %41",
        "ce_source": b"/s",
        "ce_type": b"t",
        "ce_time": b"1970-01-01T00:00:00Z",
        "ce_namespace": b"m\xc3\xa9",
        "content-type": b"application/json",
    }


def test_the_key_is_the_stream() -> None:
    assert key_of(Stream("prod", "income", "predictor", "canary")) == b"prod/income/predictor/canary"


def test_a_cut_body_stays_marked() -> None:
    event = CloudEvent("1", "/s", "t", data=b"x", truncated=True)
    (back,) = from_kafka(*to_kafka(event)[1:])
    assert isinstance(back, CloudEvent)
    assert back.truncated


BINARY: list[tuple[str, bytes | None]] = [
    ("ce_specversion", b"1.0"),
    ("ce_id", b"1"),
    ("ce_source", b"/s"),
    ("ce_type", b"t"),
]


@pytest.mark.parametrize(
    ("more", "value", "expected"),
    [
        ([("traceparent", b"x"), ("ce_a", None)], None, CloudEvent("1", "/s", "t")),
        ([("CE_A", b"b"), ("Content-Type", b"a/b")], b"x", CloudEvent("1", "/s", "t", None, "a/b", {"a": "b"}, b"x")),
        ([("ce_a", b"\xe9")], b"", CloudEvent("1", "/s", "t", None, None, {"a": "\u00e9"})),
        ([("ce_a", b"x"), ("ce_a", b"x")], b"", CloudEvent("1", "/s", "t", None, None, {"a": "x"})),
        (
            [("content-type", b"application/cloudevents+json")],  # the data is an event of another kind
            b"{}",
            CloudEvent("1", "/s", "t", None, "application/cloudevents+json", {}, b"{}"),
        ),
    ],
)
def test_messages_of_others(more: list[tuple[str, bytes | None]], value: bytes | None, expected: CloudEvent) -> None:
    assert from_kafka([*BINARY, *more], value) == [expected]


@pytest.mark.parametrize(
    ("headers", "value", "reason"),
    [
        (BINARY[:1], b"", "missing_attribute"),
        ([], b"{}", "missing_attribute"),
        ([*BINARY, ("ce_time", b"soon")], b"", "bad_time"),
        ([*BINARY, ("ce_id", b"2")], b"", "duplicate_attribute"),
        ([("content-type", b"application/cloudevents+json")], b"{", "bad_json"),
        ([("content-type", b"application/cloudevents+json")], None, "bad_json"),
        ([("content-type", b"application/cloudevents+avro")], b"", "bad_format"),
    ],
)
def test_what_is_no_event(headers: list[tuple[str, bytes | None]], value: bytes | None, reason: str) -> None:
    (found,) = from_kafka(headers, value)
    assert isinstance(found, InvalidEvent)
    assert found.reason == reason


def test_a_batch_is_several_events() -> None:
    body = b'[{"specversion":"1.0","id":"1","source":"/s","type":"t"},{"id":"2"}]'
    first, second = from_kafka([("content-type", b"application/cloudevents-batch+json")], body)
    assert first == CloudEvent("1", "/s", "t")
    assert isinstance(second, InvalidEvent)


def test_structured_mode_without_its_content_type() -> None:
    """As version 1 of the SDK writes it: the data's content type, or none."""
    body = b'{"specversion":"1.0","id":"1","source":"/s","type":"t"}'
    for headers in ([("content-type", b"application/json")], []):
        assert from_kafka(headers, body) == [CloudEvent("1", "/s", "t")]
    (found,) = from_kafka([("content-type", b"application/json")], b'{"specversion":"1.0"}')
    assert isinstance(found, InvalidEvent)
