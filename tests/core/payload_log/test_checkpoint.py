"""The write-ahead log is moved into the database while a writer goes on, and begins anew."""

from __future__ import annotations

from pathlib import Path

from inferwatch.payload_log.checkpoint import Checkpointer
from inferwatch.payload_log.database import Schema, open_database

SCHEMA = Schema("test database", 7, 1, "CREATE TABLE events (data BLOB) STRICT;")


def rounds(log: Path) -> int:
    """How often the write-ahead log began anew: the checkpoint sequence number of its header (format section 4.1)."""
    return int.from_bytes(log.read_bytes()[12:16], "big")


def test_the_write_ahead_log_begins_anew_while_events_come(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    writer = open_database(path, SCHEMA)
    checkpointer = Checkpointer(path, writer, every_bytes=50_000)
    writer.execute("INSERT INTO events VALUES (?)", (b"first",))
    began, count = rounds(tmp_path / "test.db-wal"), 1
    while rounds(tmp_path / "test.db-wal") < began + 3 and count < 20_000:
        writer.execute("INSERT INTO events VALUES (?)", (bytes(10_000),))
        checkpointer.committed(10_000)
        count += 1
    assert rounds(tmp_path / "test.db-wal") >= began + 3
    checkpointer.close()
    assert writer.execute("SELECT count(*) FROM events").fetchone() == (count,)
    writer.close()
