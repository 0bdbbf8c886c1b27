"""Removing payloads everywhere in a log: both halves, what the index knows of them, and the findings about them.

Sealed files are written anew without them. In the databases freed bytes are overwritten and the write-ahead logs
emptied, so that nothing of them is left. What detectors have counted stays counted. A process that ends half-way leaves
the rest for the next try.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from inferwatch.errors import PayloadLogError
from inferwatch.events import Service, Stream
from inferwatch.payload_log import dead_letter, reader, state
from inferwatch.payload_log.database import Schema, lock_directory, open_database, translated
from inferwatch.payload_log.entry import Entry
from inferwatch.payload_log.journal import LOCK_NAME
from inferwatch.payload_log.reader import JournalReader
from inferwatch.payload_log.removal import forget_payloads
from inferwatch.payload_log.segment import filter_segment
from inferwatch.payload_log.segments import DIRECTORY, Segments, note_contents
from inferwatch.payload_log.views import rows_of

Wanted = Callable[[Entry], bool]

_EMPTY = "UPDATE events SET head = x'', data = x'' WHERE offset IN (SELECT offset FROM doomed)"
_NEW_KEY = "UPDATE events SET key = randomblob(16) WHERE offset = ?"
_PAYLOADS = """
    SELECT payloads.number, request_offset, response_offset FROM payloads JOIN streams ON streams.number = stream
    WHERE namespace = ? AND name = ?
    AND (request_offset IN (SELECT offset FROM doomed) OR response_offset IN (SELECT offset FROM doomed))
"""


@dataclass(frozen=True, slots=True)
class _Found:
    """The events to erase, those among them whose key is a hash of their body, and how many payloads they are."""

    offsets: set[int]
    untimed: set[int]
    payloads: int


def with_id(identity: str) -> Wanted:
    """Return what wants the events of that id."""
    return lambda entry: entry.event.id == identity


def with_value(column: str, value: str) -> Wanted:
    """Return what wants the events in which a row has that value in a column; numbers are compared as numbers.

    Columns are named as in `inferwatch.payloads`; a body that nobody can decode has none.
    """
    number = _number(value)

    def wanted(entry: Entry) -> bool:
        rows = rows_of(entry)
        found = (cells.values.tolist() for cells in (rows.columns if rows is not None else ()) if cells.name == column)
        return any(_is(cell, value, number) for cells in found for cell in cells)

    return wanted


def erase(directory: Path, service: Service, wanted: Wanted, identity: str | None = None) -> int:
    """Remove the payloads of a service of which a half is wanted, and return their number.

    Dead letters with the event id `identity` go too. Raises `PayloadLogError`: no log there, one that is in use, a
    damaged one. The cost is linear in the log.
    """
    if not (directory / reader.FILE_NAME).exists():
        raise PayloadLogError(f"{directory}: there is no payload log here")
    with lock_directory(directory, LOCK_NAME):
        found = _find(directory, service, wanted)
        if found.offsets:
            _erase_events(directory, found)
            with _opened(directory / state.FILE_NAME, state.SCHEMA, found.offsets) as derived:
                numbers = [row[0] for row in derived.execute(_PAYLOADS, service).fetchall()]
                forget_payloads(derived, numbers, findings=True)
        if identity is not None:
            for name in (dead_letter.FILE_NAME, f"{dead_letter.FILE_NAME}.1"):
                _erase_letters(directory / name, service, identity)
    return found.payloads


def _find(directory: Path, service: Service, wanted: Wanted) -> _Found:
    """Find the wanted payloads, both halves.

    The index tells the other half of a payload; of events that are not in it yet, all of a stream and id are taken.
    """
    chosen: set[int] = set()
    untimed: set[int] = set()
    recent: dict[tuple[Stream, str], set[int]] = {}
    with _opened(directory / state.FILE_NAME, state.SCHEMA) as derived:
        (position,) = derived.execute("SELECT log_offset FROM position").fetchone()
    with JournalReader(directory) as journal:
        for entry in journal.entries():
            if entry.event.stream.service != service:
                continue
            if entry.offset > position:
                recent.setdefault((entry.event.stream, entry.event.id), set()).add(entry.offset)
            if entry.event.time_ns is None:
                untimed.add(entry.offset)
            if wanted(entry):
                chosen.add(entry.offset)
    groups = [group for group in recent.values() if group & chosen]
    with _opened(directory / state.FILE_NAME, state.SCHEMA, chosen) as derived:
        known = derived.execute(_PAYLOADS, service).fetchall()
    pairs = ({offset for offset in pair if offset is not None} for _, *pair in known)
    offsets = chosen.union(*groups, *pairs)
    return _Found(offsets, untimed & offsets, len(known) + len(groups))


def _erase_events(directory: Path, found: _Found) -> None:
    emptied: list[Path] = []
    with _opened(directory / reader.FILE_NAME, reader.SCHEMA, found.offsets) as log:
        log.execute(_EMPTY)
        log.executemany(_NEW_KEY, ((offset,) for offset in found.untimed))
        for part in Segments(directory, log).all():
            inside = [offset for offset in found.offsets if part.first_offset <= offset <= part.last_offset]
            if inside:
                path = directory / DIRECTORY / part.file
                contents = filter_segment(path, partial(_is_kept, inside))
                note_contents(log, part, contents)
                emptied += [] if contents.rows else [path]
    for path in emptied:
        with translated(path):
            path.unlink()


def _is_kept(erased: Sequence[int], table: Any) -> Any:  # noqa: ANN401 - tables and arrays of pyarrow
    return ~np.isin(table.column("offset").to_numpy(), erased)


@contextmanager
def _opened(path: Path, schema: Schema, offsets: Collection[int] = ()) -> Iterator[sqlite3.Connection]:
    """Yield a database within a transaction, with the offsets in a table `doomed`; then empty its write-ahead log."""
    with closing(open_database(path, schema)) as connection, translated(path):
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("CREATE TEMP TABLE doomed (offset INTEGER PRIMARY KEY)")
        connection.executemany("INSERT INTO doomed VALUES (?)", ((offset,) for offset in offsets))
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _erase_letters(path: Path, service: Service, identity: str) -> None:
    if not path.exists():
        return
    with translated(path):
        lines = path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if not _is_letter_of(line, service, identity)]
        if len(kept) < len(lines):
            draft = path.with_name(f"{path.name}.new")
            draft.write_bytes(b"".join(kept))
            draft.replace(path)


def _is_letter_of(line: bytes, service: Service, identity: str) -> bool:
    try:
        attributes = orjson.loads(line)["attributes"]
    except (orjson.JSONDecodeError, KeyError):
        return False  # the last line of a file whose writer was killed
    name = attributes.get("inferenceservicename", service.name)
    return bool(attributes.get("id") == identity and name == service.name)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _is(cell: object, text: str, number: float | None) -> bool:
    if isinstance(cell, bool):
        return text.lower() == str(cell).lower()
    if isinstance(cell, int | float):
        return cell == number and (not isinstance(cell, int) or abs(cell) < 2**53 or str(cell) == text)
    return text == (cell.decode("utf-8", "replace") if isinstance(cell, bytes) else cell)
