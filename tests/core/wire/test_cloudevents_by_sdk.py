"""CloudEvents as their SDK writes and reads them, and any bytes in their place."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from cloudevents.core.bindings import http as sdk
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent as SdkEvent
from hypothesis import given
from hypothesis import strategies as st

from inferwatch.errors import InvalidEvent
from inferwatch.events import CloudEvent
from inferwatch.wire.cloudevents import from_http, to_http, to_structured
from tests.core.wire.test_cloudevents import REQUIRED, STRUCTURED, fields_of, http, one, structured

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cn")), min_size=1)
NAMES = st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True).filter(
    lambda name: name
    not in {
        "specversion",
        "id",
        "source",
        "type",
        "time",
        "datacontenttype",
        "data",
        "metadata",
        "annotations",
        "subject",
    }
    | {"truncated", "cookie", "authorization", "xapikey", "proxyauthorization", "dataschema"}
)
MOMENTS = st.integers(-(2**62) // 1000, 2**62 // 1000)
ATTRIBUTES = st.fixed_dictionaries({"id": TEXT, "source": TEXT, "type": TEXT})


class _Bytes(JSONFormat):
    def read_data(self, body: bytes, datacontenttype: str | None) -> Any:  # noqa: ARG002
        return body


@given(ATTRIBUTES, st.dictionaries(NAMES, TEXT, max_size=4), MOMENTS, st.binary(max_size=50))
def test_what_the_sdk_writes_in_binary_mode_reads_the_same(
    required: dict[str, Any], extensions: dict[str, str], micros: int, data: bytes
) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
    message = sdk.to_binary(
        SdkEvent({"specversion": "1.0", "time": moment, "datacontenttype": "x/y", **required, **extensions}, data),
        JSONFormat(),
    )
    event = one([(name.encode(), value.encode()) for name, value in message.headers.items()], message.body)
    assert event == CloudEvent(**required, time_ns=micros * 1000, content_type="x/y", extensions=extensions, data=data)


@given(ATTRIBUTES, st.dictionaries(NAMES, TEXT, max_size=4), MOMENTS, st.binary(max_size=50))
def test_what_is_written_in_binary_mode_the_sdk_reads_the_same(
    required: dict[str, Any], extensions: dict[str, str], micros: int, data: bytes
) -> None:
    event = CloudEvent(**required, time_ns=micros * 1000, content_type="x/y", extensions=extensions, data=data)
    lines, body = to_http(event)
    headers = {name.decode(): value.decode() for name, value in fields_of(lines)}
    read = sdk.from_binary(sdk.HTTPMessage(headers, body), _Bytes())
    assert {name: read.get_extension(name) for name in extensions} == extensions
    assert {"id": read.get_id(), "source": read.get_source(), "type": read.get_type()} == required
    assert read.get_time() == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
    assert (read.get_datacontenttype(), read.get_data()) == ("x/y", data)
    assert one(fields_of(lines), body) == event


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(ATTRIBUTES, JSON, MOMENTS)
def test_structured_mode_agrees_with_the_sdk_both_ways(required: dict[str, Any], data: Any, micros: int) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
    fields = {"specversion": "1.0", "time": moment, "datacontenttype": "application/json", **required}
    written = sdk.to_structured(SdkEvent(fields, data), JSONFormat())
    (event,) = structured(written.body)
    assert isinstance(event, CloudEvent)
    assert event.attributes() == event.attributes() | required
    assert event.time_ns == micros * 1000
    assert (json.loads(event.data) if event.data else None) == data
    again = sdk.from_structured(
        sdk.HTTPMessage({"content-type": STRUCTURED.decode()}, to_structured(event)), JSONFormat()
    )
    assert again.get_attributes() == fields
    assert again.get_data() == data


@given(ATTRIBUTES, st.binary(max_size=40), st.sampled_from([None, "application/json", "text/plain", "image/png"]))
def test_structured_mode_keeps_bytes_that_are_not_json(required: dict[str, Any], data: bytes, kind: str | None) -> None:
    event = CloudEvent(**required, content_type=kind, data=data)
    (read,) = structured(to_structured(event))
    assert isinstance(read, CloudEvent)
    if read.data != data:
        assert kind in (None, "application/json")
        assert json.loads(read.data) == json.loads(data)


@given(st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=20)), max_size=8), st.binary(max_size=60))
def test_no_bytes_raise(headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    for entry in from_http([*headers, *http(REQUIRED)], body):
        assert isinstance(entry, (CloudEvent, InvalidEvent))
