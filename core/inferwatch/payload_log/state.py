"""What is derived from the journal: joined payloads, findings, detector states and the position they belong to.

It all lives in one SQLite file and changes in one transaction a step, so that a process that is killed anywhere resumes
exactly. It is a function of journal and configuration: with the file deleted, it is computed again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inferwatch.closing import Closing
from inferwatch.payload_log.database import Schema, connect, open_database, translated

FILE_NAME = "state.db"

_EXPLANATIONS = """
CREATE TABLE explanations (
    log_offset INTEGER PRIMARY KEY, namespace TEXT NOT NULL, name TEXT NOT NULL, time_ns INTEGER NOT NULL,
    payload_id TEXT, request_id TEXT);
CREATE INDEX explanations_by_payload ON explanations (namespace, name, payload_id) WHERE payload_id IS NOT NULL;
CREATE INDEX explanations_by_request ON explanations (namespace, name, request_id) WHERE request_id IS NOT NULL;
CREATE TABLE explained_rows (
    namespace TEXT NOT NULL, name TEXT NOT NULL, mark TEXT NOT NULL, log_offset INTEGER NOT NULL,
    PRIMARY KEY (namespace, name, mark, log_offset)) WITHOUT ROWID;
CREATE INDEX explained_rows_by_offset ON explained_rows (log_offset);
"""

_REQUEST_IDS = """
ALTER TABLE payloads ADD COLUMN request_id TEXT;
CREATE INDEX payloads_by_request ON payloads (request_id, time_ns) WHERE request_id IS NOT NULL;
"""

SCHEMA = Schema(
    name="inferwatch state",
    application_id=0x69665374,
    version=4,
    script=_EXPLANATIONS
    + """
CREATE TABLE position (one INTEGER PRIMARY KEY CHECK (one = 1), log_offset INTEGER NOT NULL);
INSERT INTO position VALUES (1, 0);
CREATE TABLE streams (
    number INTEGER PRIMARY KEY, namespace TEXT NOT NULL, name TEXT NOT NULL, component TEXT NOT NULL,
    endpoint TEXT NOT NULL, events INTEGER NOT NULL DEFAULT 0, rows INTEGER NOT NULL DEFAULT 0,
    last_event_ns INTEGER NOT NULL DEFAULT 0, UNIQUE (namespace, name, component, endpoint));
CREATE TABLE payloads (
    number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, id TEXT NOT NULL, stream INTEGER NOT NULL REFERENCES streams,
    protocol TEXT NOT NULL, rows INTEGER NOT NULL, request_offset INTEGER, response_offset INTEGER,
    request_ns INTEGER, response_ns INTEGER, time_ns INTEGER NOT NULL, status INTEGER, truncated INTEGER NOT NULL,
    excluded TEXT, fault TEXT, sender TEXT NOT NULL DEFAULT '', request_id TEXT);
CREATE INDEX payloads_by_id ON payloads (id, time_ns);
CREATE INDEX payloads_by_request ON payloads (request_id, time_ns) WHERE request_id IS NOT NULL;
CREATE INDEX payloads_by_stream ON payloads (stream, number);
CREATE INDEX payloads_open ON payloads (stream, time_ns) WHERE request_offset IS NULL OR response_offset IS NULL;
CREATE INDEX payloads_excluded ON payloads (excluded, number) WHERE excluded IS NOT NULL;
CREATE TABLE findings (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, namespace TEXT NOT NULL, name TEXT NOT NULL,
    endpoint TEXT NOT NULL, detector TEXT NOT NULL, kind TEXT NOT NULL, fired INTEGER NOT NULL,
    time_ns INTEGER NOT NULL, payload_key TEXT, document BLOB NOT NULL);
CREATE INDEX findings_by_model ON findings (namespace, name, number);
CREATE INDEX findings_fired ON findings (namespace, name, kind, number) WHERE fired = 1;
CREATE INDEX findings_by_payload ON findings (payload_key) WHERE payload_key IS NOT NULL;
CREATE TABLE judges (name TEXT PRIMARY KEY, state BLOB NOT NULL);
CREATE TABLE statuses (
    namespace TEXT NOT NULL, name TEXT NOT NULL, endpoint TEXT NOT NULL, component TEXT NOT NULL,
    detector TEXT NOT NULL, document BLOB NOT NULL,
    PRIMARY KEY (namespace, name, endpoint, component, detector));
""",
    upgrades=(_REQUEST_IDS, _EXPLANATIONS),
    derived_from="log.db",
)


class State(Closing):
    """The derived state of a payload log. One thread writes; any thread reads through `read`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._readers: list[sqlite3.Connection] = []
        self._closed = False
        self._writer = open_database(path, SCHEMA)
        with translated(path):
            self._writer.execute("PRAGMA synchronous = NORMAL")

    @classmethod
    def open(cls, directory: Path) -> State:
        """Open the state in a log's directory, making it where it is absent. Raises `PayloadLogError`."""
        return cls(directory / FILE_NAME)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Yield the writing connection; everything done with it is kept together or not at all."""
        with translated(self._path):
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.commit()
            except BaseException:
                self._writer.rollback()
                raise

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Yield a reading connection that nobody else has meanwhile.

        There are as many as ever read at once. They belong to no thread: those of a server come and go.
        """
        with translated(self._path):
            try:
                connection = self._readers.pop()
            except IndexError:
                connection = connect(self._path, read_only=True)
            try:
                yield connection
            finally:
                if self._closed:
                    connection.close()
                else:
                    self._readers.append(connection)

    def position(self) -> int:
        """Return the journal offset up to which everything is derived."""
        with self.read() as connection:
            return int(connection.execute("SELECT log_offset FROM position").fetchone()[0])

    def rows(self) -> int:
        """Return the number of rows that requests have brought."""
        with self.read() as connection:
            return int(connection.execute("SELECT coalesce(sum(rows), 0) FROM streams").fetchone()[0])

    def close(self) -> None:
        """Close every connection; one that is being read with, as soon as it is not."""
        self._closed = True
        for connection in (*self._readers, self._writer):
            connection.close()
