"""The journal: the append-only log of raw events that everything else is computed from.

One process writes, through one thread, in group commits: what arrives while a transaction is under way makes up the
next one. Counts are kept in the transaction of the events they count, so that the ledger is exact after any crash.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from inferwatch.clock import Clock, SystemClock
from inferwatch.closing import Closing
from inferwatch.errors import PayloadLogError
from inferwatch.events import CloudEvent
from inferwatch.payload_log.checkpoint import Checkpointer
from inferwatch.payload_log.database import insert_rows, lock_directory, open_database, translated
from inferwatch.payload_log.entry import Entry, Row, event_time, is_ahead, pack
from inferwatch.payload_log.erasure_plan import finish
from inferwatch.payload_log.ledger import Ledger, Outcome, Tally, role_label
from inferwatch.payload_log.reader import FILE_NAME, SCHEMA, JournalReader
from inferwatch.payload_log.reuse import told_apart
from inferwatch.payload_log.tail import Tail

logger = logging.getLogger(__name__)

LOCK_NAME = "log.lock"

Durability = Literal["process", "disk"]
"""What a committed event survives: the end of the process at any moment, or a loss of power as well (fsync)."""

_GROUP_BYTES = 8 * 1024 * 1024
_ROW_BYTES = 256
_CHORE_BYTES = 256 * 1024
_RETRY_S = 1.0
_INSERT = "INSERT INTO events (key, arrival_ns, head, data)"
_ONCE = "ON CONFLICT (key) DO NOTHING"
_COUNT = "INSERT INTO counts VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count"


Chore = Callable[[sqlite3.Connection], Any]
"""Something to do in a transaction; keep it short."""


@dataclass(slots=True)
class _Group:
    """What is committed in one transaction, and the future of everybody who waits for it."""

    events: list[CloudEvent] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    counts: list[tuple[Outcome, str]] = field(default_factory=list)
    also: list[Chore] = field(default_factory=list)
    size_bytes: int = 0
    done: Future[int] = field(default_factory=Future)


_NOTHING = _Group()


class Journal(Closing):
    """Appends events, reads them by offset, and keeps their account. Every method may be called from any thread."""

    def __init__(self, directory: Path, *, durability: Durability, max_inflight_bytes: int, clock: Clock) -> None:
        self.directory = directory
        self.max_inflight_bytes = max_inflight_bytes
        self._path = directory / FILE_NAME
        self._clock = clock
        with ExitStack() as opened:
            opened.enter_context(lock_directory(directory, LOCK_NAME))
            finish(directory)
            self._connection = opened.enter_context(closing(open_database(self._path, SCHEMA)))
            self._reader = opened.enter_context(JournalReader(directory))
            with translated(self._path):
                self._connection.execute(f"PRAGMA synchronous = {'FULL' if durability == 'disk' else 'NORMAL'}")
                self._checkpointer = opened.enter_context(closing(Checkpointer(self._path, self._connection)))
            self._tally = self._reader.tally()
            self._end = self._reader.end()
            self._files = opened.pop_all()
        self._tail = Tail()
        self._groups: deque[_Group] = deque()
        self._chores: deque[tuple[Chore, Future[None]]] = deque()
        self._waiting_bytes = 0
        self._refused: Counter[str] = Counter()
        self._fault: str | None = None
        self._closing = False
        self._changed = threading.Condition()
        self._committed = threading.Condition()
        self._writer = threading.Thread(target=self._write, name="inferwatch-journal", daemon=True)

    @classmethod
    def open(
        cls,
        directory: Path | str,
        durability: Durability = "process",
        *,
        max_inflight_bytes: int = 256 * 1024 * 1024,
        clock: Clock | None = None,
    ) -> Self:
        """Open the journal of a directory, making both where they are absent, and start its writer.

        Raises `PayloadLogError`: a damaged file or one of a later version, a directory that cannot be written, another
        process that has it open.
        """
        journal = cls(
            Path(directory),
            durability=durability,
            max_inflight_bytes=max_inflight_bytes,
            clock=clock or SystemClock(),
        )
        journal._writer.start()
        return journal

    @property
    def fault(self) -> str | None:
        """Why events are refused at present; None while they are taken."""
        return self._fault

    @property
    def waiting_bytes(self) -> int:
        """The size of what waits for its commit, at most `max_inflight_bytes`."""
        return self._waiting_bytes

    def append(
        self,
        events: Sequence[CloudEvent] = (),
        *,
        ignored: Sequence[str] = (),
        malformed: Sequence[str] = (),
        arrivals_ns: Sequence[int] | None = None,
        also: Chore | None = None,
    ) -> Future[int]:
        """Take what was received; the future is done, with the last offset, once all of it is committed.

        An event that is there already counts as `duplicate`. `ignored` holds types, `malformed` reasons of what is
        counted only. The future is shared by all that is committed together: do not cancel it. It fails with
        `PayloadLogError` where the commit does; everything in it then counts as refused, reason `storage`.

        `arrivals_ns`: when each event arrived, where that was not now. `also` is done in the same transaction, and says
        that whoever brought the events still has them: where the commit fails, none counts as refused.

        Raises `PayloadLogError` at once where too much waits already (refused, reason `overloaded`) or after `close`.
        """
        arrived = zip(events, arrivals_ns or [self._clock.now_ns()] * len(events), strict=True)
        rows = [pack(event, arrival_ns) for event, arrival_ns in arrived]
        counts: list[tuple[Outcome, str]] = [
            ("clamped", "") for event, row in zip(events, rows, strict=True) if is_ahead(event, row[1])
        ]
        counts += [("ignored", kind) for kind in ignored]
        counts += [("malformed", reason) for reason in malformed]
        size_bytes = sum(_ROW_BYTES + len(row[2]) + len(row[3]) for row in rows)
        with self._changed:
            if self._closing:
                raise PayloadLogError(f"{self._path}: closed")
            if self._waiting_bytes and self._waiting_bytes + size_bytes > self.max_inflight_bytes:
                self._refuse("overloaded", len(rows) + len(ignored) + len(malformed))
                raise PayloadLogError(f"{self._path}: {self._waiting_bytes} bytes wait to be written, try again later")
            group = self._open_group()
            group.events += events
            group.rows += rows
            group.counts += counts
            group.also += [also] if also is not None else []
            group.size_bytes += size_bytes
            self._waiting_bytes += size_bytes
            self._changed.notify()
        return group.done

    def refuse(self, reason: str, count: int = 1) -> None:
        """Count events that were turned away before they came here."""
        with self._changed:
            self._refuse(reason, count)

    def read(self, after: int, limit: int, *, max_bytes: int = 64 * 1024 * 1024) -> list[Entry]:
        """Return up to `limit` entries behind the offset `after`, in order, and no more than fill `max_bytes`."""
        return self._tail.read(after, limit, max_bytes) or self._reader.read(after, limit, max_bytes=max_bytes)

    def get(self, offset: int) -> Entry | None:
        """Return the entry at an offset; None where there is none."""
        return self._reader.get(offset)

    def end(self) -> int:
        """Return the last offset committed, 0 for an empty journal."""
        return self._end

    def run(self, chore: Chore) -> Future[None]:
        """Have the writer do a chore in a transaction of its own, between two commits of events; keep it short.

        The future fails with `PayloadLogError` where the chore does, or where the journal closes before it.
        """
        done: Future[None] = Future()
        with self._changed:
            if self._closing:
                raise PayloadLogError(f"{self._path}: closed")
            self._chores.append((chore, done))
            self._changed.notify()
        return done

    def wait(self, after: int, timeout_s: float | None, unless: threading.Event | None = None) -> bool:
        """Sleep until an offset beyond `after` is committed.

        False after the timeout, when the journal closes, or once `unless` is set and `wake` was called.
        """
        with self._committed:
            self._committed.wait_for(
                lambda: self._end > after or self._closing or (unless is not None and unless.is_set()), timeout_s
            )
            return self._end > after

    def wake(self) -> None:
        """Have everybody who sleeps in `wait` look again whether to go on."""
        with self._committed:
            self._committed.notify_all()

    def ledger(self) -> Ledger:
        """Return the account of every event received so far; what waits for its commit is not yet in it."""
        with self._committed:
            tally = self._tally.copy()
            for reason, count in self._refused.items():
                tally.add("refused", reason, count)
        return tally.ledger()

    def close(self) -> None:
        """Commit what was taken, then release the files. Later calls of `append` raise."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._writer.join()
        self.wake()
        self._files.close()

    def _open_group(self) -> _Group:
        if not self._groups or self._groups[-1].size_bytes >= _GROUP_BYTES:
            self._groups.append(_Group())
        return self._groups[-1]

    def _refuse(self, reason: str, count: int) -> None:
        with self._committed:
            self._refused[reason] += count

    def _write(self) -> None:
        while (group := self._next_group()) is not None:
            if group is not _NOTHING:
                self._settle(group)
            if self._chores:
                self._do(*self._chores.popleft())
        for _, done in self._chores:
            done.set_exception(PayloadLogError(f"{self._path}: closed"))
        if self._refused:
            self._settle(_Group())

    def _next_group(self) -> _Group | None:
        """Wait for a group; None at the end. While there is a fault an empty one probes each second if it has gone.

        `_NOTHING` where there is only a chore to do.
        """
        with self._changed:
            while not self._groups and not self._closing:
                if self._chores:
                    return _NOTHING
                if not self._changed.wait(_RETRY_S if self._fault else None):
                    return _Group()
            return self._groups.popleft() if self._groups else None

    def _settle(self, group: _Group) -> None:
        try:
            end = self._commit(group)
        except Exception as error:  # noqa: BLE001 - a writer that ended would leave every sender waiting
            self._fail(group, error)
            group.done.set_exception(error if isinstance(error, PayloadLogError) else PayloadLogError(repr(error)))
        else:
            group.done.set_result(end)
            self._checkpointer.committed(group.size_bytes)

    def _do(self, chore: Chore, done: Future[None]) -> None:
        try:
            with translated(self._path), self._connection:
                self._connection.execute("BEGIN IMMEDIATE")
                chore(self._connection)
        except Exception as error:  # noqa: BLE001 - as in `_settle`
            done.set_exception(error if isinstance(error, PayloadLogError) else PayloadLogError(repr(error)))
        else:
            done.set_result(None)
            self._checkpointer.committed(_CHORE_BYTES)

    def _commit(self, group: _Group) -> int:
        with self._committed:
            refused = self._refused.copy()
        tally = self._tally.copy()
        with translated(self._path):
            all_new, end = self._transaction(group, refused, tally)
        self._remember(group, end, all_new=all_new)
        with self._changed:
            self._waiting_bytes -= group.size_bytes
        with self._committed:
            self._tally, self._end, self._fault = tally, end, None
            self._refused -= refused
            self._committed.notify_all()
        return end

    def _remember(self, group: _Group, end: int, *, all_new: bool) -> None:
        """Keep the entries for who follows the journal; which offsets they have is plain where no key was taken."""
        if not all_new:
            self._tail.clear()
            return
        rows = zip(group.events, group.rows, strict=True)
        self._tail.extend(
            [
                Entry(offset, key, arrival_ns, event_time(event, arrival_ns), event)
                for offset, (event, (key, arrival_ns, _, _)) in enumerate(rows, end - len(group.rows) + 1)
            ]
        )

    def _fail(self, group: _Group, error: Exception) -> None:
        if self._fault is None:
            logger.warning("events are refused until the payload log can be written again: %s", error)
        taken = 0 if group.also else len(group.rows) + sum(outcome != "clamped" for outcome, _ in group.counts)
        with self._changed:
            self._waiting_bytes -= group.size_bytes
        with self._committed:
            self._fault = str(error)
            if taken:
                self._refused["storage"] += taken

    def _transaction(self, group: _Group, refused: Counter[str], tally: Tally) -> tuple[bool, int]:
        """Write a group with its counts, all or nothing, and add these to the tally.

        Returns whether every row was new and its key free, and the last offset.
        """
        cursor = self._connection.cursor()
        cursor.execute("BEGIN IMMEDIATE")
        try:
            all_new = insert_rows(cursor, _INSERT, group.rows, _ONCE) == len(group.rows)
            new = [True] * len(group.rows) if all_new else told_apart(cursor, group.rows, self._end)
            end = int(cursor.lastrowid or 0) if any(new) else self._end
            counts = Counter(group.counts)
            counts.update(
                ("stored" if is_new else "duplicate", role_label(event))
                for is_new, event in zip(new, group.events, strict=True)
            )
            for reason, count in refused.items():
                counts["refused", reason] += count
            cursor.executemany(_COUNT, [(*tally.add(*key, count), count) for key, count in counts.items() if count])
            for chore in group.also:
                chore(self._connection)
            cursor.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.rollback()
            raise
        return all_new, end
