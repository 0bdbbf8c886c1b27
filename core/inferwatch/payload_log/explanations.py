"""Which explanations the log holds, and which of them are about a payload.

The explanations themselves stay in the journal. They are joined when a payload is looked at, so it does not matter
which of the two came first.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from inferwatch.clock import format_time
from inferwatch.events import Service
from inferwatch.explanation_event import ExplanationEvent
from inferwatch.payload_log.joiner import Payload
from inferwatch.payload_log.views import Events

Offset = int
"""Where in the journal an event lies."""


def save_explanations(connection: sqlite3.Connection, told: Iterable[tuple[Offset, ExplanationEvent]]) -> None:
    """Note which explanations there are, in a transaction of the state."""
    for offset, each in told:
        connection.execute(
            "INSERT OR IGNORE INTO explanations (log_offset, namespace, name, time_ns, payload_id, request_id)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (offset, *each.service, each.time_ns, each.payload_id, each.request_id),
        )
        connection.executemany(
            "INSERT OR IGNORE INTO explained_rows (namespace, name, mark, log_offset) VALUES (?, ?, ?, ?)",
            [(*each.service, mark, offset) for mark in each.marks],
        )


def offsets_about(
    connection: sqlite3.Connection,
    service: Service,
    ids: Iterable[str],
    request_ids: Iterable[str],
    marks: Iterable[str],
) -> list[Offset]:
    """Return where the explanations lie that name one of these ids or are of a row with one of these marks."""
    query = (
        "SELECT log_offset FROM explanations WHERE namespace = :namespace AND name = :name"
        " AND payload_id IN (SELECT value FROM json_each(:ids))"
        " UNION SELECT log_offset FROM explanations WHERE namespace = :namespace AND name = :name"
        " AND request_id IN (SELECT value FROM json_each(:request_ids))"
        " UNION SELECT log_offset FROM explained_rows WHERE namespace = :namespace AND name = :name"
        " AND mark IN (SELECT value FROM json_each(:marks)) ORDER BY log_offset DESC"
    )
    lists = {"ids": ids, "request_ids": request_ids, "marks": marks}
    names = service._asdict() | {name: orjson.dumps(list(texts)).decode() for name, texts in lists.items()}
    return [int(offset) for (offset,) in connection.execute(query, names)]


def list_explanations(
    connection: sqlite3.Connection, service: Service, since_ns: int | None, until_ns: int | None
) -> list[Offset]:
    """Return where the explanations of a service lie, in the order of the log, from `since_ns` to before `until_ns`."""
    query = (
        "SELECT log_offset FROM explanations WHERE namespace = :namespace AND name = :name"
        " AND (:since IS NULL OR time_ns >= :since) AND (:until IS NULL OR time_ns < :until) ORDER BY log_offset"
    )
    names = service._asdict() | {"since": since_ns, "until": until_ns}
    return [int(offset) for (offset,) in connection.execute(query, names)]


def explanations_of(
    events: Events, offsets: Sequence[Offset], payload: Payload, marks: Sequence[str], limit: int
) -> list[dict[str, Any]]:
    """Return what the explanations at these offsets say of a payload, in their order, at most `limit` rows explained.

    `row` is the place of the explained row in the payload, None where no row of it is equal. A call that names the
    payload belongs to it whole; of others only the equal rows do.
    """
    places = {mark: row for row, mark in reversed(list(enumerate(marks)))}
    found: list[dict[str, Any]] = []
    for offset in offsets:
        entry = events.get(offset)
        told = None if entry is None else ExplanationEvent.of(entry.event)
        if told is not None:
            found += _about(told, payload, places)
        if len(found) >= limit:
            break
    return found[:limit]


def _about(told: ExplanationEvent, payload: Payload, places: Mapping[str, int]) -> list[dict[str, Any]]:
    named = told.payload_id == payload.id or (payload.request_id is not None and told.request_id == payload.request_id)
    rows = [places.get(mark) for mark in told.marks]
    one_each = len(rows) == len(told.entries)
    identity = {"id": told.id, "time": format_time(told.time_ns)}
    return [
        {**entry, **identity, "row": row}
        for entry, row in zip(told.entries, rows if one_each else [None] * len(told.entries), strict=True)
        if named or row is not None or not one_each
    ]


def forget_explanations(connection: sqlite3.Connection, service: Service, before_ns: int) -> None:
    """Forget the explanations of a service that are older, in a transaction of the state."""
    _forget(connection, "namespace = ? AND name = ? AND time_ns < ?", (*service, before_ns))


def forget_doomed_explanations(connection: sqlite3.Connection) -> None:
    """Forget the explanations whose offset is in the table `doomed`, in a transaction of the state."""
    _forget(connection, "log_offset IN (SELECT offset FROM doomed)", ())


def _forget(connection: sqlite3.Connection, where: str, values: Sequence[Any]) -> None:
    doomed = f"SELECT log_offset FROM explanations WHERE {where}"  # noqa: S608 - the callers above
    connection.execute(f"DELETE FROM explained_rows WHERE log_offset IN ({doomed})", values)  # noqa: S608
    connection.execute(f"DELETE FROM explanations WHERE {where}", values)  # noqa: S608
