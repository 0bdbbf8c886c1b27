"""Where reading a topic stands, kept in `log.db` in the transaction of the events that were read."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from uuid import uuid4

from inferwatch.payload_log.journal import Chore, Journal
from inferwatch.payload_log.reader import FILE_NAME

_TABLES = (
    """CREATE TABLE IF NOT EXISTS topic_positions (
        topic TEXT NOT NULL, partition INTEGER NOT NULL, next_offset INTEGER NOT NULL, PRIMARY KEY (topic, partition)
    ) STRICT, WITHOUT ROWID""",
    "CREATE TABLE IF NOT EXISTS topic_reader (member TEXT NOT NULL) STRICT",
)
_KEEP = "INSERT INTO topic_positions VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET next_offset = excluded.next_offset"


class Positions:
    """The positions of one topic, by partition: the offset of the first record that the log does not have.

    `member` names this log among the readers of the topic: the same whenever it is opened, another one where it was
    copied to, since brokers turn away the first of two readers of one name. Raises `PayloadLogError`.
    """

    def __init__(self, journal: Journal, topic: str) -> None:
        self._topic = topic
        self.member = ""
        self._offsets: dict[int, int] = {}
        journal.run(self._load).result()
        self.member += f"-{(journal.directory / FILE_NAME).stat().st_ino}"

    def get(self, partition: int) -> int | None:
        """Return the position in a partition; None where nothing of it was read."""
        return self._offsets.get(partition)

    def keeping(self, offsets: Mapping[int, int]) -> Chore:
        """Return what writes positions down, for the transaction of the events before them."""

        def keep(connection: sqlite3.Connection) -> None:
            connection.executemany(_KEEP, [(self._topic, *position) for position in offsets.items()])

        return keep

    def kept(self, offsets: Mapping[int, int]) -> None:
        """Take note that the transaction is committed."""
        self._offsets.update(offsets)

    def _load(self, connection: sqlite3.Connection) -> None:
        for table in _TABLES:
            connection.execute(table)
        member = connection.execute("SELECT member FROM topic_reader").fetchone()
        if member is None:
            member = (f"inferwatch-{uuid4()}",)
            connection.execute("INSERT INTO topic_reader VALUES (?)", member)
        self.member = member[0]
        found = "SELECT partition, next_offset FROM topic_positions WHERE topic = ?"
        self._offsets = dict(connection.execute(found, (self._topic,)).fetchall())
