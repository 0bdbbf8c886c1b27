"""A model server with a queue file: killed with its sinks dead, it delivers everything once both are back."""

from __future__ import annotations

import asyncio
import http.client
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest

from inferwatch.delivery.account import total
from inferwatch.delivery.spool import spooled_accounts
from inferwatch_cli.demo.processes import free_port
from tests.core.delivery.scripted_sink import answer, scripted_sink
from tests.waiting import until

pytestmark = pytest.mark.integration

SERVER = """
import asyncio, os, signal, sys, uvicorn
from inferwatch_logger import CaptureMiddleware

async def model(scope, receive, send):
    if scope["type"] == "http":
        await receive()
        if scope["path"] == "/fatal":
            await asyncio.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b'{"predictions": [1]}'})
    else:
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})

app = CaptureMiddleware(model, sink=sys.argv[3:], name="m", spool=sys.argv[2], queue_bytes=1 << 22)
uvicorn.run(app, fd=int(sys.argv[1]), lifespan="on", http="httptools", log_level="warning")
"""


@contextmanager
def server(spool: Path, *sinks: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [sys.executable, "-c", SERVER, str(listener.fileno()), str(spool), *sinks]
        with subprocess.Popen(command, pass_fds=[listener.fileno()]) as process:
            try:
                yield process, listener.getsockname()[1]
            finally:
                process.kill()


def predict(port: int, *ids: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for name in ids:
        connection.request("POST", "/v1/models/m:predict", b'{"instances": [[1]]}', {"ce-id": name})
        reply = connection.getresponse()
        assert (reply.status, reply.read()) == (200, b'{"predictions": [1]}')
    connection.close()


async def received(ports: list[int], expected: int) -> list[list[str]]:
    """Serve at the ports until each was sent so many events; return their ids and types in order."""
    async with AsyncExitStack() as stack:
        serving = [scripted_sink(lambda _: answer(202), port=port) for port in ports]
        sinks = [await stack.enter_async_context(each) for each in serving]
        await until(lambda: all(len(sink.events) >= expected for sink in sinks))
    return [[f"{event.id} {event.type.rpartition('.')[2]}" for event in sink.events] for sink in sinks]


def test_nothing_captured_is_lost_by_kills_while_the_sinks_are_dead(tmp_path: Path) -> None:
    ports = [free_port(), free_port()]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    rounds = [[f"{round_number}-{number}" for number in range(50)] for round_number in range(3)]
    expected: list[str] = []
    for ids in rounds:
        with server(tmp_path, *urls) as (process, port):
            predict(port, *ids)
            process.kill()
            process.wait()
        left = spooled_accounts(tmp_path)
        assert list(left) == urls
        captured = left[urls[0]].captured
        assert all(account.captured == account.queued == captured for account in left.values())
        # What came in the last hundredth of a second may not have been captured yet: nothing else can be missing.
        events = [f"{name} {kind}" for name in ids for kind in ("request", "response")]
        expected += events[: captured - len(expected)]
    with server(tmp_path, *urls) as (process, port):
        found = asyncio.run(received(ports, captured))
        predict(port, "last")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) in (0, -signal.SIGTERM)
    for sent in found:
        assert sorted(sent, key=expected.index) == sent or len(sent) > 64, "in order as far as one lane goes"
        assert Counter(sent) == Counter(expected)
    after = total(spooled_accounts(tmp_path).values())
    assert (after.captured, after.delivered, after.queued) == (2 * captured + 4, 2 * captured, 4)
    assert [path.name for path in tmp_path.iterdir()] == ["0.queue"]


def test_in_light_traffic_a_kill_takes_nothing_that_was_answered_nor_the_request_that_it_came_with(
    tmp_path: Path,
) -> None:
    with server(tmp_path, f"http://127.0.0.1:{free_port()}") as (process, port):
        predict(port, "answered")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("POST", "/fatal", b"{}")
        with pytest.raises(http.client.RemoteDisconnected):
            connection.getresponse()
        assert process.wait(60) == -signal.SIGKILL
    account = total(spooled_accounts(tmp_path).values())
    assert (account.captured, account.queued) == (3, 3)
