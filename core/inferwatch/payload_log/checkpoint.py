"""Moves what was committed from SQLite's write-ahead log into the database file, beside the writer.

SQLite does this within a commit by default, which then waits for the disk (tens of milliseconds). Here a thread does
the bulk of it; the writer adds the few pages committed meanwhile, after which the write-ahead log begins anew instead
of growing for as long as events come.
"""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path
from threading import Thread

from inferwatch.payload_log.database import connect

logger = logging.getLogger(__name__)

EVERY_BYTES = 16 * 1024 * 1024
"""A checkpoint follows so many bytes of events."""

_PASSIVE = "PRAGMA wal_checkpoint(PASSIVE)"


class Checkpointer:
    """Told of every commit by the writing thread, starts a checkpoint where one is due. `close` waits for its end."""

    def __init__(self, path: Path, writer: sqlite3.Connection, *, every_bytes: int = EVERY_BYTES) -> None:
        self._every_bytes = every_bytes
        self._connection = connect(path)
        self._writer = writer
        self._writer.execute("PRAGMA wal_autocheckpoint = 0")
        self._writer.execute(f"PRAGMA journal_size_limit = {4 * every_bytes}")
        self._pending_bytes = 0
        self._thread: Thread | None = None

    def committed(self, size_bytes: int) -> None:
        """Note a commit, and begin or end a checkpoint."""
        self._pending_bytes += size_bytes
        if self._thread is not None and not self._thread.is_alive():
            self._thread = None
            _checkpoint(self._writer)
        elif self._thread is None and self._pending_bytes >= self._every_bytes:
            self._pending_bytes = 0
            self._thread = Thread(target=_checkpoint, args=(self._connection,), name="inferwatch-checkpoint")
            self._thread.start()

    def close(self) -> None:
        """Wait for a checkpoint under way, and release the connection."""
        if self._thread is not None:
            self._thread.join()
        self._connection.close()


def _checkpoint(connection: sqlite3.Connection) -> None:
    try:
        connection.execute(_PASSIVE).fetchall()
    except sqlite3.Error as error:  # nothing is lost: the next one moves these pages as well
        logger.warning("the write-ahead log could not be moved into the database: %s", error)
