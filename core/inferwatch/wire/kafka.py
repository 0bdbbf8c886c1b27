"""CloudEvents 1.0 on Kafka: pure functions from key, headers and value to events, and back.

Binary mode has an attribute in each `ce_` header, as UTF-8 and nothing else, and the data as the value; structured mode
has the event as JSON in the value, under the content type `application/cloudevents+json`. Messages are keyed by stream,
so that one partition, hence one consumer, has everything of a served model's endpoint, in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import orjson

from inferwatch.clock import format_time
from inferwatch.errors import InvalidEvent
from inferwatch.events import CloudEvent, Stream
from inferwatch.wire.attributes import as_texts, from_attributes
from inferwatch.wire.cloudevents import from_http, to_structured

_PREFIX: Final = "ce_"
_CONTENT_TYPE: Final = "content-type"
_STRUCTURED: Final = "application/cloudevents"


class Message(NamedTuple):
    """A Kafka message without its topic."""

    key: bytes
    headers: Sequence[tuple[str, bytes]]
    value: bytes


def key_of(stream: Stream) -> bytes:
    """Return the key of every message of a stream: namespace, name, component and endpoint."""
    return "/".join(stream).encode(errors="replace")


def to_kafka(event: CloudEvent) -> Message:
    """Return the event in binary mode."""
    texts = [("ce_specversion", "1.0"), ("ce_id", event.id), ("ce_source", event.source), ("ce_type", event.type)]
    if event.time_ns is not None:
        texts.append(("ce_time", format_time(event.time_ns)))
    texts.extend((_PREFIX + name, value) for name, value in event.extensions.items())
    if event.truncated and "truncated" not in event.extensions:
        texts.append(("ce_truncated", "true"))
    if event.content_type:
        texts.append((_CONTENT_TYPE, event.content_type))
    headers = [(name, value.encode(errors="replace")) for name, value in texts]
    return Message(key_of(event.stream), headers, event.data)


def to_kafka_structured(event: CloudEvent) -> Message:
    """Return the event in structured mode."""
    headers = [(_CONTENT_TYPE, b"application/cloudevents+json; charset=utf-8")]
    return Message(key_of(event.stream), headers, to_structured(event))


def from_kafka(headers: Iterable[tuple[str, bytes | None]], value: bytes | None) -> list[CloudEvent | InvalidEvent]:
    """Return the events of a message, one entry each: an event, or every fault of what is none.

    A batch is accepted too; and structured mode without its content type, where no header is an attribute: version 1 of
    the `cloudevents` SDK writes it so. The reasons of `InvalidEvent` are those of `from_http`.
    """
    given = [(name, content) for header, content in headers if content is not None and (name := _attribute(header))]
    texts = as_texts(given)
    attributes = dict(texts)
    if "specversion" not in attributes:
        content_type = attributes.get("datacontenttype", "")
        structured = content_type.lower().startswith(_STRUCTURED)
        if not structured and attributes.keys() <= {"datacontenttype"} and _is_envelope(value):
            structured, content_type = True, f"{_STRUCTURED}+json"
        if structured:
            return from_http([(b"content-type", content_type.encode())], value or b"")
    return [from_attributes(texts, value or b"")]


@lru_cache(maxsize=64)  # a header may be as long as a message
def _attribute(header: str) -> str | None:
    name = header.lower()
    if name == _CONTENT_TYPE:
        return "datacontenttype"
    return name[len(_PREFIX) :] if name.startswith(_PREFIX) and name != "ce_datacontenttype" else None


def _is_envelope(value: bytes | None) -> bool:
    """Whether a value is a JSON object that says which CloudEvents it follows."""
    from inferwatch.wire.structured import parsed  # needs NumPy, which no model server that captures has to load

    try:
        fields = parsed(value or b"")
    except orjson.JSONDecodeError:
        return False
    return isinstance(fields, dict) and "specversion" in fields
