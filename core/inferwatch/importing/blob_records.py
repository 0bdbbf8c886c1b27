"""Records of KServe's blob log: what its agent writes to object storage, as JSON, CSV or Parquet.

A record holds one body in base64, its attributes under names of their own, and no time where the agent is older or the
format is CSV or Parquet; the file's time then stands for it.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import orjson

from inferwatch.clock import format_time
from inferwatch.errors import Fault, InvalidEvent
from inferwatch.events import REQUEST_TYPE, RESPONSE_TYPE, CloudEvent, Service
from inferwatch.wire.cloudevents import from_structured

_FIELDS: Final = frozenset({"id", "reqType", "bytes"})
_TYPES: Final = {"request": REQUEST_TYPE, "response": RESPONSE_TYPE}


def is_record(record: Mapping[str, Any]) -> bool:
    """Return whether the fields are those of a record. JSON leaves `bytes` out where the body was empty."""
    return {"id", "reqType"} <= record.keys()


def is_table(names: list[str]) -> bool:
    """Return whether the columns of a table are the fields of records."""
    return set(names) >= _FIELDS


def event(record: Mapping[str, Any], service: Service, file_time_ns: int) -> CloudEvent:
    """Return the event of a record, as one of that service. Raises `InvalidEvent` with every fault."""
    kind = record.get("reqType")
    attributes = {
        "specversion": "1.0",
        "id": record.get("id"),
        "source": _source(record.get("sourceUri")),
        "type": _TYPES.get(kind, kind) if isinstance(kind, str) else kind,
        "time": _time(record.get("occurrenceTime"), file_time_ns),
        "datacontenttype": record.get("contentType") or None,
        "namespace": service.namespace,
        "inferenceservicename": service.name,
        "component": record.get("component") or None,
        "endpoint": record.get("endpoint") or None,
        "metadata": _json_text(record.get("metadata")),
        "annotations": _json_text(record.get("annotations")),
    }
    return replace(from_structured(attributes), data=_body(record.get("bytes")))


def _time(stated: Any, file_time_ns: int) -> Any:  # noqa: ANN401 - any JSON
    is_zero = isinstance(stated, str) and stated.startswith("0001-")  # as Go writes a time that nobody set
    return stated if stated and not is_zero else format_time(file_time_ns)


def _source(uri: Any) -> str:  # noqa: ANN401 - any JSON
    """Return the URI, which Go writes as an object."""
    if isinstance(uri, dict):
        scheme, host, path = (str(uri.get(part) or "") for part in ("Scheme", "Host", "Path"))
        return f"{scheme}://{host}{path}" if host else path or "kserve"
    return str(uri) if uri else "kserve"


def _json_text(value: Any) -> str | None:  # noqa: ANN401 - any JSON
    if isinstance(value, dict):
        return orjson.dumps(value).decode()
    return value if isinstance(value, str) and value else None


def _body(text: Any) -> bytes:  # noqa: ANN401 - any JSON
    try:
        return b64decode(text or b"", validate=True)
    except (TypeError, ValueError) as error:
        raise InvalidEvent([Fault("bytes", f"is no base64: {error}")], "bad_base64") from error
