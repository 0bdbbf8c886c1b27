"""The ingest takes what KServe and brokers send, answers after the commit, and turns away only what is no event."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from inferwatch.clock import ManualClock, parse_time
from inferwatch.events import REQUEST_TYPE, RESPONSE_TYPE
from inferwatch.payload_log.dead_letter import DeadLetter
from inferwatch.payload_log.journal import Journal
from inferwatch.redaction import Redaction
from inferwatch_logger.bounded_http import MAX_HEAD_BYTES
from inferwatch_logger.ingest import Ingest
from tests.core.wire.test_cloudevents import CAPTURED

TIME = "2026-11-21T12:00:00Z"
REQUIRED = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "http://localhost:9081/", "ce-type": REQUEST_TYPE}
EVENT = {
    **REQUIRED,
    "ce-time": TIME,
    "ce-inferenceservicename": "iris",
    "ce-namespace": "ns1",
    "ce-component": "predictor",
    "ce-endpoint": "",
    "content-type": "application/json",
}
RELEASES = {
    "0.7": {**EVENT, "traceparent": "00-1-2-03", "ce-traceparent": "00-1-2-03"},
    "0.13": EVENT,
    "0.14": {**EVENT, "ce-metadata": "null", "ce-type": RESPONSE_TYPE},
    "0.15.2": {**EVENT, "ce-metadata": '{"X-Request-Id":["abc"]}', "ce-annotations": '{"a/b":"c d","owner":"me"}'},
    "0.16": {**EVENT, "ce-metadata": "{}", "ce-type": RESPONSE_TYPE},
    "0.20": {**EVENT, "ce-metadata": "{}", "ce-recordedtime": "2026-11-21T12:00:00.480663283Z"},
    "next": {**EVENT, "ce-type": RESPONSE_TYPE, "ce-statuscode": "500"},
    "bare": REQUIRED,
    "seldon": {**EVENT, "ce-type": "io.seldon.serving.inference.request"},
}


class Answer:
    """What the application sent back."""

    def __init__(self, messages: list[dict[str, Any]]) -> None:
        self.sent = bool(messages)
        self.status: int = messages[0]["status"] if messages else 0
        self.headers: dict[bytes, bytes] = dict(messages[0]["headers"]) if messages else {}
        self.body = b"".join(message.get("body", b"") for message in messages[1:])


class Bench:
    """A journal with an ingest in front, called without a network."""

    def __init__(
        self,
        directory: Path,
        max_body_bytes: int = 10_000,
        max_inflight_bytes: int = 1_000_000,
        redact: tuple[str, ...] = (),
    ) -> None:
        clock, redaction = ManualClock(parse_time(TIME)), Redaction(redact)
        self.journal = Journal.open(directory, clock=clock, max_inflight_bytes=max_inflight_bytes)
        self.dead_letter = DeadLetter(directory, clock=clock, redaction=redaction)
        self.app = Ingest(self.journal, self.dead_letter, max_body_bytes=max_body_bytes, redaction=redaction)

    def send(
        self,
        headers: dict[str, str] | list[tuple[bytes, bytes]],
        *chunks: bytes,
        path: str = "/",
        method: str = "POST",
        leaves: bool = False,
    ) -> Answer:
        """Return the answer to one request; `leaves` breaks the connection off behind the chunks."""
        return asyncio.run(self.exchange(headers, *chunks, path=path, method=method, leaves=leaves))

    async def exchange(
        self,
        headers: dict[str, str] | list[tuple[bytes, bytes]],
        *chunks: bytes,
        path: str = "/",
        method: str = "POST",
        leaves: bool = False,
    ) -> Answer:
        parts = chunks or (b"",)
        last = len(parts) - 1
        incoming: list[dict[str, Any]] = [
            {"type": "http.request", "body": part, "more_body": leaves or index < last}
            for index, part in enumerate(parts)
        ]
        incoming.append({"type": "http.disconnect"})
        raw = headers if isinstance(headers, list) else [(k.encode(), v.encode()) for k, v in headers.items()]
        scope = {"type": "http", "method": method, "path": path, "headers": raw}
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return incoming.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        return Answer(sent)

    def letters(self) -> list[dict[str, Any]]:
        """Return the dead letters."""
        path = self.dead_letter.path
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.journal.close()


def assert_taken(answer: Answer) -> None:
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers == {b"content-length": b"0", b"accept-post": b"application/cloudevents-batch+json"}


def assert_refused(answer: Answer, status: int) -> str:
    assert answer.status == status
    sentence = json.loads(answer.body)
    assert list(sentence) == ["error"]
    assert b"\n" not in answer.body
    assert answer.headers[b"content-length"] == str(len(answer.body)).encode()
    return str(sentence["error"])


@pytest.mark.parametrize("release", RELEASES)
def test_what_every_release_of_kserve_sends_is_stored(bench: Bench, release: str) -> None:
    body = b'{"instances": [[1, 2]]}'
    assert_taken(bench.send(RELEASES[release], body, path="/events/some/where"))
    (entry,) = bench.journal.read(0, 10)
    assert entry.event.data == body
    assert entry.event.type == RELEASES[release]["ce-type"]
    assert entry.event.role is not None
    stream = entry.event.stream
    assert (stream.component, stream.endpoint) == ("predictor", "default")
    assert (stream.namespace, stream.name) == (("default", "unknown") if release == "bare" else ("ns1", "iris"))


@pytest.mark.parametrize(
    ("path", "method", "ours"),
    [
        ("/", "POST", True),
        ("/", "GET", False),
        ("/events", "POST", True),
        ("/events", "GET", True),
        ("/events/a/b", "POST", True),
        ("/eventsome", "POST", False),
        ("/api/ledger", "POST", False),
    ],
)
def test_the_paths_of_the_contract_are_handled(bench: Bench, path: str, method: str, ours: bool) -> None:
    assert bench.app.handles({"type": "http", "path": path, "method": method}) is ours
    assert not bench.app.handles({"type": "websocket", "path": path})


def test_another_method_is_not_allowed(bench: Bench) -> None:
    answer = bench.send({}, path="/events", method="PUT")
    assert "POST" in assert_refused(answer, 405)
    assert answer.headers[b"allow"] == b"POST"
    assert bench.journal.ledger().received == 0


def test_the_answer_follows_the_commit(bench: Bench) -> None:
    async def many() -> list[Answer]:
        requests = [bench.exchange({**EVENT, "ce-id": str(number)}, b"{}") for number in range(50)]
        return list(await asyncio.gather(*requests))

    for answer in asyncio.run(many()):
        assert_taken(answer)
    assert len(bench.journal.read(0, 100)) == 50
    assert bench.journal.waiting_bytes == 0


def test_a_repeated_event_is_kept_once_and_a_new_time_is_a_new_event(bench: Bench) -> None:
    for _ in range(2):
        assert_taken(bench.send(EVENT, b"{}"))
    assert_taken(bench.send({**EVENT, "ce-time": "2026-11-21T12:00:00.1Z"}, b"{}"))
    ledger = bench.journal.ledger()
    assert (ledger.received, ledger.stored, ledger.duplicate) == (3, 2, 1)


def test_an_event_that_is_no_payload_is_ignored_by_type(bench: Bench) -> None:
    for _ in range(2):
        assert_taken(bench.send({**EVENT, "ce-type": "io.inferwatch.finding.drift"}, b"{}"))
    assert bench.journal.ledger().ignored == {"io.inferwatch.finding.drift": 2}
    assert bench.journal.read(0, 10) == []


@pytest.mark.parametrize("body", [b"", b"\x00\xff not json", b'{"instances": [', b"\x1f\x8b\x08"])
def test_a_body_that_nobody_can_decode_is_stored(bench: Bench, body: bytes) -> None:
    assert_taken(bench.send(EVENT, body))
    assert bench.journal.read(0, 1)[0].event.data == body


def test_a_body_in_pieces_is_one_body(bench: Bench) -> None:
    assert_taken(bench.send(EVENT, b'{"inst', b"", b'ances": []', b"}"))
    assert bench.journal.read(0, 1)[0].event.data == b'{"instances": []}'


@pytest.mark.parametrize("chunks", [(b"x" * 10_001,), (b"x" * 6_000, b"x" * 6_000), (b"x" * 10_000, b"x"), (b"x",) * 3])
def test_a_body_above_the_limit_is_stored_cut(bench: Bench, chunks: tuple[bytes, ...]) -> None:
    assert_taken(bench.send(EVENT, *chunks))
    (entry,) = bench.journal.read(0, 10)
    whole = b"".join(chunks)
    assert entry.event.data == whole[:10_000]
    assert entry.event.truncated is (len(whole) > 10_000)


@pytest.mark.parametrize("kind", ["application/cloudevents+json", "application/cloudevents-batch+json"])
def test_an_envelope_above_the_limit_is_too_large_to_read(bench: Bench, kind: str) -> None:
    body = json.dumps({"specversion": "1.0", "data": "x" * 20_000}).encode()
    assert_refused(bench.send({"content-type": kind}, body), 413)
    assert bench.journal.ledger().malformed == {"too_large": 1}
    assert len(bench.letters()) == 1


def test_a_client_that_leaves_halfway_sent_nothing(bench: Bench) -> None:
    assert not bench.send(EVENT, b"half of", leaves=True).sent
    assert bench.journal.ledger().received == 0
    assert_taken(bench.send(EVENT, b"{}"))


def structured(identity: str, **attributes: object) -> dict[str, object]:
    named = {"specversion": "1.0", "id": identity, "source": "test", "type": REQUEST_TYPE, "time": TIME}
    return {**named, "data": {"instances": [[1]]}, **attributes}


def test_a_structured_event_is_stored(bench: Bench) -> None:
    body = json.dumps(structured("s")).encode()
    assert_taken(bench.send({"content-type": "application/cloudevents+json; charset=utf-8"}, body))
    event = bench.journal.read(0, 1)[0].event
    assert (event.id, json.loads(event.data)) == ("s", {"instances": [[1]]})


BATCH = {"content-type": "application/cloudevents-batch+json"}


def test_of_a_batch_the_good_are_taken_and_the_bad_are_buried(bench: Bench) -> None:
    bad_time = structured("bad", time="yesterday", metadata={"Authorization": ["secret"], "X-Id": ["7"]})
    other = structured("other", type="io.other")
    batch = [structured("a"), bad_time, "no object", structured("b"), other]
    assert_taken(bench.send(BATCH, json.dumps(batch).encode()))
    assert [entry.event.id for entry in bench.journal.read(0, 10)] == ["a", "b"]
    ledger = bench.journal.ledger()
    assert (ledger.received, ledger.stored, ledger.ignored) == (5, 2, {"io.other": 1})
    assert sum(ledger.malformed.values()) == 2
    first, second = bench.letters()
    assert first["attributes"]["id"] == "bad"
    assert first["body"] == '{"instances":[[1]]}'
    assert "X-Id" in first["attributes"]["metadata"]
    assert "secret" not in json.dumps(bench.letters())
    assert second["reason"] == "bad_json"


def test_a_batch_without_a_good_member_fails_and_an_empty_one_does_not(bench: Bench) -> None:
    bad = {name: value for name, value in structured("x").items() if name != "id"}
    assert_refused(bench.send(BATCH, json.dumps([bad, bad]).encode()), 400)
    assert bench.journal.ledger().malformed == {"missing_attribute": 2}
    assert_taken(bench.send(BATCH, b"[]"))
    assert bench.journal.ledger().received == 2


@pytest.mark.parametrize("kind", ["application/cloudevents+json", "application/cloudevents-batch+json"])
@pytest.mark.parametrize("body", [b"", b"nonsense", b"{", b'"text"', b"[[[]]", b"\xff\xfe", b"[" * 5000])
def test_an_envelope_that_cannot_be_parsed_is_one_malformed_event(bench: Bench, kind: str, body: bytes) -> None:
    assert_refused(bench.send({"content-type": kind}, body), 400)
    ledger = bench.journal.ledger()
    assert (ledger.received, sum(ledger.malformed.values())) == (1, 1)
    (letter,) = bench.letters()
    assert set(letter) >= {"time", "reason", "attributes", "body"}
    assert letter["time"] == TIME


def test_every_fault_of_a_broken_envelope_is_named_counted_and_kept(bench: Bench) -> None:
    headers = {**EVENT, "ce-specversion": "0.3", "ce-time": "noon"}
    del headers["ce-id"]
    sentence = assert_refused(bench.send(headers, b"the body"), 400)
    assert all(name in sentence for name in ("specversion", "id", "time"))
    assert sum(bench.journal.ledger().malformed.values()) == 1
    (letter,) = bench.letters()
    assert letter["body"] == "the body"
    assert letter["attributes"]["inferenceservicename"] == "iris"
    assert letter["error"] == sentence


def test_an_id_given_twice_is_malformed_unless_it_is_the_same(bench: Bench) -> None:
    headers = [(name.encode(), value.encode()) for name, value in EVENT.items()]
    sentence = assert_refused(bench.send([*headers, (b"Ce-Id", b"2")], b"the body"), 400)
    assert "id: is given twice with different values" in sentence
    assert bench.journal.ledger().malformed == {"duplicate_attribute": 1}
    (letter,) = bench.letters()
    assert (letter["reason"], letter["body"], letter["error"]) == ("duplicate_attribute", "the body", sentence)
    assert_taken(bench.send([*headers, (b"Ce-Id", b"1")], b"{}"))
    assert [entry.event.id for entry in bench.journal.read(0, 10)] == ["1"]


@pytest.mark.parametrize("kind", ["application/cloudevents+json", "application/cloudevents-batch+json"])
def test_of_a_key_twice_in_an_envelope_the_last_counts(bench: Bench, kind: str) -> None:
    """As in every JSON that is read here; a name in another case is another key, and a fault."""
    body = json.dumps(structured("first"))[:-1]
    opening, closing = ("[", "]") if "batch" in kind else ("", "")
    twice = f'{opening}{body}, "id": "last", "data": {{"instances": [[2]]}}}}{closing}'
    assert_taken(bench.send({"content-type": kind}, twice.encode()))
    event = bench.journal.read(0, 1)[0].event
    assert (event.id, json.loads(event.data)) == ("last", {"instances": [[2]]})
    sentence = assert_refused(
        bench.send({"content-type": kind}, f'{opening}{body}, "ID": "other"}}{closing}'.encode()), 400
    )
    assert "id: is given twice with different values" in sentence
    assert bench.journal.ledger().malformed == {"duplicate_attribute": 1}


def test_a_request_without_any_attribute_is_malformed(bench: Bench) -> None:
    assert_refused(bench.send({"content-type": "application/json"}, b'{"instances": []}'), 400)
    assert bench.letters()[0]["body"] == '{"instances": []}'


def test_a_journal_that_cannot_take_more_asks_to_come_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, max_body_bytes=100_000, max_inflight_bytes=50_000)

    async def crowd() -> list[Answer]:
        requests = [
            bench.exchange({**EVENT, "ce-id": str(number)}, b"x" * 30_000, b"x" * 10_000) for number in range(20)
        ]
        return list(await asyncio.gather(*requests))

    answers = asyncio.run(crowd())
    refused = [answer for answer in answers if answer.status != 200]
    assert refused
    for answer in refused:
        assert_refused(answer, 503)
        assert answer.headers[b"retry-after"] == b"1"
    ledger = bench.journal.ledger()
    assert ledger.refused == {"overloaded": len(refused)}
    assert ledger.stored == 20 - len(refused)
    assert_taken(bench.send({**EVENT, "ce-id": "later"}, b"x" * 30_000, b"x" * 10_000))
    bench.journal.close()


def test_a_closed_journal_is_a_refusal(bench: Bench) -> None:
    bench.journal.close()
    assert_refused(bench.send(EVENT, b"{}"), 503)


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


def test_what_is_redacted_reaches_no_file(tmp_path: Path) -> None:
    ssn = "078-05-1120"
    bench = Bench(tmp_path, redact=("headers.X-User", "$.instances[*].ssn"))
    data = {"instances": [{"ssn": ssn, "age": 39}]}
    body = json.dumps(data).encode()
    logged = {**EVENT, "ce-metadata": json.dumps({"x-user": [ssn], "Accept": ["*/*"]}), "ce-xuser": ssn}
    structured = {"content-type": "application/cloudevents+json"}
    envelope = {"specversion": "1.0", "id": "2", "source": "s", "type": REQUEST_TYPE, "time": TIME, "data": data}
    try:
        assert_taken(bench.send(logged, body))
        assert_taken(bench.send({**EVENT, "ce-id": "cut"}, body[:-3]))
        assert_taken(bench.send(structured, json.dumps(envelope).encode()))
        assert_refused(bench.send({**logged, "ce-specversion": "0.3"}, body), 400)
        assert_refused(bench.send(structured, json.dumps(envelope | {"id": ""}).encode()), 400)
        assert_refused(bench.send(structured, json.dumps(envelope).encode()[:-1]), 400)
        kept, cut, _ = (entry.event for entry in bench.journal.read(0, 9))
        letters = bench.letters()
    finally:
        bench.journal.close()
    assert (kept.data, cut.data) == (b'{"instances": [{"ssn": null, "age": 39}]}', b"null")
    assert kept.extensions["metadata"] == '{"Accept":["*/*"]}'
    assert [letter["body"] and json.loads(letter["body"]) for letter in letters] == [json.loads(kept.data)] * 2 + [None]
    assert [file for file in tmp_path.iterdir() if ssn.encode() in file.read_bytes()] == []


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
