"""Ids and names that try to be paths, markup or ends of text: kept as they are and shown by key, or refused."""

from __future__ import annotations

import asyncio
import json
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from inferwatch.payload_log.dead_letter import DeadLetter
from inferwatch_logger.ingest import Ingest
from tests.logger.ingest.bench import EVENT
from tests.logger.watched_log import WatchedLog, watched_log

CLIMBING = "../../../../tmp/x"
MARKUP = '"><script>alert(1)</script>\\{}'


def send(log: WatchedLog, **named: str) -> tuple[int, bytes]:
    """Send an event as a client does, its values percent-encoded."""
    fields = {
        name: quote(value, safe="") if name.startswith("ce-") else value for name, value in {**EVENT, **named}.items()
    }
    ingest = Ingest(log.journal, DeadLetter(log.directory))
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b'{"instances": [[1]]}'}

    async def answer(message: Any) -> None:
        sent.append(message)

    headers = [(name.encode(), value.encode()) for name, value in fields.items()]
    asyncio.run(ingest({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive, answer))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


@pytest.mark.parametrize("text", [CLIMBING, MARKUP, "..", "%2e%2e%2f", "?x=1#y"])
def test_ids_and_names_are_stored_as_they_are_and_shown_by_key(tmp_path: Path, text: str) -> None:
    with watched_log(tmp_path / "log") as log:
        named = {"ce-id": text, "ce-inferenceservicename": text, "ce-namespace": text}
        assert send(log, **named) == (200, b"")
        entry = log.journal.read(0, 1)[0]
        assert log.pipeline.wait_for(entry.offset, 120)
        (item,) = log.get("/api/payloads").json["items"]
        assert (item["id"], item["name"], item["namespace"]) == (text, text, text)
        assert quote(item["key"], safe="") == item["key"]
        detail = log.get(f"/api/payloads/{item['key']}")
        assert detail.json["request"]["attributes"]["id"] == text
        found = log.get(f"/api/payloads?id={quote(text, safe='')}").json["items"]
        assert [one["key"] for one in found] == [item["key"]]
        assert detail.headers["content-type"].startswith("application/json")
        for address in (f"/payloads/{item['key']}", "/"):
            page = log.page(address)
            assert page.status == 200
            assert "<script>alert" not in page.text
        assert text in unescape(log.page(f"/payloads/{item['key']}").text)
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


@pytest.mark.parametrize("text", ["a\0b", "\0", "../\0"])
def test_an_id_that_holds_nul_is_refused_by_name_and_kept(tmp_path: Path, text: str) -> None:
    with watched_log(tmp_path / "log") as log:
        status, body = send(log, **{"ce-id": text})
        assert status == 400
        assert "id: holds a control character" in json.loads(body)["error"]
        assert log.journal.ledger().malformed == {"bad_character": 1}
        (letter,) = map(json.loads, DeadLetter(log.directory).path.read_text().splitlines())
        assert (letter["reason"], letter["body"]) == ("bad_character", '{"instances": [[1]]}')


def test_names_that_hold_nul_are_stored_without(tmp_path: Path) -> None:
    with watched_log(tmp_path / "log") as log:
        assert send(log, **{"ce-inferenceservicename": "../m\0x", "ce-namespace": "n\0/.."})[0] == 200
        assert log.pipeline.wait_for(log.journal.read(0, 1)[0].offset, 120)
        (item,) = log.get("/api/payloads").json["items"]
        assert (item["name"], item["namespace"]) == ("../m\ufffdx", "n\ufffd/..")
        assert log.get(f"/api/payloads/{item['key']}").status == 200
