"""A queue in a memory-mapped file: what was put there survives the process, and costs it 2 MiB of memory a sink.

One ring of records serves several sinks, each at its own pace. A record holds its length, a CRC-32 of its position and
content, when it came, and one byte for each sink that says what became of it. Records leave the ring when every sink is
done with them, or as the oldest when it is full; what is then counted in the header is what those bytes said. So the
accounts hold after a kill -9 at any instruction, and what was being sent then counts as waiting again.

A file belongs to one process, by a lock, and to one thread of it.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Sequence
from heapq import heappop, heappush
from pathlib import Path
from typing import Final

from inferwatch.delivery.account import Account
from inferwatch.delivery.queue import EVENT_OVERHEAD_BYTES, Queued, WhenFull
from inferwatch.delivery.queue_file import (
    ADRIFT,
    COUNTS,
    DELIVERED,
    MAX_SINKS,
    MIN_BYTES,
    RING,
)
from inferwatch.delivery.queue_records import (
    CONTENT,
    DONE,
    HEAD,
    LENGTH,
    QUEUE_FULL,
    REASON,
    SENT,
    TO_THE_START,
    WAITING,
    account_of,
    padded,
    recovered,
    seal,
    top,
)
from inferwatch.delivery.record import attributes_of, event_of
from inferwatch.errors import QueueFileError
from inferwatch.events import CloudEvent

logger = logging.getLogger(__name__)

_RESTART_BYTES: Final = 1 << 20
"""An empty ring is used from its start again, so that light traffic touches few pages."""

_KEPT_BYTES: Final = 2 * 1024 * 1024


class FileQueue:
    """The queue file at `path`, of `size_bytes`, made where there is none; `positions` has a `Queue` for each sink.

    What a process before this one left is sent first. A file that cannot be read is kept under another name, with a
    warning; one that holds events keeps its size until it is empty at an opening. Sinks are known by their names; what
    waits for one that is not among `sinks` is kept as long as there is room. With `drop_newest` the ring is full for
    every sink when it is for the slowest. Raises `QueueFileError` where there can be no such file, and
    `BlockingIOError` where another process has it.
    """

    def __init__(
        self, path: Path, size_bytes: int, sinks: Sequence[str] = ("sink",), when_full: WhenFull = "drop_oldest"
    ) -> None:
        if size_bytes < MIN_BYTES:
            raise QueueFileError(f"a queue file of {size_bytes} bytes is too small; allowed is {MIN_BYTES} and more")
        self.path = path
        self._keeps_oldest = when_full == "drop_newest"
        self._file, self._waiting, self._settled = recovered(path, size_bytes)
        self._open = True
        self._sent = [0] * MAX_SINKS
        self._late = 0
        self._write_failed = False
        self._inherited = self._file.tail
        try:
            self._sinks = [self._file.index_of(name) for name in sinks]
        except QueueFileError:
            self.close()
            raise
        self._addressed = bytes(WAITING if index in self._sinks else 0 for index in range(MAX_SINKS))
        self.positions = [Position(self, index, self._file.head) for index in self._sinks]

    def put(self, event: CloudEvent, now_s: float) -> None:
        """Append an event for every sink. Where it does not fit, the oldest are dropped, or it is itself."""
        attributes, data = attributes_of(event), event.data
        length = CONTENT + len(attributes) + len(data)
        size = padded(length)
        file = self._file
        if not self._open:
            self._late += 1
            return
        if size > file.capacity or (self._keeps_oldest and not self._has_room(size)):
            self._drop_unseen("queue_full")
            return
        at = self._room(size)
        head = HEAD.pack(length, seal(file.tail, now_s, attributes, data), now_s, len(attributes))
        try:
            file.write(at, head, self._addressed, attributes, data)
        except OSError as fault:
            self._drop_unwritten(fault)
            return
        item = Queued(event, size, now_s, file.tail)
        file.advance(file.tail + size)
        for position in self.positions:
            position.keep(item)
        for index in self._sinks:
            self._waiting[index] += 1

    def close(self) -> None:
        """Leave the file to the next process. What is put later is dropped and counted as `shutdown`."""
        if self._open:
            self._open = False
            self._file.close()

    def account(self, index: int) -> Account:
        """Return where every event of a sink is."""
        return account_of(self._file.counts, self._settled, index, self._waiting[index], self._sent[index], self._late)

    def fill(self) -> tuple[int, int]:
        """Return how many bytes of the ring are in use, and how many there are."""
        return self._file.tail - self._file.head, self._file.capacity

    @property
    def end(self) -> int:
        """The position behind the newest record."""
        return self._file.tail

    def waiting(self, index: int) -> int:
        """Return how many events wait for a sink."""
        return self._waiting[index]

    def next(self, position: int, index: int) -> tuple[int, int] | None:
        """Return where the first record begins and ends, from `position` on, that waits for a sink."""
        file = self._file
        position = max(position, file.head)
        while position < file.tail:
            size, states = top(file, position)
            if states[index] == WAITING:
                return position, position + size
            position += size
        return None

    def is_gone(self, position: int) -> bool:
        """Say whether the record has left the ring."""
        return position < self._file.head

    def take(self, position: int, index: int, kept: Queued | None) -> Queued | None:
        """Return a record that waits, as sent from now on; None, and drop it, where it is not what was written.

        `kept`: what it holds, where that need not be read.
        """
        item = kept or self._read(position)
        self._waiting[index] -= 1
        if item is None:
            self._settled[index * COUNTS + REASON["damaged"]] += 1
            self._mark(position, index, DONE + REASON["damaged"])
            return None
        self._sent[index] += 1
        self._mark(position, index, SENT)
        return item

    def settle(self, items: Sequence[Queued], index: int, count: int) -> None:
        """Count sent records as delivered or dropped."""
        kept = self._end_sends(items, index, DONE + count, count)
        self._settled[index * COUNTS + count] += len(kept)
        self._trim()

    def restore(self, items: Sequence[Queued], index: int) -> Sequence[Queued]:
        """Let sent records wait again, and return them. Those that left the ring are dropped."""
        kept = self._end_sends(items, index, WAITING, QUEUE_FULL)
        self._waiting[index] += len(kept)
        return kept

    def _end_sends(self, items: Sequence[Queued], index: int, state: int, gone: int) -> Sequence[Queued]:
        """Give sent records another state, and return them; count those that left the ring as `gone`."""
        head = self._file.head
        kept = [item for item in items if item.place >= head]
        for item in kept:
            self._mark(item.place, index, state)
        self._sent[index] -= len(kept)
        if len(kept) < len(items):
            self._file.counts[index * COUNTS + ADRIFT] -= len(items) - len(kept)
            self._file.counts[index * COUNTS + gone] += len(items) - len(kept)
            self._file.commit()
        return kept

    def _has_room(self, size: int) -> bool:
        """Say whether a record can be appended with nothing dropped but what waits for no sink that is here."""
        file = self._file
        to_the_end = file.capacity - file.tail % file.capacity
        end = file.tail + size + (to_the_end if size > to_the_end else 0)
        head = file.head
        gone: Counter[bytes] = Counter()
        while head < file.tail and end > head + file.capacity:
            length, states = top(file, head)
            if any(WAITING <= states[index] <= SENT for index in self._sinks):
                break
            gone[states] += 1
            head += length
        self._let_go(head, gone)
        return head == file.tail or end <= head + file.capacity

    def _room(self, size: int) -> int:
        """Make room behind the tail; return the offset in the file."""
        file = self._file
        place = file.tail % file.capacity
        if file.head == file.tail and place > _RESTART_BYTES:
            file.head = file.tail + file.capacity - place
            file.commit()
            file.advance(file.head)
            return RING
        if place + size > file.capacity:
            self._evict(file.capacity - place)
            LENGTH.pack_into(file.bytes, RING + place, TO_THE_START)
            file.advance(file.tail + file.capacity - place)
            place = 0
        self._evict(size)
        return RING + place

    def _evict(self, size: int) -> None:
        """Drop the oldest records until so many bytes are free."""
        file, head = self._file, self._file.head
        if file.tail + size <= head + file.capacity:
            return
        gone: Counter[bytes] = Counter()
        while file.tail + size > head + file.capacity:
            length, states = top(file, head)
            gone[states] += 1
            head += length
        self._let_go(head, gone)

    def _trim(self) -> None:
        """Let go of the records at the head that every sink is done with."""
        file, head = self._file, self._file.head
        gone: Counter[bytes] = Counter()
        while head < file.tail:
            length, states = top(file, head)
            if WAITING in states or SENT in states:
                break
            gone[states] += 1
            head += length
        self._let_go(head, gone)

    def _let_go(self, head: int, gone: Counter[bytes]) -> None:
        """Move the head behind records, which are counted by their states."""
        if not gone:
            return
        file = self._file
        for states, number in gone.items():
            for index, state in enumerate(states):
                at = index * COUNTS
                if state >= DONE:
                    self._settled[at + state - DONE] -= number
                    file.counts[at + state - DONE] += number
                elif state == WAITING:
                    self._waiting[index] -= number
                    file.counts[at + QUEUE_FULL] += number
                elif state == SENT:
                    self._sent[index] -= number
                    file.counts[at + ADRIFT] += number
        file.head = head
        file.commit()

    def _drop_unwritten(self, fault: OSError) -> None:
        if not self._write_failed:
            logger.warning("the queue file %s cannot be written, and events are lost: %s", self.path, fault)
        self._write_failed = True
        self._drop_unseen("error")

    def _drop_unseen(self, reason: str) -> None:
        for index in self._sinks:
            self._file.counts[index * COUNTS + REASON[reason]] += 1
        self._file.commit()

    def _mark(self, position: int, index: int, state: int) -> None:
        self._file.bytes[RING + position % self._file.capacity + HEAD.size + index] = state

    def _read(self, position: int) -> Queued | None:
        file = self._file
        at = RING + position % file.capacity
        length, check, since_s, split = HEAD.unpack_from(file.bytes, at)
        attributes = file.bytes[at + CONTENT : at + CONTENT + split]
        data = file.bytes[at + CONTENT + split : at + length]
        if position < self._inherited and check != seal(position, since_s, attributes, data):
            return None
        return Queued(event_of(attributes, data), padded(length), since_s, position)


class Position:
    """One sink's place in a queue file: a `Queue` whose `put` is every sink's.

    Events that were put just now are kept, 2 MiB of them at most, as long as nothing else waits: who takes them soon
    need not read and parse them again.
    """

    def __init__(self, file: FileQueue, index: int, start: int) -> None:
        self._file = file
        self._index = index
        self._cursor = start
        self._returned: list[tuple[int, int]] = []
        """Where records begin and end that wait again: a heap."""
        self._kept: deque[Queued] = deque()
        """What waits from the cursor on, up to the first event that was not kept."""
        self._kept_bytes = 0
        self._keeps = False

    def __len__(self) -> int:
        return self._file.waiting(self._index)

    @property
    def waiting_bytes(self) -> int:
        """How many bytes lie behind the newest record that was taken, those that wait again left aside."""
        return self._file.end - self._cursor

    def put(self, event: CloudEvent, now_s: float, /) -> None:
        """Append an event for every sink of the file."""
        self._file.put(event, now_s)

    def keep(self, item: Queued) -> None:
        """Keep an event that is being put, unless older ones are in the file alone or there is no room for it."""
        size_bytes = self._kept_bytes + item.size_bytes + EVENT_OVERHEAD_BYTES
        self._keeps = size_bytes <= _KEPT_BYTES and (self._keeps or not self._file.waiting(self._index))
        if self._keeps:
            self._kept.append(item)
            self._kept_bytes = size_bytes

    def take(self, limit: int, limit_bytes: int, /) -> list[Queued]:
        """Return the oldest events that wait, up to `limit` and `limit_bytes`, but one at least if there is any."""
        items: list[Queued] = []
        room = limit_bytes
        while len(items) < limit and (found := self._oldest()) is not None:
            position, end = found
            room -= end - position
            if items and room < 0:
                break
            item = self._file.take(position, self._index, self._passed(end))
            if item is not None:
                items.append(item)
        return items

    def restore(self, items: Sequence[Queued], /) -> None:
        """Put taken events back in front; those that later events left no room for are dropped."""
        for item in self._file.restore(items, self._index):
            heappush(self._returned, (item.place, item.place + item.size_bytes))

    def settle(self, items: Sequence[Queued], reason: str | None = None, /) -> None:
        """Forget taken events: they were delivered, or dropped for a reason."""
        self._file.settle(items, self._index, DELIVERED if reason is None else REASON[reason])

    def account(self) -> Account:
        """Return where every event of this sink is."""
        return self._file.account(self._index)

    def close(self) -> None:
        """Leave what waits to the next process; the file itself is closed by `FileQueue.close`."""

    def _oldest(self) -> tuple[int, int] | None:
        """Return where the oldest record begins and ends that waits."""
        file = self._file
        if not file.waiting(self._index):
            return None
        while self._returned and file.is_gone(self._returned[0][0]):
            heappop(self._returned)
        if self._returned:
            return self._returned[0]
        while self._kept and file.is_gone(self._kept[0].place):
            self._unkept()
        if self._kept:
            return self._kept[0].place, self._kept[0].place + self._kept[0].size_bytes
        return file.next(self._cursor, self._index)

    def _passed(self, end: int) -> Queued | None:
        """Go on behind the oldest record, which ends there; return its event if it is kept."""
        if self._returned:
            heappop(self._returned)
            return None
        self._cursor = end
        return self._unkept() if self._kept else None

    def _unkept(self) -> Queued:
        item = self._kept.popleft()
        self._kept_bytes -= item.size_bytes + EVENT_OVERHEAD_BYTES
        return item
