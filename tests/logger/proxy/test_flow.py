"""The relay holds no more than its buffers: whoever does not read is waited for."""

from __future__ import annotations

import asyncio

from tests.logger.proxy.messages import GET
from tests.logger.proxy.relayed import (
    Reader,
    Upstream,
    Writer,
    read_head,
    relayed,
    run,
)


async def swallowed(writer: Writer, *, at_most: int) -> int:
    """Write until nobody takes more for half a second, and return how much went."""
    gone = 0
    try:
        while gone < at_most:
            writer.write(bytes(65_536))
            await asyncio.wait_for(writer.drain(), 0.5)
            gone += 65_536
    except TimeoutError:
        pass
    return gone


def test_an_upstream_that_does_not_read_is_waited_for_not_buffered_for() -> None:
    async def deaf(_: Upstream, reader: Reader, writer: Writer) -> None:
        await read_head(reader)
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # of a reading transport, which it is
        await asyncio.Event().wait()

    async def test() -> None:
        async with relayed(deaf) as it:
            _, writer = await it.connect()
            writer.write(b"POST / HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n")
            gone = await swallowed(writer, at_most=10**8)
            assert gone < 32 * 2**20  # what the kernel's buffers of two connections hold, and little of ours
            (client,) = it.relay.clients
            upstream = client._exchanges[0].upstream
            assert upstream is not None
            assert upstream.transport.get_write_buffer_size() < 2**20

    run(test)


def test_a_client_that_does_not_read_is_waited_for_not_buffered_for() -> None:
    async def torrent(_: Upstream, reader: Reader, writer: Writer) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        sent.append(await swallowed(writer, at_most=10**8))
        stuck.set()

    sent: list[int] = []
    stuck = asyncio.Event()

    async def test() -> None:
        async with relayed(torrent) as it:
            reader, writer = await it.connect()
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(GET)
            await stuck.wait()
            assert sent[0] < 32 * 2**20
            (client,) = it.relay.clients
            assert client.transport.get_write_buffer_size() < 2**20

    run(test)
