"""Seals the journal: what is closed by size or age moves into Parquet files, and what is past its retention goes.

Every step may be the last one of the process. A file is complete and on the disk before the table `segments` names it;
from that moment it is read instead of the rows that it was made of, which are then emptied a few at a time, so that
senders hardly wait. What a killed process leaves (an unnamed file, rows not emptied) is tidied up at the next start.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np

from inferwatch.clock import NS_PER_S, Clock
from inferwatch.errors import PayloadLogError
from inferwatch.events import Service
from inferwatch.payload_log import state
from inferwatch.payload_log.database import connect, sync_directory, translated
from inferwatch.payload_log.entry import ERASED, Entry
from inferwatch.payload_log.explanations import forget_explanations
from inferwatch.payload_log.journal import Journal
from inferwatch.payload_log.reader import FILE_NAME as LOG_NAME
from inferwatch.payload_log.reader import JournalReader
from inferwatch.payload_log.removal import forget_payloads
from inferwatch.payload_log.segment import filter_segment, times_of, write_segment
from inferwatch.payload_log.segments import DIRECTORY, Sealed, note_contents, remove_unnamed

logger = logging.getLogger(__name__)

EVERY_S = 2.0
"""Pause between two looks at what may be due."""

_PAGE = 1000
_PAGE_BYTES = 8 * 1024 * 1024
_EMPTIED_AT_ONCE = 256
_FORGOTTEN_AT_ONCE = 500
_PASSES = 30
"""Retention is looked after when so small a part of it has gone by: a row lives at most a thirtieth longer."""

_FULL = "SELECT EXISTS (SELECT 1 FROM events WHERE offset BETWEEN ? AND ? AND head <> x'')"
_KEPT = "SELECT offset, key, arrival_ns, x'', x'' FROM events WHERE offset BETWEEN ? AND ?"
_INSERT = "INSERT INTO events (offset, key, arrival_ns, head, data) VALUES (?, ?, ?, ?, ?)"
_EXPIRE = "DELETE FROM events WHERE offset BETWEEN ? AND ? AND head = x'' AND offset < (SELECT max(offset) FROM events)"


class Sealer:
    """One thread between `start` and `stop`. A fault is logged, kept in `fault`, and tried again."""

    def __init__(
        self,
        journal: Journal,
        *,
        segment_bytes: int,
        segment_age_s: float,
        retention_s: float | None,
        clock: Clock,
    ) -> None:
        self._journal = journal
        self._directory = journal.directory
        self._segment_bytes = segment_bytes
        self._age_ns = round(segment_age_s * NS_PER_S)
        self._retention_ns = None if retention_s is None else round(retention_s * NS_PER_S)
        self._clock = clock
        self._horizons: dict[Service, int] = {}
        self._measured = (0, 0)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="inferwatch-sealer", daemon=True)
        self.fault: str | None = None

    def start(self) -> None:
        """Begin to look after the journal."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what it is at is left for the next start."""
        self._stopping.set()
        self._thread.join()

    def tidy(self) -> None:
        """Remove files that no table names, and empty the rows that are sealed, as a killed process may leave them."""
        with JournalReader(self._directory) as reader:
            sealed = reader.sealed()
        remove_unnamed(self._directory, sealed)
        for part in sealed[-1:]:  # the ones before were emptied before it was begun
            self._empty(part.first_offset, part.last_offset)

    def seal(self, *, everything: bool = False) -> Sealed | None:
        """Seal what is due, or all there is, and return its file; None where nothing is. At most one file a call."""
        with JournalReader(self._directory) as reader:
            start = max((part.last_offset for part in reader.sealed()), default=0)
            if not (everything or self._is_due(reader, start)):
                return None
            return self._seal(reader, start)

    def retain(self) -> int:
        """Remove what is older than the retention, counted back from the newest event of its service.

        Returns the number of payloads removed. What is not sealed yet leaves the index now, and the log once it is.
        """
        horizons = self._due_horizons()
        if not horizons:
            return 0
        removed = self._forget(horizons)
        with JournalReader(self._directory) as reader:
            sealed = reader.sealed()
        behind = 0
        for part in sealed:
            if part.first_ns < max(horizons.values()) and not self._stopping.is_set():
                self._drop(part, horizons, behind)
            behind = part.last_offset
        self._horizons = horizons
        return removed

    def _run(self) -> None:
        work = [self.tidy]
        while not self._stopping.is_set():
            try:
                while work:
                    work[-1]()
                    work.pop()
                while self.seal() is not None and not self._stopping.is_set():
                    pass
                self.retain()
                self.fault = None
            except PayloadLogError as error:
                if self.fault is None and not self._stopping.is_set():
                    logger.warning("the payload log is not sealed, it is tried again: %s", error)
                self.fault = str(error)
            self._stopping.wait(EVERY_S)

    def _is_due(self, reader: JournalReader, start: int) -> bool:
        measured, size_bytes = max(self._measured, (start, 0))
        more_bytes, last, _ = reader.unsealed(measured)
        self._measured = last, size_bytes + more_bytes
        if self._measured[1] >= self._segment_bytes:
            return True
        _, _, arrival_ns = reader.unsealed(start)
        return arrival_ns is not None and self._clock.now_ns() - arrival_ns >= self._age_ns

    def _seal(self, reader: JournalReader, start: int) -> Sealed | None:
        last = start

        def entries() -> Iterator[Entry]:
            nonlocal last
            size_bytes = 0
            while page := reader.read(last, _PAGE, max_bytes=_PAGE_BYTES):
                for entry in page:
                    if size_bytes >= self._segment_bytes:
                        return
                    last = entry.offset
                    if entry.event is not ERASED:
                        size_bytes += len(entry.event.data)
                        yield entry

        directory = self._directory / DIRECTORY
        with translated(directory):
            directory.mkdir(exist_ok=True)
            sync_directory(self._directory)
        name = f"{start + 1:016d}.parquet"
        contents = write_segment(directory / name, entries())
        if not contents.rows:
            return None
        sealed = Sealed(start + 1, last, name, contents.rows, contents.first_ns)
        row = (sealed.first_offset, last, name, contents.rows, contents.first_ns)
        self._journal.run(lambda log: log.execute("INSERT INTO segments VALUES (?, ?, ?, ?, ?)", row)).result()
        self._measured = (last, 0)
        self._empty(start + 1, last)
        return sealed

    def _empty(self, first: int, last: int) -> None:
        self._in_steps(_empty, first, last)

    def _first_key(self, behind: int) -> int:
        path = self._directory / LOG_NAME
        with translated(path), closing(connect(path, read_only=True)) as log:
            (offset,) = log.execute(
                "SELECT coalesce(min(offset), 1) FROM events WHERE offset > ?", (behind,)
            ).fetchone()
        return int(offset)

    def _in_steps(self, step: Callable[[int, int, sqlite3.Connection], object], first: int, last: int) -> None:
        for low in range(first, last + 1, _EMPTIED_AT_ONCE):
            if self._stopping.is_set():
                return
            high = min(low + _EMPTIED_AT_ONCE - 1, last)
            self._journal.run(partial(step, low, high)).result()

    def _due_horizons(self) -> dict[Service, int]:
        """Return the time before which each service's rows go; none while too little has gone by."""
        if self._retention_ns is None:
            return {}
        path = self._directory / state.FILE_NAME
        with translated(path), closing(connect(path, read_only=True)) as connection:
            newest = connection.execute(
                "SELECT namespace, name, max(last_event_ns) FROM streams GROUP BY namespace, name"
            )
            horizons = {Service(*row[:2]): int(row[2]) - self._retention_ns for row in newest}
        step_ns = self._retention_ns // _PASSES
        known = self._horizons
        due = any(service not in known or at - known[service] > step_ns for service, at in horizons.items())
        return horizons if due else {}

    def _forget(self, horizons: Mapping[Service, int]) -> int:
        path = self._directory / state.FILE_NAME
        removed = 0
        with translated(path), closing(connect(path)) as connection:
            for service, horizon in horizons.items():
                numbers = [
                    number
                    for (stream,) in connection.execute(_STREAMS, service).fetchall()
                    for (number,) in connection.execute(_EXPIRED, (stream, horizon))
                ]
                for first in range(0, len(numbers), _FORGOTTEN_AT_ONCE):
                    with connection:
                        connection.execute("BEGIN IMMEDIATE")
                        forget_payloads(connection, numbers[first : first + _FORGOTTEN_AT_ONCE])
                with connection:
                    connection.execute("BEGIN IMMEDIATE")
                    forget_explanations(connection, service, horizon)
                removed += len(numbers)
        return removed

    def _drop(self, part: Sealed, horizons: Mapping[Service, int], behind: int) -> None:
        """Remove from a file what is past the retention; with the last of it go the keys of its rows.

        So do those between it and `behind`, the end of the file before: of files that an erasure has emptied.
        """
        path = self._directory / DIRECTORY / part.file
        contents = filter_segment(path, lambda table: _is_kept(table, horizons))
        if not contents.rows:  # the keys first: a process that ends here finds the file again, and goes on
            self._in_steps(_expire, self._first_key(behind), part.last_offset)
        if self._stopping.is_set():
            return
        self._journal.run(lambda log: note_contents(log, part, contents)).result()
        if not contents.rows:
            with translated(path):
                path.unlink()


_STREAMS = "SELECT number FROM streams WHERE namespace = ? AND name = ?"
_EXPIRED = "SELECT number FROM payloads WHERE stream = ? AND time_ns < ?"


def _empty(low: int, high: int, log: sqlite3.Connection) -> None:
    """Empty rows by writing them anew: SQLite frees pages where rows are deleted, not where they become shorter."""
    if log.execute(_FULL, (low, high)).fetchone()[0]:
        kept = log.execute(_KEPT, (low, high)).fetchall()
        log.execute("DELETE FROM events WHERE offset BETWEEN ? AND ?", (low, high))
        log.executemany(_INSERT, kept)


def _expire(low: int, high: int, log: sqlite3.Connection) -> None:
    log.execute(_EXPIRE, (low, high))


def _is_kept(table: Any, horizons: Mapping[Service, int]) -> Any:  # noqa: ANN401 - tables and arrays of pyarrow
    """Return which rows are not past the retention of their service; times compare as integers, to the nanosecond."""
    names = zip(table.column("namespace").to_pylist(), table.column("name").to_pylist(), strict=True)
    earliest = [horizons.get(Service(*name), -(2**63)) for name in names]
    return times_of(table) >= np.array(earliest, dtype=np.int64)
