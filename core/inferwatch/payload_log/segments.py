"""The sealed part of a journal: which files it is made of, and reading them by offset.

The table `segments` of the journal's database says what is sealed. A file that it does not name is the leftover of a
process that ended while it wrote, and is never read.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from inferwatch.errors import PayloadLogError
from inferwatch.payload_log.database import translated
from inferwatch.payload_log.entry import Entry
from inferwatch.payload_log.segment import Contents, Segment

DIRECTORY = "segments"

_OPEN_FILES = 8
_COLUMNS = "SELECT first_offset, last_offset, file, rows, first_ns FROM segments"
_BEHIND = f"{_COLUMNS} WHERE last_offset > ? ORDER BY first_offset LIMIT 1"


@dataclass(frozen=True, slots=True)
class Sealed:
    """A file, the offsets it was sealed from, and what is left in it: rows, and the earliest time among them."""

    first_offset: int
    last_offset: int
    file: str
    rows: int
    first_ns: int


def note_contents(log: sqlite3.Connection, part: Sealed, contents: Contents) -> None:
    """Keep what is left in a file; one that holds nothing is named no more, and may then be removed."""
    if contents.rows:
        statement = "UPDATE segments SET rows = ?, first_ns = ? WHERE first_offset = ?"
        log.execute(statement, (contents.rows, contents.first_ns, part.first_offset))
    else:
        log.execute("DELETE FROM segments WHERE first_offset = ?", (part.first_offset,))


def remove_unnamed(directory: Path, sealed: Iterable[Sealed]) -> None:
    """Remove every file but those of the table: what a process left that ended while it wrote or removed them."""
    named = {part.file for part in sealed}
    with translated(directory):
        for file in (directory / DIRECTORY).glob("*"):
            if file.name not in named:
                file.unlink()


class Segments:
    """Reads the sealed files that a connection's table names. One thread at a time."""

    def __init__(self, directory: Path, connection: sqlite3.Connection) -> None:
        self._directory = directory / DIRECTORY
        self._connection = connection
        self._open: OrderedDict[str, Segment] = OrderedDict()

    def all(self) -> list[Sealed]:
        """Return every file, in the order of their offsets."""
        return [Sealed(*row) for row in self._connection.execute(f"{_COLUMNS} ORDER BY first_offset")]

    def behind(self, offset: int) -> Sealed | None:
        """Return the first file that goes beyond an offset."""
        row = self._connection.execute(_BEHIND, (offset,)).fetchone()
        return None if row is None else Sealed(*row)

    def end(self) -> int:
        """Return the offset up to which the journal is sealed, 0 where it is not."""
        return int(self._connection.execute("SELECT coalesce(max(last_offset), 0) FROM segments").fetchone()[0])

    def get(self, offsets: Sequence[int]) -> list[Entry]:
        """Return the sealed entries at these offsets, which ascend, as far as there are any."""
        found: list[Entry] = []
        while offsets and (sealed := self.behind(offsets[0] - 1)) is not None:
            inside = offsets[: bisect_right(offsets, sealed.last_offset)]
            segment = self._segment(sealed)
            found += [] if segment is None else segment.get(inside)
            offsets = offsets[len(inside) :]
        return found

    def read(self, after: int, limit: int, max_bytes: int) -> list[Entry]:
        """Return up to `limit` sealed entries behind an offset, in order; none where nothing behind it is sealed."""
        while (sealed := self.behind(after)) is not None:
            segment = self._segment(sealed)
            if segment is not None and (entries := segment.read(after, limit, max_bytes)):
                return entries
            after = sealed.last_offset
        return []

    def close(self) -> None:
        """Release the files."""
        for segment in self._open.values():
            segment.close()
        self._open.clear()

    def _segment(self, sealed: Sealed) -> Segment | None:
        """Return the file, opened anew where it was replaced; None where it was removed meanwhile."""
        path = self._directory / sealed.file
        kept = self._open.pop(sealed.file, None)
        try:
            inode = path.stat().st_ino
            if kept is not None and kept.inode != inode:
                kept.close()
                kept = None
            segment = kept or Segment(path)
        except OSError as error:
            if self.behind(sealed.first_offset) != sealed:
                return None
            raise (
                error if isinstance(error, PayloadLogError) else PayloadLogError(f"{path}: {error.strerror}")
            ) from error
        self._open[sealed.file] = segment
        if len(self._open) > _OPEN_FILES:
            self._open.popitem(last=False)[1].close()
        return segment
