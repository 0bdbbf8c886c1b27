"""SIGTERM while events wait for a slow sink: what it takes in time is delivered, the rest stays in the queue file."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from inferwatch.delivery.account import Account
from inferwatch.delivery.spool import spooled_accounts
from inferwatch_cli.demo.processes import free_port
from tests.integration.test_delivery_server import predict
from tests.integration.test_delivery_server import server as model_server
from tests.integration.test_proxy import ENDED_S, OK, Server, ask, echo, proxy, server, taken
from tests.logger.proxy.relayed import Message

pytestmark = pytest.mark.integration

REQUESTS = 400
EVENTS = 2 * REQUESTS
UNDER_WAY = 4 * 64
"""Events that the lanes of delivery have sent at most without an acknowledgement of the whole lot."""


async def slowly(_: Message) -> bytes:
    """Take an event in 20 ms: four connections take 500 in the 2.5 s of the sidecar."""
    await asyncio.sleep(0.02)
    return OK


async def slower(_: Message) -> bytes:
    """Take an event in 40 ms: 500 in the 5 s of a server."""
    await asyncio.sleep(0.04)
    return OK


def seen(sink: Server) -> Counter[tuple[str, str]]:
    return Counter((event.id, event.type) for event in sink.events())


def check_cut_short(account: Account, sink: Server) -> None:
    assert (account.captured, account.in_flight, dict(account.dropped)) == (EVENTS, 0, {})
    assert account.delivered + account.queued == EVENTS
    assert 0 < account.delivered < EVENTS
    arrived = seen(sink)
    assert account.delivered <= len(arrived) == sum(arrived.values()) <= account.delivered + UNDER_WAY


def check_complete(account: Account, sink: Server) -> None:
    assert (account.captured, account.delivered, account.queued) == (EVENTS, EVENTS, 0)
    arrived = seen(sink)
    assert len(arrived) == EVENTS
    assert sum(arrived.values()) <= EVENTS + UNDER_WAY, "only what was under way may come twice"


def test_of_the_sidecar(tmp_path: Path) -> None:
    async def test() -> None:
        spool, port = tmp_path / "spool", free_port()
        url = f"http://127.0.0.1:{port}/"
        async with AsyncExitStack() as stack:
            _, upstream = await stack.enter_async_context(server(echo))
            it = await stack.enter_async_context(proxy(tmp_path, upstream, [url], "--spool", str(spool)))
            assert all(await asyncio.gather(*(ask(it.port, number) for number in range(REQUESTS))))
            sink, _ = await stack.enter_async_context(server(slowly, port))
            assert await it.ended() == 0
            check_cut_short(spooled_accounts(spool)[url], sink)
            sink.reply = taken
            it = await stack.enter_async_context(proxy(tmp_path, upstream, [url], "--spool", str(spool)))
            await it.settled(EVENTS)
            assert await it.ended() == 0
            check_complete(spooled_accounts(spool)[url], sink)

    asyncio.run(test())


def test_of_a_server_with_the_middleware(tmp_path: Path) -> None:
    async def test() -> None:
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        ids = [str(number) for number in range(REQUESTS)]
        async with AsyncExitStack() as stack:
            process, at = stack.enter_context(model_server(tmp_path, url))
            await asyncio.to_thread(predict, at, *ids)
            sink, _ = await stack.enter_async_context(server(slower, port))
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, ENDED_S) in (0, -signal.SIGTERM)
            check_cut_short(spooled_accounts(tmp_path)[url], sink)
            sink.reply = taken
            process, at = stack.enter_context(model_server(tmp_path, url))
            async with asyncio.timeout(120):
                while spooled_accounts(tmp_path)[url].delivered < EVENTS:  # noqa: ASYNC110 - of another process
                    await asyncio.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, ENDED_S) in (0, -signal.SIGTERM)
            check_complete(spooled_accounts(tmp_path)[url], sink)

    asyncio.run(test())
