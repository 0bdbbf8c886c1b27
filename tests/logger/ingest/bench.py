"""An ingest that is called without a network, what is sent to it, and what it answers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from inferwatch.clock import ManualClock, parse_time
from inferwatch.events import REQUEST_TYPE
from inferwatch.payload_log.dead_letter import DeadLetter
from inferwatch.payload_log.journal import Journal
from inferwatch.redaction import Redaction
from inferwatch_logger.ingest import Ingest

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
