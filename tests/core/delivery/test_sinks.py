"""The contract of every sink: in memory, over HTTP, HTTPS and in batches, and a real Kafka broker by either client."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import pytest

from inferwatch.delivery.account import Account
from inferwatch.delivery.delivery import Delivery
from inferwatch.delivery.http import HttpSink
from inferwatch.delivery.kafka import KafkaSink
from inferwatch.delivery.memory import MemorySink
from inferwatch.delivery.outcomes import outcomes_of
from inferwatch.delivery.tls import Tls
from inferwatch.errors import DeliveryError
from inferwatch.events import CloudEvent
from inferwatch.protocols import Sink
from tests.certificates import authority, signed
from tests.core.delivery.scripted_sink import OK, TAKES_BATCHES, answer, scripted_sink
from tests.kafka_broker import Broker, kafka_broker

__all__ = ["kafka_broker"]

LARGE = 3_000_000
"""More than the broker takes in a message."""
GONE = DeliveryError("gone", retryable=True)


@dataclass(frozen=True)
class Place:
    """A sink, one like it where nobody listens, and what has arrived once there are so many events."""

    sink: Sink
    dead: Sink
    arrived: Callable[[int], list[CloudEvent]]


Kind = Callable[[], AbstractAsyncContextManager[Place]]


@asynccontextmanager
async def in_memory() -> AsyncIterator[Place]:
    refusal = DeliveryError("too large", retryable=False)
    sink = MemorySink(lambda event: refusal if len(event.data) >= LARGE else None)
    yield Place(sink, MemorySink(lambda _: GONE), lambda _: sink.events)


def over_http(ok: bytes = OK, certificates: Path | None = None) -> Kind:
    def taken(event: CloudEvent) -> bool:
        return len(event.data) < LARGE

    tls = context = None
    if certificates is not None:
        tls = Tls(ca_file=authority(certificates, "ca"))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*signed(certificates, "server", "ca"))

    @asynccontextmanager
    async def place() -> AsyncIterator[Place]:
        async with scripted_sink(lambda event: ok if taken(event) else answer(413), tls=context) as server:
            dead = HttpSink(server.url.replace(str(server.port), "9"), timeout_s=1.0, tls=tls)
            sink = HttpSink(server.url, tls=tls)
            yield Place(sink, dead, lambda _: [event for event in server.events if taken(event)])
            assert (max(server.sizes) > 1) is (ok is TAKES_BATCHES), "several at once exactly where the sink says so"

    return place


def over_kafka(broker: Broker, client: Literal["confluent", "kafka-python"]) -> Kind:
    @asynccontextmanager
    async def place() -> AsyncIterator[Place]:
        topic = f"t-{uuid4()}"
        sink = KafkaSink(f"kafka://{broker.bootstrap}/{topic}", client=client, timeout_s=20.0)
        dead = KafkaSink(f"kafka://127.0.0.1:9/{topic}", client=client, timeout_s=1.0)
        yield Place(sink, dead, lambda count: broker.events(topic, count))

    return place


@pytest.fixture(
    params=[
        "memory",
        "http",
        "https",
        "batches",
        pytest.param("confluent", marks=pytest.mark.integration),
        pytest.param("kafka-python", marks=pytest.mark.integration),
    ]
)
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Kind:
    match request.param:
        case "memory":
            return in_memory
        case "http":
            return over_http()
        case "https":
            return over_http(certificates=tmp_path)
        case "batches":
            return over_http(TAKES_BATCHES)
        case client:
            return over_kafka(request.getfixturevalue("kafka_broker"), client)


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 90))


def event(number: int, data: bytes = b"{}", **extensions: str) -> CloudEvent:
    attributes = {"namespace": "prod", "inferenceservicename": "income", "odd": "100 % \u00e9\"'", **extensions}
    return CloudEvent(f"id {number}", "/s", "t", 10**18 + number, "application/json", attributes, data)


def numbers(events: Sequence[CloudEvent]) -> list[int]:
    return [int(item.id.split()[1]) for item in events]


def test_events_arrive_whole_and_in_order(kind: Kind) -> None:
    async def test() -> None:
        async with kind() as place:
            sent = [event(number, bytes([number]) * number * 10) for number in range(200)]
            await place.sink.send(sent[:50])
            await place.sink.send(sent[50:])
            await place.sink.send([])
            assert await asyncio.to_thread(place.arrived, 200) == sent
            await place.sink.aclose()

    run(test())


def test_sends_at_once_lose_and_double_nothing(kind: Kind) -> None:
    async def test() -> None:
        async with kind() as place:
            sent = [event(number, inferenceservicename=f"m{number % 7}") for number in range(400)]
            await asyncio.gather(*(place.sink.send(sent[start : start + 40]) for start in range(0, 400, 40)))
            found = await asyncio.to_thread(place.arrived, 400)
            assert sorted(numbers(found)) == list(range(400))
            await place.sink.aclose()

    run(test())


def test_what_is_too_large_is_refused_alone(kind: Kind) -> None:
    async def test() -> None:
        async with kind() as place:
            noise = random.Random(1).randbytes(LARGE)  # noqa: S311 - must not compress
            sent = [event(0), event(1, noise), event(2)]
            with pytest.raises(DeliveryError) as raised:
                await place.sink.send(sent)
            first, second, third = outcomes_of(raised.value, 3)
            assert (first, third) == (None, None)
            assert second is not None
            assert not second.retryable
            assert sorted(numbers(await asyncio.to_thread(place.arrived, 2))) == [0, 2]
            await place.sink.send([event(3), event(4)])
            await place.sink.aclose()

    run(test())


def test_an_event_that_is_sent_again_is_the_same(kind: Kind) -> None:
    async def test() -> None:
        async with kind() as place:
            sent = [event(number, b'{"a": 1.50}', truncated="true") for number in range(3)]
            marked = [replace(one, truncated=True) for one in sent]
            await place.sink.send(sent)
            await place.sink.send(sent)
            found = await asyncio.to_thread(place.arrived, 6)
            if isinstance(place.sink, MemorySink):
                found = [replace(one, truncated=True) for one in found]
            assert found == marked * 2
            await place.sink.aclose()

    run(test())


def test_closing_delivers_what_waits_and_drops_what_is_refused(kind: Kind, tmp_path: Path) -> None:
    async def test() -> None:
        async with kind() as place:
            delivery = Delivery([place.sink], spool=tmp_path / "spool", queue_bytes=1 << 24)
            noise = random.Random(2).randbytes(LARGE)  # noqa: S311 - must not compress
            for number in range(100):
                delivery.emit(event(number, noise if number == 50 else b"{}"))
            await delivery.aclose(30.0)
            assert delivery.account() == Account(100, 99, 0, 0, {"refused": 1})
            found = await asyncio.to_thread(place.arrived, 99)
            assert numbers(found) == [number for number in range(100) if number != 50]

    run(test())


def test_nobody_there_may_be_retried(kind: Kind) -> None:
    async def test() -> None:
        async with kind() as place:
            with pytest.raises(DeliveryError) as raised:
                await place.dead.send([event(0), event(1)])
            assert all(outcome and outcome.retryable for outcome in outcomes_of(raised.value, 2))
            await place.dead.aclose()
            for _ in range(2):
                await place.sink.send([event(0), event(1)])
            await place.sink.aclose()

    run(test())


def test_a_send_that_is_given_up_does_not_hold_up_the_end(kind: Kind) -> None:
    async def test() -> None:
        async with kind() as place:
            send = asyncio.create_task(place.dead.send([event(0)]))
            await asyncio.wait([send], timeout=0.05)
            send.cancel()
            await asyncio.wait([send])
            await place.dead.aclose()
            await place.sink.send([event(1)])
            await place.sink.send([event(2), event(3)])
            await place.sink.aclose()
            await place.sink.aclose()

    run(test())
