"""Model servers whose traffic is captured, by the sidecar or the middleware, as processes; and sinks that misbehave."""

from __future__ import annotations

import asyncio
import http.client
import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from inferwatch.delivery.account import Account
from inferwatch.delivery.spool import spooled_accounts
from inferwatch.events import CloudEvent
from inferwatch.wire.cloudevents import from_http
from inferwatch_cli.demo.processes import answering, free_port, running
from tests.integration.tf_serving import MODEL
from tests.logger.proxy.relayed import Message, Reader, Writer, read_message
from tests.loopback import loopback_server

Capture = Literal["proxy", "middleware"]

KSERVE = Path(__file__).with_name("kserve_doubler.py")
SPOOL_BYTES = 1 << 26
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@dataclass(frozen=True)
class Observed:
    """A model server that is captured at `port`, and is itself at `bare`; `process` does the capturing."""

    port: int
    bare: int
    spool: Path
    process: subprocess.Popen[bytes]
    model: str

    def account(self, sink: str) -> Account:
        """Return where the events for a sink are; they sum by themselves, being counted where they lie."""
        return spooled_accounts(self.spool)[sink]


@contextmanager
def tf_serving(log: Path, *captured: str | Path) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Run the model server, with capture inside where a spool and sinks are given; yield its port and process."""
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        command = [sys.executable, "-m", "tests.integration.tf_serving", str(listener.fileno()), *map(str, captured)]
        with (
            log.open("wb") as output,
            subprocess.Popen(command, pass_fds=[listener.fileno()], stdout=output, stderr=output) as process,
        ):
            try:
                _answers(listener.getsockname()[1])
                yield listener.getsockname()[1], process
            finally:
                _end(process)


def _answers(port: int) -> None:
    """Return once a request is answered, one that is not captured."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", f"/v1/models/{MODEL}", headers={"User-Agent": "kube-probe/1"})
    assert connection.getresponse().status == 200
    connection.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()


@contextmanager
def kserve(
    python: Path, log: Path, sink: str = "", spool: Path | None = None
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Run KServe's own model server, with capture inside where a sink is given; yield its port and process."""
    port = free_port()
    further = [] if spool is None else [str(spool)]
    with running([python, KSERVE, sink, *further, "--http_port", str(port)], log) as process:
        asyncio.run(answering(f"http://127.0.0.1:{port}/v2/health/ready", process, log))
        yield port, process


@contextmanager
def sidecar(
    upstream: int, spool: Path, spool_bytes: int, log: Path, *sinks: str
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Run `inferwatch proxy` in front of a port; yield its own port and its process."""
    port, admin = free_port(), free_port()
    options = ["--upstream", f"http://127.0.0.1:{upstream}", "--port", str(port), "--admin-port", str(admin)]
    options += ["--spool", str(spool), "--spool-bytes", str(spool_bytes)]
    options += [part for sink in sinks for part in ("--sink", sink)]
    with running([sys.executable, "-m", "inferwatch_cli", "proxy", *options], log) as process:
        asyncio.run(answering(f"http://127.0.0.1:{admin}/healthz", process, log))
        yield port, process


@contextmanager
def observed(
    capture: Capture,
    directory: Path,
    *sinks: str,
    kserve_python: Path | None = None,
    spool: Path | None = None,
    spool_bytes: int = SPOOL_BYTES,
) -> Iterator[Observed]:
    """Run a model server, TensorFlow Serving's double or KServe's, once bare and once captured."""
    spool = spool or directory / "spool"
    with ExitStack() as stack:
        if kserve_python is None:
            bare, _ = stack.enter_context(tf_serving(directory / "bare.log"))
        else:
            bare, _ = stack.enter_context(kserve(kserve_python, directory / "bare.log"))
        log = directory / "captured.log"
        if capture == "proxy":
            port, process = stack.enter_context(sidecar(bare, spool, spool_bytes, log, *sinks))
        elif kserve_python is None:
            port, process = stack.enter_context(tf_serving(log, spool, str(spool_bytes), *sinks))
        else:
            port, process = stack.enter_context(kserve(kserve_python, log, sinks[0], spool))
        yield Observed(port, bare, spool, process, MODEL if kserve_python is None else "doubler")


Reply = Callable[[Message], Awaitable[bytes | None]]


@dataclass
class Sink:
    """Notes every event, then answers what `reply` gives: None resets the connection, b"" is no answer."""

    reply: Reply
    events: list[CloudEvent] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def serve(self, reader: Reader, writer: Writer) -> None:
        while True:
            message = await read_message(reader)
            answer = await self.reply(message)
            async with self.changed:
                self.events.append(_event(message))
                self.changed.notify_all()
            if answer is None:
                writer.transport.abort()
                break
            writer.write(answer)
            await writer.drain()

    async def until(self, holds: Callable[[], bool], within_s: float = 120.0) -> None:
        async with asyncio.timeout(within_s), self.changed:
            await self.changed.wait_for(holds)


def _event(message: Message) -> CloudEvent:
    parted = (line.partition(b":") for line in message.fields)
    (event,) = from_http([(name.lower(), value.strip()) for name, _, value in parted], message.body)
    assert isinstance(event, CloudEvent), event
    return event


async def taken(_: Message) -> bytes:
    return OK


@asynccontextmanager
async def sink_at(port: int, reply: Reply = taken) -> AsyncIterator[Sink]:
    """Serve as a sink at a port; at the end, hang up on everybody, as a process that dies does."""
    sink = Sink(reply)
    async with loopback_server(sink.serve, port):
        yield sink


@dataclass(frozen=True)
class Question:
    """One request. `id`: of its events; without, nothing is told of it here."""

    path: str
    body: bytes | None
    id: str = ""


Answer = tuple[bytes, list[bytes], bytes]
"""The status line, the header fields but the date, and the body."""


async def asked(port: int, questions: Sequence[Question]) -> list[Answer]:
    """Ask one question after the other on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
    answers: list[Answer] = []
    try:
        for question in questions:
            writer.write(_request(question))
            async with asyncio.timeout(120):
                message = await read_message(reader)
            fields = [line for line in message.fields if not line.lower().startswith((b"date:", b"ce-id:"))]
            answers.append((message.line, fields, message.body))
    finally:
        writer.close()
    return answers


def _request(question: Question) -> bytes:
    method = b"GET" if question.body is None else b"POST"
    body = question.body or b""
    head = b"%b %b HTTP/1.1\r\nHost: model\r\nCe-Id: %b\r\nContent-Length: %d\r\n"
    head %= (method, question.path.encode(), question.id.encode(), len(body))
    return head + (b"Content-Type: application/json\r\n" if body else b"") + b"\r\n" + body


def questions(model: str, name: str, count: int, size: int = 4) -> list[Question]:
    """Return predictions of so many numbers each, and between them what is answered with errors."""
    usual = json.dumps({"instances": [1.0, 2.5, -3.0, 0.25] * (size // 4)}).encode()
    found = []
    for number in range(count):
        path, body = f"/v1/models/{model}:predict", usual
        if number % 10 == 7:
            path = "/v1/models/nobody:predict"
        elif number % 10 == 8:
            body = b"{"
        elif number % 10 == 9:
            path, body = f"/v1/models/{model}", b""
        found.append(Question(path, body or None, f"{name}-{number}"))
    return found


async def listening(port: int) -> None:
    """Return once somebody listens on the port."""
    async with asyncio.timeout(120):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return
