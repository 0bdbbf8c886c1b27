"""What a journal still has in memory is what it has written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from inferwatch.clock import ManualClock
from inferwatch.payload_log import journal as journal_module
from inferwatch.payload_log.journal import Journal
from inferwatch.payload_log.reader import JournalReader
from inferwatch.payload_log.tail import Tail
from tests.core.payload_log.test_sealing import ODD
from tests.core.pipeline.deriving import EVENING, traffic
from tests.inferences import request


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path, clock=ManualClock(EVENING)) as opened:
        yield opened


def test_memory_and_file_hold_the_same(journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for events in (traffic(), ODD, [request("last", 1, [[1]])]):
        journal.append(events).result()
    with JournalReader(tmp_path) as reader:
        kept = reader.read(0, 1000)
        limits = [(0, 3, 1 << 20), (0, 1000, 1), (0, 1000, 100), (2, 5, 1 << 20), (len(kept) - 1, 9, 9)]
        expected = [reader.read(after, limit, max_bytes=size) for after, limit, size in limits]
    monkeypatch.setattr(journal._reader, "read", None)
    assert [journal.read(after, limit, max_bytes=size) for after, limit, size in limits] == expected
    assert expected[-1] == kept[-1:]


def test_what_is_let_go_of_is_read_from_the_file(journal: Journal) -> None:
    journal.append(traffic()).result()
    whole = journal.read(0, 1000)
    assert journal.read(9, 1000) == whole[9:]
    assert journal.read(0, 1000) == whole
    journal.append([*traffic()[:3], request("new", 1, [[1]])]).result()  # three of them are there already
    assert [entry.event.id for entry in journal.read(len(whole), 9)] == ["new"]
    journal.append([request("newer", 2, [[1]])]).result()
    assert [entry.event.id for entry in journal.read(len(whole), 9)] == ["new", "newer"]


def test_a_follower_sees_every_entry_once_whatever_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "Tail", lambda: Tail(3000))
    with Journal.open(tmp_path, clock=ManualClock(EVENING)) as journal:
        seen: list[int] = []
        for number in range(40):
            journal.append([request(f"{number}-{part}", number, [[part]]) for part in range(number % 5)]).result()
            if number % 3 == 0:
                while page := journal.read(seen[-1] if seen else 0, 4):
                    seen += [entry.offset for entry in page]
        while page := journal.read(seen[-1], 4):
            seen += [entry.offset for entry in page]
        assert seen == list(range(1, journal.end() + 1))


def test_a_tail_is_bounded(journal: Journal) -> None:
    tail = Tail(5000)
    journal.append(traffic()).result()
    entries = journal.read(0, 1000)
    tail.extend(entries)
    assert tail.read(0, 1000, 1 << 20) == []
    newest = tail.read(entries[-1].offset - 2, 1000, 1 << 20)
    assert newest == entries[-2:]
    tail.clear()
    assert tail.read(entries[-1].offset - 1, 1000, 1 << 20) == []
