"""A queue file does what a model of it does, whatever is done and wherever it is killed."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from inferwatch.delivery.account import Account
from inferwatch.delivery.file_queue import FileQueue
from inferwatch.delivery.queue import Queued
from inferwatch.delivery.queue_file import MIN_BYTES
from inferwatch.delivery.queue_records import accounts
from inferwatch.events import CloudEvent
from tests.core.delivery.queued import SINKS, event


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
