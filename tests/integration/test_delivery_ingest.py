"""Delivery to our own ingest: in batches, found out by itself, with both ledgers exact and every byte as it was."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from inferwatch.delivery.account import Account
from inferwatch.delivery.delivery import Delivery
from inferwatch.delivery.http import HttpSink
from inferwatch.delivery.outcomes import outcomes_of
from inferwatch.errors import DeliveryError
from inferwatch.events import REQUEST_TYPE, RESPONSE_TYPE, CloudEvent
from inferwatch.payload_log.dead_letter import DeadLetter
from inferwatch.payload_log.journal import Journal
from inferwatch_logger.ingest import Ingest

pytestmark = pytest.mark.integration

EXTENSIONS = {"namespace": "prod", "inferenceservicename": "income", "metadata": '{"A":["\u00e9 \\" %"]}'}
MAX_BODY_BYTES = 200_000


class Served:
    """The ingest behind a real server, and how many requests it has had."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.requests = 0
        self.url = ""
        self._ingest = Ingest(journal, DeadLetter(journal.directory), max_body_bytes=MAX_BODY_BYTES)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        self.requests += 1
        await self._ingest(scope, receive, send)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Journal.open(tmp_path / "log") as journal, socket.create_server(("127.0.0.1", 0)) as listener:
        app = Served(journal)
        app.url = f"http://127.0.0.1:{listener.getsockname()[1]}/events"
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None, http="httptools"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield app
        server.should_exit = True
        thread.join()


def event(number: int, data: bytes, source: str = "/s") -> CloudEvent:
    kind = RESPONSE_TYPE if number % 2 else REQUEST_TYPE
    content_type = random.Random(number).choice([None, "application/json", "text/plain"])  # noqa: S311
    return CloudEvent(f"{number}", source, kind, 10**18 + number, content_type, EXTENSIONS, data)


def test_every_byte_arrives_and_few_requests_are_made(served: Served, tmp_path: Path) -> None:
    chance = random.Random(1)  # noqa: S311
    bodies = [b'{"instances": [[1.50, 2e0 ]]}', b"", b"{broken", b"\xff\x00" * 50, b"x" * 15_000, b" [1] "]
    sent = [event(number, chance.choice(bodies)) for number in range(600)]

    async def test() -> None:
        delivery = Delivery([served.url], spool=tmp_path / "spool", queue_bytes=1 << 24)
        for one in sent:
            delivery.emit(one)
        await delivery.aclose(20.0)
        assert delivery.account() == Account(600, 600, 0, 0, {})

    asyncio.run(test())
    ledger = served.journal.ledger()
    assert ledger.stored == 600
    assert ledger.malformed == {"too_large": ledger.received - 600}
    assert ledger.received < 610, "it learns how much the ingest takes"
    stored = {entry.event.id: entry.event for entry in served.journal.read(0, 1000)}
    assert stored == {one.id: one for one in sent}
    assert served.requests < 150


def test_a_bad_member_is_the_ingests_and_a_batch_too_large_goes_one_by_one(served: Served) -> None:
    async def test() -> None:
        sink = HttpSink(served.url)
        await sink.send([event(0, b"{}")])
        await sink.send([event(1, b"{}"), event(2, b"{}", source=""), event(3, b"{}")])
        assert served.requests == 2
        with pytest.raises(DeliveryError) as raised:
            await sink.send([event(4, b"{}", source=""), event(5, b"{}", source="")])
        assert [one is not None and one.retryable for one in outcomes_of(raised.value, 2)] == [False, False]
        await sink.send([event(6, b"{}")])
        await sink.send([event(number, b"y" * 16_000) for number in range(7, 27)])
        await sink.aclose()

    asyncio.run(test())
    ledger = served.journal.ledger()
    assert ledger.stored == 24
    assert ledger.received == ledger.stored + sum(ledger.malformed.values())
    assert {entry.event.id for entry in served.journal.read(0, 100)} == {
        str(number) for number in (0, 1, 3, *range(6, 27))
    }
