"""The state changes in whole transactions, and every thread reads it."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from inferwatch.errors import PayloadLogError
from inferwatch.payload_log.state import FILE_NAME, SCHEMA, State
from inferwatch.payload_log.views import StateReader


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    opened = State.open(tmp_path)
    yield opened
    opened.close()


def move(state: State, offset: int) -> None:
    with state.transaction() as connection:
        connection.execute("UPDATE position SET log_offset = ?", (offset,))


def interrupted(state: State) -> None:
    with state.transaction() as connection:
        connection.execute("UPDATE position SET log_offset = 9")
        raise KeyboardInterrupt


def test_it_begins_at_the_beginning_and_keeps_what_is_committed(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    assert state.position() == 0
    move(state, 7)
    assert state.position() == 7
    state.close()
    again = State.open(tmp_path)
    assert again.position() == 7
    again.close()


def test_a_transaction_that_fails_leaves_nothing(state: State) -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupted(state)
    assert state.position() == 0
    move(state, 3)
    assert state.position() == 3


def test_a_fault_of_the_database_is_told_in_one_sentence_with_the_file(state: State) -> None:
    with pytest.raises(PayloadLogError, match=rf"{FILE_NAME}: .*constraint failed"), state.transaction() as connection:
        connection.execute("INSERT INTO position VALUES (2, 0)")
    with pytest.raises(PayloadLogError, match="readonly"), state.read() as connection:
        connection.execute("UPDATE position SET log_offset = 9")
    assert state.position() == 0


def test_a_commit_that_fails_does_not_stand_in_the_way_of_the_next(state: State) -> None:
    """A deferred constraint is checked when the transaction is committed: the commit fails, and nothing before it."""
    with state.transaction() as connection:
        connection.execute("CREATE TABLE a (b INTEGER PRIMARY KEY)")
        connection.execute("CREATE TABLE c (b INTEGER REFERENCES a DEFERRABLE INITIALLY DEFERRED)")
    connection.execute("PRAGMA foreign_keys = ON")
    with pytest.raises(PayloadLogError, match="FOREIGN KEY"), state.transaction() as connection:
        connection.execute("INSERT INTO c VALUES (1)")
    move(state, 5)
    assert state.position() == 5


def test_readers_see_only_what_is_committed(state: State) -> None:
    seen: list[int] = []

    def read() -> None:
        seen.append(state.position())

    with state.transaction() as connection:
        connection.execute("UPDATE position SET log_offset = 4")
        reader = threading.Thread(target=read)
        reader.start()
        reader.join()
    reader = threading.Thread(target=read)
    reader.start()
    reader.join()
    assert seen == [0, 4]


def test_threads_that_come_and_go_leave_no_connection_behind(state: State) -> None:
    seen = set()

    def look() -> None:
        with state.read() as connection:
            seen.add(id(connection))

    for _ in range(20):
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    assert len(seen) == 1


def test_those_who_read_at_once_each_have_a_connection(state: State) -> None:
    with state.read() as one, state.read() as other:
        assert one is not other
        state.close()
        assert one.execute("SELECT count(*) FROM position").fetchone() == (1,)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        one.execute("SELECT 1")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"no database at all")
    with pytest.raises(PayloadLogError, match="damaged"):
        State.open(tmp_path)
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE a (b)")
    other.close()
    (tmp_path / "other.db").replace(tmp_path / FILE_NAME)
    with pytest.raises(PayloadLogError, match="this is no inferwatch state"):
        State.open(tmp_path)


def aged(directory: Path, version: int) -> None:
    """Make a state of an earlier format, at offset 5."""
    state = State.open(directory)
    move(state, 5)
    state.close()
    with sqlite3.connect(directory / FILE_NAME) as before:
        before.execute("DROP TABLE explanations")
        before.execute("DROP TABLE explained_rows")
        if version < 3:
            before.execute("DROP INDEX payloads_by_request")
            before.execute("ALTER TABLE payloads DROP COLUMN request_id")
        before.execute(f"PRAGMA user_version = {version}")
    before.close()


@pytest.mark.parametrize("version", [2, 3])
def test_a_file_of_a_version_before_is_brought_up_to_date(tmp_path: Path, version: int) -> None:
    aged(tmp_path, version)
    with pytest.raises(PayloadLogError, match="written by an earlier version; `inferwatch up` brings it up to date"):
        StateReader(tmp_path)
    state = State.open(tmp_path)
    assert state.position() == 5
    with state.read() as connection:
        assert connection.execute("SELECT * FROM explanations, explained_rows").fetchall() == []
        assert connection.execute("SELECT request_id FROM payloads").fetchall() == []
    state.close()
    State.open(tmp_path).close()


@pytest.mark.parametrize("opening", [State.open, StateReader])
def test_a_file_that_is_too_old_says_what_to_do(tmp_path: Path, opening: Callable[[Path], object]) -> None:
    aged(tmp_path, 1)
    with pytest.raises(PayloadLogError) as raised:
        opening(tmp_path)
    assert str(raised.value) == (
        f"{tmp_path / FILE_NAME}: of format 1; this version reads {SCHEMA.version}. Delete it, and start"
        " `inferwatch up`: it is derived anew from log.db beside it"
    )
    (tmp_path / FILE_NAME).unlink()
    state = State.open(tmp_path)
    assert state.position() == 0
    state.close()
