"""Whatever either side sends, whenever either side ends: the relay lets go of it, without an exception of its own."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.logger.proxy.relayed import Reader, Upstream, Writer, relayed, run

REQUESTS = (
    b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    b"HEAD / HTTP/1.1\r\n\r\n",
    b"POST /v1/models/m:predict HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: 1\r\n\r\n",
    b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
    b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"POST / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nab",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET / HTTP/1.1\r\nK-Network-Probe: queue\r\n\r\n",
    b"CONNECT h:1 HTTP/1.1\r\n\r\n",
)
REPLIES = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"HTTP/1.1 204 None\r\n\r\n",
    b"HTTP/1.1 304 Same\r\nContent-Length: 9\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
)
ends = st.sampled_from(["close", "eof", "abort"])


def spoken(parts: tuple[bytes, ...]) -> st.SearchStrategy[list[bytes]]:
    part = st.sampled_from(parts) | st.binary(max_size=20)
    cut = st.tuples(st.sampled_from(parts), st.integers(1, 60)).map(lambda given: given[0][: given[1]])
    return st.lists(part | cut, max_size=5)


def say(writer: Writer, part: bytes) -> None:
    if not writer.is_closing():  # the other side has hung up, and uvloop takes no more
        writer.write(part)


def end(writer: Writer, how: str) -> None:
    if how == "abort":
        writer.transport.abort()
    elif how == "eof" and not writer.is_closing() and writer.can_write_eof():
        writer.write_eof()
    else:
        writer.close()


@settings(max_examples=150, deadline=None)
@given(spoken(REQUESTS), spoken(REPLIES), ends, ends)
@example([b"POST / HTTP/1.1\r\nTransfer-Encoding:", REQUESTS[-2]], [], "close", "close")
def test_anything_goes_and_nothing_stays(
    requests: list[bytes], replies: list[bytes], client_end: str, upstream_end: str
) -> None:
    async def handler(_: Upstream, reader: Reader, writer: Writer) -> None:
        for reply in replies:
            await asyncio.wait_for(reader.read(1000), 0.02)
            say(writer, reply)
        end(writer, upstream_end)

    async def test() -> None:
        faults: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        async with relayed(handler) as it:
            reader, writer = await it.connect()
            for request in requests:
                say(writer, request)
                await asyncio.sleep(0)
            end(writer, client_end)
            if client_end == "eof":
                with suppress(TimeoutError, ConnectionError):
                    await asyncio.wait_for(reader.read(), 0.05)
            await it.settled()
            assert not it.relay.clients
            assert it.relay.guarded.errors == 0
        assert [fault for fault in faults if not isinstance(fault.get("exception"), TimeoutError)] == []

    run(test)
