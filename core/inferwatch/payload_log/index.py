"""The index of joined payloads: who, when, what came of it, and where in the journal its two halves lie."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from inferwatch.events import Role, Service, Stream
from inferwatch.payload_log.joiner import Payload, Sought

_COLUMNS = (
    "payloads.key, payloads.id, namespace, name, component, endpoint, protocol, payloads.rows, request_offset,"
    " response_offset, request_ns, response_ns, status, truncated, excluded, fault,"
    " sender, request_id"
)
_FROM = "FROM payloads JOIN streams ON streams.number = payloads.stream"
_PAGE = 1_000
_INT64 = np.iinfo(np.int64)
_OUTCOMES = {
    "paired": "request_offset IS NOT NULL AND response_offset IS NOT NULL",
    "request_only": "response_offset IS NULL",
    "response_only": "request_offset IS NULL",
}


@dataclass(frozen=True, slots=True)
class PayloadFilter:
    """Which payloads to list. Times are event times; `outcome` is `paired`, `request_only` or `response_only`."""

    service: Service | None = None
    since_ns: int | None = None
    until_ns: int | None = None
    id: str | None = None
    key: str | None = None
    outcome: str | None = None
    excluded: str | None = None
    request_id: str | None = None

    def clauses(self) -> tuple[list[str], list[Any]]:
        """Return SQL conditions and their parameters."""
        pairs: list[tuple[str, list[Any]]] = []
        if self.service is not None:
            pairs.append(("namespace = ? AND name = ?", list(self.service)))
        if self.since_ns is not None:
            pairs.append(("time_ns >= ?", [self.since_ns]))
        if self.until_ns is not None:
            pairs.append(("time_ns < ?", [self.until_ns]))
        if self.id is not None:
            pairs.append(("payloads.id = ?", [self.id]))
        if self.key is not None:
            pairs.append(("payloads.key = ?", [self.key]))
        if self.outcome is not None:
            pairs.append((_OUTCOMES[self.outcome], []))
        if self.excluded is not None:
            pairs.append(("excluded = ?", [self.excluded]))
        if self.request_id is not None:
            pairs.append(("request_id = ?", [self.request_id]))
        return [clause for clause, _ in pairs], [value for _, values in pairs for value in values]


MOST_NUMBERS = 10_000
"""Numbers of streams kept in memory: senders invent names, and those of all are in the table."""


class PayloadWriter:
    """Writes payloads within a transaction of the state. Streams are numbered as they appear."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._numbers: dict[Stream, int] = {}

    def save(self, payloads: Iterable[Payload]) -> None:
        """Insert the payloads, or replace what is known of those whose other half came."""
        self._connection.executemany(
            "INSERT INTO payloads (key, id, stream, protocol, rows, request_offset, response_offset, request_ns,"
            " response_ns, time_ns, status, truncated, excluded, fault, sender, request_id)"
            " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
            " ON CONFLICT (key) DO UPDATE SET protocol = excluded.protocol, rows = excluded.rows,"
            " request_offset = excluded.request_offset, response_offset = excluded.response_offset,"
            " request_ns = excluded.request_ns, response_ns = excluded.response_ns, time_ns = excluded.time_ns,"
            " status = excluded.status, truncated = excluded.truncated, excluded = excluded.excluded,"
            " fault = excluded.fault, request_id = excluded.request_id",
            [self._values(payload) for payload in payloads],
        )

    def count(self, counts: Iterable[tuple[Stream, int, int, int]]) -> None:
        """Add (stream, events, rows, latest event time in ns) to what the streams have brought."""
        self._connection.executemany(
            "UPDATE streams SET events = events + ?, rows = rows + ?, last_event_ns = max(last_event_ns, ?)"
            " WHERE number = ?",
            [(events, rows, latest, self._number(stream)) for stream, events, rows, latest in counts],
        )

    def _values(self, payload: Payload) -> tuple[Any, ...]:
        return (
            payload.key,
            payload.id,
            self._number(payload.stream),
            payload.protocol,
            payload.rows,
            payload.request_offset,
            payload.response_offset,
            payload.request_time_ns,
            payload.response_time_ns,
            payload.time_ns,
            payload.status,
            payload.truncated,
            payload.excluded,
            payload.fault,
            payload.sender,
            payload.request_id,
        )

    def _number(self, stream: Stream) -> int:
        number = self._numbers.get(stream)
        if number is None:
            if len(self._numbers) >= MOST_NUMBERS:
                self._numbers.clear()
            number = self._numbers[stream] = self._found(stream) or self._added(stream)
        return number

    def _found(self, stream: Stream) -> int | None:
        query = "SELECT number FROM streams WHERE namespace = ? AND name = ? AND component = ? AND endpoint = ?"
        row = self._connection.execute(query, stream).fetchone()
        return None if row is None else int(row[0])

    def _added(self, stream: Stream) -> int:
        cursor = self._connection.execute(
            "INSERT INTO streams (namespace, name, component, endpoint) VALUES (?, ?, ?, ?)", stream
        )
        return int(cursor.lastrowid or 0)


def list_payloads(
    connection: sqlite3.Connection, wanted: PayloadFilter, *, before: int | None = None, limit: int = 100
) -> list[tuple[int, Payload]]:
    """Return (number, payload) of the wanted payloads, newest first, below number `before`."""
    clauses, values = wanted.clauses()
    if before is not None:
        clauses.append("payloads.number < ?")
        values.append(before)
    where = f"WHERE {' AND '.join(clauses)}" if clauses else ""
    query = f"SELECT payloads.number, {_COLUMNS} {_FROM} {where} ORDER BY payloads.number DESC LIMIT ?"
    return [(int(row[0]), _payload(row[1:])) for row in connection.execute(query, (*values, limit))]


def newest_payloads(connection: sqlite3.Connection, wanted: PayloadFilter) -> Iterator[Payload]:
    """Yield every wanted payload, newest first."""
    before: int | None = None
    while page := list_payloads(connection, wanted, before=before, limit=_PAGE):
        yield from (payload for _, payload in page)
        before = page[-1][0]


def steps_of(connection: sqlite3.Connection, payload: Payload, within_ns: int, limit: int) -> list[Payload]:
    """Return what other streams were asked under the payload's id or request id, oldest first, at most `limit`.

    These are the steps of a graph, or of a chain of models that pass such an id on. Ids are used again, so only what is
    at most `within_ns` away counts.
    """
    shared = [("payloads.id = ? AND sender = ''", payload.id)] if not payload.sender else []
    if payload.request_id is not None:
        shared.append(("request_id = ?", payload.request_id))
    if not shared:
        return []
    query = (
        f"SELECT {_COLUMNS} {_FROM} WHERE ({' OR '.join(clause for clause, _ in shared)}) AND time_ns BETWEEN ? AND ?"
        " AND NOT (namespace = ? AND name = ? AND component = ? AND endpoint = ?)"
        " ORDER BY time_ns, payloads.number LIMIT ?"
    )
    bounds = max(payload.time_ns - within_ns, _INT64.min), min(payload.time_ns + within_ns, _INT64.max)
    values = (*(value for _, value in shared), *bounds, *payload.stream, limit)
    return [_payload(row) for row in connection.execute(query, values)]


def open_payloads(connection: sqlite3.Connection, sought: Sought) -> list[Payload]:
    """Return the payloads that a half may complete."""
    lacking = "request_offset" if sought.lacking is Role.REQUEST else "response_offset"
    query = (
        f"SELECT {_COLUMNS} {_FROM} WHERE payloads.id = ? AND time_ns BETWEEN ? AND ? AND {lacking} IS NULL"
        " AND namespace = ? AND name = ? AND component = ? AND endpoint = ? AND sender = ?"
        " ORDER BY payloads.number"
    )
    bounds = max(sought.from_ns, _INT64.min), min(sought.to_ns, _INT64.max)
    return [_payload(row) for row in connection.execute(query, (sought.id, *bounds, *sought.stream, sought.sender))]


def recently_open(connection: sqlite3.Connection, since_ns: int, limit: int) -> list[Payload]:
    """Return the payloads that lack a half and whose time is `since_ns` or later, oldest first, the newest `limit`."""
    query = (
        f"SELECT {_COLUMNS} {_FROM} WHERE (request_offset IS NULL OR response_offset IS NULL) AND time_ns >= ?"
        " ORDER BY payloads.number DESC LIMIT ?"
    )
    return [_payload(row) for row in connection.execute(query, (since_ns, limit))][::-1]


def _payload(row: Sequence[Any]) -> Payload:
    key, payload_id, namespace, name, component, endpoint, protocol, rows, *rest = row
    request_offset, response_offset, request_ns, response_ns, status, truncated, excluded, fault, sender, request_id = (
        rest
    )
    return Payload(
        key=key,
        id=payload_id,
        stream=Stream(namespace, name, component, endpoint),
        protocol=protocol,
        rows=rows,
        request_offset=request_offset,
        response_offset=response_offset,
        request_time_ns=request_ns,
        response_time_ns=response_ns,
        status=status,
        truncated=bool(truncated),
        excluded=excluded,
        fault=fault,
        sender=sender,
        request_id=request_id,
    )
