"""Clients that begin a request and do not go on: they are let go of, counted, and delay nobody."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest
import uvicorn

from inferwatch.payload_log.dead_letter import DeadLetter
from inferwatch.payload_log.journal import Journal
from inferwatch_cli.demo.processes import free_port
from inferwatch_logger.bounded_http import MAX_HEAD_BYTES, bounded_http
from inferwatch_logger.ingest import Ingest
from tests.logger.ingest.bench import EVENT
from tests.waiting import eventually
from tests.watched import get, process

REQUEST_S = 0.4
HEAD = (
    "POST /events HTTP/1.1\r\nHost: a\r\n" + "".join(f"{name}: {value}\r\n" for name, value in EVENT.items())
).encode()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path) as journal:
        yield journal


@pytest.fixture
def served(journal: Journal, request: pytest.FixtureRequest) -> Iterator[tuple[int, uvicorn.Server]]:
    """The ingest behind a real server; its port, and the server. The parameter: how long a request may take."""
    ingest, http = Ingest(journal, DeadLetter(journal.directory)), bounded_http(getattr(request, "param", REQUEST_S))
    server = uvicorn.Server(uvicorn.Config(ingest, lifespan="off", log_config=None, http=http))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield listener.getsockname()[1], server
        server.should_exit = True
        thread.join()


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        yield client


def everything(client: socket.socket) -> bytes:
    """Return what the server sends until it closes the connection."""
    parts = []
    try:
        while part := client.recv(65536):
            parts.append(part)
    except ConnectionResetError:  # it closed while something that it had not read was on its way
        pass
    return b"".join(parts)


def sentence(reply: bytes, status: int) -> str:
    """Return what the error of a reply says."""
    head, _, body = reply.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), reply
    assert b"connection: close" in head
    error: str = json.loads(body)["error"]
    return error


def refused(journal: Journal, count: int) -> Mapping[str, int]:
    """Return what was refused, once it is so many."""
    eventually(f"{count} are refused", lambda: sum(journal.ledger().refused.values()) >= count)
    return journal.ledger().refused


def trickle(client: socket.socket, data: bytes) -> None:
    """Send a byte at a time until the server has had enough."""
    for byte in data:
        try:
            client.sendall(bytes([byte]))
        except OSError:
            return
        time.sleep(0.01)


def send(port: int, count: int, headers: dict[str, str] | None = None) -> None:
    client = HTTPConnection("127.0.0.1", port, timeout=30)
    for number in range(count):
        client.request("POST", "/", b"{}", {**EVENT, "ce-id": f"fast-{number}", **(headers or {})})
        reply = client.getresponse()
        assert (reply.status, reply.read()) == (200, b"")
    client.close()


def test_a_head_that_comes_byte_by_byte_is_given_up(journal: Journal, served: tuple[int, uvicorn.Server]) -> None:
    began = time.monotonic()
    with connected(served[0]) as client:
        trickle(client, HEAD)
        everything(client)
    assert time.monotonic() - began < 20
    assert journal.ledger().received == 0


def test_an_unfinished_head_is_answered_408(served: tuple[int, uvicorn.Server]) -> None:
    with connected(served[0]) as client:
        client.sendall(HEAD)
        assert sentence(everything(client), 408) == "the request has not come within 0.4 s"


def test_a_connection_without_a_request_is_closed(served: tuple[int, uvicorn.Server]) -> None:
    with connected(served[0]) as client:
        assert everything(client) == b""


@pytest.mark.parametrize("start", [b"", b"{"])
def test_a_body_that_does_not_come_is_refused_and_counted(
    journal: Journal, served: tuple[int, uvicorn.Server], start: bytes
) -> None:
    with connected(served[0]) as client:
        client.sendall(HEAD + b"Content-Length: 1000\r\n\r\n" + start)
        reply = everything(client)
    assert sentence(reply, 408) == "the request has not come within 0.4 s"
    assert refused(journal, 1) == {"timeout": 1}
    assert journal.ledger().received == 1


def test_a_body_that_trickles_is_refused_and_counted(journal: Journal, served: tuple[int, uvicorn.Server]) -> None:
    with connected(served[0]) as client:
        client.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        trickle(client, b"1\r\nx\r\n" * 40)
    assert refused(journal, 1) == {"timeout": 1}


def test_a_later_request_of_a_connection_is_bounded_too(served: tuple[int, uvicorn.Server]) -> None:
    with connected(served[0]) as client:
        client.sendall(HEAD + b"Content-Length: 2\r\n\r\n{}")
        assert client.recv(65536).startswith(b"HTTP/1.1 200 OK")
        time.sleep(REQUEST_S * 1.2)
        client.sendall(HEAD)
        assert everything(client).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("served", [2.0], indirect=True)  # so long that a busy machine still serves the others
def test_connections_do_not_pile_up_and_others_are_served(journal: Journal, served: tuple[int, uvicorn.Server]) -> None:
    port, server = served
    begun = HEAD + b"Content-Length: 9\r\n\r\n"
    with ExitStack() as clients:
        slow = [clients.enter_context(connected(port)) for _ in range(200)]
        for number, client in enumerate(slow):
            client.sendall((b"", HEAD, begun, begun + b"{")[number % 4])
        send(port, 20)
        for client in slow:
            everything(client)
    assert (journal.ledger().stored, refused(journal, 100)) == (20, {"timeout": 100})
    assert not server.server_state.connections


@pytest.mark.parametrize("served", [60.0], indirect=True)
def test_headers_of_many_kilobytes_pass_and_endless_ones_are_answered_431(
    journal: Journal, served: tuple[int, uvicorn.Server]
) -> None:
    send(served[0], 2, {"ce-metadata": json.dumps({"X-Long": ["y" * 65_536]}), "x-other": "z" * 300_000})
    with connected(served[0]) as client:
        client.sendall((HEAD + b"x-more: " + b"y" * MAX_HEAD_BYTES)[: MAX_HEAD_BYTES + 1])
        assert sentence(everything(client), 431) == "the head is longer than 1048576 bytes"
    assert (journal.ledger().stored, journal.ledger().received) == (2, 2)


@pytest.mark.integration
@pytest.mark.parametrize("request_timeout_s", [0.3, 1.5])
def test_the_time_of_a_request_is_a_setting(tmp_path: Path, request_timeout_s: float) -> None:
    config = tmp_path / "inferwatch.yaml"
    config.write_text(
        f"ingest: {{request_timeout_s: {request_timeout_s}}}\npayload_log: {{path: {tmp_path / 'log'}}}\n"
    )
    port = free_port()
    command: list[str | Path] = [sys.executable, "-m", "inferwatch_cli", "up", "--config", config, "--port", str(port)]
    with process(command, tmp_path / "up.log"):
        eventually("up is ready", lambda: get(f"http://127.0.0.1:{port}/readyz"))
        began = time.monotonic()
        with connected(port) as client:
            client.sendall(HEAD)
            told = sentence(everything(client), 408)
            took_s = time.monotonic() - began
    assert told == f"the request has not come within {request_timeout_s:g} s"
    assert took_s >= request_timeout_s - 0.05
