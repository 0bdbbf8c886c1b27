"""One payload as people read it: its bodies value for value, and its rows as a table."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import orjson

from inferwatch.cells import as_json
from inferwatch.clock import format_time
from inferwatch.explanation_event import row_marks
from inferwatch.payload_log.entry import Entry
from inferwatch.payload_log.joiner import Payload
from inferwatch.payload_log.views import column_names, rows_of
from inferwatch.rows import Rows, Schema
from inferwatch_logger.replies import PayloadItem


@dataclass(frozen=True, slots=True)
class Table:
    """Rows as JSON-ready cells: the request's columns, then the response's; one list an instance."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True, slots=True)
class PayloadView:
    """A payload, the events it is made of, its rows where they can be decoded, and what was found about it.

    `steps` are the payloads of other streams that share its id: a graph's other steps. `explanations` are of its rows.
    """

    payload: Payload
    request: Entry | None
    response: Entry | None
    table: Table | None
    findings: Sequence[Mapping[str, Any]]
    steps: Sequence[Payload] = ()
    explanations: Sequence[Mapping[str, Any]] = ()

    def as_json(self) -> bytes:
        """Return the payload as the API shows it. Bodies that are JSON appear byte for byte."""
        shown = payload_item(self.payload).model_dump()
        shown["request"] = self.request and _half(self.request)
        shown["response"] = self.response and _half(self.response)
        shown["decoded"] = self.table and {"columns": self.table.columns, "rows": self.table.rows}
        shown["findings"] = list(self.findings)
        shown["explanations"] = list(self.explanations)
        shown["steps"] = [payload_item(step).model_dump() for step in self.steps]
        return orjson.dumps(shown)


def payload_item(payload: Payload) -> PayloadItem:
    """Return a payload as lists show it."""
    return PayloadItem(
        key=payload.key,
        id=payload.id,
        **payload.stream._asdict(),
        request_time=_time(payload.request_time_ns),
        response_time=_time(payload.response_time_ns),
        outcome=payload.outcome,
        protocol=payload.protocol,
        rows=payload.rows,
        status=payload.status,
        truncated=payload.truncated,
        excluded=payload.excluded,
        fault=payload.fault,
        request_id=payload.request_id,
    )


def decoded_table(request: Entry | None, response: Entry | None, schema: Schema | None) -> Table | None:
    """Return the rows of both halves side by side; the shorter half, where they differ, ends in nulls.

    The request's columns bear the names of the schema where they are matched to it by order.
    """
    asked, answered = rows_of(request), rows_of(response)
    if asked is None and answered is None:
        return None
    names = column_names(asked, schema.names if schema is not None else ()) if asked is not None else ()
    parts = [_cells(rows) for rows in (asked, answered) if rows is not None]
    blanks = [[None] * len(rows.columns) for rows in (asked, answered) if rows is not None]
    lines = [
        [cell for cells, blank in zip(line, blanks, strict=True) for cell in (cells if cells is not None else blank)]
        for line in zip_longest(*parts)
    ]
    return Table((*names, *(answered.names if answered is not None else ())), lines)


def marks_of(request: Entry | None, schema: Schema | None) -> list[str]:
    """Return the marks of the request's rows, by which explanations of equal rows are found."""
    asked = rows_of(request)
    return [] if asked is None else row_marks(asked, column_names(asked, schema.names if schema is not None else ()))


def _cells(rows: Rows) -> list[list[Any]]:
    if not rows.columns:
        return [[] for _ in range(rows.count)]
    columns = [
        [as_json(cell, _text) for cell in cells] if column.values.dtype == object else cells
        for column in rows.columns
        for cells in [column.values.tolist()]
    ]
    return [list(line) for line in zip(*columns, strict=True)]


def _text(data: bytes) -> str | dict[str, str]:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(data).decode()}


def _half(entry: Entry) -> dict[str, Any]:
    event = entry.event
    return {"attributes": event.attributes(), "content_type": event.content_type, "body": _body(event.data)}


def _body(data: bytes) -> Any:  # noqa: ANN401 - any JSON
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        return {"base64": b64encode(data).decode()}
    return orjson.Fragment(data)  # parsing it would round integers beyond 64 bits


def _time(instant_ns: int | None) -> str | None:
    return None if instant_ns is None else format_time(instant_ns)
