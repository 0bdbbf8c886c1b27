"""`inferwatch proxy` into a real Kafka broker and an HTTP sink at once, one of which is away."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from inferwatch_cli.demo.processes import free_port
from tests.integration.test_proxy import ask, echo, proxy, server, taken
from tests.kafka_broker import Broker, kafka_broker

__all__ = ["kafka_broker"]

pytestmark = pytest.mark.integration


def test_every_sink_has_its_own_account(kafka_broker: Broker, tmp_path: Path) -> None:
    async def test() -> None:
        away = free_port()
        sinks = [f"kafka://{kafka_broker.bootstrap}/relayed", f"http://127.0.0.1:{away}/"]
        options = ("--spool", str(tmp_path / "spool"), "--inference-service", "income", "--namespace", "prod")
        async with AsyncExitStack() as stack:
            _, upstream = await stack.enter_async_context(server(echo))
            it = await stack.enter_async_context(proxy(tmp_path, upstream, sinks, *options))
            assert all(await asyncio.gather(*(ask(it.port, number) for number in range(50))))
            assert (await it.settled(100))["captured"] == 200
            found = await asyncio.to_thread(kafka_broker.events, "relayed", 100)
            assert {event.stream[:2] for event in found} == {("prod", "income")}
            async with aiohttp.ClientSession() as session:
                reply = await session.get(f"http://127.0.0.1:{it.admin}/api/ledger")
                accounts = (await reply.json())["sinks"]
            assert [account["delivered"] for account in accounts.values()] == [100, 0]
            sink, _ = await stack.enter_async_context(server(taken, away))
            assert (await it.settled(200))["delivered"] == 200
            assert {(event.id, event.type) for event in sink.events()} == {(event.id, event.type) for event in found}
            assert await it.ended() == 0

    asyncio.run(test())
