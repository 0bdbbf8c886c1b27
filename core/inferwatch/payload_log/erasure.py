"""Removing payloads everywhere in a log: both halves, the index of them, the findings and explanations about them.

Sealed files are written anew without them. In the databases freed bytes are overwritten and the write-ahead logs
emptied, so that nothing of them is left. What detectors have counted stays counted. What a process that ends half-way
leaves is finished when the log is next opened to be written, or erased from (`erasure_plan`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path

from inferwatch.errors import PayloadLogError
from inferwatch.events import Role, Service, Stream
from inferwatch.explanation_event import ExplanationEvent, row_marks
from inferwatch.payload_log import reader, state
from inferwatch.payload_log.database import lock_directory
from inferwatch.payload_log.entry import Entry
from inferwatch.payload_log.erasure_plan import Plan, begin, finish, indexed, opened
from inferwatch.payload_log.feature_names import feature_names
from inferwatch.payload_log.journal import LOCK_NAME
from inferwatch.payload_log.reader import JournalReader
from inferwatch.payload_log.views import column_names, rows_of
from inferwatch.wire.metadata import request_id

logger = logging.getLogger(__name__)

Wanted = Callable[[Entry, Sequence[str]], bool]
"""Says whether an event is wanted, given the names of the model's features."""


def with_id(identity: str) -> Wanted:
    """Return what wants the events of that id, or of an inference of that id."""
    return lambda entry, _: identity in (entry.event.id, entry.event.inference_id)


class WithValue:
    """Wants the events in which a row has that value in a column; numbers are compared as numbers.

    Columns are named as in `inferwatch.payloads`; a body that nobody can decode has none. `columns` are those of the
    events that were looked at.
    """

    def __init__(self, column: str, value: str) -> None:
        self.column = column
        self.columns: set[str] = set()
        self._value = value
        self._number = _number(value)

    def __call__(self, entry: Entry, features: Sequence[str]) -> bool:
        """Say whether an event is wanted, and note its columns."""
        rows = rows_of(entry)
        if rows is None:
            return False
        names = column_names(rows, features) if entry.event.role is Role.REQUEST else rows.names
        self.columns.update(names)
        found = (cells.values.tolist() for name, cells in zip(names, rows.columns, strict=True) if name == self.column)
        return any(_is(cell, self._value, self._number) for cells in found for cell in cells)


def erase(directory: Path, service: Service, wanted: Wanted, identity: str | None = None) -> int:
    """Remove the payloads of a service of which a half is wanted, and return their number.

    Dead letters with the event id `identity` go too. Raises `PayloadLogError`: no log there, one that is in use, a
    damaged one. The cost is linear in the log.
    """
    if not (directory / reader.FILE_NAME).exists():
        raise PayloadLogError(f"{directory}: there is no payload log here")
    with lock_directory(directory, LOCK_NAME):
        if (left := finish(directory)) is not None:
            logger.warning("%s: an erasure that was cut short is finished: %d payloads", directory, left.payloads)
        plan = _plan(directory, service, wanted, identity)
        if plan.offsets or identity is not None:
            begin(directory, plan)
            finish(directory)
    return plan.payloads


def _plan(directory: Path, service: Service, wanted: Wanted, identity: str | None) -> Plan:
    """Find the wanted payloads, both halves.

    The index tells the other half of a payload; of events that are not in it yet, all of a stream and id are taken.
    """
    chosen: set[int] = set()
    untimed: set[int] = set()
    recent: dict[tuple[Stream, str], set[int]] = {}
    with opened(directory / state.FILE_NAME, state.SCHEMA) as derived:
        (position,) = derived.execute("SELECT log_offset FROM position").fetchone()
        features = feature_names(derived, service)
    with JournalReader(directory) as journal:
        for entry in journal.entries():
            if entry.event.stream.service != service:
                continue
            if entry.offset > position:
                recent.setdefault((entry.event.stream, entry.event.inference_id), set()).add(entry.offset)
            if entry.event.time_ns is None or entry.key != entry.event.key():
                untimed.add(entry.offset)
            if wanted(entry, features):
                chosen.add(entry.offset)
    groups = [group for group in recent.values() if group & chosen]
    with opened(directory / state.FILE_NAME, state.SCHEMA, chosen) as derived:
        known = indexed(derived, service)
    pairs = ({offset for offset in pair if offset is not None} for _, *pair in known)
    offsets = chosen.union(*groups, *pairs)
    offsets |= _explanations(directory, service, offsets, features)
    return Plan(service, identity, offsets, untimed & offsets, len(known) + len(groups))


def _explanations(directory: Path, service: Service, offsets: Collection[int], features: Sequence[str]) -> set[int]:
    """Return where the explanations lie that name one of these events' ids, or are of a row that one of them has."""
    if not offsets:
        return set()
    named: set[str] = set()
    marks: set[str] = set()
    with JournalReader(directory) as journal:
        for entry in filter(None, map(journal.get, offsets)):
            named |= {entry.event.inference_id, *filter(None, [request_id(entry.event)])}
            rows = rows_of(entry) if entry.event.role is Role.REQUEST else None
            marks |= set() if rows is None else set(row_marks(rows, column_names(rows, features)))
        told = ((entry.offset, ExplanationEvent.of(entry.event)) for entry in journal.entries())
        return {
            offset
            for offset, each in told
            if each is not None
            and each.service == service
            and not (named.isdisjoint({each.payload_id, each.request_id}) and marks.isdisjoint(each.marks))
        }


def _number(text: str) -> float | None:
    for kind in (int, float):  # an integer and a fraction are compared exactly
        with suppress(ValueError):
            return kind(text)
    return None


def _is(cell: object, text: str, number: float | None) -> bool:
    if isinstance(cell, bool):
        return text.lower() == str(cell).lower()
    if isinstance(cell, int | float):
        return cell == number
    cell = cell.decode("utf-8", "replace") if isinstance(cell, bytes) else cell
    return isinstance(cell, str) and cell == text
