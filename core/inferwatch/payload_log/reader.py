"""Reading the journal: from any thread, and from other processes while one of them writes."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from operator import attrgetter
from pathlib import Path

import orjson

from inferwatch.closing import Closing
from inferwatch.payload_log.database import Schema, open_database, translated
from inferwatch.payload_log.entry import ERASED, Entry, unpack
from inferwatch.payload_log.ledger import Ledger, Tally
from inferwatch.payload_log.segments import Sealed, Segments

FILE_NAME = "log.db"

# An offset is never given twice, because checkpoints and indexes hold offsets: hence AUTOINCREMENT, and the row of an
# event that is erased, or sealed into a file, stays, emptied. Its key stays too, so that a sender who repeats the event
# does not bring it back.
_SEGMENTS = """
    CREATE TABLE segments (
        first_offset INTEGER PRIMARY KEY, last_offset INTEGER NOT NULL, file TEXT NOT NULL UNIQUE,
        rows INTEGER NOT NULL, first_ns INTEGER NOT NULL
    ) STRICT;
"""
SCHEMA = Schema(
    name="inferwatch payload log",
    application_id=0x69664C67,
    version=2,
    upgrades=(_SEGMENTS,),
    script=f"""
    {_SEGMENTS}
    CREATE TABLE events (
        offset INTEGER PRIMARY KEY AUTOINCREMENT,
        key BLOB NOT NULL UNIQUE, arrival_ns INTEGER NOT NULL, head BLOB NOT NULL, data BLOB NOT NULL
    ) STRICT;
    CREATE TABLE counts (
        outcome TEXT NOT NULL, label TEXT NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (outcome, label)
    ) STRICT, WITHOUT ROWID;
    """,
)

_READ = "SELECT offset, key, arrival_ns, head, data FROM events WHERE offset > ? ORDER BY offset LIMIT ?"
_GET = (
    "SELECT offset, key, arrival_ns, head, data FROM events"
    " WHERE offset IN (SELECT value FROM json_each(?)) ORDER BY offset"
)
_MEASURE = "SELECT sum(length(head) + length(data)), max(offset) FROM events WHERE offset > ?"
_FIRST = "SELECT arrival_ns FROM events WHERE offset > ? AND head <> x'' ORDER BY offset LIMIT 1"
_PAGE = 1000
_END = "SELECT coalesce(max(offset), 0) FROM events"


class JournalReader(Closing):
    """Reads a journal's entries in the order of their offsets. Thread-safe; raises `PayloadLogError`."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE_NAME
        self._lock = threading.Lock()
        self._connection = open_database(self._path, SCHEMA, read_only=True)
        self._segments = Segments(directory, self._connection)

    def read(self, after: int, limit: int, *, max_bytes: int = 64 * 1024 * 1024) -> list[Entry]:
        """Return up to `limit` entries behind the offset `after`, in order, sealed or not.

        `ERASED` may stand for those that are no more.
        Ends with the entry whose body brings the sum to `max_bytes`, so that a waiting entry is always among them.
        """
        entries: list[Entry] = []
        size_bytes = 0
        with self._lock, translated(self._path):
            if sealed := self._segments.read(after, limit, max_bytes):
                return sealed
            cursor = self._connection.execute(_READ, (after, limit))
            for offset, *row in cursor:
                entries.append(unpack(offset, tuple(row)))
                size_bytes += len(row[-1])
                if size_bytes >= max_bytes:
                    cursor.close()
                    break
        return entries

    def get(self, offset: int) -> Entry | None:
        """Return the entry at an offset; None where there is none, or none any more."""
        return next(iter(self.get_all([offset])), None)

    def get_all(self, offsets: Iterable[int]) -> list[Entry]:
        """Return the entries at these offsets, in order, but for those that are none, or none any more."""
        sought = orjson.dumps(list(offsets)).decode()
        with self._lock, translated(self._path):
            rows = self._connection.execute(_GET, (sought,)).fetchall()
            sealed = self._segments.get([row[0] for row in rows if not row[3]])
        head = [unpack(row[0], row[1:]) for row in rows if row[3]]
        return sorted([*sealed, *head], key=attrgetter("offset")) if sealed else head

    def sealed(self) -> list[Sealed]:
        """Return the files of the sealed part."""
        with self._lock, translated(self._path):
            return self._segments.all()

    def unsealed(self, after: int) -> tuple[int, int, int | None]:
        """Return what is stored behind an offset: bytes, the last offset, and when the first of it arrived."""
        with self._lock, translated(self._path):
            size_bytes, last = self._connection.execute(_MEASURE, (after,)).fetchone()
            first = self._connection.execute(_FIRST, (after,)).fetchone()
        return int(size_bytes or 0), int(last or after), first[0] if first else None

    def entries(self) -> Iterator[Entry]:
        """Yield every entry, in order; those that were erased are left out."""
        after = 0
        while page := self.read(after, _PAGE):
            yield from (entry for entry in page if entry.event is not ERASED)
            after = page[-1].offset

    def end(self) -> int:
        """Return the offset of the last entry, 0 for an empty journal."""
        with self._lock, translated(self._path):
            (offset,) = self._connection.execute(_END).fetchone()
        return int(offset)

    def tally(self) -> Tally:
        """Return the counts as they were last committed."""
        with self._lock, translated(self._path):
            rows = self._connection.execute("SELECT outcome, label, count FROM counts").fetchall()
        return Tally({(outcome, label): count for outcome, label, count in rows})

    def ledger(self) -> Ledger:
        """Return the account as it was last committed."""
        return self.tally().ledger()

    def close(self) -> None:
        """Release the file."""
        with self._lock:
            self._segments.close()
            self._connection.close()
