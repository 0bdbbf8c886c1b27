"""What captures is killed fifty times at random moments: all that was captured is delivered, and the account sums."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from inferwatch.delivery.account import Account
from inferwatch.delivery.spool import spooled_accounts
from inferwatch_cli.demo.processes import free_port
from tests.integration.observed import SPOOL_BYTES, Capture, Question, Sink, asked, listening, sink_at, tf_serving
from tests.integration.tf_serving import MODEL
from tests.waiting import until

pytestmark = pytest.mark.integration

KILLS = 50
CLIENTS = 4
DURABLE_S = 0.25
"""What was answered so long before another request that was answered too has been captured by then."""


@dataclass
class Launcher:
    """Starts, again and again, a process that captures at a port."""

    process: subprocess.Popen[str]
    command: list[str]

    def start(self) -> int:
        """Return the id of a new process."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(self.command) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def kill(self, process: int) -> None:
        """Return once it is no more."""
        assert self.process.stdout is not None
        os.kill(process, signal.SIGKILL)
        self.process.stdout.readline()


@contextmanager
def launcher(capture: Capture, upstream: int, port: int, spool: Path, sink: str, log: Path) -> Iterator[Launcher]:
    command = ["tf_serving", str(port), str(spool), str(SPOOL_BYTES), sink]
    if capture == "proxy":
        command = ["proxy", "--upstream", f"http://127.0.0.1:{upstream}", "--port", str(port), "--sink", sink]
        command += ["--host", "127.0.0.1", "--spool", str(spool), "--spool-bytes", str(SPOOL_BYTES)]
    start = [sys.executable, "-m", "tests.integration.killable"]
    pipe = subprocess.PIPE
    with log.open("w") as output, subprocess.Popen(start, text=True, stdin=pipe, stdout=pipe, stderr=output) as process:
        yield Launcher(process, command)


@dataclass
class Clients:
    """Ask until they are cut off. `answered`: when an id's answer had come, by the clock; `sent`: ids at all.

    `served_s`: when the last request was sent that was answered, which is a moment at which the process was at work.
    """

    port: int
    sent: int = 0
    answered: dict[str, float] = field(default_factory=dict)
    served_s: float = 0.0

    async def ask(self) -> None:
        """Ask on one connection until it breaks."""
        while True:
            name = f"q-{self.sent}"
            self.sent += 1
            began = time.monotonic()
            try:
                [(line, _, _)] = await asked(self.port, [Question(f"/v1/models/{MODEL}:predict", BODY, name)])
            except (OSError, EOFError):
                return
            assert line == b"HTTP/1.1 200 OK"
            self.answered[name] = time.monotonic()
            self.served_s = max(self.served_s, began)

    def durable(self) -> set[str]:
        """Return the ids of what must have been captured by now."""
        return {name for name, moment in self.answered.items() if moment < self.served_s - DURABLE_S}


async def all_delivered(spool: Path, url: str) -> Account:
    async with asyncio.timeout(120):
        while True:
            account = spooled_accounts(spool)[url]
            if account.delivered == account.captured:
                return account
            await asyncio.sleep(0.05)


BODY = json.dumps({"instances": [1.0] * 500}).encode()


@pytest.mark.parametrize("capture", ["proxy", "middleware"])
def test_fifty_kills(capture: Capture, tmp_path: Path) -> None:
    chance = random.Random(20261121)  # noqa: S311 - a seed for the moments of the kills
    port, sink_port = free_port(), free_port()
    url = f"http://127.0.0.1:{sink_port}/"
    clients = Clients(port)
    durable: set[str] = set()
    lives: list[Sink] = []

    async def life(launched: Launcher, *, sink: bool, long: bool) -> None:
        """Start a process, ask it, and kill it; in some lives the sink is there, in others it is dead.

        A `long` life ends only after something has been captured for certain.
        """
        process = launched.start()
        async with AsyncExitStack() as stack:
            if sink:
                lives.append(await stack.enter_async_context(sink_at(sink_port)))
            await listening(port)
            asking = [asyncio.create_task(clients.ask()) for _ in range(CLIENTS)]
            await asyncio.sleep(chance.uniform(0.0, 0.5))
            if long:
                await until(lambda: bool(clients.durable()))
            launched.kill(process)
            await asyncio.wait_for(asyncio.gather(*asking), 120)
        durable.update(clients.durable())
        clients.answered.clear()

    async def test() -> None:
        with (
            tf_serving(tmp_path / "bare.log") as (bare, _),
            launcher(capture, bare, port, tmp_path / "spool", url, tmp_path / "log") as launched,
        ):
            for number in range(KILLS):
                await life(launched, sink=number % 2 == 1, long=number % 5 == 0)
                account = spooled_accounts(tmp_path / "spool")[url]
                assert account.captured == account.delivered + account.queued
                assert account.captured <= 2 * clients.sent
            process = launched.start()
            async with sink_at(sink_port) as last:
                lives.append(last)
                account = await all_delivered(tmp_path / "spool", url)
            launched.kill(process)
            check(account, lives, durable)

    asyncio.run(test())


def check(account: Account, lives: Sequence[Sink], durable: set[str]) -> None:
    """All that was captured was taken, once in each life of the sink, and what is durable for certain is among it."""
    assert not account.dropped
    taken = {(event.id, event.type.rpartition(".")[2]) for sink in lives for event in sink.events}
    assert len(durable) >= KILLS // 5
    assert {(name, kind) for name in durable for kind in ("request", "response")} <= taken
    assert len(taken) == account.captured
    for sink in lives:
        assert max(Counter((event.id, event.type) for event in sink.events).values(), default=0) <= 1
