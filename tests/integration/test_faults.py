"""Whatever goes wrong behind it, capture changes no answer, keeps its memory, loses nothing and accounts for all.

Each fault is put to the sidecar and to the middleware, before a double of TensorFlow Serving and KServe's own server.
The bounds that are held: anonymous memory grows by less than `MEMORY_BYTES` while several times that waits.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from inferwatch_cli.demo.processes import free_port
from tests.integration.observed import (
    OK,
    Capture,
    Observed,
    Question,
    Reply,
    asked,
    listening,
    observed,
    questions,
    sink_at,
)
from tests.integration.test_delivery_disk import fill, small
from tests.integration.tf_serving import MODEL, PARTS, STREAMS, part
from tests.kafka_broker import Broker, broker_in
from tests.logger.proxy.relayed import Message
from tests.memory import anonymous_bytes

__all__ = ["small"]

pytestmark = pytest.mark.integration

CAPTURES: tuple[Capture, ...] = ("proxy", "middleware")
MEMORY_BYTES = 20 << 20
"""Four sends of up to 2 MiB are under way, each held and written to a connection; the rest is the allocator's."""
STREAMS_BYTES = 200 << 20
"""What a process takes in all, with a thousand streams open."""

CLIENTS, EACH, NUMBERS = 10, 10, 24_000
"""Requests of a fault: so many clients at once, so many requests each, of so many numbers (120 kB)."""


@dataclass(frozen=True)
class Subject:
    server: Observed
    url: str
    sink: int = 0
    """Its port."""


@pytest.fixture(scope="module", params=["proxy-tf", "middleware-tf", "proxy-kserve", "middleware-kserve"])
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    capture, _, server = request.param.partition("-")
    python = request.getfixturevalue("model_server_python") if server == "kserve" else None
    sink = free_port()
    directory = tmp_path_factory.mktemp(request.param)
    url = f"http://127.0.0.1:{sink}/"
    with observed(cast("Capture", capture), directory, url, kserve_python=python) as it:
        subject = Subject(it, url, sink)
        asyncio.run(warmed(subject))
        yield subject


async def warmed(subject: Subject) -> None:
    """Ask as the tests do: what the server itself takes for so many at once is then not what a fault makes it take."""
    it = subject.server
    async with sink_at(subject.sink):
        asks = [questions(it.model, f"warm-{client}", EACH, NUMBERS) for client in range(CLIENTS)]
        await asyncio.gather(*(asked(it.port, each) for each in asks))
        await settled(subject, 2 * CLIENTS * EACH)


async def hang(_: Message) -> bytes:
    return b""


async def reset(_: Message) -> None:
    return None


async def fail(_: Message) -> bytes:
    return b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"


async def too_many(_: Message) -> bytes:
    return b"HTTP/1.1 429 Slower\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"


async def slow(_: Message) -> bytes:
    await asyncio.sleep(0.3)
    return OK


async def half(_: Message) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"


@asynccontextmanager
async def refused(_: int) -> AsyncIterator[None]:
    yield


def replying(reply: Reply) -> Callable[[int], AbstractAsyncContextManager[object]]:
    return lambda port: sink_at(port, reply)


@asynccontextmanager
async def stopped(port: int) -> AsyncIterator[None]:
    """A sink that takes connections and is stopped, as by SIGSTOP; it is killed while it is."""
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        await listening(port)
        process.send_signal(signal.SIGSTOP)
        yield
    finally:
        process.kill()
        await process.wait()


FAULTS = {
    "refuses": refused,
    "hangs": replying(hang),
    "500": replying(fail),
    "429": replying(too_many),
    "slow": replying(slow),
    "resets": replying(reset),
    "resets mid-body": replying(half),
    "stopped": stopped,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_sink(subject: Subject, fault: str) -> None:
    async def test() -> None:
        it = subject.server
        name = fault.replace(" ", "-")
        asks = [questions(it.model, f"{name}-{client}", EACH, NUMBERS) for client in range(CLIENTS)]
        expected = await asked(it.bare, asks[0])
        before, memory = it.account(subject.url), anonymous_bytes(it.process.pid)
        ids = {f"{name}-{client}-{number}" for client in range(CLIENTS) for number in range(EACH)}
        async with FAULTS[fault](subject.sink) as sink:
            answers = await asyncio.gather(*(asked(it.port, each) for each in asks))
            assert answers == [expected] * CLIENTS
            assert anonymous_bytes(it.process.pid) - memory < MEMORY_BYTES
        async with sink_at(subject.sink) as good:
            await settled(subject, before.captured + 2 * CLIENTS * EACH)
        had = {(event.id, event.type) for event in (*getattr(sink, "events", ()), *good.events)}
        after = it.account(subject.url)
        assert after.captured - before.captured == after.delivered - before.delivered == 2 * CLIENTS * EACH
        assert not after.dropped
        assert {event_id for event_id, _ in had} >= ids
        assert len({each for each in had if each[0] in ids}) == 2 * CLIENTS * EACH

    asyncio.run(test())


async def settled(subject: Subject, captured: int) -> None:
    """Wait until so many events are captured and delivered: that goes on by itself within 15 s once a sink is back."""
    async with asyncio.timeout(120):
        while True:
            account = subject.server.account(subject.url)
            assert account.captured == account.delivered + account.queued + account.in_flight
            if account.captured == account.delivered >= captured:
                return
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("capture", CAPTURES)
def test_a_thousand_streams_at_once(capture: Capture, tmp_path: Path) -> None:
    async def follow(port: int, number: int) -> bytes:
        [(_, _, body)] = await asked(port, [Question("/openai/v1/completions", b"%04d" % number, f"s-{number}")])
        return body

    async def test(it: Observed, port: int) -> None:
        async with sink_at(port) as sink:
            found = await asyncio.gather(*(follow(it.port, number) for number in range(STREAMS)))
            parts = range(PARTS)
            expected = [b"".join(part(b"%04d" % name, number) for number in parts) for name in range(STREAMS)]
            assert found == expected
            assert anonymous_bytes(it.process.pid) < STREAMS_BYTES
            await sink.until(lambda: len(sink.events) == 2 * STREAMS)
        answers = {event.id: event.data for event in sink.events if event.type.endswith("response")}
        assert answers == {f"s-{number}": answer for number, answer in enumerate(expected)}

    port = free_port()
    with observed(capture, tmp_path, f"http://127.0.0.1:{port}/") as it:
        asyncio.run(test(it, port))


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Broker]:
    yield from broker_in(tmp_path / "broker")


def test_a_broker_that_is_killed_and_restarted(mortal: Broker, tmp_path: Path) -> None:
    urls = [f"kafka://{mortal.bootstrap}/{capture}" for capture in CAPTURES]
    asks = [questions(MODEL, str(client), EACH) for client in range(CLIENTS)]

    async def ask(*subjects: Subject) -> None:
        expected = await asked(subjects[0].server.bare, asks[0])
        for subject in subjects:
            answers = await asyncio.gather(*(asked(subject.server.port, each) for each in asks))
            assert answers == [expected] * CLIENTS

    async def delivered(count: int, *subjects: Subject) -> None:
        await asyncio.gather(*(settled(subject, count) for subject in subjects))

    async def test(*subjects: Subject) -> None:
        await ask(*subjects)
        await delivered(2 * CLIENTS * EACH, *subjects)
        mortal.kill()
        await ask(*subjects)
        assert [it.server.account(it.url).delivered for it in subjects] == [2 * CLIENTS * EACH] * 2
        await asyncio.to_thread(mortal.start)
        await ask(*subjects)
        await delivered(3 * 2 * CLIENTS * EACH, *subjects)

    with ExitStack() as stack:
        subjects = []
        for capture, url in zip(CAPTURES, urls, strict=True):
            (tmp_path / capture).mkdir()
            subjects.append(Subject(stack.enter_context(observed(capture, tmp_path / capture, url)), url))
        asyncio.run(test(*subjects))
    for capture in CAPTURES:
        found = Counter((event.id, event.type) for event in mortal.events(capture, 6 * CLIENTS * EACH))
        assert len(found) == 2 * CLIENTS * EACH
        assert set(found.values()) == {3}


@pytest.mark.parametrize("capture", CAPTURES)
@pytest.mark.parametrize("room", ["for the queue file", "for nothing"])
def test_a_full_disk(small: Path, tmp_path_factory: pytest.TempPathFactory, capture: Capture, room: str) -> None:
    async def test(it: Observed, port: int) -> None:
        if room == "for the queue file":
            fill(small)
            assert it.account(url).captured == 0
        asks = [questions(it.model, str(client), EACH) for client in range(CLIENTS)]
        answers = await asyncio.gather(*(asked(it.port, each) for each in asks))
        assert answers == [await asked(it.bare, asks[0])] * CLIENTS
        async with sink_at(port) as sink:
            await sink.until(lambda: len(sink.events) == 2 * CLIENTS * EACH)
        assert len({(event.id, event.type) for event in sink.events}) == 2 * CLIENTS * EACH

    if room == "for nothing":
        fill(small)
    port, directory = free_port(), tmp_path_factory.mktemp("full")
    url = f"http://127.0.0.1:{port}/"
    with observed(capture, directory, url, spool=small / "spool", spool_bytes=4 << 20) as it:
        asyncio.run(test(it, port))
