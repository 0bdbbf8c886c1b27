"""The journal keeps every event once, in order, and accounts for all of them."""

from __future__ import annotations

import resource
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatch.clock import ManualClock, parse_time
from inferwatch.errors import PayloadLogError
from inferwatch.events import REQUEST_TYPE, RESPONSE_TYPE, CloudEvent
from inferwatch.payload_log.entry import event_time, pack, unpack
from inferwatch.payload_log.journal import Journal
from inferwatch.payload_log.reader import JournalReader
from tests.waiting import eventually

NOON = parse_time("2026-11-21T12:00:00Z")
MINUTE = 60_000_000_000


def event(identity: str = "a", time_ns: int | None = NOON, data: bytes = b"{}", **extensions: str) -> CloudEvent:
    return CloudEvent(identity, "test", REQUEST_TYPE, time_ns, "application/json", extensions, data)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path, clock=ManualClock(NOON)) as opened:
        yield opened


def stored_ids(journal: Journal | JournalReader) -> list[str]:
    return [entry.event.id for entry in journal.read(0, 10_000)]


def test_an_event_comes_back_as_it_was_sent(journal: Journal) -> None:
    sent = event("Grüße", data=bytes(range(256)), metadata='{"X-Request-Id":["abc"]}', endpoint="")
    offset = journal.append([sent]).result()
    (entry,) = journal.read(0, 10)
    assert entry.event == sent
    assert (entry.offset, entry.key, entry.arrival_ns, entry.time_ns) == (offset, sent.key(), NOON, NOON)
    assert journal.get(offset) == entry
    assert journal.get(offset + 1) is None


def test_offsets_follow_the_order_of_appending(journal: Journal) -> None:
    for number in range(50):
        last = journal.append([event(f"{number}-{half}") for half in "ab"])
    assert last.result() == journal.end()
    assert stored_ids(journal) == [f"{number}-{half}" for number in range(50) for half in "ab"]
    offsets = [entry.offset for entry in journal.read(0, 100)]
    assert offsets == sorted(set(offsets))


def test_read_goes_on_behind_an_offset_and_keeps_to_its_bounds(journal: Journal) -> None:
    journal.append([event(str(number), data=b"x" * 100) for number in range(10)]).result()
    first = journal.read(0, 4)
    assert [entry.event.id for entry in first] == ["0", "1", "2", "3"]
    assert [entry.event.id for entry in journal.read(first[-1].offset, 2)] == ["4", "5"]
    assert len(journal.read(0, 100, max_bytes=250)) == 3
    assert len(journal.read(0, 100, max_bytes=1)) == 1
    assert journal.read(journal.end(), 100) == []


def test_a_redelivered_event_is_kept_once_and_a_reused_id_twice(journal: Journal) -> None:
    first, later = event("a"), event("a", NOON + MINUTE)
    other_body, timeless = event("a", None, b"1"), event("a", None, b"2")
    for received in (first, first, later, other_body, timeless, other_body):
        journal.append([received]).result()
    journal.append([first, later, event("b"), event("b")]).result()
    assert [entry.event for entry in journal.read(0, 10)] == [first, later, other_body, timeless, event("b")]
    ledger = journal.ledger()
    assert (ledger.received, ledger.stored, ledger.duplicate) == (10, 5, 5)


def test_a_reused_id_at_the_same_time_is_a_new_event_where_the_body_is_another(journal: Journal) -> None:
    bodies = [b"1", b"2", b"1", b"3", b"2"]
    journal.append([event("a", data=body) for body in bodies]).result()
    for body in (b"3", b"4", b"1"):
        journal.append([event("a", data=body)]).result()
    entries = journal.read(0, 10)
    assert [entry.event.data for entry in entries] == [b"1", b"2", b"3", b"4"]
    assert len({entry.key for entry in entries}) == 4
    assert journal.end() == entries[-1].offset
    ledger = journal.ledger()
    assert (ledger.received, ledger.stored, ledger.duplicate) == (8, 4, 4)


def test_payloads_are_counted_by_role(journal: Journal) -> None:
    answer = replace(event("a"), type=RESPONSE_TYPE)
    journal.append([event("a"), answer, event("b"), event("b")]).result()
    journal.append([event("c")]).result()
    ledger = journal.ledger()
    assert ledger.payloads == {("stored", "request"): 3, ("stored", "response"): 1, ("duplicate", "request"): 1}
    assert (ledger.stored, ledger.duplicate) == (4, 1)


def test_the_ledger_adds_up_at_every_step_and_after_opening_again(tmp_path: Path) -> None:
    with Journal.open(tmp_path, clock=ManualClock(NOON)) as journal:
        journal.append([event("a"), event("a")], ignored=["io.other"], malformed=["bad_time"]).result()
        journal.append(ignored=["io.other", "io.third"]).result()
        journal.refuse("overloaded", 3)
        expected = {
            "received": 9,
            "stored": 1,
            "duplicate": 1,
            "ignored": {"io.other": 2, "io.third": 1},
            "malformed": {"bad_time": 1},
            "refused": {"overloaded": 3},
            "clamped": 0,
        }
        assert journal.ledger().as_dict() == expected
    with Journal.open(tmp_path) as journal:
        assert journal.ledger().as_dict() == expected
        assert journal.end() == 1
    with JournalReader(tmp_path) as reader:
        assert reader.ledger().as_dict() == expected


def test_labels_are_bounded_in_number_and_length(journal: Journal) -> None:
    kinds = [f"io.type.{number}" for number in range(300)] + ["x" * 1000, "line\nbreak"]
    journal.append(ignored=kinds).result()
    journal.append(ignored=["io.type.7", "io.new"]).result()
    ignored = journal.ledger().ignored
    assert len(ignored) == 101
    assert ignored["io.type.7"] == 2
    assert ignored["other"] == 300 - 100 + 3
    assert journal.ledger().received == 304


def test_a_time_too_far_ahead_or_absent_is_that_of_arrival(journal: Journal) -> None:
    sent = [event("near", NOON + 5 * MINUTE), event("far", NOON + 5 * MINUTE + 1), event("none", None)]
    journal.append(sent).result()
    near, far, none = journal.read(0, 3)
    assert (near.time_ns, far.time_ns, none.time_ns) == (NOON + 5 * MINUTE, NOON, NOON)
    assert [entry.event for entry in (near, far, none)] == sent
    assert journal.ledger().clamped == 1


@given(
    st.builds(
        CloudEvent,
        id=st.text(min_size=1),
        source=st.text(),
        type=st.text(),
        time_ns=st.none() | st.integers(-(10**20), 10**21),
        content_type=st.none() | st.text(),
        extensions=st.dictionaries(st.text(), st.text()),
        data=st.binary(),
        truncated=st.booleans(),
    )
)
def test_packing_loses_nothing(sent: CloudEvent) -> None:
    entry = unpack(1, pack(sent, NOON))
    assert entry.event == sent
    assert entry.key == sent.key()
    assert entry.time_ns == event_time(sent, NOON)
    assert -(2**63) <= entry.time_ns < 2**63


def test_wait_wakes_on_the_commit_and_times_out_without_one(journal: Journal) -> None:
    assert not journal.wait(0, 0.0)
    seen: list[bool] = []
    follower = threading.Thread(target=lambda: seen.append(journal.wait(0, 30)))
    follower.start()
    offset = journal.append([event()]).result()
    follower.join()
    assert seen == [True]
    assert journal.wait(offset - 1, 0.0)
    assert not journal.wait(offset, 0.0)
    journal.append([event()]).result()
    assert not journal.wait(offset, 0.0), "a duplicate is no news"


def test_close_ends_a_wait_and_later_appends(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    seen: list[bool] = []
    follower = threading.Thread(target=lambda: seen.append(journal.wait(0, 60)))
    follower.start()
    journal.close()
    follower.join()
    assert seen == [False]
    with pytest.raises(PayloadLogError, match="closed"):
        journal.append([event()])


def test_a_wait_ends_once_its_condition_is_set(journal: Journal) -> None:
    seen: list[bool] = []
    stopping = threading.Event()
    follower = threading.Thread(target=lambda: seen.append(journal.wait(0, None, unless=stopping)))
    follower.start()
    stopping.set()
    journal.wake()
    follower.join()
    assert seen == [False]


def test_threads_append_and_read_at_the_same_time(journal: Journal) -> None:
    def send(sender: int) -> None:
        for number in range(100):
            journal.append([event(f"{sender}-{number}")]).result()

    senders = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for sender in senders:
        sender.start()
    position, seen = 0, 0
    while seen < 400 and journal.wait(position, 30):
        entries = journal.read(position, 64)
        position, seen = entries[-1].offset, seen + len(entries)
    for sender in senders:
        sender.join()
    assert seen == 400
    assert len(set(stored_ids(journal))) == 400


def test_too_much_waiting_is_refused_and_counted(tmp_path: Path) -> None:
    with Journal.open(tmp_path, max_inflight_bytes=1_000_000) as journal:
        large = journal.append([event("large", data=b"x" * 5_000_000)])
        refused = 0
        for number in range(1000):
            try:
                journal.append([event(str(number), data=b"x" * 400_000)])
            except PayloadLogError:
                refused += 1
        assert large.result()
    with Journal.open(tmp_path) as journal:
        ledger = journal.ledger()
        assert refused > 0
        assert ledger.refused == {"overloaded": refused}
        assert ledger.received == 1001
        assert ledger.stored == 1001 - refused


def test_a_disk_that_is_full_refuses_and_recovers(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Journal.open(tmp_path) as journal:
        journal.append([event("before")]).result()
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
        try:
            with pytest.raises(PayloadLogError, match=r"log\.db"):
                journal.append([event("lost", data=b"x" * 400_000)], ignored=["io.other"]).result()
            assert journal.fault is not None
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        journal.append([event("after")]).result()
        assert journal.fault is None
        assert stored_ids(journal) == ["before", "after"]
        ledger = journal.ledger()
        assert ledger.refused == {"storage": 2}
        assert (ledger.received, ledger.stored) == (4, 2)
    with JournalReader(tmp_path) as reader:
        assert reader.ledger() == ledger


def test_a_fault_ends_by_itself_once_writing_works_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inferwatch.payload_log.journal._RETRY_S", 0.02)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Journal.open(tmp_path) as journal:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            lost = journal.append([event("lost", data=b"x" * 400_000)])
            with pytest.raises(PayloadLogError):
                lost.result()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        eventually("the fault ends", lambda: journal.fault is None)


def test_both_durabilities_set_what_the_database_syncs(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "disk", "disk") as journal:
        journal.append([event()]).result()
        assert journal._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    with Journal.open(tmp_path / "process") as journal:
        assert journal._connection.execute("PRAGMA synchronous").fetchone() == (1,)


def test_a_second_process_is_turned_away(journal: Journal) -> None:
    program = (
        "import sys; from inferwatch.payload_log.journal import Journal\n"
        "try: Journal.open(sys.argv[1])\n"
        "except OSError as error: print(error)"
    )
    command = [sys.executable, "-c", program, str(journal.directory)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert "in use by another process" in answer
    assert len(answer.splitlines()) == 1
    with pytest.raises(PayloadLogError, match="in use"):
        Journal.open(journal.directory)


def test_another_process_may_read_while_one_writes(journal: Journal) -> None:
    with JournalReader(journal.directory) as reader:
        journal.append([event("a")]).result()
        assert stored_ids(reader) == ["a"]
        assert reader.end() == journal.end()


def closed_log(directory: Path, count: int = 200) -> Path:
    with Journal.open(directory) as journal:
        journal.append([event(str(number), data=b"x" * 2000) for number in range(count)]).result()
    return directory / "log.db"


@pytest.mark.parametrize("damage", ["empty", "text", "short", "header", "page"])
def test_a_damaged_file_is_refused_by_name_and_left_alone(tmp_path: Path, damage: str) -> None:
    path = closed_log(tmp_path)
    content = bytearray(path.read_bytes())
    if damage == "empty":
        content.clear()
    elif damage == "text":
        content = bytearray(b"this is no database at all\n" * 1000)
    elif damage == "short":
        del content[len(content) // 2 :]
    elif damage == "header":
        content[:100] = b"\0" * 100
    else:
        content[4096 : 4 * 4096] = b"\xa5" * (3 * 4096)
    path.write_bytes(content)
    for _ in range(2):
        with pytest.raises(PayloadLogError) as caught:
            Journal.open(tmp_path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert path.read_bytes() == content


def test_damage_met_while_reading_names_the_file(tmp_path: Path) -> None:
    path = closed_log(tmp_path)
    with Journal.open(tmp_path) as journal:
        content = bytearray(path.read_bytes())
        content[2 * 4096 :] = b"\xa5" * (len(content) - 2 * 4096)
        path.write_bytes(content)
        with pytest.raises(PayloadLogError, match=r"log\.db"):
            journal.read(0, 1000)


def test_a_log_whose_file_is_gone_is_not_begun_anew(tmp_path: Path) -> None:
    path = closed_log(tmp_path)
    path.rename(tmp_path / "elsewhere")
    path.with_name("log.db-wal").touch()
    with pytest.raises(PayloadLogError, match="no such file"):
        Journal.open(tmp_path)
    assert not path.exists()


def test_another_database_and_a_later_version_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with sqlite3.connect(other / "log.db") as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    with pytest.raises(PayloadLogError, match="this is no inferwatch payload log"):
        Journal.open(other)
    path = closed_log(tmp_path / "later")
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(PayloadLogError, match="later version"):
        Journal.open(path.parent)


def test_a_directory_that_cannot_be_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PayloadLogError, match="file: this is no directory"):
        Journal.open(tmp_path / "file")
    with pytest.raises(PayloadLogError, match="no such directory"):
        JournalReader(tmp_path / "missing")
