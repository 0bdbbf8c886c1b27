"""The relay between raw sockets: what passes through unchanged, and what does not pass at all."""

from __future__ import annotations

import asyncio
import gzip
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferwatch.events import Role
from inferwatch.wire.decode import decode
from tests.logger.proxy.messages import GET, OK, POST
from tests.logger.proxy.relayed import (
    Handler,
    Message,
    Reader,
    Upstream,
    Writer,
    answering,
    read_head,
    read_message,
    relayed,
    run,
)


def passed(
    request: bytes, handler: Handler, *, bodiless: bool = False, to_end: bool = False
) -> tuple[Message, Message]:
    """Return what the upstream was asked and what the client was answered."""
    found: list[Message] = []

    async def test() -> None:
        async with relayed(handler) as it:
            answer = await it.ask(request, bodiless=bodiless, to_end=to_end)
            found.extend((it.upstream.requests[0], answer))

    run(test)
    return found[0], found[1]


def answered(reply: bytes, request: bytes = GET, *, bodiless: bool = False, to_end: bool = False) -> Message:
    async def once(upstream: Upstream, reader: Reader, writer: Writer) -> None:
        await upstream.take(reader)
        writer.write(reply)
        await writer.drain()
        if not to_end:
            await reader.read()

    return passed(request, once, bodiless=bodiless, to_end=to_end)[1]


def test_a_request_arrives_as_it_was_sent() -> None:
    lines = [b"Host: model.example", b"X-B: 2", b"x-a: 1", b"X-B: 1", b"x-raw: \xc3\xa9\xff", b"Content-Length: 4"]
    head = b"POST /v1/models/a%20b:predict?x=%7E&y=;' HTTP/1.1"
    asked, _ = passed(b"\r\n".join([head, *lines, b"", b"body"]), answering(OK))
    assert (asked.line, asked.fields, asked.body) == (head, lines, b"body")


def test_fields_of_one_connection_stay_on_it() -> None:
    own = b"Connection: keep-alive, X-Own\r\nKeep-Alive: timeout=9\r\nProxy-Connection: a\r\nTE: trailers\r\n"
    own += b"x-own: 1\r\nProxy-Authorization: s3cret\r\n"
    asked, answer = passed(
        b"GET / HTTP/1.1\r\nHost: h\r\n" + own + b"X-Kept: 1\r\n\r\n",
        answering(b"HTTP/1.1 200 OK\r\n" + own + b"X-Kept: 2\r\nContent-Length: 0\r\n\r\n"),
    )
    assert asked.fields == [b"Host: h", b"X-Kept: 1"]
    assert answer.fields == [b"X-Kept: 2", b"Content-Length: 0"]


def test_connection_cannot_name_away_what_frames_the_message() -> None:
    request = b"POST / HTTP/1.1\r\nHost: h\r\nConnection: content-length, host\r\nContent-Length: 2\r\n\r\nab"
    asked, _ = passed(request, answering(OK))
    assert (asked.fields, asked.body) == ([b"Host: h", b"Content-Length: 2"], b"ab")


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 Perfectly Fine\r\nSet-Cookie: a\r\nX: \xc3\xa9\r\nset-cookie: b\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 3\r\nContent-Length: 4\r\n\r\nbusy",
        b"HTTP/1.1 422 Unprocessable\r\nContent-Length: 1\r\n\r\n!",
        b"HTTP/1.1 799 Odd\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_a_response_arrives_as_it_was_sent(reply: bytes) -> None:
    answer = answered(reply)
    assert b"\r\n".join([answer.line, *answer.fields, b"", answer.body]) == reply


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_responses_without_a_body(status: bytes) -> None:
    async def test() -> None:
        async with relayed(answering(b"HTTP/1.1 " + status + b"\r\nETag: x\r\n\r\n")) as it:
            reader, writer = await it.connect()
            for _ in range(2):
                writer.write(GET)
                assert (await read_head(reader)).fields == [b"ETag: x"]
            assert it.upstream.connections == 1

    run(test)


@pytest.mark.parametrize("framing", [b"Content-Length: 500", b"Transfer-Encoding: chunked", b"Content-Length: 0"])
def test_head_and_then_get_on_one_connection(framing: bytes) -> None:
    async def handler(upstream: Upstream, reader: Reader, writer: Writer) -> None:
        await upstream.take(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
        await upstream.take(reader)
        writer.write(OK)

    async def test() -> None:
        async with relayed(handler) as it:
            reader, writer = await it.connect()
            writer.write(b"HEAD / HTTP/1.1\r\n\r\n")
            assert (await read_head(reader)).fields == [framing]
            writer.write(GET)
            assert (await read_message(reader)).body == b"ok"
            assert it.upstream.connections == 1
            assert {event.extensions["method"] for event in await it.settled()} == {"GET"}

    run(test)


def test_trailers_and_chunks() -> None:
    chunked = b"Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n1;ext=1\r\nd\r\n0\r\nX-Sum: 4\r\n\r\n"
    asked, answer = passed(b"POST / HTTP/1.1\r\nHost: h\r\n" + chunked, answering(b"HTTP/1.1 200 OK\r\n" + chunked))
    for message in (asked, answer):
        assert (message.body, message.trailers) == (b"abcd", [b"X-Sum: 4"])
        assert message.headers[b"trailer"] == b"X-Sum"


def test_a_response_that_ends_with_its_connection() -> None:
    answer = answered(b"HTTP/1.1 200 OK\r\nX: 1\r\n\r\nall of it", to_end=True)
    assert (answer.fields, answer.body) == ([b"X: 1", b"Connection: close"], b"all of it")
    answer = answered(b"HTTP/1.0 200 OK\r\n\r\nold", to_end=True)
    assert (answer.line, answer.body) == (b"HTTP/1.1 200 OK", b"old")


def test_clients_of_http_1_0() -> None:
    async def test() -> None:
        async with relayed(answering(OK)) as it:
            reader, writer = await it.connect()
            writer.write(b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert b"Connection: keep-alive" in (await read_message(reader)).fields
            writer.write(b"GET /b HTTP/1.0\r\n\r\n")
            assert b"Connection: close" in (await read_message(reader)).fields
            assert await reader.read() == b""
            assert it.upstream.requests[0].line == b"GET /a HTTP/1.0"

    run(test)


def test_chunks_are_taken_off_for_a_client_of_http_1_0() -> None:
    reply = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    answer = answered(reply, b"GET / HTTP/1.0\r\n\r\n", to_end=True)
    assert (answer.fields, answer.body) == ([b"Connection: close"], b"abcde")


def test_compressed_bodies_pass_and_are_captured_compressed() -> None:
    asked, replied = gzip.compress(b'{"instances": [1]}'), gzip.compress(b'{"predictions": [2]}')
    encoded = b"Content-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b"

    async def test() -> None:
        async with relayed(answering(b"HTTP/1.1 200 OK\r\n" + encoded % (len(replied), replied))) as it:
            head = b"POST / HTTP/1.1\r\nAccept-Encoding: br, gzip\r\n"
            answer = await it.ask(head + encoded % (len(asked), asked))
            assert (answer.body, answer.headers[b"content-encoding"]) == (replied, b"gzip")
            [request] = it.upstream.requests
            assert (request.body, request.headers[b"accept-encoding"]) == (asked, b"br, gzip")
            events = await it.settled()
            assert [event.data for event in events] == [asked, replied]
            assert [decode(event.data, role).protocol for event, role in zip(events, Role, strict=True)] == ["v1"] * 2
            await it.ask(b"GET / HTTP/1.1\r\n\r\n")
            assert b"accept-encoding" not in it.upstream.requests[1].headers, "nothing is asked for of its own"

    run(test)


def test_interim_responses_are_passed_on() -> None:
    async def handler(upstream: Upstream, reader: Reader, writer: Writer) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
        upstream.requests.append(Message(b"", [], await reader.readexactly(4)))
        writer.write(OK)

    async def test() -> None:
        async with relayed(handler) as it:
            reader, writer = await it.connect()
            writer.write(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
            early = await read_head(reader)
            assert (early.line, early.fields) == (b"HTTP/1.1 103 Early Hints", [b"Link: a"])
            assert (await read_head(reader)).line == b"HTTP/1.1 100 Continue"
            writer.write(b"body")
            answer = await read_message(reader)
            assert (answer.fields, answer.body) == ([b"Content-Length: 2"], b"ok")
            assert it.upstream.requests[0].body == b"body"

    run(test)


def test_an_expectation_that_is_refused_ends_the_connection() -> None:
    async def handler(_: Upstream, reader: Reader, writer: Writer) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n")
        await reader.read()

    async def test() -> None:
        async with relayed(handler) as it:
            reader, writer = await it.connect()
            writer.write(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
            answer = await read_message(reader)
            assert answer.line == b"HTTP/1.1 417 Expectation Failed"
            assert b"Connection: close" in answer.fields
            writer.write(b"body")
            assert await reader.read() == b""
            request, response = await it.settled()
            assert (request.truncated, response.extensions["statuscode"]) == (True, "417")

    run(test)


def test_an_answer_before_the_requests_end_leaves_the_connection_usable() -> None:
    async def handler(upstream: Upstream, reader: Reader, writer: Writer) -> None:
        upstream.requests.append(await read_head(reader))
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno" if upstream.connections == 1 else OK)
        await reader.read()

    async def test() -> None:
        async with relayed(handler) as it:
            reader, writer = await it.connect()
            writer.write(b"POST / HTTP/1.1\r\nContent-Length: 8\r\n\r\nhalf")
            assert (await read_message(reader)).body == b"no"
            writer.write(b"rest" + GET)
            assert (await read_message(reader)).body == b"ok"

    run(test)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    bounds = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    return [data[start:end] for start, end in pairwise(bounds)]


def framed(body: bytes, sizes: list[int]) -> bytes:
    """Return the framing field, the end of the head, and the body in chunks; of its whole length without `sizes`."""
    if not sizes:
        return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    chunks = [part for part in pieces(body, sizes) if part]
    coded = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return b"Transfer-Encoding: chunked\r\n\r\n" + coded + b"0\r\n\r\n"


numbers = st.lists(st.integers(0, 4000), max_size=6)
bodies = st.binary(max_size=300) | st.integers(0, 200_000).map(lambda size: bytes(range(256)) * (size // 256))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(bodies, numbers, bodies, numbers), min_size=1, max_size=4), numbers, numbers, st.booleans())
def test_any_bodies_in_any_chunks_cut_anywhere(
    calls: list[tuple[bytes, list[int], bytes, list[int]]], up_cuts: list[int], down_cuts: list[int], pipelined: bool
) -> None:
    async def handler(upstream: Upstream, reader: Reader, writer: Writer) -> None:
        while True:
            await upstream.take(reader)
            _, _, body, sizes = calls[len(upstream.requests) - 1]
            for piece in pieces(b"HTTP/1.1 200 OK\r\n" + framed(body, sizes), down_cuts):
                writer.write(piece)
                await asyncio.sleep(0)

    async def test() -> None:
        async with relayed(handler, max_body_bytes=1000) as it:
            reader, writer = await it.connect()
            requests = [b"POST /%d HTTP/1.1\r\n" % n + framed(*call[:2]) for n, call in enumerate(calls)]
            for request in [b"".join(requests)] if pipelined else requests:
                for piece in pieces(request, up_cuts):
                    writer.write(piece)
                    await asyncio.sleep(0)
                if not pipelined:
                    answers.append((await read_message(reader)).body)
            while len(answers) < len(calls):
                answers.append((await read_message(reader)).body)
            events = await it.settled()
            assert [request.body for request in it.upstream.requests] == [call[0] for call in calls]
            for role, column in (("request", 0), ("response", 2)):
                taken = [event for event in events if event.type.endswith(role)]
                assert [event.data for event in taken] == [call[column][:1000] for call in calls]
                assert [event.truncated for event in taken] == [len(call[column]) > 1000 for call in calls]
            assert it.upstream.connections == 1
            assert it.relay.guarded.errors == 0

    answers: list[bytes] = []
    run(test)
    assert answers == [call[2] for call in calls]


def test_a_stream_is_passed_on_event_by_event() -> None:
    seen = asyncio.Event()

    async def handler(upstream: Upstream, reader: Reader, writer: Writer) -> None:
        await upstream.take(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(3):
            writer.write(b"9\r\ndata: %d\n\n\r\n" % number)
            await seen.wait()  # the next one only when the client has had this one
            seen.clear()
        writer.write(b"0\r\n\r\n")

    async def test() -> None:
        async with relayed(handler) as it:
            reader, writer = await it.connect()
            writer.write(POST)
            assert (await read_head(reader)).headers[b"content-type"] == b"text/event-stream"
            for number in range(3):
                assert await reader.readexactly(14) == b"9\r\ndata: %d\n\n\r\n" % number
                seen.set()
            assert await reader.readexactly(5) == b"0\r\n\r\n"
            _, response = await it.settled()
            assert response.data == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"
            assert response.content_type == "text/event-stream"

    run(test)
