"""What may be asked of the API: the query parameters of each list, checked before anything is read."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from inferwatch.clock import parse_time
from inferwatch.events import Service
from inferwatch.finding import DetectorKind
from inferwatch.payload_log.findings import FindingFilter
from inferwatch.payload_log.index import PayloadFilter

MAX_LIMIT = 1000

_LATEST_NS = 2**63 - 1


def _instant(text: Any) -> int:  # noqa: ANN401 - whatever a client wrote
    return max(-_LATEST_NS, min(parse_time(str(text)), _LATEST_NS))


def _model(text: str) -> str:
    namespace, _, name = text.partition("/")
    if not (namespace and name):
        raise ValueError("a model is named `namespace/name`")
    return text


def _service(model: str | None) -> Service | None:
    return None if model is None else Service(*model.split("/", 1))


Instant = Annotated[int, BeforeValidator(_instant), WithJsonSchema({"type": "string", "format": "date-time"})]
Model = Annotated[str, AfterValidator(_model)]  # FastAPI would read a tuple as a repeated parameter


class _Query(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class NoQuery(_Query):
    """No parameters."""


class PageQuery(_Query):
    """Which part of a list is wanted."""

    limit: int = Field(100, ge=1, le=MAX_LIMIT)
    """At most so many items."""
    cursor: str | None = None
    """`next` of the part before."""


class FindingQuery(PageQuery):
    """Which findings are wanted."""

    model: Model | None = None
    """`namespace/name`."""
    endpoint: str | None = None
    kind: DetectorKind | None = None
    detector: str | None = None
    """Its name."""
    fired: bool | None = None
    since: Instant | None = None
    """RFC 3339; findings of this time or later."""
    until: Instant | None = None
    """RFC 3339; findings before this time."""

    def wanted(self) -> FindingFilter:
        """Return the filter."""
        return FindingFilter(
            service=_service(self.model),
            endpoint=self.endpoint,
            kind=self.kind,
            detector=self.detector,
            fired=self.fired,
            since_ns=self.since,
            until_ns=self.until,
        )


class PayloadQuery(PageQuery):
    """Which payloads are wanted."""

    model: Model | None = None
    """`namespace/name`."""
    since: Instant | None = None
    """RFC 3339; payloads asked for at this time or later."""
    until: Instant | None = None
    """RFC 3339; payloads asked for before this time."""
    id: str | None = None
    """The events' id."""
    outcome: Literal["paired", "request_only", "response_only"] | None = None
    excluded: str | None = None
    """The reason for which a payload is not judged, such as `explain` or `health`."""
    request_id: str | None = None
    """The `X-Request-Id` that the steps of a graph share."""

    def wanted(self) -> PayloadFilter:
        """Return the filter."""
        return PayloadFilter(
            service=_service(self.model),
            since_ns=self.since,
            until_ns=self.until,
            id=self.id,
            outcome=self.outcome,
            excluded=self.excluded,
            request_id=self.request_id,
        )


def write_cursor(kind: str, position: int | Service) -> str:
    """Return the opaque text that stands for a position in lists of that kind."""
    plain = position if isinstance(position, int) else list(position)
    return urlsafe_b64encode(orjson.dumps([kind, plain])).rstrip(b"=").decode()


def number_of(kind: str, cursor: str | None) -> int | None:
    """Return the number that a cursor stands for, None for no cursor. Raises `ValueError` for a foreign one."""
    match _content(cursor):
        case None:
            return None
        case [found, int(number)] if found == kind and 0 <= number <= _LATEST_NS:
            return number
    raise ValueError(_foreign(cursor))


def service_of(kind: str, cursor: str | None) -> Service | None:
    """Return the service that a cursor stands for, None for no cursor. Raises `ValueError` for a foreign one."""
    match _content(cursor):
        case None:
            return None
        case [found, [str(namespace), str(name)]] if found == kind:
            return Service(namespace, name)
    raise ValueError(_foreign(cursor))


def _content(cursor: str | None) -> Any:  # noqa: ANN401 - any JSON
    if cursor is None:
        return None
    try:
        return orjson.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))) or cursor
    except ValueError as error:
        raise ValueError(_foreign(cursor)) from error


def _foreign(cursor: str | None) -> str:
    return f"cursor: {(cursor or '')[:64]!r} is no cursor of this list; it is to be `next` of the part before"
