"""Removing payloads everywhere in a log: both halves, what the index knows of them, and the findings about them.

Freed bytes are overwritten and the write-ahead logs emptied, so that nothing of them is left in the files. What
detectors have counted stays counted. A process that ends half-way leaves the rest for the next try.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import orjson

from inferwatch.errors import PayloadLogError
from inferwatch.events import Service, Stream
from inferwatch.payload_log import dead_letter, reader, state
from inferwatch.payload_log.database import Schema, lock_directory, open_database, translated
from inferwatch.payload_log.entry import Entry
from inferwatch.payload_log.journal import LOCK_NAME
from inferwatch.payload_log.reader import JournalReader
from inferwatch.payload_log.views import rows_of

Wanted = Callable[[Entry], bool]

# The key of an event without a time is a hash of its body.
_EMPTY = (
    "UPDATE events SET key = iif(json_extract(CAST(head AS TEXT), '$[3]') IS NULL, randomblob(16), key),"
    " head = x'', data = x'' WHERE head <> x'' AND offset IN (SELECT offset FROM doomed)"
)
_OF_SERVICE = "stream IN (SELECT number FROM streams WHERE namespace = ? AND name = ?)"
_HALF_DOOMED = "(request_offset IN (SELECT offset FROM doomed) OR response_offset IN (SELECT offset FROM doomed))"
_DOOMED = f"{_OF_SERVICE} AND {_HALF_DOOMED}"
_COUNT_OFF = f"""
    UPDATE streams SET events = events - lost_events, rows = rows - lost_rows FROM (
        SELECT stream, count(request_offset) + count(response_offset) AS lost_events,
        sum(iif(request_offset IS NULL, 0, payloads.rows)) AS lost_rows
        FROM payloads WHERE {_DOOMED} GROUP BY stream
    ) AS gone WHERE gone.stream = streams.number
"""  # noqa: S608 - constants


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
        offsets, count = _find(directory, service, wanted)
        if offsets:
            with _opened(directory / reader.FILE_NAME, reader.SCHEMA, offsets) as log:
                log.execute(_EMPTY)
            with _opened(directory / state.FILE_NAME, state.SCHEMA, offsets) as derived:
                _forget(derived, service)
        if identity is not None:
            for name in (dead_letter.FILE_NAME, f"{dead_letter.FILE_NAME}.1"):
                _erase_letters(directory / name, service, identity)
    return count


def _find(directory: Path, service: Service, wanted: Wanted) -> tuple[set[int], int]:
    """Return the offsets of the wanted payloads, and how many payloads they are.

    The index tells the other half of a payload; of events that are not in it yet, all of a stream and id are taken.
    """
    found: set[int] = set()
    recent: dict[tuple[Stream, str], set[int]] = {}
    with _opened(directory / state.FILE_NAME, state.SCHEMA, ()) as derived:
        (position,) = derived.execute("SELECT log_offset FROM position").fetchone()
    with JournalReader(directory) as journal:
        for entry in journal.entries():
            if entry.event.stream.service != service:
                continue
            if entry.offset > position:
                recent.setdefault((entry.event.stream, entry.event.id), set()).add(entry.offset)
            if wanted(entry):
                found.add(entry.offset)
    groups = [group for group in recent.values() if group & found]
    with _opened(directory / state.FILE_NAME, state.SCHEMA, found) as derived:
        query = f"SELECT request_offset, response_offset FROM payloads WHERE {_DOOMED}"  # noqa: S608
        pairs = derived.execute(query, service).fetchall()
    offsets = found.union(*groups, *({offset for offset in pair if offset is not None} for pair in pairs))
    return offsets, len(pairs) + len(groups)


def _forget(derived: sqlite3.Connection, service: Service) -> None:
    derived.execute(_COUNT_OFF, service)
    derived.execute(f"DELETE FROM findings WHERE payload_key IN (SELECT key FROM payloads WHERE {_DOOMED})", service)  # noqa: S608
    derived.execute(f"DELETE FROM payloads WHERE {_DOOMED}", service)  # noqa: S608


@contextmanager
def _opened(path: Path, schema: Schema, offsets: Collection[int]) -> Iterator[sqlite3.Connection]:
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
