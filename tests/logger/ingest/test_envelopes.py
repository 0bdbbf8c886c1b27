"""Events in envelopes, structured and in batches, and envelopes that are broken."""

from __future__ import annotations

import json

import pytest

from inferwatch.events import REQUEST_TYPE
from tests.logger.ingest.bench import EVENT, TIME, Bench, assert_refused, assert_taken


@pytest.mark.parametrize("kind", ["application/cloudevents+json", "application/cloudevents-batch+json"])
def test_an_envelope_above_the_limit_is_too_large_to_read(bench: Bench, kind: str) -> None:
    body = json.dumps({"specversion": "1.0", "data": "x" * 20_000}).encode()
    assert_refused(bench.send({"content-type": kind}, body), 413)
    assert bench.journal.ledger().malformed == {"too_large": 1}
    assert len(bench.letters()) == 1


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
