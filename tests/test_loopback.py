"""The servers that tests start leave nothing to the garbage collector, which would tell of it in another test."""

from __future__ import annotations

import asyncio
import gc
import socket

from tests.loopback import loopback_server


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(await reader.readexactly(1))
        await writer.drain()


async def connected(turns: int) -> socket.socket:
    """Connect to a server that ends after so many turns of the loop."""
    async with loopback_server(echo) as at:
        client = socket.create_connection(("127.0.0.1", at.port), timeout=120)
        client.sendall(b"x")
        for _ in range(turns):
            await asyncio.sleep(0)
    return client


def test_a_connection_that_comes_at_the_end_is_closed() -> None:
    answers = set()
    for turns in range(20):
        with asyncio.run(connected(turns)) as client:
            try:
                answers.add(client.recv(1))
            except ConnectionResetError:
                answers.add(b"")
    assert answers == {b"", b"x"}
    gc.collect()
