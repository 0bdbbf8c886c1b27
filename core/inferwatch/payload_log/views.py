"""Reading the payload log: counts of what came, and payloads with their bodies, from any process."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import orjson

from inferwatch.closing import Closing
from inferwatch.derived import columns_of, derivable
from inferwatch.events import Role, Service
from inferwatch.payload_log.database import open_database, translated
from inferwatch.payload_log.entry import Entry
from inferwatch.payload_log.joiner import Payload
from inferwatch.payload_log.ledger import Ledger
from inferwatch.payload_log.state import FILE_NAME, SCHEMA
from inferwatch.reference import Reference
from inferwatch.rows import Rows
from inferwatch.wire.decode import decode

RECENT_PAYLOADS = 1000
"""What is said of recent traffic is said of so many payloads."""


class Events(Protocol):
    """The raw events: a `Journal`, or a `JournalReader` in another process."""

    def get(self, offset: int, /) -> Entry | None:
        """Return the entry at an offset; None where there is none."""
        ...

    def ledger(self) -> Ledger:
        """Return the account of every event received."""
        ...


class Derived(Protocol):
    """What was derived from them: a `State`, or a `StateReader` in another process."""

    def read(self) -> AbstractContextManager[sqlite3.Connection]:
        """Yield a connection to read with."""
        ...


class StateReader(Closing):
    """Reads the derived state while another process writes it. Thread-safe; raises `PayloadLogError`."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE_NAME
        self._lock = threading.Lock()
        self._connection = open_database(self._path, SCHEMA, read_only=True)

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection; one thread at a time."""
        with self._lock, translated(self._path):
            yield self._connection

    def close(self) -> None:
        """Release the file."""
        with self._lock:
            self._connection.close()


@dataclass(frozen=True, slots=True)
class ServiceCounts:
    """What a service has brought: events, rows of requests, and the latest event time."""

    service: Service
    events: int
    rows: int
    last_event_ns: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """The newest payloads of a service that count: how many, how many have each half, how many nobody can decode.

    `fault` says why the newest of those cannot be decoded.
    """

    payloads: int
    requests: int
    responses: int
    faults: int
    fault: str | None


@dataclass(frozen=True, slots=True)
class DetectorState:
    """A detector of a stream and its state, without the rest of its status."""

    service: Service
    component: str
    detector: str
    method: str
    state: str
    last_run_ns: int | None


def count_services(connection: sqlite3.Connection) -> list[ServiceCounts]:
    """Return what every service has brought, over all its streams, by name."""
    query = (
        "SELECT namespace, name, sum(events), sum(rows), max(last_event_ns) FROM streams"
        " GROUP BY namespace, name ORDER BY namespace, name"
    )
    return [ServiceCounts(Service(*row[:2]), *row[2:]) for row in connection.execute(query)]


def count_unpaired(connection: sqlite3.Connection, service: Service, timeout_ns: int) -> tuple[int, int]:
    """Return how many requests, and how many responses, stayed alone for longer than `timeout_ns` of event time.

    The cost is linear in the halves that stayed alone.
    """
    query = (
        "SELECT count(request_offset), count(response_offset) FROM payloads JOIN streams ON streams.number = stream"
        " WHERE namespace = ? AND name = ? AND (request_offset IS NULL OR response_offset IS NULL)"
        " AND time_ns < last_event_ns - ?"
    )
    requests, responses = connection.execute(query, (*service, timeout_ns)).fetchone()
    return int(requests), int(responses)


def recent_traffic(connection: sqlite3.Connection, service: Service, limit: int = RECENT_PAYLOADS) -> Traffic:
    """Return what the newest `limit` payloads of each stream of the service are like, excluded ones left out."""
    streams = "SELECT number FROM streams WHERE namespace = ? AND name = ?"
    newest = (
        "SELECT number, request_offset, response_offset, fault, excluded FROM payloads WHERE stream = ?"
        " ORDER BY number DESC LIMIT ?"
    )
    rows = [
        row
        for (stream,) in connection.execute(streams, service).fetchall()
        for row in connection.execute(newest, (stream, limit))
        if row[4] is None
    ]
    faults = [(row[0], row[3]) for row in rows if row[3] is not None]
    return Traffic(
        payloads=len(rows),
        requests=sum(row[1] is not None for row in rows),
        responses=sum(row[2] is not None for row in rows),
        faults=len(faults),
        fault=max(faults)[1] if faults else None,
    )


def detector_states(connection: sqlite3.Connection) -> list[DetectorState]:
    """Return the state of every detector; a tenth of the cost of their whole statuses."""
    query = (
        "SELECT namespace, name, component, detector, json_extract(CAST(document AS TEXT), '$.method'),"
        " json_extract(CAST(document AS TEXT), '$.state'),"
        " json_extract(CAST(document AS TEXT), '$.last_run_ns') FROM statuses"
        " ORDER BY namespace, name, endpoint, component, detector"
    )
    return [DetectorState(Service(*row[:2]), *row[2:]) for row in connection.execute(query)]


def newest_offset(connection: sqlite3.Connection, service: Service) -> int | None:
    """Return where in the journal the last payload of a service began to be known; None where there is none."""
    query = (
        "SELECT max((SELECT coalesce(request_offset, response_offset) FROM payloads WHERE stream = streams.number"
        " ORDER BY payloads.number DESC LIMIT 1)) FROM streams WHERE namespace = ? AND name = ?"
    )
    (offset,) = connection.execute(query, service).fetchone()
    return None if offset is None else int(offset)


def learnt_reference(connection: sqlite3.Connection, service: Service) -> Reference | None:
    """Return the reference that was last made of a service's own traffic; None where it is judged against a given one.

    Of several endpoints, the one named first.
    """
    prefix = orjson.dumps(list(service)).decode()[:-1].replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    query = r"SELECT name, state FROM judges WHERE name LIKE ? ESCAPE '\' ORDER BY name"
    for name, data in connection.execute(query, (f'{prefix},%"inputs",null,"reference"]',)):
        if orjson.loads(name)[:2] == list(service):
            return Reference.parse(data)
    return None


def halves(events: Events, payload: Payload) -> tuple[Entry | None, Entry | None]:
    """Return the request and the response of a payload, None for the one that never came."""
    offsets = (payload.request_offset, payload.response_offset)
    request, response = (None if offset is None else events.get(offset) for offset in offsets)
    return request, response


def rows_of(entry: Entry | None) -> Rows | None:
    """Return the rows that the body of an event holds; None where there is no event or nobody can decode it."""
    role = entry.event.role if entry is not None else None
    return None if entry is None or role is None else decode(entry.event.data, Role(role)).rows


def column_names(rows: Rows, features: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the columns: the features' where rows are matched to them by order, as `Schema.encode` does.

    That is where the widths agree, and either the payload names nothing or no name of it is a feature's; and where no
    feature is derived from a column of that name. Columns that features are derived from have their own names.
    """
    if derivable(tuple(features), rows.sources):
        return rows.names
    for names in (tuple(features), columns_of(tuple(features))):
        if len(names) == len(rows.columns) and not (rows.named and set(names) & set(rows.names)):
            return names
    return rows.names
