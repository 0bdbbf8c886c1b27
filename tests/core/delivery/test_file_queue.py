"""The queue file against a model, and what it makes of files, disks and processes that are not as they should be."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import tempfile
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from inferwatch.delivery.account import Account
from inferwatch.delivery.file_queue import FileQueue
from inferwatch.delivery.queue import Queued
from inferwatch.delivery.queue_file import MIN_BYTES
from inferwatch.delivery.queue_records import accounts
from inferwatch.errors import QueueFileError
from inferwatch.events import CloudEvent

SINKS = ("http://a", "kafka://b/c")
EXTENSIONS = {"namespace": "prod", "inferenceservicename": "m\u00e9", "metadata": '{"A": ["b"]}'}


def event(number: int, size_bytes: int = 10, truncated: bool = False) -> CloudEvent:
    body = (number.to_bytes(4, "big") * (size_bytes // 4 + 1))[:size_bytes]
    return CloudEvent(str(number), "/s", "t", number - 10**19, "text/plain", EXTENSIONS, body, truncated)


@dataclass
class Record:
    """What the model knows of one event: its state by sink, `waiting`, `sent`, or what became of it."""

    event: CloudEvent
    position: int
    states: dict[str, str]


@dataclass
class Model:
    records: list[Record] = field(default_factory=list)
    gone: list[Record] = field(default_factory=list)

    def account(self, sink: str) -> Account:
        states = [record.states[sink] for record in (*self.records, *self.gone) if sink in record.states]
        dropped = {reason: states.count(reason) for reason in set(states) - {"waiting", "sent", "delivered"}}
        return Account.of(states.count("delivered"), states.count("waiting"), states.count("sent"), dropped)

    def leave(self, head: int) -> None:
        """Let go of the records before `head`: what waits is dropped, what is being sent is not decided yet."""
        while self.records and self.records[0].position < head:
            record = self.records.pop(0)
            for sink, state in record.states.items():
                record.states[sink] = "queue_full" if state == "waiting" else state
            self.gone.append(record)

    def forget_sends(self) -> None:
        for record in self.records:
            record.states |= {sink: "waiting" for sink, state in record.states.items() if state == "sent"}
        for record in self.gone:
            record.states |= {sink: "queue_full" for sink, state in record.states.items() if state == "sent"}


class FileQueueMachine(RuleBasedStateMachine):
    """Puts, takes, settles, restores, closes and crashes in any order."""

    @initialize()
    def begin(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.path = self.directory / "0.queue"
        self.queue = FileQueue(self.path, MIN_BYTES, SINKS)
        self.model = Model()
        self.names: tuple[str, ...] = SINKS
        self.taken: dict[str, list[Queued]] = {sink: [] for sink in SINKS}
        self.count = 0

    @rule(size=st.one_of(st.integers(0, 300), st.integers(10_000, 70_000)), truncated=st.booleans())
    def put(self, size: int, truncated: bool) -> None:
        new = event(self.count, size, truncated)
        file = self.queue._file
        head, before = file.head, file.tail
        free = file.capacity - (file.tail - file.head)
        was_empty = not self.model.records
        self.queue.put(new, float(self.count))
        self.count += 1
        self.model.leave(file.head)
        if file.tail == before:
            assert size > 50_000
            self.model.gone.append(Record(new, -1, dict.fromkeys(self.names, "queue_full")))
            return
        assert file.head == head or free < file.tail - before or was_empty, "nothing is dropped while there is room"
        states = dict.fromkeys(self.names, "waiting")
        self.model.records.append(Record(new, file.tail - self.length_of_last(), states))

    def length_of_last(self) -> int:
        file = self.queue._file
        position = file.head
        while (end := self.next_end(position)) < file.tail:
            position = end
        return file.tail - position

    def next_end(self, position: int) -> int:
        file = self.queue._file
        place = position % file.capacity
        length = int.from_bytes(file.bytes[8192 + place : 8196 + place], "little")
        return position + (file.capacity - place if length == 0xFFFFFFFF else (length + 7) // 8 * 8)

    def waiting(self, sink: str) -> list[Record]:
        return [record for record in self.model.records if record.states.get(sink) == "waiting"]

    @rule(data=st.data(), limit=st.integers(1, 5), limit_bytes=st.sampled_from([1, 1000, 10**6]))
    def take(self, data: st.DataObject, limit: int, limit_bytes: int) -> None:
        sink = data.draw(st.sampled_from(self.names))
        expected = self.waiting(sink)
        items = self.position(sink).take(limit, limit_bytes)
        assert len(items) <= limit
        assert bool(items) == bool(expected)
        assert sum(item.size_bytes for item in items[1:]) <= limit_bytes
        for item, record in zip(items, expected, strict=False):
            assert item.event == record.event
            assert item.since_s == float(item.event.id)
            record.states[sink] = "sent"
        self.taken[sink] += items

    def position(self, sink: str) -> Any:
        return self.queue.positions[self.names.index(sink)]

    def record_of(self, item: Queued) -> Record:
        return next(r for r in (*self.model.records, *self.model.gone) if r.event.id == item.event.id)

    @rule(data=st.data(), outcome=st.sampled_from([None, "refused", "expired", "restore"]))
    def end_some(self, data: st.DataObject, outcome: str | None) -> None:
        sink = data.draw(st.sampled_from(self.names))
        chosen = [item for item in self.taken[sink] if data.draw(st.booleans())]
        self.taken[sink] = [item for item in self.taken[sink] if item not in chosen]
        for item in chosen:
            record = self.record_of(item)
            if outcome == "restore":
                record.states[sink] = "waiting" if record in self.model.records else "queue_full"
            else:
                record.states[sink] = outcome or "delivered"
        if outcome == "restore":
            self.position(sink).restore(chosen)
        else:
            self.position(sink).settle(chosen, outcome)
            self.model.leave(self.queue._file.head)

    @rule(crash=st.booleans(), names=st.sampled_from([SINKS, SINKS[:1], SINKS[1:], SINKS[::-1]]))
    def reopen(self, crash: bool, names: tuple[str, ...]) -> None:
        if crash:
            other = self.directory / f"{self.count}-{len(list(self.directory.iterdir()))}.queue"
            shutil.copy(self.path, other)
            self.path = other
        self.queue.close()
        self.queue = FileQueue(self.path, MIN_BYTES, names)
        self.names = names
        self.taken = {sink: [] for sink in SINKS}
        self.model.forget_sends()

    @precondition(lambda self: not self.model.records)
    @rule(size=st.sampled_from([MIN_BYTES, 2 * MIN_BYTES]))
    def an_empty_file_takes_another_size(self, size: int) -> None:
        self.queue.close()
        self.queue = FileQueue(self.path, size, self.names)
        self.taken = {sink: [] for sink in SINKS}
        self.model.forget_sends()
        assert self.queue._file.capacity == size - 8192

    @invariant()
    def every_event_is_accounted_for(self) -> None:
        if not hasattr(self, "queue"):
            return
        seen = accounts(self.path)
        for sink in self.names:
            expected = self.model.account(sink)
            assert self.position(sink).account() == expected
            assert seen[sink] == expected
            assert len(self.position(sink)) == expected.queued

    def teardown(self) -> None:
        if hasattr(self, "queue"):
            self.queue.close()
            shutil.rmtree(self.directory)


TestFileQueue = FileQueueMachine.TestCase
TestFileQueue.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)


def filled(path: Path, count: int, sinks: tuple[str, ...] = SINKS) -> None:
    queue = FileQueue(path, MIN_BYTES, sinks)
    for number in range(count):
        queue.put(event(number), 0.0)
    queue.close()


def ids(queue: FileQueue) -> list[int]:
    return [int(item.event.id) for item in queue.positions[0].take(1000, 10**9)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "0.queue"


@pytest.mark.parametrize("content", [b"hello", b"x" * 100_000, b"IWQUEUE0" + bytes(100_000), b"IWQUEUE1" + bytes(9000)])
def test_a_foreign_file_is_kept_aside(path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    path.write_bytes(content)
    with pytest.raises(QueueFileError, match="cannot read the queue file"):
        accounts(path)
    queue = FileQueue(path, MIN_BYTES)
    queue.put(event(1), 0.0)
    assert ids(queue) == [1]
    queue.close()
    (aside,) = path.parent.glob("0.queue.damaged-*")
    assert aside.read_bytes().rstrip(b"\0") == content.rstrip(b"\0")
    (record,) = caplog.records
    assert str(aside) in record.getMessage()


def damage(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


@pytest.mark.parametrize(
    ("offset", "content"),
    [
        (4096, b"\xff" * 4),  # the slots
        (16, b"\xff" * 8),  # the tail
        (16, (2**40).to_bytes(8, "little")),
        (8192, b"\x01\0\0\0"),  # the first record's length
        (8192, b"\xf0\xff\0\0"),
        (8192 + 24, b"\xff"),  # a state
    ],
)
def test_damage_of_what_holds_the_file_together_begins_a_new_one(path: Path, offset: int, content: bytes) -> None:
    filled(path, 3)
    damage(path, offset, content)
    if offset == 4096:
        damage(path, offset + 2048, content)
    with pytest.raises(QueueFileError, match="cannot read the queue file"):
        accounts(path)
    queue = FileQueue(path, MIN_BYTES, SINKS)
    assert [position.account() for position in queue.positions] == [Account(0, 0, 0, 0, {})] * 2
    assert len(list(path.parent.glob("*.damaged-*"))) == 1
    queue.close()


def test_a_damaged_record_is_dropped_alone(path: Path) -> None:
    filled(path, 3)
    content = path.read_bytes()
    damage(path, content.index(b'["1",') + 2, b"7")
    queue = FileQueue(path, MIN_BYTES, SINKS)
    assert ids(queue) == [0, 2]
    assert queue.positions[0].account() == Account(3, 0, 0, 2, {"damaged": 1})
    queue.close()


def test_a_file_that_was_never_finished_is_begun_again(path: Path) -> None:
    path.write_bytes(bytes(500_000))
    queue = FileQueue(path, MIN_BYTES)
    queue.put(event(1), 0.0)
    assert ids(queue) == [1]
    queue.close()
    assert not list(path.parent.glob("*.damaged-*"))


def test_two_processes_do_not_share_a_file(path: Path) -> None:
    queue = FileQueue(path, MIN_BYTES)
    with pytest.raises(BlockingIOError):
        FileQueue(path, MIN_BYTES)
    queue.close()
    FileQueue(path, MIN_BYTES).close()


def test_every_block_is_allocated_at_once(path: Path) -> None:
    queue = FileQueue(path, 4 * MIN_BYTES)
    assert path.stat().st_blocks * 512 >= 4 * MIN_BYTES
    assert path.stat().st_mode & 0o777 == 0o600
    queue.close()


def test_a_full_disk_is_one_fault_and_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(QueueFileError, match="No space left on device"):
        FileQueue(path, MIN_BYTES)
    assert not path.exists()


def test_a_disk_that_fails_loses_the_event_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    queue = FileQueue(path, MIN_BYTES)
    queue.put(event(0), 0.0)
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwritev", broken)
        queue.put(event(1), 0.0)
        queue.put(event(2), 0.0)
    queue.put(event(3), 0.0)
    assert queue.positions[0].account() == Account(4, 0, 2, 0, {"error": 2})
    assert [record.getMessage() for record in caplog.records] == [
        f"the queue file {path} cannot be written, and events are lost: [Errno 5] Input/output error"
    ]
    queue.close()
    assert accounts(path) == {"sink": Account(4, 0, 2, 0, {"error": 2})}


def test_a_write_that_is_cut_short_is_finished(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def short(descriptor: int, parts: Sequence[bytes], at: int) -> int:
        return os.pwrite(descriptor, b"".join(parts)[:7], at)

    monkeypatch.setattr(os, "pwritev", short)
    queue = FileQueue(path, MIN_BYTES)
    queue.put(event(1, 5000), 0.0)
    queue.close()
    queue = FileQueue(path, MIN_BYTES)
    assert queue.positions[0].take(1, 10**6)[0].event == event(1, 5000)
    queue.close()


@pytest.mark.parametrize("size", [-1, 0, MIN_BYTES - 1])
def test_a_size_too_small_is_refused(path: Path, size: int) -> None:
    with pytest.raises(QueueFileError, match=f"of {size} bytes is too small"):
        FileQueue(path, size)


def test_names_of_sinks_are_limited(path: Path) -> None:
    filled(path, 1, tuple(f"http://{number}" for number in range(8)))
    with pytest.raises(QueueFileError, match="knows 8 sinks already, no room for http://9"):
        FileQueue(path, MIN_BYTES, ["http://9"])
    with pytest.raises(QueueFileError, match="has 256 bytes; allowed are 1 to 255"):
        FileQueue(path, MIN_BYTES, ["x" * 256])
    queue = FileQueue(path, MIN_BYTES, ["http://7"])
    assert ids(queue) == [0]
    queue.close()


def test_a_file_with_events_keeps_its_size(path: Path) -> None:
    filled(path, 3)
    queue = FileQueue(path, 2 * MIN_BYTES)
    assert path.stat().st_size == MIN_BYTES
    queue.close()


def test_what_comes_after_the_end_is_counted(path: Path) -> None:
    queue = FileQueue(path, MIN_BYTES)
    queue.put(event(1), 0.0)
    queue.close()
    queue.put(event(2), 0.0)
    queue.close()
    assert queue.positions[0].account() == Account(2, 0, 1, 0, {"shutdown": 1})
    assert accounts(path) == {"sink": Account(1, 0, 1, 0, {})}


def test_an_account_can_be_read_while_the_owner_writes(path: Path) -> None:
    queue = FileQueue(path, MIN_BYTES, SINKS)
    for number in range(5):
        queue.put(event(number), 0.0)
    queue.positions[0].settle(queue.positions[0].take(1, 10**6), None)
    queue.positions[0].take(2, 10**6)
    assert accounts(path) == {SINKS[0]: Account(5, 1, 2, 2, {}), SINKS[1]: Account(5, 0, 5, 0, {})}
    queue.close()
    assert accounts(path) == {SINKS[0]: Account(5, 1, 4, 0, {}), SINKS[1]: Account(5, 0, 5, 0, {})}


def test_no_file_no_account(path: Path) -> None:
    with pytest.raises(QueueFileError, match="cannot read"):
        accounts(path)


def test_what_is_put_back_is_taken_first_and_in_order(path: Path) -> None:
    filled(path, 8)
    queue = FileQueue(path, MIN_BYTES, SINKS)
    position = queue.positions[0]
    one, two, three, four, five = position.take(5, 10**6)
    for items in ([five], [two, three], [one], [four]):
        position.restore(items)
    assert ids(queue) == list(range(8))
    queue.close()


def test_memory_is_bounded_however_much_waits(path: Path) -> None:
    queue = FileQueue(path, 256 * MIN_BYTES)
    gc.collect()
    tracemalloc.start()
    held = []
    try:
        for number in range(6000):
            queue.put(event(number, 1000), 0.0)
            if number % 3000 == 2999:
                held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert held[0] < 2_100_000
    assert held[1] < held[0] + 20_000
    events = [item.event for item in queue.positions[0].take(10_000, 10**9)]
    assert events == [event(number, 1000) for number in range(6000)], "kept or read from the file, all are the same"
    queue.close()
