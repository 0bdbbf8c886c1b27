"""CloudEvents 1.0 over HTTP: pure functions from headers and body to events, and back.

Modes: binary (`ce-` headers), structured (`application/cloudevents+json`) and batch
(`application/cloudevents-batch+json`). KServe's agent sends binary mode with the request's own content type on the
event, so a structured content type beside `ce-` headers means structured mode only where the body is that same event.

Reading is strict about what identifies an event (`attributes`) and lenient about the rest:

- header values are read as UTF-8, else Latin-1; then unquoted and percent-decoded once, as the HTTP binding asks
  (3.1.3.2). `metadata` and `annotations` that are JSON as they stand are not percent-decoded: KServe sends them raw;
- a repeated `ce-` header is a fault, unless its values are equal.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote

import orjson

from inferwatch.clock import format_time
from inferwatch.errors import Fault, InvalidEvent
from inferwatch.events import CloudEvent
from inferwatch.wire.attributes import CONTEXT, Faults, as_texts, event_of, merged

BATCH_TYPE: Final = "application/cloudevents-batch+json"
"""The content type of several events in one body."""

_NOT_VISIBLE: Final = re.compile(r"[^ -~]")
_ENCODED: Final = re.compile(r"[^!#$&-~]")
"""What the HTTP binding percent-encodes: blank, quote, percent sign, and all that is not visible ASCII."""

_PLAIN: Final = bytes(code for code in range(ord("!"), ord("~") + 1) if not _ENCODED.match(chr(code)))

_JSON_TYPE: Final = re.compile(r"[^;]*[/+]json\s*(?:;|$)", re.IGNORECASE)
_RAW_JSON: Final = ("metadata", "annotations")


def from_http(
    headers: Iterable[tuple[bytes, bytes]], body: bytes, *, truncated: bool = False
) -> list[CloudEvent | InvalidEvent]:
    """Return the events of an HTTP message, one entry each: an event, or every fault of what is none.

    `truncated` says that `body` is the beginning of a longer one. A structured or batch body that cannot be parsed is
    one `InvalidEvent`; an empty batch is an empty list. `InvalidEvent.reason` is one of missing_attribute,
    bad_specversion, bad_time, bad_character, bad_name, bad_type, duplicate_attribute, bad_json, bad_base64,
    ambiguous_data, bad_format, too_large.
    """
    faults = Faults()
    attributes = _read_headers(headers, faults)
    content_type = attributes.get("datacontenttype", "")
    if content_type[:23].lower() == "application/cloudevents":
        events = _from_body(content_type, body, truncated)
        if _same_event(events, attributes):
            return events
    try:
        return [event_of(attributes, body, truncated, faults)]
    except InvalidEvent as invalid:
        return [invalid]


def to_http(event: CloudEvent) -> tuple[str, bytes]:
    """Return the header lines and the body of the event in binary mode, values percent-encoded as the binding asks."""
    identity, source, kind, extensions = event.id, event.source, event.type, event.extensions
    if not _is_plain("".join((identity, source, kind, *extensions.values()))):
        identity, source, kind = map(_encode, (identity, source, kind))
        extensions = {name: _encode(value) for name, value in extensions.items()}
    lines = f"ce-specversion: 1.0\r\nce-id: {identity}\r\nce-source: {source}\r\nce-type: {kind}\r\n"
    if event.time_ns is not None:
        lines += f"ce-time: {format_time(event.time_ns)}\r\n"
    lines += "".join([f"ce-{name}: {value}\r\n" for name, value in extensions.items()])
    if event.truncated and "truncated" not in extensions:
        lines += "ce-truncated: true\r\n"
    if event.content_type:
        lines += f"content-type: {_NOT_VISIBLE.sub('', event.content_type)}\r\n"
    return lines, event.data


def to_structured(event: CloudEvent) -> bytes:
    """Return the event as one JSON object: JSON data as JSON, other text as a string, anything else in base64."""
    return orjson.dumps(_fields(event) | _data_field(event))


def to_batch(events: Iterable[CloudEvent]) -> bytes:
    """Return events as one JSON array. Data is in base64, so that the receiver has the bytes as they are."""
    members = []
    for event in events:
        fields = _fields(event)
        if event.data:
            fields["data_base64"] = b64encode(event.data).decode()
        members.append(fields)
    return orjson.dumps(members)


def from_structured(fields: Mapping[str, Any]) -> CloudEvent:
    """Return the event of a parsed JSON object.

    JSON data is written anew, with the same values, and compactly but for large arrays of numbers.
    Raises `InvalidEvent` with every fault.
    """
    faults = Faults()
    attributes = _read_fields(fields, faults)
    data = _read_data(fields, attributes.get("datacontenttype"), faults)
    return event_of(attributes, data, False, faults)


def _from_body(content_type: str, body: bytes, truncated: bool) -> list[CloudEvent | InvalidEvent]:
    from inferwatch.wire.structured import parsed  # needs NumPy, which no model server that captures has to load

    kind = content_type.partition(";")[0].strip().lower()
    if kind not in ("application/cloudevents", "application/cloudevents+json", BATCH_TYPE):
        return [_invalid("bad_format", f"{kind[:64]!r} is not supported; JSON is")]
    batch = "batch" in kind
    if truncated:
        return [_invalid("too_large", "the body is larger than the receiver keeps, so its events cannot be read")]
    try:
        members = parsed(body)
    except orjson.JSONDecodeError as error:
        return [_invalid("bad_json", str(error))]
    if batch and not isinstance(members, list):
        return [_invalid("bad_json", "a batch is a JSON array of events")]
    return [_member(fields) for fields in (members if batch else [members])]


def _member(fields: Any) -> CloudEvent | InvalidEvent:  # noqa: ANN401 - any JSON
    if not isinstance(fields, dict):
        return _invalid("bad_json", "an event is a JSON object")
    try:
        return from_structured(fields)
    except InvalidEvent as invalid:
        return invalid


def _is_plain(text: str) -> bool:
    """Say whether nothing of the text is to be encoded, in a quarter of the time that a search takes."""
    return text.isascii() and not text.encode().translate(None, _PLAIN)


def _invalid(reason: str, message: str) -> InvalidEvent:
    return InvalidEvent([Fault("", message)], reason)


def _same_event(events: list[CloudEvent | InvalidEvent], attributes: Mapping[str, str]) -> bool:
    given = [name for name in ("id", "type") if name in attributes]
    if not given:
        return True
    event = events[0] if len(events) == 1 else None
    return isinstance(event, CloudEvent) and all(getattr(event, name) == attributes[name] for name in given)


def _read_headers(headers: Iterable[tuple[bytes, bytes]], faults: Faults) -> dict[str, str]:
    pairs = [(name, value) for header, value in headers if (name := _attribute(header)) is not None]
    texts = as_texts(pairs)
    attributes = dict(texts)
    if len(attributes) < len(texts):
        attributes = merged([(name, _decode(name, text)) for name, text in texts], faults)
    else:
        joined = " ".join(attributes.values())
        if "%" in joined or ' "' in joined or joined[:1] == '"':
            attributes = {name: _decode(name, text) for name, text in texts}
    return attributes


@lru_cache(maxsize=1024)
def _attribute(header: bytes) -> str | None:
    name = header.decode("latin-1").lower()
    if name == "content-type":
        return "datacontenttype"
    return name[3:] if name.startswith("ce-") and name != "ce-datacontenttype" else None


def _decode(attribute: str, text: str) -> str:
    if ("%" not in text and text[:1] != '"') or attribute == "datacontenttype":
        return text
    if attribute in _RAW_JSON:
        try:
            orjson.loads(text)
        except orjson.JSONDecodeError:
            pass
        else:
            return text
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = re.sub(r"\\(.)", r"\1", text[1:-1])
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        return text


def _encode(value: str) -> str:
    if value.isascii() and value.isprintable():  # as almost all are; of these, three are encoded
        return value.replace("%", "%25").replace(" ", "%20").replace('"', "%22")
    return _ENCODED.sub(lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "replace")), value)


def _written(data: Any, faults: Faults) -> bytes:  # noqa: ANN401 - any JSON
    try:
        return orjson.dumps(data)
    except orjson.JSONEncodeError:
        faults.note("bad_json", "data", "is nested more than 254 levels deep")
        return b""


def _read_fields(fields: Mapping[str, Any], faults: Faults) -> dict[str, str]:
    attributes: dict[str, str] = {}
    for given, value in fields.items():
        name = given.lower()
        if value is None or name in ("data", "data_base64"):
            continue
        if isinstance(value, str):
            text = value
        elif isinstance(value, (bool, int, float)) and name not in CONTEXT:
            text = orjson.dumps(value).decode()
        else:
            faults.note("bad_type", name[:64], f"is {_type_name(value)}; allowed is a string")
            continue
        if attributes.setdefault(name, text) != text:
            faults.note("duplicate_attribute", name[:64], "is given twice with different values")
    return attributes


def _type_name(value: Any) -> str:  # noqa: ANN401 - any JSON
    names = {dict: "an object", list: "an array", orjson.Fragment: "an array", bool: "a boolean"}
    return names.get(type(value), "a number")


def _read_data(fields: Mapping[str, Any], content_type: str | None, faults: Faults) -> bytes:
    encoded, data = fields.get("data_base64"), fields.get("data")
    if encoded is None:
        if data is None:
            return b""
        text = isinstance(data, str) and content_type is not None and not _JSON_TYPE.match(content_type)
        return data.encode() if text else _written(data, faults)
    if data is not None:
        faults.note("ambiguous_data", "data", "is given beside data_base64; only one of them is allowed")
    if not isinstance(encoded, str):
        faults.note("bad_type", "data_base64", f"is {_type_name(encoded)}; allowed is a string")
        return b""
    try:
        return b64decode(encoded, validate=True)
    except ValueError as error:
        faults.note("bad_base64", "data_base64", str(error))
        return b""


def _fields(event: CloudEvent) -> dict[str, str]:
    fields = event.attributes()
    if event.truncated:
        fields.setdefault("truncated", "true")
    return fields


def _data_field(event: CloudEvent) -> dict[str, Any]:
    if not event.data:
        return {}
    if event.content_type is None or _JSON_TYPE.match(event.content_type):
        try:
            orjson.loads(event.data)
        except orjson.JSONDecodeError:
            return {"data_base64": b64encode(event.data).decode()}
        return {"data": orjson.Fragment(event.data)}
    try:
        return {"data": event.data.decode()}
    except UnicodeDecodeError:
        return {"data_base64": b64encode(event.data).decode()}
