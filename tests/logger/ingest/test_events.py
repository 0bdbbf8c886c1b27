"""The ingest takes what KServe and brokers send, answers after the commit, and turns away only what is no event."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from pathlib import Path

import pytest

from inferwatch.events import REQUEST_TYPE, RESPONSE_TYPE, CloudEvent
from inferwatch.redaction import Redaction
from tests.logger.ingest.bench import EVENT, REQUIRED, TIME, Answer, Bench, assert_refused, assert_taken

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


def test_a_client_that_leaves_halfway_sent_nothing(bench: Bench) -> None:
    assert not bench.send(EVENT, b"half of", leaves=True).sent
    assert bench.journal.ledger().received == 0
    assert_taken(bench.send(EVENT, b"{}"))


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


def test_large_bodies_are_redacted_beside_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, redact = Bench(tmp_path, max_body_bytes=100_000, redact=("$.ssn",)), Redaction.event
    beside = []

    def noted(redaction: Redaction, event: CloudEvent) -> CloudEvent:
        beside.append(threading.current_thread() is not threading.main_thread())
        return redact(redaction, event)

    monkeypatch.setattr(Redaction, "event", noted)
    small, large = b'{"ssn": 1}', b'{"ssn": 1, "pad": "%b"}' % (b"x" * 40_000)
    for number, body in enumerate((small, large, gzip.compress(large))):
        assert_taken(bench.send({**EVENT, "ce-id": str(number)}, body))
    kept = [entry.event.data for entry in bench.journal.read(0, 9)]
    bench.journal.close()
    assert beside == [False, True, True]
    assert kept == [body.replace(b"1,", b"null,").replace(b"1}", b"null}") for body in (small, large, large)]


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
