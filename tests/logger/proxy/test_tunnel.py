"""What is not HTTP/1.1 passes through the relay as bytes: upgrades, websockets, other protocols."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from aiohttp import web

from tests.logger.proxy.messages import OK
from tests.logger.proxy.relayed import (
    DEAD_PORT,
    Reader,
    Upstream,
    Writer,
    answering,
    read_message,
    relayed,
    run,
)

SWITCH = b"GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-a: 1\r\n\r\n"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04"


@pytest.mark.parametrize(
    ("first", "reason"), [(SWITCH, "upgrade"), (PREFACE, "h2c"), (b"BREW /pot HTCPCP/1.0\r\n\r\n", "unparsed")]
)
def test_what_is_not_http_1_passes_as_bytes_and_is_counted(first: bytes, reason: str) -> None:
    async def echo(_: Upstream, reader: Reader, writer: Writer) -> None:
        while data := await reader.read(1000):
            writer.write(data)

    async def test() -> None:
        async with relayed(echo) as it:
            reader, writer = await it.connect()
            for part in (first[:5], first[5:]):
                writer.write(part)
                await asyncio.sleep(0.001)
            assert await reader.readexactly(len(first)) == first
            for data in (b"\x81\x05hello", bytes(range(256)) * 4000):
                writer.write(data)
                assert await reader.readexactly(len(data)) == data
            writer.write_eof()
            assert await reader.read() == b""
            assert await it.settled() == []
            assert it.relay.unlogged == {reason: 1}

    run(test)


def test_websockets_work() -> None:
    async def converse(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=["chat"])
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data.upper())
        return socket

    async def test() -> None:
        app = web.Application()
        app.router.add_get("/ws", converse)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        _, port = runner.addresses[0]
        async with relayed(answering(OK), port=port) as it, aiohttp.ClientSession() as session:
            async with session.ws_connect(f"http://127.0.0.1:{it.port}/ws", protocols=["chat"]) as socket:
                assert socket.protocol == "chat"
                for text in ("hello", "x" * 100_000):
                    await socket.send_str(text)
                    assert await socket.receive_str() == text.upper()
            assert socket.close_code == 1000
            assert await it.settled() == []
            assert it.relay.unlogged == {"upgrade": 1}
        await runner.cleanup()

    run(test)


def test_the_upstreams_end_of_a_tunnel_is_passed_on() -> None:
    async def farewell(_: Upstream, reader: Reader, writer: Writer) -> None:
        await reader.readexactly(len(PREFACE))
        writer.write(b"bye")

    async def test() -> None:
        async with relayed(farewell) as it:
            reader, writer = await it.connect()
            writer.write(PREFACE)
            assert await reader.read() == b"bye"
        async with relayed(farewell, port=DEAD_PORT) as it:
            assert (await it.ask(SWITCH)).line == b"HTTP/1.1 502 Bad Gateway"

    run(test)


def test_an_upgrade_to_h2c_is_declined_so_that_the_request_is_captured() -> None:
    async def test() -> None:
        async with relayed(answering(OK)) as it:
            own = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
            reader, writer = await it.connect()
            for _ in range(2):
                writer.write(b"POST /p HTTP/1.1\r\nHost: h\r\n" + own + b"Content-Length: 4\r\n\r\nbody")
                assert (await read_message(reader)).body == b"ok"
            assert [request.fields for request in it.upstream.requests] == [[b"Host: h", b"Content-Length: 4"]] * 2
            assert [event.data for event in await it.settled()] == [b"body", b"ok"] * 2
            assert not it.relay.unlogged

    run(test)
