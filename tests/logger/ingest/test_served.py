"""The ingest behind a real server and its connections."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest
import uvicorn

from inferwatch_logger.bounded_http import MAX_HEAD_BYTES
from tests.core.wire.test_cloudevents import CAPTURED
from tests.logger.ingest.bench import EVENT, Bench


@pytest.fixture(params=["httptools", "h11"])
def served(bench: Bench, request: pytest.FixtureRequest) -> Iterator[int]:
    """The ingest behind uvicorn, once with each of its parsers; the port."""
    config = uvicorn.Config(
        bench.app,
        lifespan="off",
        log_config=None,
        http=request.param,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join()


def test_sixty_events_travel_over_one_connection(bench: Bench, served: int) -> None:
    client = HTTPConnection("127.0.0.1", served, timeout=30)
    client.connect()
    first = client.sock
    for number in range(60):
        client.request("POST", "/events?x=1", b"{}", {**EVENT, "ce-id": str(number)})
        reply = client.getresponse()
        assert (reply.status, reply.read(), reply.headers["content-length"]) == (200, b"", "0")
        assert client.sock is first
    client.close()
    assert bench.journal.ledger().stored == 60


def test_the_block_that_kserves_agent_was_seen_to_send(bench: Bench, served: int) -> None:
    """Header for header, in its order and case, twice over one connection; a new id the second time."""
    body = b'{"predictions": [1]}'
    with socket.create_connection(("127.0.0.1", served), timeout=30) as agent:
        for identity in ("b9181bae", "c0281bae"):
            block = "\r\n".join(line.replace("b9181bae", identity) for line in CAPTURED.splitlines())
            agent.sendall(f"POST /events/logs?x=1 HTTP/1.1\r\n{block}\r\n\r\n".encode() + body)
            reply = b""
            while b"\r\n\r\n" not in reply:
                reply += agent.recv(4096)
            head, _, rest = reply.lower().partition(b"\r\n\r\n")
            assert head.startswith(b"http/1.1 200 ")
            assert b"content-length: 0" in head
            assert (rest, b"connection: close" in head) == (b"", False)
    assert [entry.event.id[:8] for entry in bench.journal.read(0, 10)] == ["b9181bae", "c0281bae"]
    assert {entry.event.stream for entry in bench.journal.read(0, 10)} == {("ns1", "iris", "predictor", "default")}


def test_large_headers_pass_and_a_refusal_keeps_the_connection(bench: Bench, served: int) -> None:
    client = HTTPConnection("127.0.0.1", served, timeout=30)
    client.connect()
    first = client.sock
    metadata = json.dumps({"X-Long": ["y" * 100_000]})
    client.request("POST", "/", b"x" * 1_000_000, {**EVENT, "ce-metadata": metadata})
    reply = client.getresponse()
    assert (reply.status, reply.read()) == (200, b"")
    client.request("POST", "/", b"{}", {"ce-id": "1"})
    reply = client.getresponse()
    assert reply.status == 400
    assert "error" in json.loads(reply.read())
    assert client.sock is first
    client.close()
    (entry,) = bench.journal.read(0, 10)
    assert entry.event.extensions["metadata"] == metadata
    assert (len(entry.event.data), entry.event.truncated) == (10_000, True)


def test_slow_clients_delay_nobody_and_hold_what_they_sent_alone(bench: Bench, served: int) -> None:
    head = "POST /events HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n" + "".join(
        f"{name}: {value}\r\n" for name, value in EVENT.items()
    )
    slow = [socket.create_connection(("127.0.0.1", served), timeout=30) for _ in range(40)]
    for number, client in enumerate(slow):
        client.sendall(head.encode() if number % 2 else f"{head}\r\n{{".encode())
    fast = HTTPConnection("127.0.0.1", served, timeout=30)
    for number in range(20):
        fast.request("POST", "/", b"{}", {**EVENT, "ce-id": f"fast-{number}"})
        reply = fast.getresponse()
        assert (reply.status, reply.read()) == (200, b"")
    fast.close()
    for client in slow:
        client.close()
    ledger = bench.journal.ledger()
    assert (ledger.stored, ledger.received) == (20, 20)
