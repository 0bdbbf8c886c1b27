"""A model server that speaks TLS, behind the relay."""

from __future__ import annotations

import asyncio
import json
import ssl

import pytest

from inferwatch.delivery.tls import Tls
from inferwatch_logger.proxy.readiness import readiness
from tests.certificates import authority, signed
from tests.logger.proxy.http2 import Client
from tests.logger.proxy.http2 import answering as answering_http2
from tests.logger.proxy.messages import OK, POST
from tests.logger.proxy.relayed import Reader, Upstream, Writer, answering, relayed, run
from tests.logger.proxy.test_conversation import GRPC, INFER, echo
from tests.logger.proxy.test_tunnel import SWITCH


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return Tls(ca_file=authority(tmp_path_factory.mktemp("tls"), "ca"))


def certified(trusted: Tls, *protocols: str) -> ssl.SSLContext:
    """Return what a server shows, one that agrees to these protocols alone."""
    assert trusted.ca_file is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*signed(trusted.ca_file.parent, "server", by="ca"))
    context.set_alpn_protocols(protocols)
    return context


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_requests_pass_on_connections_that_are_kept(trusted: Tls, loop: str) -> None:
    async def test() -> None:
        certificate = certified(trusted, "http/1.1")
        async with relayed(answering(OK), certificate=certificate, tls=trusted) as it:
            for _ in range(5):
                assert (await it.ask(POST)).body == b"ok"
            assert it.upstream.connections <= 2  # a ticket of the session may have come unasked
            assert {event.data for event in await it.settled()} == {b"body", b"ok"}

    run(test, loop=loop)


def test_large_bodies_pass_both_ways(trusted: Tls) -> None:
    async def echoing(upstream: Upstream, reader: Reader, writer: Writer) -> None:
        body = (await upstream.take(reader)).body
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        await writer.drain()

    async def test() -> None:
        async with relayed(echoing, certificate=certified(trusted), tls=trusted) as it:
            body = bytes(range(256)) * 20_000
            head = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
            assert (await it.ask(head, body)).body == body

    run(test)


def test_an_upstream_that_is_not_trusted_is_502(trusted: Tls) -> None:
    async def test() -> None:
        async with relayed(answering(OK), certificate=certified(trusted), tls=Tls()) as it:
            answer = await it.ask(POST)
            assert answer.line == b"HTTP/1.1 502 Bad Gateway"
            assert "CERTIFICATE_VERIFY_FAILED" in json.loads(answer.body)["error"]
            assert it.upstream.requests == []

    run(test)


def test_calls_of_http_2_are_agreed_on_in_the_handshake(trusted: Tls) -> None:
    async def test() -> None:
        certificate = certified(trusted, "h2")
        async with relayed(answering_http2(echo), certificate=certificate, tls=trusted) as it:
            async with Client(*await it.connect()) as client:
                assert (await client.ask(INFER, b"x", GRPC)).body == b"x"
            assert [event.data for event in await it.settled()] == [b"x", b"x"]

    run(test)


def test_the_end_of_a_tunnel_ends_both_ways(trusted: Tls) -> None:
    ended = asyncio.Event()

    async def talk(_: Upstream, reader: Reader, writer: Writer) -> None:
        writer.write(await reader.readexactly(len(SWITCH)))
        assert await reader.read() == b""
        ended.set()

    async def test() -> None:
        async with relayed(talk, certificate=certified(trusted), tls=trusted) as it:
            reader, writer = await it.connect()
            writer.write(SWITCH)
            assert await reader.readexactly(len(SWITCH)) == SWITCH
            writer.write_eof()
            await ended.wait()
            assert await reader.read() == b""

    run(test)


def test_readiness_is_asked_over_https_as_the_kubelet_asks(trusted: Tls) -> None:
    async def test() -> None:
        async with relayed(answering(OK), certificate=certified(trusted), tls=trusted) as it:
            get = {"path": "/ready", "port": it.upstream.port, "scheme": "HTTPS"}
            assert await readiness("127.0.0.1", 1, json.dumps({"httpGet": get, "timeoutSeconds": 10}))()
            assert not await readiness("127.0.0.1", 1, json.dumps({"httpGet": {**get, "scheme": "HTTP"}}))()
            assert [request.line for request in it.upstream.requests] == [b"GET /ready HTTP/1.1"]

    run(test)
