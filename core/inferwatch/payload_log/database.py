"""SQLite files: opened with one clear sentence for everything that can be wrong with them, and never replaced.

A file that is there is either good or refused: it is created under another name and moved into place when complete,
so that an empty or short one is always damage.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from inferwatch.errors import PayloadLogError

QUICK_CHECK_BYTES = 64 * 1024 * 1024
"""A file up to this size is checked page by page when it is opened to be written."""

_BUSY_TIMEOUT_S = 5.0
_ROWS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Schema:
    """What a database file must be: statements that create it, a mark in its header, and a version.

    `upgrades` holds the statements that bring files of the versions before up to date, a text a version, the last of
    them for the version before this one. `derived_from`: the file whose contents this one can be made of anew; empty
    where it holds what is nowhere else.
    """

    name: str
    application_id: int
    version: int
    script: str
    upgrades: tuple[str, ...] = ()
    derived_from: str = ""


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise `PayloadLogError`, which names the file, in place of what SQLite or the operating system raise."""
    try:
        yield
    except sqlite3.Error as error:
        raise PayloadLogError(f"{path}: {error}") from error
    except PayloadLogError:
        raise
    except OSError as error:
        raise PayloadLogError(f"{path}: {error.strerror or error}") from error


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Return a connection for one thread at a time, without implicit transactions."""
    address = f"file:{quote(str(path.absolute()))}?mode={'ro' if read_only else 'rw'}"
    if read_only and _is_at_rest(path):
        address += "&immutable=1"
    return sqlite3.connect(address, uri=True, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)


def _is_at_rest(path: Path) -> bool:
    """Say whether a file is a finished log in a place where nobody can write, such as a mounted backup.

    SQLite would make files beside it in order to read it.
    """
    return not (os.access(path.parent, os.W_OK) or Path(f"{path}-wal").exists())


def lock_directory(directory: Path, name: str) -> IO[str]:
    """Return an open file that keeps every other process out of the directory until it is closed.

    Creates the directory. The lock is the kernel's and ends with the process, however that ends.
    """
    path = directory / name
    if directory.exists() and not directory.is_dir():
        raise PayloadLogError(f"{directory}: this is no directory")
    with translated(directory):
        directory.mkdir(parents=True, exist_ok=True)
    with translated(path):
        file = path.open("a+", encoding="ascii")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        owner = file.read(32).strip() or "unknown"
        file.close()
        raise PayloadLogError(f"{directory}: in use by another process (id {owner})") from error
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def open_database(path: Path, schema: Schema, *, read_only: bool = False) -> sqlite3.Connection:
    """Return a connection to a database of this schema, in WAL mode; a new one where there is none.

    Raises `PayloadLogError` for a damaged file, another kind of file, or one of a later version.
    """
    if not path.exists():
        if read_only and not path.parent.is_dir():
            raise PayloadLogError(f"{path.parent}: there is no such directory")
        if read_only or (Path(f"{path}-wal").exists() and not schema.derived_from):
            raise PayloadLogError(f"{path}: there is no such file")
        _create(path, schema)
    with translated(path):
        _require_header(path)
        connection = connect(path, read_only=read_only)
        try:
            _verify(connection, path, schema, read_only=read_only)
        except BaseException:
            connection.close()
            raise
    return connection


def _create(path: Path, schema: Schema) -> None:
    draft = path.with_name(f"{path.name}.new")
    with translated(path):
        for left in (draft, Path(f"{path}-wal"), Path(f"{path}-shm")):
            left.unlink(missing_ok=True)
        draft.touch()
        connection = connect(draft)
        try:
            connection.executescript(  # in one transaction, which waits for the disk once
                f"PRAGMA journal_mode = WAL; BEGIN; PRAGMA application_id = {schema.application_id};"
                f"PRAGMA user_version = {schema.version}; {schema.script} COMMIT;"
            )
        finally:
            connection.close()
        draft.replace(path)
        sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make sure that the names in a directory are on the disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def insert_rows(cursor: sqlite3.Cursor, into: str, rows: Sequence[Sequence[Any]], conflict: str = "") -> int:
    """Insert rows, several a statement, and return how many changed the table; `into` ends before VALUES.

    Each statement lets go of the interpreter's lock and waits for it: with `executemany`, once a row.
    """
    changed = 0
    for first in range(0, len(rows), _ROWS_AT_ONCE):
        part = rows[first : first + _ROWS_AT_ONCE]
        cursor.execute(_insertion(into, len(part[0]), len(part), conflict), [value for row in part for value in row])
        changed += cursor.rowcount
    return changed


@lru_cache(maxsize=256)
def _insertion(into: str, columns: int, rows: int, conflict: str) -> str:
    places = f"({','.join('?' * columns)})"
    return f"{into} VALUES {','.join([places] * rows)} {conflict}"


def replace_file(path: Path, data: bytes) -> None:
    """Write a small file whole: under its name lie the old bytes or the new ones, on the disk, whatever happens."""
    draft = path.with_name(f"{path.name}.new")
    with translated(path):
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        sync_directory(path.parent)


def _require_header(path: Path) -> None:
    with path.open("rb") as file:
        if file.read(16) != b"SQLite format 3\0":
            raise PayloadLogError(f"{path}: damaged, this is no SQLite database")


def _verify(connection: sqlite3.Connection, path: Path, schema: Schema, *, read_only: bool) -> None:
    """Reading the page count makes SQLite compare it with the file's size, so a file cut short is found here."""
    connection.execute("PRAGMA page_count").fetchone()
    (mark,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if mark != schema.application_id:
        raise PayloadLogError(f"{path}: this is no {schema.name}")
    if version > schema.version:
        raise PayloadLogError(f"{path}: written by a later version (format {version}; this one reads {schema.version})")
    if version < schema.version:
        _upgrade(connection, path, schema, version, read_only=read_only)
    if not read_only and path.stat().st_size <= QUICK_CHECK_BYTES:
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise PayloadLogError(f"{path}: damaged, {' '.join(verdict.split())}")


def _upgrade(connection: sqlite3.Connection, path: Path, schema: Schema, version: int, *, read_only: bool) -> None:
    behind = schema.version - version
    if behind > len(schema.upgrades):
        told = f"{path}: of format {version}; this version reads {schema.version}"
        if schema.derived_from:
            told += f". Delete it, and start `inferwatch up`: it is derived anew from {schema.derived_from} beside it"
        raise PayloadLogError(told)
    if read_only:
        raise PayloadLogError(f"{path}: written by an earlier version; `inferwatch up` brings it up to date")
    steps = "; ".join(schema.upgrades[-behind:])
    connection.executescript(f"BEGIN IMMEDIATE; {steps}; PRAGMA user_version = {schema.version}; COMMIT;")
