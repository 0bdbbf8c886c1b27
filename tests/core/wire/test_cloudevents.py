"""The CloudEvents codec against the SDK as a second implementation, and against what KServe really sends."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import pytest

from inferwatch.clock import parse_time
from inferwatch.errors import InvalidEvent
from inferwatch.events import RESPONSE_TYPE, CloudEvent, Role, Stream
from inferwatch.wire.cloudevents import from_http, from_structured, to_http, to_structured

STRUCTURED = b"application/cloudevents+json"
BATCH = b"application/cloudevents-batch+json; charset=utf-8"
REQUIRED: dict[str, Any] = {"specversion": "1.0", "id": "a", "source": "/s", "type": "t"}
CAPTURED = """\
Host: 127.0.0.1:7001
User-Agent: Go-http-client/1.1
Content-Length: 20
Ce-Annotations: {"a/b":"c d","owner":"me"}
Ce-Component: predictor
Ce-Endpoint:
Ce-Id: b9181bae-70ef-4523-9d22-ad104a141f7a
Ce-Inferenceservicename: iris
Ce-Metadata: {"Content-Type":["application/json"],"X-Request-Id":["abc"]}
Ce-Namespace: ns1
Ce-Recordedtime: 2026-11-21T02:22:01.480663283Z
Ce-Source: http://localhost:9181/
Ce-Specversion: 1.0
Ce-Time: 2026-11-21T02:22:01.480593408Z
Ce-Type: org.kubeflow.serving.inference.response
Content-Type: application/json
Accept-Encoding: gzip"""
# What each KServe release adds to id, source, specversion, time, type, inferenceservicename and namespace.
RELEASES = {
    "before component": {},
    "0.7 to 0.11": {"component": "predictor", "endpoint": "", "traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"},
    "0.12": {"component": "predictor", "endpoint": ""},
    "0.14 request": {"component": "predictor", "endpoint": "", "metadata": "{}"},
    "0.14 response": {"component": "predictor", "endpoint": "", "metadata": "null"},
    "0.15.1": {"component": "predictor", "endpoint": "", "metadata": '{"X":["1"]}', "annotations": '{"a":"50%41"}'},
    "0.18": {"component": "predictor", "endpoint": "canary", "recordedtime": "2026-11-21T10:00:00Z"},
    "in review": {"component": "predictor", "endpoint": "", "statuscode": "200"},
}


def http(fields: Mapping[str, str | bytes], **extra: str) -> list[tuple[bytes, bytes]]:
    every = {**fields, **extra}
    return [
        (f"Ce-{name}".encode(), value if isinstance(value, bytes) else value.encode()) for name, value in every.items()
    ]


def one(headers: list[tuple[bytes, bytes]], body: bytes = b"", **options: bool) -> CloudEvent:
    (event,) = from_http(headers, body, **options)
    assert isinstance(event, CloudEvent), event
    return event


def fault(headers: list[tuple[bytes, bytes]], body: bytes = b"", **options: bool) -> InvalidEvent:
    (invalid,) = from_http(headers, body, **options)
    assert isinstance(invalid, InvalidEvent), invalid
    return invalid


def fields_of(lines: str) -> list[tuple[bytes, bytes]]:
    """Return header lines as a server reads them."""
    parted = (line.partition(": ") for line in lines.split("\r\n")[:-1])
    return [(name.encode("ascii"), value.encode("ascii")) for name, _, value in parted]


def structured(body: Any) -> list[CloudEvent | InvalidEvent]:
    return from_http([(b"content-type", STRUCTURED)], body if isinstance(body, bytes) else json.dumps(body).encode())


def test_the_captured_event_of_kserve_reads_whole() -> None:
    headers = [
        (name.encode(), value.strip().encode())
        for name, value in (line.split(":", 1) for line in CAPTURED.splitlines())
    ]
    event = one(headers, b'{"predictions": [1]}')
    assert event == CloudEvent(
        id="b9181bae-70ef-4523-9d22-ad104a141f7a",
        source="http://localhost:9181/",
        type=RESPONSE_TYPE,
        time_ns=parse_time("2026-11-21T02:22:01.480593408Z"),
        content_type="application/json",
        extensions={
            "annotations": '{"a/b":"c d","owner":"me"}',
            "component": "predictor",
            "endpoint": "",
            "inferenceservicename": "iris",
            "metadata": '{"Content-Type":["application/json"],"X-Request-Id":["abc"]}',
            "namespace": "ns1",
            "recordedtime": "2026-11-21T02:22:01.480663283Z",
        },
        data=b'{"predictions": [1]}',
    )
    assert event.role is Role.RESPONSE
    assert event.stream == Stream("ns1", "iris", "predictor", "default")


@pytest.mark.parametrize("release", RELEASES)
def test_every_release_of_kserve_is_read(release: str) -> None:
    extensions = {"inferenceservicename": "m", "namespace": "n"} | RELEASES[release]
    event = one(http(REQUIRED | {"time": "2026-11-21T10:00:00.1234567Z"}, **extensions))
    assert event.extensions == extensions
    assert event.time_ns == parse_time("2026-11-21T10:00:00.1234567Z")


@pytest.mark.parametrize(
    ("text", "fraction_ns"),
    [
        ("2026-11-21T10:00:00Z", 0),
        ("2026-11-21T10:00:00.5Z", 500_000_000),
        ("2026-11-21T10:00:00.000000001Z", 1),
        ("2026-11-21T10:00:00.1234567899Z", 123_456_789),
        ("2026-11-21T12:00:00.25+02:00", 250_000_000),
        ("2026-11-21t10:00:00z", 0),
    ],
)
def test_times_with_any_fraction_and_zone(text: str, fraction_ns: int) -> None:
    assert one(http(REQUIRED, time=text)).time_ns == parse_time("2026-11-21T10:00:00Z") + fraction_ns


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "2026-11-21T10:00:00", "2026-13-01T00:00:00Z", "2026-11-21T10:00:00.Z", "2026-11-21T10:00:00.٣Z"],
)
def test_a_time_that_is_none_is_a_fault(text: str) -> None:
    assert fault(http(REQUIRED, time=text)).reason == "bad_time"


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59Z", "1600-01-01T00:00:00.5Z"])
def test_a_time_beyond_64_bit_nanoseconds_is_a_fault(text: str) -> None:
    assert fault(http(REQUIRED, time=text)).reason == "bad_time"


@pytest.mark.parametrize(
    ("raw", "read"),
    [
        ("naïve".encode(), "naïve"),
        ("naïve".encode("latin-1"), "naïve"),
        (b"na%C3%AFve", "naïve"),
        (b"na%c3%afve%20x", "naïve x"),
        (b"100%", "100%"),
        (b"%FF", "%FF"),
        (b'"a \\"b\\" c"', 'a "b" c'),
        ("日本 🙂".encode(), "日本 🙂"),
    ],
)
def test_header_values_in_every_encoding(raw: bytes, read: str) -> None:
    assert one(http(REQUIRED | {"id": raw})).id == read


def test_names_in_any_case_and_equal_duplicates() -> None:
    headers = [
        (b"CE-ID", b"a"),
        (b"cE-SpecVersion", b"1.0"),
        (b"ce-type", b"t"),
        (b"Ce-Source", b"/s"),
        (b"ce-id", b"a"),
    ]
    assert one(headers).id == "a"
    assert fault([*headers, (b"ce-id", b"b")]).reason == "duplicate_attribute"


def test_every_fault_is_named_at_once() -> None:
    invalid = fault(
        [(b"ce-specversion", b"0.3"), (b"ce-id", b""), (b"ce-time", b"x"), (b"ce-a-b", b"1"), (b"ce-type", b"t")]
    )
    assert {item.path for item in invalid.faults} == {"specversion", "id", "source", "time", "a-b"}
    assert invalid.reason == "bad_specversion"
    assert "'0.3' is not supported; 1.0 is" in str(invalid)


def test_a_message_without_any_attribute() -> None:
    invalid = fault([(b"content-type", b"application/json")], b"{}")
    assert invalid.reason == "missing_attribute"
    assert [item.path for item in invalid.faults] == ["specversion", "id", "source", "type"]


def test_control_characters() -> None:
    assert fault(http(REQUIRED, id="a%00b")).reason == "bad_character"
    assert one(http(REQUIRED, subject="a%0D%0Ab")).extensions == {"subject": "a\ufffd\ufffdb"}
    assert one(http(REQUIRED, id="zero\u200bwidth")).id == "zero\u200bwidth"


def test_an_empty_content_type_is_none() -> None:
    assert one([*http(REQUIRED), (b"content-type", b"")]).content_type is None


def test_truncation_is_kept() -> None:
    assert one(http(REQUIRED), b"x", truncated=True).truncated
    assert one(http(REQUIRED, truncated="true"), b"x").truncated
    assert fault([(b"content-type", STRUCTURED)], b'{"id":', truncated=True).reason == "too_large"
    event = CloudEvent("a", "/s", "t", data=b"x", truncated=True)
    lines, body = to_http(event)
    assert one(fields_of(lines), body).truncated
    assert from_structured(json.loads(to_structured(event))).truncated


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ('{"Authorization":["Bearer s3cret"],"X-A":["1"]}', '{"X-A":["1"]}'),
        ('{"cOOkie":["s3cret"],"proxy_authorization":["s3cret"],"X-Api-Key":["s3cret"]}', "{}"),
        ('{"\\u0061uthorization":["s3cret"]}', "{}"),
        ('{"nested":{"x-api-key":"s3cret"}}', '{"nested":{}}'),
        ('{"X-Author":["me"]}', '{"X-Author":["me"]}'),
        ("{}", "{}"),
        ("null", "null"),
    ],
)
def test_secret_headers_leave_metadata(given: str, kept: str) -> None:
    lines, _ = to_http(CloudEvent("a", "/s", "t", extensions={"metadata": given}))
    for fields in (http(REQUIRED, metadata=given), fields_of(lines)):
        assert json.loads(one(fields).extensions["metadata"]) == json.loads(kept)
    assert from_structured(REQUIRED | {"metadata": given}).extensions["metadata"] == kept


@pytest.mark.parametrize(
    "text", ["authorization: Bearer s3cret", '["cookie", "s3cret"]', '{"Cookie": "s3cret"', "%2561uthorization=s3cret"]
)
def test_metadata_that_could_hide_a_secret_is_dropped(text: str) -> None:
    assert "metadata" not in one(http(REQUIRED, metadata=text)).extensions


def test_deep_metadata_neither_hides_a_secret_nor_breaks() -> None:
    deep = '{"a":' * 500 + '{"cookie":"s3cret"}' + "}" * 500
    assert "s3cret" not in repr(one(http(REQUIRED, metadata=deep)))


@pytest.mark.parametrize("name", ["authorization", "Cookie", "xapikey", "proxyauthorization", "x-api-key"])
def test_secret_extensions_are_dropped(name: str) -> None:
    assert one([*http(REQUIRED), (b"ce-" + name.encode(), b"s3cret")]).extensions == {}
    assert from_structured(REQUIRED | {name: "s3cret"}).extensions == {}


@pytest.mark.parametrize(
    ("fields", "data"),
    [
        ({"data": {"a": [1, 2.5, None, 9223372036854775807]}}, b'{"a":[1,2.5,null,9223372036854775807]}'),
        ({"data": "text"}, b'"text"'),
        ({"data": "text", "datacontenttype": "text/plain"}, b"text"),
        ({"data": "text", "datacontenttype": "application/x+JSON; a=b"}, b'"text"'),
        ({"data_base64": b64encode(b"\x00\xff").decode(), "datacontenttype": "application/octet-stream"}, b"\x00\xff"),
        ({"data": None}, b""),
        ({}, b""),
        ({"data": 0}, b"0"),
    ],
)
def test_structured_data(fields: dict[str, Any], data: bytes) -> None:
    (event,) = structured(REQUIRED | fields)
    assert isinstance(event, CloudEvent)
    assert event.data == data


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"id": 5}, "bad_type"),
        ({"subject": {"a": 1}}, "bad_type"),
        ({"time": 0}, "bad_type"),
        ({"data": 1, "data_base64": "AA=="}, "ambiguous_data"),
        ({"data_base64": "!"}, "bad_base64"),
        ({"data_base64": 1}, "bad_type"),
        ({"a_b": "x"}, "bad_name"),
        ({"id": None}, "missing_attribute"),
    ],
)
def test_structured_faults(fields: dict[str, Any], reason: str) -> None:
    (invalid,) = structured(REQUIRED | fields)
    assert isinstance(invalid, InvalidEvent)
    assert invalid.reason == reason


@pytest.mark.parametrize(("depth", "reason"), [(254, None), (255, "bad_json"), (1_000, "bad_json")])
def test_structured_data_that_is_nested_too_deep_is_a_fault(depth: int, reason: str | None) -> None:
    text = json.dumps(REQUIRED)[:-1] + ', "data": ' + "[" * depth + "]" * depth + "}"
    (found,) = from_http([(b"content-type", STRUCTURED)], text.encode())
    assert (found.reason if isinstance(found, InvalidEvent) else None) == reason


def test_structured_extensions_become_text() -> None:
    event = from_structured(REQUIRED | {"sampled": True, "size": 12, "absent": None, "DatasChema": "http://x"})
    assert event.extensions == {"sampled": "true", "size": "12", "dataschema": "http://x"}


def test_a_batch_mixes_good_and_bad_members() -> None:
    body = json.dumps([REQUIRED, {"id": "b"}, 7, REQUIRED | {"id": "c"}]).encode()
    first, second, third, fourth = from_http([(b"Content-Type", BATCH)], body)
    assert isinstance(first, CloudEvent)
    assert isinstance(fourth, CloudEvent)
    assert (first.id, fourth.id) == ("a", "c")
    assert isinstance(second, InvalidEvent)
    assert isinstance(third, InvalidEvent)
    assert (second.reason, third.reason) == ("missing_attribute", "bad_json")


@pytest.mark.parametrize("body", [b"", b"{", b"{}", b"[1", b"\xff", b'{"a":' * 5000])
def test_an_unparseable_batch_is_one_fault(body: bytes) -> None:
    assert fault([(b"content-type", BATCH)], body).reason == "bad_json"


def test_an_empty_batch_has_no_event() -> None:
    assert from_http([(b"content-type", BATCH)], b"[]") == []


def test_another_event_format_is_a_fault() -> None:
    assert fault([(b"content-type", b"application/cloudevents+xml")], b"<a/>").reason == "bad_format"


def test_structured_mode_with_the_optional_headers_is_structured() -> None:
    event = one([*http(REQUIRED), (b"content-type", STRUCTURED)], json.dumps(REQUIRED | {"data": 1}).encode())
    assert (event.data, event.content_type) == (b"1", None)


@pytest.mark.parametrize("content_type", [STRUCTURED, BATCH])
@pytest.mark.parametrize("body", [b'{"instances":[1]}', json.dumps(REQUIRED | {"type": "client"}).encode(), b"[]"])
def test_a_logged_call_that_was_a_cloudevent_itself_is_binary(content_type: bytes, body: bytes) -> None:
    event = one([*http(REQUIRED), (b"content-type", content_type)], body)
    assert (event.type, event.data, event.content_type) == ("t", body, content_type.decode())


def test_nothing_in_a_content_type_ends_a_header_line() -> None:
    (event,) = structured(REQUIRED | {"datacontenttype": "a/b\r\nX-Evil: 1"})
    assert isinstance(event, CloudEvent)
    assert dict(fields_of(to_http(event)[0]))[b"content-type"] == b"a/bX-Evil: 1"
