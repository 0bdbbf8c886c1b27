"""The emitter: every event accounted for at any moment, whatever the sink does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import time

import pytest

from inferwatch.delivery.account import Account
from inferwatch.delivery.emitter import Emitter
from inferwatch.delivery.http import HttpSink
from inferwatch.delivery.memory import MemorySink
from inferwatch.delivery.queue import EVENT_OVERHEAD_BYTES, MemoryQueue
from inferwatch.errors import DeliveryError
from inferwatch.events import CloudEvent
from inferwatch.protocols import Sink
from tests.core.delivery.scripted_sink import OK, answer, scripted_sink
from tests.waiting import run, until

BUSY = DeliveryError("busy", retryable=True)
NEVER = DeliveryError("never", retryable=False)


def event(number: int, size_bytes: int = 10) -> CloudEvent:
    return CloudEvent(str(number), "/s", "t", time_ns=number, data=b"x" * size_bytes)


def emitter(sink: Sink, *, max_bytes: int = 10**8, deadline_s: float = 60.0, lanes: int = 4) -> Emitter:
    return Emitter(sink, MemoryQueue(max_bytes), linger_s=0.0, deadline_s=deadline_s, lanes=lanes)


def balanced(account: Account) -> bool:
    return account.captured == account.delivered + account.queued + account.in_flight + sum(account.dropped.values())


class GatedSink:
    """Takes nothing until the gate opens."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.events: list[CloudEvent] = []

    async def send(self, events: Sequence[CloudEvent], /) -> None:
        await self.gate.wait()
        self.events += events

    async def aclose(self) -> None:
        self.gate.clear()


def test_events_are_delivered_in_order_and_counted() -> None:
    async def test() -> None:
        sink = MemorySink()
        emit = emitter(sink)
        for number in range(200):
            emit.emit(event(number))
        assert emit.account() == Account(200, 0, 200, 0, {})
        await until(lambda: len(sink.events) == 200)
        await emit.aclose()
        assert sorted(int(item.id) for item in sink.events) == list(range(200))
        assert emit.account() == Account(200, 200, 0, 0, {})
        assert sink.sends < 20
        assert sink.closed

    run(test())


def test_the_account_balances_while_events_are_in_flight() -> None:
    async def test() -> None:
        sink = GatedSink()
        emit = emitter(sink)
        for number in range(100):
            emit.emit(event(number))
        await until(lambda: emit.account().in_flight > 0)
        assert balanced(emit.account())
        sink.gate.set()
        await until(lambda: emit.account().delivered == 100)
        await emit.aclose()

    run(test())


def test_large_events_that_pile_up_are_sent_by_all_lanes() -> None:
    async def test() -> None:
        sink = GatedSink()
        emit = emitter(sink)
        for number in range(40):
            emit.emit(event(number, size_bytes=600_000))
            await asyncio.sleep(0)
        await until(lambda: emit.account().in_flight > 3 * 3)  # of which one lane has three at most
        sink.gate.set()
        await until(lambda: emit.account().delivered == 40)
        await emit.aclose()

    run(test())


def test_a_sink_that_fails_is_tried_by_one_lane() -> None:
    class FailingSink(GatedSink):
        sends = 0

        async def send(self, events: Sequence[CloudEvent], /) -> None:
            self.sends += 1
            if self.sends == 1:
                raise BUSY
            await super().send(events)

    async def test() -> None:
        sink = FailingSink()
        emit = emitter(sink)
        emit.emit(event(0))
        await until(lambda: sink.sends == 2)
        for number in range(1, 400):
            emit.emit(event(number))
            await asyncio.sleep(0)
        assert sink.sends == 2
        sink.gate.set()
        await until(lambda: emit.account().delivered == 400)
        await emit.aclose()

    run(test())


def test_a_full_queue_drops_the_oldest() -> None:
    async def test() -> None:
        sink = GatedSink()
        emit = emitter(sink, max_bytes=10 * (EVENT_OVERHEAD_BYTES + 10), lanes=1)
        for number in range(25):
            emit.emit(event(number))
        assert emit.account() == Account(25, 0, 10, 0, {"queue_full": 15})
        sink.gate.set()
        await until(lambda: emit.account().delivered == 10)
        assert [item.id for item in sink.events] == [str(number) for number in range(15, 25)]
        await emit.aclose()

    run(test())


def test_events_in_flight_count_in_the_bound() -> None:
    async def test() -> None:
        sink = GatedSink()
        emit = emitter(sink, max_bytes=10 * (EVENT_OVERHEAD_BYTES + 10), lanes=1)
        for number in range(10):
            emit.emit(event(number))
        await until(lambda: emit.account().in_flight == 10)
        emit.emit(event(10))
        assert emit.account() == Account(11, 0, 0, 10, {"queue_full": 1})
        emit.emit(event(11, size_bytes=10**6))
        assert emit.account().dropped == {"queue_full": 2}
        sink.gate.set()
        await emit.aclose()

    run(test())


def test_what_may_be_retried_is_until_it_is_taken() -> None:
    async def test() -> None:
        failures = iter([BUSY, BUSY, BUSY])
        sink = MemorySink(lambda _: next(failures, None))
        emit = emitter(sink)
        emit.emit(event(1))
        await until(lambda: emit.account().delivered == 1)
        assert sink.sends == 4
        assert sink.events == [event(1)]
        await emit.aclose()

    run(test())


def test_one_event_that_fails_does_not_hold_up_the_others() -> None:
    async def test() -> None:
        sink = MemorySink(lambda item: BUSY if item.id == "3" else None)
        emit = emitter(sink)
        for number in range(10):
            emit.emit(event(number))
        await until(lambda: emit.account().delivered == 9)
        for number in range(10, 20):
            emit.emit(event(number))
        await until(lambda: emit.account().delivered == 19)
        assert emit.account().queued + emit.account().in_flight == 1
        await emit.aclose(timeout_s=0.05)
        assert emit.account() == Account(20, 19, 0, 0, {"shutdown": 1})

    run(test())


def test_a_refusal_is_dropped_at_once() -> None:
    async def test() -> None:
        sink = MemorySink(lambda item: NEVER if item.id == "1" else None)
        emit = emitter(sink)
        for number in range(3):
            emit.emit(event(number))
        await emit.aclose()
        assert emit.account() == Account(3, 2, 0, 0, {"refused": 1})

    run(test())


def test_the_deadline_counts_from_the_capture() -> None:
    async def test() -> None:
        queue = MemoryQueue(10**6)
        queue.put(event(1), time() - 61.0)
        queue.put(event(2), time() - 10.0)
        emit = Emitter(MemorySink(lambda _: BUSY), queue, linger_s=0.0, deadline_s=60.0)
        emit.wake()
        await until(lambda: emit.account().dropped == {"expired": 1})
        assert emit.account().queued == 1
        await emit.aclose(timeout_s=0.01)

    run(test())


def test_after_the_deadline_an_event_expires() -> None:
    async def test() -> None:
        sink = MemorySink(lambda _: BUSY)
        emit = emitter(sink, deadline_s=0.0)
        emit.emit(event(1))
        await until(lambda: emit.account().dropped == {"expired": 1})
        await emit.aclose()
        assert balanced(emit.account())

    run(test())


def test_retries_wait_longer_each_time_and_never_all_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    async def delays() -> list[float]:
        found: list[float] = []
        sink = MemorySink(lambda _: BUSY)
        emit = emitter(sink)
        start = emit._start_after

        def noted(delay_s: float) -> None:
            found.append(delay_s)
            start(0.0)

        emit.emit(event(1))
        monkeypatch.setattr(emit, "_start_after", noted)
        await until(lambda: len(found) >= 12)
        await emit.aclose(timeout_s=0.01)
        return found[:12]

    async def test() -> None:
        bounds = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, *[10.0] * 5]
        rounds = [await delays() for _ in range(3)]
        for found in rounds:
            assert all(bound / 2 <= delay <= bound for delay, bound in zip(found, bounds, strict=True))
        assert len({delay for found in rounds for delay in found}) == 36

    run(test())


def test_retry_after_is_waited_for() -> None:
    async def test() -> None:
        sink = MemorySink(lambda _: DeliveryError("later", retryable=True, retry_after_s=120.0))
        emit = emitter(sink)
        emit.emit(event(1))
        await until(lambda: sink.sends == 1)
        emit.emit(event(2))
        await until(lambda: emit.account().queued == 2)
        timer = emit._timer
        assert timer is not None
        assert timer.when() - asyncio.get_running_loop().time() > 110
        await emit.aclose(timeout_s=0.01)

    run(test())


class BrokenSink:
    async def send(self, events: Sequence[CloudEvent], /) -> None:
        raise RuntimeError(f"cannot count to {len(events)}")

    async def aclose(self) -> None:
        pass


def test_a_fault_of_the_sink_itself_is_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        emit = emitter(BrokenSink())
        emit.emit(event(1))
        await until(lambda: emit.account().dropped == {"error": 1})
        emit.emit(event(2))
        await until(lambda: emit.account().dropped == {"error": 2})
        await emit.aclose()

    run(test())
    assert "cannot count to 1" in caplog.text


def test_closing_delivers_what_is_queued_and_takes_no_more() -> None:
    async def test() -> None:
        sink = MemorySink()
        emit = Emitter(sink, MemoryQueue(10**6), linger_s=60.0)
        emit.emit(event(1))
        await emit.aclose()
        emit.emit(event(2))
        assert sink.events == [event(1)]
        assert emit.account() == Account(2, 1, 0, 0, {"shutdown": 1})

    run(test())


def test_closing_does_not_wait_for_a_sink_that_hangs() -> None:
    async def test() -> None:
        emit = emitter(GatedSink())
        for number in range(100):
            emit.emit(event(number))
        await until(lambda: emit.account().in_flight > 0)
        await emit.aclose(timeout_s=0.01)
        assert emit.account() == Account(100, 0, 0, 0, {"shutdown": 100})

    run(test())


def test_what_comes_while_a_batch_is_under_way_travels_together() -> None:
    batches: list[list[str]] = []

    class NotingSink(GatedSink):
        async def send(self, events: Sequence[CloudEvent], /) -> None:
            batches.append([item.id for item in events])
            await super().send(events)

    async def test() -> None:
        sink = NotingSink()
        emit = Emitter(sink, MemoryQueue(10**6), linger_s=0.3)  # far more than what follows takes
        emit.emit(event(0))
        await until(lambda: len(batches) == 1)
        for number in range(1, 4):
            emit.emit(event(number))
        sink.gate.set()
        await until(lambda: emit.account().delivered == 1)
        for number in range(4, 6):
            emit.emit(event(number))
        await until(lambda: emit.account().delivered == 6)

    run(test())
    assert batches == [["0"], ["1", "2", "3", "4", "5"]]


def test_a_new_event_loop_carries_on() -> None:
    sink = MemorySink()
    emit = Emitter(sink, MemoryQueue(10**6), linger_s=60.0)

    async def first() -> None:
        emit.emit(event(1))

    async def second() -> None:
        emit.emit(event(2))
        await emit.aclose()

    asyncio.run(first())
    asyncio.run(second())
    assert sorted(item.id for item in sink.events) == ["1", "2"]


def test_a_thousand_events_travel_over_few_connections() -> None:
    async def test() -> None:
        async with scripted_sink() as server:
            emit = emitter(HttpSink(server.url))
            for number in range(500):
                emit.emit(event(number))
            await until(lambda: emit.account().delivered == 500)
            assert server.connections == 1, "what has piled up goes in order, over one"
            assert server.ids == [str(number) for number in range(500)]
            for number in range(500, 1000):
                emit.emit(event(number))
                await asyncio.sleep(0)
            await until(lambda: emit.account().delivered == 1000)
            assert server.connections <= 4, "one for each lane"
            await emit.aclose()

    run(test())


def test_nothing_is_lost_or_doubled_while_a_real_sink_misbehaves() -> None:
    async def test() -> None:
        asked: dict[str, int] = {}

        def reply(item: CloudEvent) -> bytes:
            asked[item.id] = asked.get(item.id, 0) + 1
            failing = asked[item.id] == 1 and int(item.id) % 7 == 0
            return answer((500, 429, 503)[int(item.id) % 3], "Retry-After: 0") if failing else OK

        async with scripted_sink(reply) as server:
            emit = emitter(HttpSink(server.url))
            for number in range(500):
                emit.emit(event(number))
            await until(lambda: emit.account().delivered == 500)
            await emit.aclose()
        assert {item.id for item in server.events} == {str(number) for number in range(500)}
        assert {item.id: item for item in server.events} == {str(number): event(number) for number in range(500)}
        assert asked == {str(number): 2 if number % 7 == 0 else 1 for number in range(500)}

    run(test())
