"""The relay when something goes wrong: upstreams that fail, clients that leave, what cannot be read."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from inferwatch.events import CloudEvent
from tests.logger.proxy.messages import GET, OK, POST
from tests.logger.proxy.relayed import (
    DEAD_PORT,
    Reader,
    Upstream,
    Writer,
    answering,
    read_head,
    read_message,
    relayed,
    run,
)


async def close_unanswered(upstream: Upstream, reader: Reader, _: Writer) -> None:
    await upstream.take(reader)


def reset(writer: Writer) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.transport.abort()


def test_a_client_that_ends_within_its_request_is_let_go_of_once_it_is_answered() -> None:
    async def handler(_: Upstream, reader: Reader, writer: Writer) -> None:
        await reader.read()  # to the end, which is passed on
        writer.write(OK)

    async def test() -> None:
        async with relayed(handler) as it:
            reader, writer = await it.connect()
            writer.write(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r")
            writer.write_eof()
            assert (await asyncio.wait_for(reader.read(), 20)).startswith(b"HTTP/1.1 200 OK")
            assert len(await it.settled()) == 2

    run(test)


def test_an_upstream_that_is_not_there_is_502_and_the_connection_stays() -> None:
    async def test() -> None:
        async with relayed(answering(OK), port=DEAD_PORT) as it:
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
