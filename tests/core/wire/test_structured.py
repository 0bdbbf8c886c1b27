"""Structured and batched events whose arrays stay text: the same values as by parsing all, and no number an object."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatch.errors import InvalidEvent
from inferwatch.events import CloudEvent
from inferwatch.wire import numbers, structured
from inferwatch.wire.cloudevents import from_http
from inferwatch.wire.kafka import from_kafka
from tests.memory import most_traced

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.just("data"), inner, max_size=4),
    max_leaves=12,
)
HEAD: dict[str, Any] = {"specversion": "1.0", "id": "1", "source": "s", "type": "t"}


def read(body: bytes) -> Any:
    """Return what is parsed where three numbers are a large array, text parsed too."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("_MIN_BYTES", 7), ("_STRIDE", 1), ("MIN_NUMBERS", 3)):
            patch.setattr(numbers, name, value)
        return orjson.loads(orjson.dumps(structured.parsed(body)))


@given(JSON)
def test_what_is_parsed_is_what_a_parser_of_all_gives(value: Any) -> None:
    body = orjson.dumps(value)
    assert read(body) == orjson.loads(body)


@pytest.mark.parametrize(
    "text",
    [
        '{"data": [1], "data": {"a": [2]}}',
        '{"data": [1, 2, 3, 4], "data": {"a": [2, 3.50, null]}, "b": [[1, 2], [3, 4]]}',
        '[{"data": [1], "data": [2]}, {"data": [3]}]',
        '{"data": [18446744073709551616, 1e308, -0.0, 5e-324]}',
        '[1, "text", [2], {"data": [3]}]',
        '{"a/b": {"data": [1]}, "": [2], "data": "text"}',
        '{"data": ' + "[" * 250 + "]" * 250 + "}",
        "3",
    ],
)
def test_unusual_bodies_are_parsed_alike(text: str) -> None:
    assert str(read(text.encode())) == str(orjson.loads(text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[NaN]",
        '{"data": [1, 2, 3, -Infinity]}',
        '{"data": [1, 2, 3, 4]',
        '{"data": [1]} more',
        '{"data": [1}',
        '["\\ud800"]',
        "[\xff]",
        "[" * 2_000,
    ],
)
def test_what_is_no_json_is_refused_by_the_same_name(text: str) -> None:
    with pytest.raises(orjson.JSONDecodeError):
        read(text.encode("latin-1"))


READERS: dict[str, Callable[[bytes], list[CloudEvent | InvalidEvent]]] = {
    "structured": lambda body: from_http([(b"content-type", b"application/cloudevents+json")], body),
    "batch": lambda body: from_http([(b"content-type", b"application/cloudevents-batch+json")], body),
    "kafka, without a content type": lambda body: from_kafka([], body),
}


@pytest.mark.parametrize("form", READERS)
def test_no_number_of_large_data_becomes_an_object(form: str) -> None:
    rows = [[row + column / 8 for column in range(16)] for row in range(8_000)]
    event = HEAD | {"data": {"instances": rows}}
    body = orjson.dumps([event] if form == "batch" else event)
    READERS[form](orjson.dumps(HEAD))
    with most_traced(4 * len(body)):
        (found,) = READERS[form](body)
    assert isinstance(found, CloudEvent)
    assert orjson.loads(found.data) == event["data"]


def test_an_array_is_no_attribute() -> None:
    (found,) = READERS["structured"](orjson.dumps(HEAD | {"list": list(range(300))}))
    assert isinstance(found, InvalidEvent)
    assert [fault.message for fault in found.faults] == ["is an array; allowed is a string"]
