"""What the journal keeps of an event: its attributes as compact JSON, its body as the bytes that came."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from inferwatch.clock import NS_PER_S
from inferwatch.events import CloudEvent

MAX_AHEAD_NS = 300 * NS_PER_S
"""An event's time may be this far ahead of its arrival; beyond, the arrival stands for it."""

_EARLIEST_NS = -(2**63)
"""Times before 1677 (Go's zero time is one) read as this instant, so that every time fits 64 bits."""

ERASED = CloudEvent(id="", source="", type="io.inferwatch.erased")
"""Stands at the offset of an event that was erased: no payload, so nothing is derived from it."""

Row = tuple[bytes, int, bytes, bytes]
"""key, arrival_ns, head, data: a row of the table `events` without its offset."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An event of the log at its offset.

    `event` is as it was sent. `time_ns` is the time to go by: the event's own, or the arrival where that is absent or
    more than 5 minutes ahead of the arrival.
    """

    offset: int
    key: bytes
    arrival_ns: int
    time_ns: int
    event: CloudEvent


def event_time(event: CloudEvent, arrival_ns: int) -> int:
    """Return the time to go by, in nanoseconds that fit 64 bits."""
    if event.time_ns is None or is_ahead(event, arrival_ns):
        return arrival_ns
    return max(event.time_ns, _EARLIEST_NS)


def is_ahead(event: CloudEvent, arrival_ns: int) -> bool:
    """Say whether the event's own time is too far ahead of its arrival to be true."""
    return event.time_ns is not None and event.time_ns > arrival_ns + MAX_AHEAD_NS


def pack(event: CloudEvent, arrival_ns: int) -> Row:
    """Return the row that keeps the event."""
    # The time is text: years 1 to 9999 in nanoseconds do not fit the 64 bits that JSON libraries give integers.
    time = None if event.time_ns is None else str(event.time_ns)
    head = (event.id, event.source, event.type, time, event.content_type, event.truncated, dict(event.extensions))
    return event.key(), arrival_ns, orjson.dumps(head), event.data


def unpack(offset: int, row: Row) -> Entry:
    """Return the entry that `pack` made a row of; one with the event `ERASED` where the row was emptied."""
    key, arrival_ns, head, data = row
    if not head:
        return Entry(offset, key, arrival_ns, arrival_ns, ERASED)
    identity, source, kind, time, content_type, truncated, extensions = orjson.loads(head)
    event = CloudEvent(
        id=identity,
        source=source,
        type=kind,
        time_ns=None if time is None else int(time),
        content_type=content_type,
        extensions=extensions,
        data=data,
        truncated=truncated,
    )
    return Entry(offset, key, arrival_ns, event_time(event, arrival_ns), event)
