"""Starts and stops the two servers of the demo, each with its log in a file."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import aiohttp

from inferwatch.errors import InferwatchError

START_S = 180.0
"""A slow machine takes a minute to import a model server; one that fails says so at once, by ending."""
STOP_S = 30.0


_PORTS: set[int] = set()


def free_port() -> int:
    """Return a port of the loopback interface that nothing listens on, another one each time."""
    while True:
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in _PORTS:  # the system may offer the same one twice, as long as nothing listens there
            _PORTS.add(port)
            return port


@contextmanager
def running(command: Sequence[str | Path], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command with its output in a log file; stop it at the end, gently first."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - the demo's own commands
            [str(part) for part in command],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


async def answering(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return once the URL answers 200. Raises `InferwatchError` where the process ends before, or takes too long."""
    deadline = time.monotonic() + START_S
    async with aiohttp.ClientSession() as session:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise InferwatchError(f"a server of the demo ended at its start; the end of {log}: {_end(log)}")
            try:
                async with session.get(url) as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass  # not listening yet
            await asyncio.sleep(0.1)
    raise InferwatchError(f"{url} did not answer within {START_S:g} s; the end of {log}: {_end(log)}")


def _end(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "(empty)"
