"""What is under way when the relay ends."""

from __future__ import annotations

import asyncio

import pytest

from tests.logger.proxy.messages import OK, POST
from tests.logger.proxy.relayed import (
    Reader,
    Upstream,
    Writer,
    read_message,
    relayed,
    run,
)


def test_drain_finishes_what_is_under_way_and_takes_no_more() -> None:
    may = asyncio.Event()
    asked = asyncio.Event()

    async def slow(upstream: Upstream, reader: Reader, writer: Writer) -> None:
        await upstream.take(reader)
        asked.set()
        await may.wait()
        writer.write(OK)

    async def test() -> None:
        async with relayed(slow) as it:
            idle, _ = await it.connect()
            reader, writer = await it.connect()
            writer.write(POST)
            await asked.wait()
            drained = asyncio.ensure_future(it.relay.drain(10.0))
            assert await idle.read() == b""
            with pytest.raises(ConnectionRefusedError):
                await it.connect()
            may.set()
            answer = await read_message(reader)
            assert (answer.body, b"Connection: close" in answer.fields) == (b"ok", True)
            assert await reader.read() == b""
            await drained
            assert [event.data for event in it.events] == [b"body", b"ok"]

    run(test)


def test_drain_breaks_off_what_does_not_end() -> None:
    async def never(upstream: Upstream, reader: Reader, _: Writer) -> None:
        await upstream.take(reader)
        await reader.read()

    async def test() -> None:
        async with relayed(never) as it:
            _, writer = await it.connect()
            writer.write(POST)
            await it.upstream.asked.wait()
            await it.relay.drain(0.05)
            (request,) = it.events
            assert request.data == b"body"

    run(test)
