"""Positions in a topic are committed with the events before them, or not at all."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from inferwatch.clock import NS_PER_S, ManualClock
from inferwatch.errors import PayloadLogError
from inferwatch.events import REQUEST_TYPE, CloudEvent
from inferwatch.payload_log.journal import Journal
from inferwatch.payload_log.positions import Positions

NOON = 1_795_262_400 * NS_PER_S


def event(number: int, time_ns: int | None = None) -> CloudEvent:
    return CloudEvent(str(number), "/s", REQUEST_TYPE, time_ns, data=str(number).encode())


def test_positions_outlive_the_process_and_name_the_same_member(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        positions = Positions(journal, "t")
        assert positions.get(0) is None
        assert positions.member.startswith("inferwatch-")
        for offsets in ({0: 7, 3: 1}, {0: 5}):
            journal.append([event(1)], also=positions.keeping(offsets)).result()
            positions.kept(offsets)
        other = Positions(journal, "other")
        assert other.get(0) is None
        member = positions.member
        assert other.member == member
    with Journal.open(tmp_path) as journal:
        again = Positions(journal, "t")
        assert [again.get(partition) for partition in (0, 3, 4)] == [5, 1, None]
        assert again.member == member
    shutil.copytree(tmp_path, tmp_path / "copy")
    with Journal.open(tmp_path / "copy") as journal:
        copied = Positions(journal, "t")
        assert (copied.get(0), copied.member.rpartition("-")[0]) == (5, member.rpartition("-")[0])
        assert copied.member != member


def test_what_fails_is_neither_stored_nor_counted(tmp_path: Path) -> None:
    def fail(_: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with Journal.open(tmp_path) as journal:
        with pytest.raises(PayloadLogError, match="disk is full"):
            journal.append([event(1)], malformed=["bad_time"], also=fail).result()
        assert journal.fault is not None
        assert journal.ledger().received == 0
        journal.append([event(1)], malformed=["bad_time"], also=lambda _: None).result()
        assert not journal.fault
        assert journal.end() == 1
        assert journal.ledger().as_dict() | {"stored": 1, "malformed": {"bad_time": 1}} == journal.ledger().as_dict()
        assert journal.ledger().received == 2


def test_arrivals_are_those_that_were_given(tmp_path: Path) -> None:
    with Journal.open(tmp_path, clock=ManualClock(NOON)) as journal:
        times = [NOON - 3600 * NS_PER_S, NOON - 7200 * NS_PER_S]
        journal.append([event(1), event(2, NOON)], arrivals_ns=times).result()
        entries = journal.read(0, 10)
        assert [entry.arrival_ns for entry in entries] == times
        assert [entry.time_ns for entry in entries] == times  # the second claims to be far ahead of its arrival
        assert journal.ledger().clamped == 1
