"""The relay when something goes wrong: upstreams that fail, clients that leave, protocols it does not know."""

from __future__ import annotations

import asyncio
import json
import socket

import aiohttp
import pytest
from aiohttp import web

from inferwatch.events import CloudEvent
from tests.logger.proxy.relayed import (
    Reader,
    Upstream,
    Writer,
    answering,
    read_head,
    read_message,
    relayed,
    run,
)

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
POST = b"POST /v1/models/m:predict HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody"
GET = b"GET /v2 HTTP/1.1\r\nHost: h\r\n\r\n"


async def close_unanswered(upstream: Upstream, reader: Reader, _: Writer) -> None:
    await upstream.take(reader)


def dead_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def reset(writer: Writer) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.transport.abort()


def test_an_upstream_that_is_not_there_is_502_and_the_connection_stays() -> None:
    async def test() -> None:
        async with relayed(answering(OK), port=dead_port()) as it:
            reader, writer = await it.connect()
            for _ in range(2):
                writer.write(POST)
                answer = await read_message(reader)
                assert answer.line == b"HTTP/1.1 502 Bad Gateway"
                assert "cannot be reached" in json.loads(answer.body)["error"]
            writer.write(b"HEAD / HTTP/1.1\r\n\r\n" + GET)
            assert (await read_message(reader, bodiless=True)).line == b"HTTP/1.1 502 Bad Gateway"
            assert (await read_message(reader)).line == b"HTTP/1.1 502 Bad Gateway"
            responses = [event for event in await it.settled() if event.type.endswith("response")]
            assert [event.extensions["statuscode"] for event in responses] == ["502"] * 3
            assert responses[0].data == answer.body
            assert it.relay.pool.failures == 4

    run(test)


def test_an_upstream_that_hangs_up_unanswered_is_502() -> None:
    async def test() -> None:
        async with relayed(close_unanswered) as it:
            assert (await it.ask(POST)).line == b"HTTP/1.1 502 Bad Gateway"
            assert len(it.upstream.requests) == 1  # a POST is never repeated

    run(test)


@pytest.mark.parametrize("reply", [b"what is this\r\n\r\n", b"HTTP/1.1 101 Surprise\r\n\r\n"])
def test_an_answer_that_cannot_be_read_is_502(reply: bytes) -> None:
    async def test() -> None:
        async with relayed(answering(reply)) as it:
            assert (await it.ask(POST)).line == b"HTTP/1.1 502 Bad Gateway"

    run(test)


def test_lines_that_end_without_cr_are_taken_as_clients_take_them() -> None:
    async def test() -> None:
        async with relayed(answering(b"HTTP/1.1 200 OK\nX: 1\nContent-Length: 2\n\nok")) as it:
            answer = await it.ask(POST)
            assert (answer.fields, answer.body) == ([b"X: 1", b"Content-Length: 2"], b"ok")

    run(test)


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 9\r\n\r\nhal", b"Transfer-Encoding: chunked\r\n\r\n3\r\nhal\r\n"]
)
def test_an_answer_that_breaks_off_breaks_off(framing: bytes) -> None:
    async def half(upstream: Upstream, reader: Reader, writer: Writer) -> None:
        await upstream.take(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n" + framing)

    async def test() -> None:
        async with relayed(half) as it:
            with pytest.raises(asyncio.IncompleteReadError):
                await it.ask(POST)
            _, response = await it.settled()
            assert (response.data, response.truncated, response.extensions["statuscode"]) == (b"hal", True, "200")

    run(test)


def test_a_reset_is_no_orderly_end() -> None:
    had = asyncio.Event()

    async def half(upstream: Upstream, reader: Reader, writer: Writer) -> None:
        await upstream.take(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        await had.wait()
        reset(writer)

    async def test() -> None:
        async with relayed(half) as it:
            reader, writer = await it.connect()
            writer.write(POST)
            await read_head(reader)
            assert await reader.readexactly(4) == b"half"
            had.set()
            with pytest.raises(ConnectionResetError):
                await reader.read()
            assert [event.truncated for event in await it.settled()] == [False, True]

    run(test)


def test_chunks_that_break_off_break_off_for_a_client_of_http_1_0_too() -> None:
    async def half(upstream: Upstream, reader: Reader, writer: Writer) -> None:
        await upstream.take(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")

    async def test() -> None:
        async with relayed(half) as it:
            reader, writer = await it.connect()
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            with pytest.raises(ConnectionResetError):
                await reader.read()

    run(test)


def test_a_client_that_leaves_is_seen_upstream() -> None:
    gone = asyncio.Event()

    async def wait(upstream: Upstream, reader: Reader, writer: Writer) -> None:
        await upstream.take(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        try:
            await reader.read()
        finally:
            gone.set()

    async def test() -> None:
        async with relayed(wait) as it:
            reader, writer = await it.connect()
            writer.write(POST)
            await read_head(reader)
            await reader.readexactly(8)
            reset(writer)
            await gone.wait()
            request, response = await it.settled()
            assert (request.data, request.truncated) == (b"body", False)
            assert (response.data, response.truncated) == (b"abc", True)

    run(test)


def test_a_client_that_leaves_before_the_answer_leaves_its_request() -> None:
    asked = asyncio.Event()

    async def wait(upstream: Upstream, reader: Reader, _: Writer) -> None:
        upstream.requests.append(await read_head(reader))
        asked.set()
        await reader.read()

    async def test() -> None:
        async with relayed(wait) as it:
            _, writer = await it.connect()
            writer.write(POST[:-2])
            await asked.wait()
            (request,) = await it.settled()
            assert (request.data, request.truncated) == (b"bo", True)

    run(test)


def test_a_client_that_only_ends_its_side_gets_its_answer() -> None:
    async def until_the_end(upstream: Upstream, reader: Reader, writer: Writer) -> None:
        await upstream.take(reader)
        assert await reader.read() == b""
        writer.write(OK)

    async def test() -> None:
        async with relayed(until_the_end) as it:
            reader, writer = await it.connect()
            writer.write(POST)
            writer.write_eof()
            assert (await read_message(reader)).body == b"ok"
            assert await reader.read() == b""

    run(test)


def test_connections_to_the_upstream_are_used_again_unless_it_ends_them() -> None:
    async def sometimes(upstream: Upstream, reader: Reader, writer: Writer) -> None:
        for reply in (OK, b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"):
            await upstream.take(reader)
            writer.write(reply)

    async def test() -> None:
        async with relayed(sometimes) as it:
            for number in range(4):
                assert (await it.ask(POST)).fields == [b"Content-Length: 2"]
                assert it.upstream.connections == 1 + number // 2

    run(test)


def test_a_connection_that_the_upstream_has_left_is_not_used() -> None:
    async def one_each(upstream: Upstream, reader: Reader, writer: Writer) -> None:
        await upstream.take(reader)
        writer.write(OK)

    async def test() -> None:
        async with relayed(one_each) as it:
            for number in range(50):
                assert (await it.ask(POST)).body == b"ok"
                assert it.upstream.connections == 1 + number

    run(test)


def test_bytes_that_nobody_asked_for_go_to_nobody() -> None:
    async def talkative(upstream: Upstream, reader: Reader, writer: Writer) -> None:
        await upstream.take(reader)
        writer.write(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nunwant")
        await reader.read()

    async def test() -> None:
        async with relayed(talkative) as it:
            reader, writer = await it.connect()
            for _ in range(2):
                writer.write(POST)
                assert (await read_message(reader)).body == b"ok"
            assert it.upstream.connections == 2

    run(test)


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
        async with relayed(farewell, port=dead_port()) as it:
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


@pytest.mark.parametrize("broken", [b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"])
def test_a_body_that_cannot_be_read_is_400(broken: bytes) -> None:
    async def never(_: Upstream, reader: Reader, __: Writer) -> None:
        await reader.read()

    async def test() -> None:
        async with relayed(never) as it:
            answer = await it.ask(broken)
            assert (answer.line, b"Connection: close" in answer.fields) == (b"HTTP/1.1 400 Bad Request", True)

    run(test)


def test_a_second_request_that_cannot_be_read_waits_for_the_first() -> None:
    async def test() -> None:
        async with relayed(answering(OK)) as it:
            reader, writer = await it.connect()
            writer.write(POST + b"nonsense\r\n\r\n")
            assert (await read_message(reader)).body == b"ok"
            assert await reader.read() == b""

    run(test)


def test_a_head_without_end_is_431() -> None:
    async def test() -> None:
        async with relayed(answering(OK)) as it:
            reader, writer = await it.connect()
            writer.write(b"GET / HTTP/1.1\r\n")
            for _ in range(12):
                writer.write(b"X: " + b"a" * 60_000 + b"\r\n")
            assert (await read_message(reader)).line == b"HTTP/1.1 431 Request Header Fields Too Large"

    run(test)


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


def test_faults_of_capture_change_no_answer() -> None:
    def broken(_: CloudEvent) -> None:
        raise RuntimeError("no room")

    async def test() -> None:
        async with relayed(answering(OK), emit=broken) as it:
            reader, writer = await it.connect()
            for _ in range(3):
                writer.write(POST)
                assert (await read_message(reader)).body == b"ok"
            await it.settled()
            assert it.relay.guarded.errors == 6

    run(test)


def test_the_agents_readiness_probe_is_answered_and_a_kubelets_is_relayed() -> None:
    async def test() -> None:
        async with relayed(answering(OK)) as it:
            probe = await it.ask(b"GET /healthz HTTP/1.1\r\nK-Network-Probe: queue\r\n\r\n")
            assert (probe.line, probe.body, it.upstream.requests) == (b"HTTP/1.1 200 OK", b"queue", [])
            await it.ask(b"GET /v2/health/ready HTTP/1.1\r\nUser-Agent: kube-probe/1.32\r\n\r\n")
            assert len(it.upstream.requests) == 1
            assert await it.settled() == []

    run(test)


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
