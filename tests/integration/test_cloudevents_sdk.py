"""The codec beside the `cloudevents` SDK, versions 1 and 2, each in an environment of its own.

What the two versions do otherwise than the specification says is stated where it shows: a table of what they take and
this codec refuses, and the few comparisons that have to undo something.
"""

from __future__ import annotations

import json
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inferwatch.clock import format_time, parse_time
from inferwatch.errors import InvalidEvent
from inferwatch.events import CloudEvent
from inferwatch.wire.cloudevents import from_http, to_http, to_structured
from inferwatch.wire.kafka import from_kafka, to_kafka, to_kafka_structured
from tests.components import ROOT, cloudevents_python
from tests.core.wire.test_cloudevents import CAPTURED, RELEASES, REQUIRED, fields_of
from tests.core.wire.test_cloudevents_by_sdk import JSON, NAMES, TEXT

pytestmark = pytest.mark.integration

STRUCTURED = "application/cloudevents+json"
EVERY = [(binding, mode) for binding in ("http", "kafka") for mode in ("binary", "structured")]
MICROSECOND = 1000


class Sdk:
    """A process with one version of the SDK."""

    def __init__(self, major: int) -> None:
        self.major = major
        command = [cloudevents_python(major), ROOT / "tests" / "integration" / "cloudevents_child.py"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.version = self._answer()["version"]

    def ask(self, ask: str, **question: Any) -> Any:
        assert self.process.stdin
        self.process.stdin.write(json.dumps({"ask": ask, **question}, default=_packed) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        self.process.communicate(timeout=30)
        assert self.process.returncode == 0

    def _answer(self) -> Any:
        assert self.process.stdout
        return json.loads(self.process.stdout.readline(), object_hook=_unpacked)


def _packed(value: Any) -> Any:
    return {"base64": b64encode(value).decode()}


def _unpacked(value: dict[str, Any]) -> Any:
    return b64decode(value["base64"]) if value.keys() == {"base64"} else value


@pytest.fixture(scope="session", params=[1, 2], ids="SDK {}".format)
def sdk(request: pytest.FixtureRequest) -> Iterator[Sdk]:
    child = Sdk(request.param)
    yield child
    child.close()


def test_the_environments_hold_the_versions_they_are_named_for(sdk: Sdk) -> None:
    assert sdk.version.startswith(f"{sdk.major}.")


def written(event: CloudEvent, binding: str, mode: str) -> dict[str, Any]:
    """Return our message of an event, as the child reads it."""
    if binding == "kafka":
        message = to_kafka(event) if mode == "binary" else to_kafka_structured(event)
        return {"headers": dict(message.headers), "body": message.value, "key": message.key}
    lines, body = to_http(event) if mode == "binary" else (f"content-type: {STRUCTURED}\r\n", to_structured(event))
    return {"headers": {name.decode(): value.decode() for name, value in fields_of(lines)}, "body": body}


def read(message: Mapping[str, Any], binding: str) -> CloudEvent:
    """Return what we read out of a message that the child wrote."""
    headers: dict[str, Any] = message["headers"]
    if binding == "kafka":
        (event,) = from_kafka(list(headers.items()), message["body"])
    else:
        (event,) = from_http([(name.encode(), value.encode()) for name, value in headers.items()], message["body"])
    assert isinstance(event, CloudEvent), event
    return event


def assert_read_alike(sdk: Sdk, event: CloudEvent, binding: str, mode: str) -> None:
    message = written(event, binding, mode)
    found = sdk.ask("read", binding=binding, mode=mode, **message)
    assert "error" not in found, found
    attributes = found["attributes"]
    if binding == "kafka":
        assert _text(attributes.pop("partitionkey")) == _text(message["key"])
    if (sdk.major, binding, mode) == (1, "http", "binary"):  # which leaves percent-encoding to its user
        attributes = {
            name: value if name == "datacontenttype" else unquote(value) for name, value in attributes.items()
        }
    expected = event.attributes()
    if (sdk.major, binding, mode) == (1, "kafka", "structured"):  # which takes the envelope's type for the data's
        del attributes["datacontenttype"], expected["datacontenttype"]
    assert parse_time(attributes.pop("time")) == parse_time(expected.pop("time"))
    assert attributes == expected
    assert_same_data(found["data"], event.data)


def assert_same_data(found: Any, data: bytes) -> None:
    """The SDK gives JSON as values, what it finds to be text as text, and nothing for no data."""
    if isinstance(found, bytes):
        assert found == data
    elif found is None:
        assert data in (b"", b"null")
    elif isinstance(found, str) and found.encode() == data:
        pass
    else:
        assert json.loads(data) == found


def _text(key: str | bytes) -> str:
    return key.decode() if isinstance(key, bytes) else key


IDENTITY = st.fixed_dictionaries({"id": TEXT, "source": TEXT, "type": TEXT})
EXTENSIONS = st.dictionaries(NAMES.filter(lambda name: name != "partitionkey"), TEXT, max_size=4)
TIMES = st.integers(-(2**62) // MICROSECOND, 2**62 // MICROSECOND).map(lambda micros: micros * MICROSECOND)
OBJECTS = st.dictionaries(TEXT, JSON, max_size=3)
often = settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow], deadline=None)


@pytest.mark.parametrize(("binding", "mode"), EVERY)
@often
@given(identity=IDENTITY, extensions=EXTENSIONS, time_ns=TIMES, data=OBJECTS | st.binary(max_size=40))
def test_what_we_write_the_sdk_reads_the_same(
    sdk: Sdk, binding: str, mode: str, identity: Any, extensions: Any, time_ns: int, data: Any
) -> None:
    kind = "application/octet-stream" if isinstance(data, bytes) else "application/json"
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    assert_read_alike(
        sdk, CloudEvent(**identity, time_ns=time_ns, content_type=kind, extensions=extensions, data=body), binding, mode
    )


@pytest.mark.parametrize(("binding", "mode"), EVERY)
@often
@given(identity=IDENTITY, extensions=EXTENSIONS, time_ns=TIMES, data=OBJECTS | st.binary(min_size=1, max_size=40))
def test_what_the_sdk_writes_we_read_the_same(
    sdk: Sdk, binding: str, mode: str, identity: Any, extensions: Any, time_ns: int, data: Any
) -> None:
    if (sdk.major, binding, mode) == (1, "http", "binary"):  # which writes a percent sign as it is
        identity, extensions = (
            {name: text.translate({37: "-", 34: "-"}) for name, text in texts.items()}
            for texts in (identity, extensions)
        )
    kind = "application/octet-stream" if isinstance(data, bytes) else "application/json"
    attributes = {"specversion": "1.0", **identity, "time": format_time(time_ns), "datacontenttype": kind, **extensions}
    message = sdk.ask("write", binding=binding, mode=mode, attributes=attributes, data=data)
    assert "error" not in message, message
    event = read(message, binding)
    assert event.attributes() == attributes
    assert (event.data if isinstance(data, bytes) else json.loads(event.data)) == data


@pytest.mark.parametrize("binding", ["http", "kafka"])
@given(identities=st.lists(IDENTITY, min_size=1, max_size=3), data=OBJECTS)
@settings(max_examples=20, deadline=None)
def test_a_batch_is_what_the_sdk_writes_one_by_one(sdk: Sdk, binding: str, identities: Any, data: Any) -> None:
    """Neither version writes a batch."""
    attributes = {"specversion": "1.0", "time": "2026-11-21T10:00:00Z", "datacontenttype": "application/json"}
    members = [
        sdk.ask("write", binding=binding, mode="structured", attributes=attributes | identity, data=data)
        for identity in identities
    ]
    body = b"[" + b",".join(member["body"] for member in members) + b"]"
    kind = b"application/cloudevents-batch+json"
    batch = (
        from_http([(b"content-type", kind)], body) if binding == "http" else from_kafka([("content-type", kind)], body)
    )
    assert batch == [read(member, binding) for member in members]


@pytest.mark.parametrize("release", ["captured", *RELEASES])
def test_events_of_kserve_are_read_as_the_sdk_reads_them(sdk: Sdk, release: str) -> None:
    if release == "captured":
        lines = (line.split(":", 1) for line in CAPTURED.splitlines())
        headers = {name: value.strip() for name, value in lines}
    else:
        named = REQUIRED | {"time": "2026-11-21T10:00:00.1234567Z"} | RELEASES[release]
        headers = {f"Ce-{name}": str(value) for name, value in named.items()}
    (event,) = from_http([(name.encode(), value.encode()) for name, value in headers.items()], b'{"predictions": [1]}')
    found = sdk.ask("read", binding="http", mode="binary", headers=headers, body=b'{"predictions": [1]}')
    assert isinstance(event, CloudEvent)
    attributes, expected = found["attributes"], event.attributes()
    assert parse_time(attributes.pop("time")) // MICROSECOND == parse_time(expected.pop("time")) // MICROSECOND
    if sdk.major == 2:  # which decodes what KServe never encoded
        expected = {name: unquote(value) for name, value in expected.items()}
    assert attributes == expected
    assert_same_data(found["data"], event.data)


def envelope(**fields: Any) -> bytes:
    return json.dumps({name: value for name, value in (REQUIRED | fields).items() if value != "absent"}).encode()


LAX: dict[str, tuple[dict[str, Any], set[int], str]] = {
    "no id": ({"id": "absent"}, {2}, "missing_attribute"),
    "an empty id": ({"id": ""}, {1}, "missing_attribute"),
    "a number as id": ({"id": 5}, {1}, "bad_type"),
    "a line break in the id": ({"id": "a\nb"}, {1, 2}, "bad_character"),
    "no specversion": ({"specversion": "absent"}, {2}, "missing_attribute"),
    "a time that is none": ({"time": "yesterday"}, {1}, "bad_time"),
    "a time without a zone": ({"time": "2026-11-21T10:00:00"}, {1}, "bad_time"),
    "a time without a time of day": ({"time": "2026-11-21"}, {1}, "bad_time"),
    "an attribute with an underscore": ({"a_b": "1"}, {1}, "bad_name"),
    "data in two forms": ({"data": 1, "data_base64": "AA=="}, {1}, "ambiguous_data"),
    "data that are no base64": ({"data_base64": "AA==!!"}, {1, 2}, "bad_base64"),
    "an object as attribute": ({"subject": {"a": 1}}, {1}, "bad_type"),
    "a list as extension": ({"team": [1]}, {1, 2}, "bad_type"),
    "a number that JSON has not": ({"data": float("nan")}, {1, 2}, "bad_json"),
}
"""What some version of the SDK takes in structured mode, which ones, and why it is refused here."""


@pytest.mark.parametrize("case", LAX)
def test_what_is_no_event_is_refused_where_the_sdk_takes_it(sdk: Sdk, case: str) -> None:
    fields, takers, reason = LAX[case]
    body = envelope(**fields)
    found = sdk.ask("read", binding="http", mode="structured", headers={"content-type": STRUCTURED}, body=body)
    assert ("error" not in found) == (sdk.major in takers), found
    (refused,) = from_http([(b"content-type", STRUCTURED.encode())], body)
    assert isinstance(refused, InvalidEvent)
    assert refused.reason == reason


def test_nothing_is_invented_where_the_sdk_invents_it(sdk: Sdk) -> None:
    """Both invent a time; on Kafka version 1, as version 2 everywhere, an id. Broken JSON passes for text."""
    headers = {f"ce-{name}": value for name, value in REQUIRED.items()} | {"content-type": "application/json"}
    found = sdk.ask("read", binding="http", mode="binary", headers=headers, body=b'{"instances": [')
    assert "time" in found["attributes"]
    assert found["data"] in ('{"instances": [', b'{"instances": [')
    (event,) = from_http([(name.encode(), value.encode()) for name, value in headers.items()], b'{"instances": [')
    assert event == CloudEvent("a", "/s", "t", None, "application/json", {}, b'{"instances": [')
    nameless = {"ce_specversion": b"1.0", "ce_source": b"/s", "ce_type": b"t"}
    assert sdk.ask("read", binding="kafka", mode="binary", headers=nameless, body=b"1")["attributes"]["id"]
    (refused,) = from_kafka(list(nameless.items()), b"1")
    assert isinstance(refused, InvalidEvent)
    assert refused.reason == "missing_attribute"


def test_lists_survive_where_the_second_version_writes_them_as_python(sdk: Sdk) -> None:
    attributes = REQUIRED | {"time": "2026-11-21T10:00:00Z", "datacontenttype": "application/json"}
    body = sdk.ask("write", binding="http", mode="binary", attributes=attributes, data=["a"])["body"]
    assert body == (b'["a"]' if sdk.major == 1 else b"['a']")
    assert sdk.ask("from_sdk", attributes=attributes, data=["a"])["data"] == b'["a"]'


CLASSES = {
    1: (None, "cloudevents.http.CloudEvent", "cloudevents.pydantic.CloudEvent"),
    2: (
        None,
        "cloudevents.core.v1.event.CloudEvent",
        "cloudevents.v1.http.CloudEvent",
        "cloudevents.v1.pydantic.CloudEvent",
    ),
}


@settings(max_examples=60, deadline=None)
@given(
    place=st.integers(0, 3),
    identity=IDENTITY,
    extensions=EXTENSIONS,
    time_ns=st.none() | TIMES,
    kind=st.sampled_from([None, "application/json", "text/plain"]),
    data=st.binary(max_size=40),
)
def test_an_event_comes_back_from_every_class_of_the_sdk(
    sdk: Sdk, place: int, identity: Any, extensions: Any, time_ns: int | None, kind: str | None, data: bytes
) -> None:
    wanted = CLASSES[sdk.major][place % len(CLASSES[sdk.major])]
    fields = identity | {"time_ns": time_ns, "content_type": kind, "extensions": extensions, "data": data}
    made = sdk.ask("to_sdk", event=fields, kind=wanted)
    assert "error" not in made, made
    assert (made["data"] or b"") == data
    assert made["back"] == fields | {"truncated": False}


def test_the_newest_class_is_made_where_none_is_named(sdk: Sdk) -> None:
    fields = {"id": "a", "source": "/s", "type": "t", "truncated": True, "extensions": {"subject": ""}}
    made = sdk.ask("to_sdk", event=fields)
    assert (
        made["class"] == {1: "cloudevents.http.event.CloudEvent", 2: "cloudevents.core.v1.event.CloudEvent"}[sdk.major]
    )
    assert made["attributes"] == {"specversion": "1.0", "id": "a", "source": "/s", "type": "t", "truncated": "true"}


@pytest.mark.parametrize(
    ("kind", "data", "wire"),
    [
        (
            "application/json",
            {"a": [1, None, 2**70], "b": "é"},
            b'{"a": [1, null, 1180591620717411303424], "b": "\\u00e9"}',
        ),
        ("application/json", b"\x00\xff", b"\x00\xff"),
        ("application/json", None, b""),
        ("application/json", 0.1, b"0.1"),
    ],
)
def test_data_of_an_sdk_event(sdk: Sdk, kind: str, data: Any, wire: bytes) -> None:
    attributes = REQUIRED | {"time": "2026-11-21T10:00:00.5Z", "datacontenttype": kind, "sampled": "yes"}
    found = sdk.ask("from_sdk", attributes=attributes, data=data)
    assert found["data"] == wire
    assert (found["time_ns"], found["extensions"]) == (parse_time("2026-11-21T10:00:00.5Z"), {"sampled": "yes"})


def test_text_is_what_that_version_sends(sdk: Sdk) -> None:
    attributes = REQUIRED | {"time": "2026-11-21T10:00:00Z", "datacontenttype": "application/json"}
    sent = sdk.ask("write", binding="http", mode="binary", attributes=attributes, data='{"a": 1}')["body"]
    assert sdk.ask("from_sdk", attributes=attributes, data='{"a": 1}')["data"] == sent


@pytest.mark.parametrize(
    ("attributes", "data", "says"),
    [
        ({"team_name": "x"}, None, "no attribute name"),
        ({"id": "a\nb"}, None, "control character"),
        ({}, float("nan"), "JSON"),
    ],
)
def test_an_sdk_event_that_is_none_is_refused(sdk: Sdk, attributes: Any, data: Any, says: str) -> None:
    found = sdk.ask("from_sdk", attributes=REQUIRED | {"time": "2026-11-21T10:00:00Z"} | attributes, data=data)
    if (sdk.major, says) == (2, "no attribute name"):  # the SDK refuses that one itself
        assert "CloudEventValidationError" in found["error"]
    else:
        assert "InvalidEvent" in found["error"]
        assert says in found["error"]
