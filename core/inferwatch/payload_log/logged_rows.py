"""Rows of logged requests, as references are made of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from inferwatch.errors import InvalidReference
from inferwatch.events import CloudEvent, Service, Stream
from inferwatch.payload_log.index import PayloadFilter, newest_payloads
from inferwatch.payload_log.joiner import Payload
from inferwatch.payload_log.views import Events, halves, rows_of
from inferwatch.rows import Rows


def logged_rows(
    events: Events,
    connection: sqlite3.Connection,
    service: Service,
    *,
    last: int | None = None,
    since_ns: int | None = None,
    until_ns: int | None = None,
    stream: Stream | None = None,
) -> list[Rows]:
    """Return the rows of a service's requests that count, in the order of the log: the `last` so many, all if None.

    Of a `stream` of the service, or of all endpoints of its predictor. The newest rows decide on the columns: requests
    with other ones are left out.
    """
    wanted = PayloadFilter(service=service, since_ns=since_ns, until_ns=until_ns)
    found: list[Rows] = []
    missing = last
    for _, rows in _requests(events, connection, wanted, stream):
        if found and rows.sources != found[0].sources:
            continue
        if missing is not None:
            rows = rows.slice(max(0, rows.count - missing), rows.count)
            missing -= rows.count
        found.append(rows)
        if missing == 0:
            break
    return found[::-1]


def newest_request(events: Events, connection: sqlite3.Connection, service: Service) -> tuple[CloudEvent, Rows] | None:
    """Return the newest request to a service's predictor that counts, and its rows; None where there is none."""
    return next(_requests(events, connection, PayloadFilter(service=service), None), None)


def _requests(
    events: Events, connection: sqlite3.Connection, wanted: PayloadFilter, stream: Stream | None
) -> Iterator[tuple[CloudEvent, Rows]]:
    """Yield the requests that count and have rows, the newest first."""
    for payload in newest_payloads(connection, wanted):
        if payload.excluded is not None or not _is_of(payload, stream):
            continue
        entry = halves(events, payload)[0]
        rows = rows_of(entry)
        if entry is not None and rows is not None and rows.count:
            yield entry.event, rows


def joined_rows(parts: list[Rows], what: str) -> Rows:
    """Return the rows as one. Raises `InvalidReference` where there are none."""
    if not parts:
        raise InvalidReference(f"{what}: no rows of requests are logged there")
    return Rows.concat(parts)


def _is_of(payload: Payload, stream: Stream | None) -> bool:
    return payload.stream == stream if stream is not None else payload.stream.component == "predictor"
