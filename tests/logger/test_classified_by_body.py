"""What a body is, its bytes say and no content type; the bytes are kept as they came."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from inferwatch.events import REQUEST_TYPE, RESPONSE_TYPE, CloudEvent, Role
from tests.core.wire.bodies import BODIES, Body
from tests.logger.watched_log import WatchedLog, event, watched_log

CONTENT_TYPES = (
    *("", "application/json", "application/json; charset=utf-8", "application/octet-stream", "application/grpc"),
    *("text/event-stream", "text/plain; charset=utf-16", "application/cloudevents+json", "image/png", "no/such; thing"),
)
NOTHING: dict[str, list[Body]] = {
    "health": [(Role.RESPONSE, b'{"ready":true}'), (Role.RESPONSE, b"# HELP a b\n"), (Role.REQUEST, b"")],
    "unknown": [(Role.REQUEST, b"\x89PNG\r\n\x1a\n\x00\x00"), (Role.REQUEST, b"<html/>"), (Role.RESPONSE, b"[1]")],
}
PROTOCOLS = {name: list(bodies) for name, bodies in BODIES.items() if name not in ("gzip", "grpc")} | NOTHING
PROTOCOLS["v1"] = [body for body in PROTOCOLS["v1"] if b"1234567890" not in body[1]]
PROTOCOLS["grpc"] = [BODIES["grpc"][0], BODIES["grpc"][6]]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedLog]:
    with watched_log(tmp_path_factory.mktemp("classified")) as log:
        yield log


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_under_every_content_type(log: WatchedLog, protocol: str) -> None:
    sent: list[CloudEvent] = []
    for role, body in PROTOCOLS[protocol]:
        for squeezed in (body, gzip.compress(body, mtime=0)):
            for content_type in CONTENT_TYPES:
                made = event(len(sent), squeezed, role, inferenceservicename=protocol.replace("_", "-"))
                kind = REQUEST_TYPE if role is Role.REQUEST else RESPONSE_TYPE
                sent.append(replace(made, id=f"{protocol}-{len(sent)}", content_type=content_type, type=kind))
    start = log.journal.end()
    log.take(*sent)
    kept = [entry.event for entry in log.journal.read(start, len(sent))]
    assert [(found.id, found.data, found.content_type) for found in kept] == [
        (made.id, made.data, made.content_type) for made in sent
    ]
    items = log.get(f"/api/payloads?model=default/{protocol.replace('_', '-')}&limit=1000").json["items"]
    assert len(items) == len(sent)
    assert {item["protocol"] for item in items} == {protocol}
    assert {bool(item["fault"]) for item in items} == {protocol == "unknown"}


def test_why_a_body_is_unknown_is_told(log: WatchedLog) -> None:
    log.take(event(1, b"<html/>", inferenceservicename="told"))
    (item,) = log.get("/api/payloads?model=default/told").json["items"]
    found = log.get(f"/api/payloads/{item['key']}").json
    assert (found["protocol"], found["decoded"]) == ("unknown", None)
    assert found["fault"].startswith("the body is no JSON: ")
    assert orjson.dumps(found["request"]["body"]) == b'{"base64":"PGh0bWwvPg=="}'
    (note,) = [note for note in log.get("/api/models/default/told").json["notes"] if "decoded" in note]
    assert found["fault"] in note


@pytest.mark.parametrize(
    "identity", ["../../etc/passwd", "a/b", "..", "%2e%2e%2f", "é", "?limit=1#x", "C:\\x", "x" * 5000]
)
def test_ids_are_no_paths(tmp_path: Path, identity: str) -> None:
    with watched_log(tmp_path / "log") as log:
        made = replace(event(1, {"instances": [1]}), id=identity)
        log.take(made)
        (item,) = log.get("/api/payloads").json["items"]
        assert item["id"] == identity
        assert set(item["key"]) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
        assert log.get(f"/api/payloads/{item['key']}").json["request"]["attributes"]["id"] == identity
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
