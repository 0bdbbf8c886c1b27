"""`inferwatch proxy` as a process: no answer differs or fails because of it, and every event is accounted for."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from typing import Any

import aiohttp
import pytest

from inferwatch.events import CloudEvent
from inferwatch.wire.cloudevents import from_http
from inferwatch_cli.demo.processes import answering, free_port, running
from tests.logger.proxy.relayed import Message, Reader, Writer, read_message
from tests.loopback import loopback_server
from tests.memory import anonymous_bytes

pytestmark = pytest.mark.integration

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
ENDED_S = 25.0
"""Kubernetes kills after 30 s; what ends in 5 s at full speed has time to do so on a slow machine."""
KSERVE = Path(__file__).with_name("kserve_doubler.py")


@dataclass
class Server:
    """Answers what comes by what `reply` gives: None hangs up, b"" never answers."""

    reply: Callable[[Message], Awaitable[bytes | None]]
    requests: list[Message] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def serve(self, reader: Reader, writer: Writer) -> None:
        while True:
            message = await read_message(reader)
            answer = await self.reply(message)
            async with self.changed:
                self.requests.append(message)
                self.changed.notify_all()
            if answer is None:
                break
            writer.write(answer)
            await writer.drain()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(120), self.changed:
            await self.changed.wait_for(lambda: len(self.requests) >= count)

    def events(self) -> list[CloudEvent]:
        found: list[CloudEvent] = []
        for request in self.requests:
            parted = (line.partition(b":") for line in request.fields)
            (event,) = from_http([(name.lower(), value.strip()) for name, _, value in parted], request.body)
            assert isinstance(event, CloudEvent), event
            found.append(event)
        return found


@asynccontextmanager
async def server(
    reply: Callable[[Message], Awaitable[bytes | None]], port: int = 0
) -> AsyncIterator[tuple[Server, int]]:
    it = Server(reply)
    async with loopback_server(it.serve, port) as at:
        yield it, at.port


async def echo(message: Message) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b" % (
        len(message.body),
        message.body,
    )


async def taken(_: Message) -> bytes:
    return OK


@dataclass
class Proxy:
    process: Popen[bytes]
    port: int
    admin: int
    log: Path

    async def ledger(self) -> dict[str, Any]:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.admin}/api/ledger") as reply,
        ):
            found: dict[str, Any] = (await reply.json())["capture"]
            parts = found["delivered"] + found["spooled"] + found["in_flight"] + sum(found["dropped"].values())
            assert found["captured"] == parts
            return found

    async def settled(self, delivered: int) -> dict[str, Any]:
        """Wait until so many events are delivered, and return the ledger."""
        async with asyncio.timeout(120):
            while True:
                found = await self.ledger()
                if found["delivered"] >= delivered:
                    return found
                await asyncio.sleep(0.05)

    async def ended(self) -> int:
        """Send SIGTERM and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self.process.wait, ENDED_S)


@asynccontextmanager
async def proxy(directory: Path, upstream: int, sinks: Sequence[str], *further: str) -> AsyncIterator[Proxy]:
    port, admin = free_port(), free_port()
    options = ["--upstream", f"http://127.0.0.1:{upstream}", "--port", str(port), "--admin-port", str(admin)]
    options += [part for sink in sinks for part in ("--sink", sink)]
    log = directory / f"proxy-{port}.log"
    command = [sys.executable, "-m", "inferwatch_cli", "proxy", *options, *further]
    with running(command, log) as process:
        await answering(f"http://127.0.0.1:{admin}/healthz", process, log)
        yield Proxy(process, port, admin, log)


async def ask(port: int, number: int, size: int = 100) -> bool:
    """Send one request of a connection's own; return whether what came back is what was sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
    try:
        body = (b"%d " % number) * (size // len(b"%d " % number))
        writer.write(b"POST /v1/models/m:predict HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        async with asyncio.timeout(120):
            answer = await read_message(reader)
        return (answer.line, answer.body) == (b"HTTP/1.1 200 OK", body)
    finally:
        writer.close()


LARGE_BYTES = 96 << 20
PART = bytes(65_536)


def test_large_bodies_cost_no_memory(tmp_path: Path) -> None:
    async def give_and_take(reader: Reader, writer: Writer) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            for _ in range(LARGE_BYTES // len(PART) if b"/large" in head else 0):
                await reader.readexactly(len(PART))
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(LARGE_BYTES // len(PART) if b"/large" in head else 1):
                writer.write(b"%x\r\n%b\r\n" % (len(PART), PART))
                await writer.drain()
            writer.write(b"0\r\n\r\n")

    async def transfer(port: int) -> int:
        """Send as much as comes back; return how much that is."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /large HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % LARGE_BYTES)
        for _ in range(LARGE_BYTES // len(PART)):
            writer.write(PART)
            await writer.drain()
        await reader.readuntil(b"\r\n\r\n")
        received = 0
        while size := int(await reader.readuntil(b"\r\n"), 16):
            received += len(await reader.readexactly(size + 2)) - 2
        writer.close()
        return received

    async def test() -> None:
        async with loopback_server(give_and_take) as upstream, server(taken) as (sink, port):
            async with proxy(tmp_path, upstream.port, [f"http://127.0.0.1:{port}/"]) as it:
                async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{it.port}/") as reply:
                    await reply.read()
                before = anonymous_bytes(it.process.pid)
                transfers = asyncio.create_task(transfer(it.port))
                most = before
                while not transfers.done():
                    most = max(most, anonymous_bytes(it.process.pid))
                    await asyncio.sleep(0.01)
                assert await transfers == LARGE_BYTES
                assert most - before < 16 * 2**20  # 1 MiB each way is kept for the events
                await it.settled(4)
            assert [len(event.data) for event in sink.events() if event.truncated] == [1 << 20] * 2

    asyncio.run(test())


def test_sigterm_lets_a_request_finish_and_delivers_its_events(tmp_path: Path) -> None:
    async def test() -> None:
        may = asyncio.Event()

        async def wait(message: Message) -> bytes:
            asked.set()
            await may.wait()
            return await echo(message)

        asked = asyncio.Event()
        async with AsyncExitStack() as stack:
            _, upstream = await stack.enter_async_context(server(wait))
            sink, port = await stack.enter_async_context(server(taken))
            it = await stack.enter_async_context(proxy(tmp_path, upstream, [f"http://127.0.0.1:{port}/"]))
            under_way = asyncio.create_task(ask(it.port, 1))
            await asked.wait()
            ended = asyncio.create_task(it.ended())
            async with asyncio.timeout(60):
                await deaf(it.port)
            may.set()
            assert await under_way
            assert await ended == 0
            assert [event.type.rpartition(".")[2] for event in sink.events()] == ["request", "response"]

    asyncio.run(test())


async def deaf(port: int) -> None:
    """Return once nothing listens on the port."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            return
        writer.close()
        await asyncio.sleep(0.01)


def test_the_readiness_that_kserve_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def ready(message: Message) -> bytes:
        asked.append(message.line)
        return OK if len(asked) > 1 else b"HTTP/1.1 503 Not yet\r\nContent-Length: 0\r\n\r\n"

    asked: list[bytes] = []

    async def test() -> None:
        async with server(ready) as (_, upstream):
            probe = {"httpGet": {"path": "/v2/health/ready", "port": upstream}}
            monkeypatch.setenv("SERVING_READINESS_PROBE", json.dumps(probe))
            async with proxy(tmp_path, upstream, ["http://127.0.0.1:9/"]) as it, aiohttp.ClientSession() as session:
                for status in (503, 200):
                    headers = {"K-Network-Probe": "queue"}
                    async with session.get(f"http://127.0.0.1:{it.port}/", headers=headers) as reply:
                        assert reply.status == status
                async with session.get(f"http://127.0.0.1:{it.admin}/readyz") as reply:
                    assert reply.status == 200
        assert asked == [b"GET /v2/health/ready HTTP/1.1"] * 3

    asyncio.run(test())


def test_the_events_are_those_of_the_middleware(model_server_python: Path, tmp_path: Path) -> None:
    async def test() -> None:
        own = free_port()
        async with AsyncExitStack() as stack:
            inside, inside_port = await stack.enter_async_context(server(taken))
            outside, outside_port = await stack.enter_async_context(server(taken))
            log = tmp_path / "kserve.log"
            command: list[str | Path] = [model_server_python, KSERVE, f"http://127.0.0.1:{inside_port}/"]
            process = stack.enter_context(running([*command, "--http_port", str(own)], log))
            await answering(f"http://127.0.0.1:{own}/v2/health/ready", process, log)
            agent = ["--component-port", str(own), "--log-url", f"http://127.0.0.1:{outside_port}/", "--workers", "5"]
            agent += ["--inference-service", "doubler", "--namespace", "prod", "--metadata-headers", "x-request-id"]
            port = free_port()
            sidecar_log = tmp_path / "proxy.log"
            arguments = [sys.executable, "-m", "inferwatch_cli", "proxy", "--port", str(port), *agent]
            sidecar = stack.enter_context(running(arguments, sidecar_log))
            await answering(f"http://127.0.0.1:{port}/v2/health/live", sidecar, sidecar_log)
            session = await stack.enter_async_context(aiohttp.ClientSession())
            calls = [
                ("/v1/models/doubler:predict", b'{"instances": [1, 2.5,  3]}', 200),
                ("/v1/models/doubler%3Apredict?a=1", b'{"instances": [4]}', 200),
                (
                    "/v2/models/doubler/infer",
                    b'{"id": "7", "inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [1]}]}',
                    200,
                ),
                ("/v1/models/doubler:predict", b'{"instances": ["x"]}', 400),
            ]
            for number, (path, body, status) in enumerate(calls):
                headers = {"ce-id": f"call-{number}", "x-request-id": f"r-{number}", "content-type": "application/json"}
                headers |= {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
                url = f"http://127.0.0.1:{port}{path}"
                async with session.post(url, data=body, headers=headers) as reply:
                    assert (reply.status, bool(await reply.read())) == (status, True), (number, await reply.read())
            await outside.until(2 * len(calls) + 2)  # the health call too
            await inside.until(2 * len(calls) + 4)
            for number in range(len(calls)):
                assert told(outside, f"call-{number}") == told(inside, f"call-{number}")
            assert sidecar_log.read_text().count("mean nothing here: --workers") == 1

    asyncio.run(test())


def told(sink: Server, event_id: str) -> list[dict[str, Any]]:
    """Return what the events of an id say, those of the request first, without what no two captures share."""
    events = sorted((event for event in sink.events() if event.id == event_id), key=lambda event: event.type)
    assert len(events) == 2
    varying = {"time", "recordedtime", "latencyms"}
    return [
        {"data": event.data} | {name: value for name, value in event.attributes().items() if name not in varying}
        for event in events
    ]
