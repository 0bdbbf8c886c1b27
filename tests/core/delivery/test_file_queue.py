"""The queue file against a model, and what it makes of files, disks and processes that are not as they should be."""

from __future__ import annotations

import errno
import gc
import os
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import pytest

from inferwatch.delivery.account import Account
from inferwatch.delivery.file_queue import FileQueue
from inferwatch.delivery.queue_file import MIN_BYTES
from inferwatch.delivery.queue_records import accounts
from inferwatch.errors import QueueFileError
from tests.core.delivery.queued import SINKS, event, filled, ids


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


@pytest.mark.parametrize("gap", [0, 8, 24, 32])
def test_what_does_not_fit_at_the_rings_end_lies_at_its_start(path: Path, gap: int) -> None:
    queue = FileQueue(path, MIN_BYTES)
    position = queue.positions[0]
    queue.put(event(1), 0.0)
    (small,) = position.take(1, 10**6)
    position.settle([small])
    capacity = queue.fill()[1]
    queue.put(event(2, capacity - 2 * small.size_bytes - gap + 10), 0.0)
    position.settle(position.take(1, 10**6))
    queue.put(event(3), 0.0)
    assert queue.end == small.size_bytes + capacity
    assert accounts(path) == {"sink": Account(3, 2, 1, 0, {})}
    queue.close()
    queue = FileQueue(path, MIN_BYTES)
    assert ids(queue) == [3]
    queue.close()


def test_a_disk_that_fails_loses_the_event_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    queue = FileQueue(path, 4 * MIN_BYTES)
    queue.put(event(0), 0.0)
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwritev", broken)
        queue.put(event(1, MIN_BYTES), 0.0)
        queue.put(event(2, MIN_BYTES), 0.0)
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
    queue = FileQueue(path, 4 * MIN_BYTES)
    queue.put(event(1, MIN_BYTES), 0.0)
    queue.close()
    queue = FileQueue(path, 4 * MIN_BYTES)
    assert queue.positions[0].take(1, 10**6)[0].event == event(1, MIN_BYTES)
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
