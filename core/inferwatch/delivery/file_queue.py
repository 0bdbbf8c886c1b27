"""A queue in a memory-mapped file: what was put there survives the process, and costs it 2 MiB of memory at most.

One ring of records serves several sinks, each at its own pace. A record holds its length, a CRC-32 of its position and
content, when it came, and one byte for each sink that says what became of it. Records leave the ring when every sink is
done with them, or as the oldest when it is full; what is then counted in the header is what those bytes said. So the
accounts hold after a kill -9 at any instruction, and what was being sent then counts as waiting again.

A file belongs to one process, by a lock, and to one thread of it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from heapq import heappop, heappush
from pathlib import Path
from typing import Final

from inferwatch.delivery.account import Account
from inferwatch.delivery.queue import Queued, WhenFull
from inferwatch.delivery.queue_file import (
    ADRIFT,
    COUNTS,
    DELIVERED,
    MAX_SINKS,
    MIN_BYTES,
    RING,
    Damage,
    QueueFile,
    open_file,
    set_aside,
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
    census,
    padded,
    restored,
    seal,
    top,
)
from inferwatch.delivery.recent import Recent
from inferwatch.delivery.record import attributes_of, event_of
from inferwatch.errors import QueueFileError
from inferwatch.events import CloudEvent

logger = logging.getLogger(__name__)

_RESTART_BYTES: Final = 1 << 20
"""An empty ring is used from its start again, so that light traffic touches few pages."""


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
        self._waiting = [0] * MAX_SINKS
        self._sent = [0] * MAX_SINKS
        self._settled = [0] * (MAX_SINKS * COUNTS)
        self._late = 0
        self._write_failed = False
        self._recent = Recent()
        self._file, self._open = self._opened(size_bytes), True
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
        self._recent.add(Queued(event, size, now_s, file.tail))
        file.advance(file.tail + size)
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

    def take(self, position: int, index: int) -> Queued | None:
        """Return a record that waits, as sent from now on; None, and drop it, where it is not what was written."""
        item = self._recent.get(position) or self._read(position)
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

    def _opened(self, size_bytes: int) -> QueueFile:
        try:
            while True:
                file = open_file(self.path, size_bytes)
                try:
                    self._recover(file)
                    return file
                except Damage as damage:
                    set_aside(self.path, damage)
                    file.close()
        except BlockingIOError:
            raise
        except OSError as error:
            raise QueueFileError(f"cannot make the queue file {self.path}: {error}") from error

    def _recover(self, file: QueueFile) -> None:
        """Count what the ring holds. What was being sent waits again, unless it left the ring: that is lost."""
        self._waiting, _, self._settled = census(restored(file))
        for index in range(MAX_SINKS):
            file.counts[index * COUNTS + QUEUE_FULL] += file.counts[index * COUNTS + ADRIFT]
            file.counts[index * COUNTS + ADRIFT] = 0
        file.commit()

    def _has_room(self, size: int) -> bool:
        """Say whether a record can be appended with nothing dropped but what waits for no sink that is here."""
        file, head = self._file, self._file.head
        to_the_end = file.capacity - file.tail % file.capacity
        end = file.tail + size + (to_the_end if size > to_the_end else 0)
        while file.head < file.tail and end > file.head + file.capacity and not self._is_wanted(file.head):
            self._let_go(*top(file, file.head))
        if file.head != head:
            file.commit()
        return file.head == file.tail or end <= file.head + file.capacity

    def _is_wanted(self, position: int) -> bool:
        _, states = top(self._file, position)
        return any(WAITING <= states[index] <= SENT for index in self._sinks)

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
        file = self._file
        if file.tail + size <= file.head + file.capacity:
            return
        while file.tail + size > file.head + file.capacity:
            self._let_go(*top(file, file.head))
        file.commit()

    def _trim(self) -> None:
        """Let go of the records at the head that every sink is done with."""
        file = self._file
        head = file.head
        while file.head < file.tail:
            size, states = top(file, file.head)
            if WAITING in states or SENT in states:
                break
            self._let_go(size, states)
        if file.head != head:
            file.commit()

    def _let_go(self, size: int, states: bytes) -> None:
        """Count the oldest record by its states and move the head behind it; takes effect with a commit."""
        file = self._file
        self._recent.drop(file.head)
        file.head += size
        for index, state in enumerate(states.rstrip(b"\0")):  # mostly one sink
            at = index * COUNTS
            if state >= DONE:
                self._settled[at + state - DONE] -= 1
                file.counts[at + state - DONE] += 1
            elif state == WAITING:
                self._waiting[index] -= 1
                file.counts[at + QUEUE_FULL] += 1
            elif state == SENT:
                self._sent[index] -= 1
                file.counts[at + ADRIFT] += 1

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
    """One sink's place in a queue file: a `Queue` whose `put` is every sink's."""

    def __init__(self, file: FileQueue, index: int, start: int) -> None:
        self._file = file
        self._index = index
        self._cursor = start
        self._returned: list[tuple[int, int]] = []
        """Where records begin and end that wait again: a heap."""

    def __len__(self) -> int:
        return self._file.waiting(self._index)

    @property
    def waiting_bytes(self) -> int:
        """How many bytes lie behind the newest record that was taken, those that wait again left aside."""
        return self._file.end - self._cursor

    def put(self, event: CloudEvent, now_s: float, /) -> None:
        """Append an event for every sink of the file."""
        self._file.put(event, now_s)

    def take(self, limit: int, limit_bytes: int, /) -> list[Queued]:
        """Return the oldest events that wait, up to `limit` and `limit_bytes`, but one at least if there is any."""
        items: list[Queued] = []
        room = limit_bytes
        while len(items) < limit and (found := self._oldest()) is not None:
            position, end = found
            room -= end - position
            if items and room < 0:
                break
            if self._returned:
                heappop(self._returned)
            else:
                self._cursor = end
            item = self._file.take(position, self._index)
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
        if not self._file.waiting(self._index):
            return None
        while self._returned and self._file.is_gone(self._returned[0][0]):
            heappop(self._returned)
        return self._returned[0] if self._returned else self._file.next(self._cursor, self._index)
