"""Lines of SageMaker's data capture: one inference each, its input and its output.

Bodies that were captured as JSON or base64 stay as they are. CSV becomes the V1 protocol, because a body of text alone
says nothing of rows: its lines are the instances, or the predictions, numbers where a field is one. Where an endpoint
was not told which content types are CSV, that is in base64, and only the content type says so.
"""

from __future__ import annotations

import csv
from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

import orjson

from inferwatch.clock import format_time, parse_time
from inferwatch.errors import Fault, InvalidEvent
from inferwatch.events import REQUEST_TYPE, RESPONSE_TYPE, CloudEvent, Service

_HALVES: Final = (("endpointInput", REQUEST_TYPE, "instances"), ("endpointOutput", RESPONSE_TYPE, "predictions"))


def is_line(record: Mapping[str, Any]) -> bool:
    """Return whether the fields are those of a captured inference."""
    return isinstance(record.get("captureData"), dict)


def events(record: Mapping[str, Any], service: Service, file_time_ns: int) -> Iterator[CloudEvent]:
    """Yield the request and the response of a line, as of that service. Raises `InvalidEvent`."""
    about = record.get("eventMetadata")
    about = about if isinstance(about, dict) else {}
    identity = about.get("inferenceId") or about.get("eventId")
    if not isinstance(identity, str):
        raise InvalidEvent([Fault("eventMetadata.eventId", "is missing")], "missing_attribute")
    time_ns = _time(about.get("inferenceTime") or format_time(file_time_ns))
    for field, kind, rows in _HALVES:
        half = record["captureData"].get(field)
        if isinstance(half, dict):
            content_type = half.get("observedContentType")
            yield CloudEvent(
                id=identity,
                source="sagemaker",
                type=kind,
                time_ns=time_ns,
                content_type=content_type if isinstance(content_type, str) else None,
                extensions={"namespace": service.namespace, "inferenceservicename": service.name},
                data=_body(half, rows, field),
            )


def _time(text: Any) -> int:  # noqa: ANN401 - any JSON
    try:
        return parse_time(text if isinstance(text, str) else str(text))
    except ValueError as error:
        raise InvalidEvent([Fault("eventMetadata.inferenceTime", str(error))], "bad_time") from error


def _body(half: Mapping[str, Any], rows: str, field: str) -> bytes:
    data, encoding = half.get("data", ""), half.get("encoding")
    if not isinstance(data, str):
        raise InvalidEvent([Fault(f"captureData.{field}.data", "is no text")], "bad_type")
    if encoding == "CSV":
        return orjson.dumps({rows: _lines(data)})
    if encoding != "BASE64":
        return data.encode()
    try:
        body = b64decode(data, validate=True)
    except ValueError as error:
        raise InvalidEvent([Fault(f"captureData.{field}.data", f"is no base64: {error}")], "bad_base64") from error
    if str(half.get("observedContentType")).partition(";")[0].strip().lower() == "text/csv":
        with suppress(UnicodeDecodeError):
            return orjson.dumps({rows: _lines(body.decode())})
    return body


def _lines(text: str) -> list[Any]:
    """Return the rows of CSV; of a single column, its values."""
    rows = [[_value(field) for field in row] for row in csv.reader(text.splitlines()) if row]
    return [row[0] for row in rows] if rows and all(len(row) == 1 for row in rows) else rows


def _value(field: str) -> Any:  # noqa: ANN401 - a number, text, or nothing
    text = field.strip()
    for kind in (int, float) if "_" not in text else ():  # Python reads 1_000 as a number
        try:
            number = kind(text)
        except ValueError:
            continue
        return number if -(2**63) <= number < 2**64 else float(number)
    return text or None
