"""Capture: what it costs a model server to have every request and response delivered, beside the bare server.

An iris classifier behind FastAPI serves the same requests with and without the middleware, in turns; the events go to
a receiver in a process of its own, and what of them has arrived is shown. The processor time is the server process's
own. Below, the time that one request spends inside the middleware, measured in this process around an application that
does nothing: the copy of both bodies and their place in the queue. Processor times are compared round by round, and the
median of that is shown.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.captured import SIZES, arrived, conditions, paired, received, row
from benchmarks.load import Sample, run_load
from benchmarks.processes import cpu_s, machine, running
from inferwatch.delivery.memory import MemorySink
from inferwatch_cli.demo.processes import free_port
from inferwatch_logger import CaptureMiddleware

SECONDS = 0.8
ROUNDS = 15
INSIDE = {"100 B": (100, 20_000), "10 KiB": (10_240, 20_000), "1 MiB": (1_048_576, 500)}
"""Bytes a body, and requests."""


@dataclass(frozen=True, slots=True)
class Server:
    """A model server that runs: its port, its process, and how many events of a request it sends."""

    port: int
    process: int
    captured: int


@contextmanager
def serving(kind: str, sink: int) -> Iterator[Server]:
    """Yield a model server, `bare` or `ours`."""
    port = free_port()
    url = f"http://127.0.0.1:{sink}/events"
    with running([sys.executable, "-m", "benchmarks.iris_server", kind, str(port), url], port) as process:
        yield Server(port, process, 2 if kind == "ours" else 0)


def measure(server: Server, size: tuple[int, int], sink: int, *, seconds: float = SECONDS) -> Sample:
    """Load a server and wait for the events of what it answered."""
    rows, connections = size
    before, unloaded = cpu_s(server.process), received(sink)
    result = run_load("predictions", server.port, rows, connections, seconds)
    events = arrived(sink, unloaded, server.captured * result.requests) - unloaded
    return Sample.of(result, cpu_s=cpu_s(server.process) - before, events=events)


def inside(body_bytes: int, requests: int) -> tuple[float, float]:
    """Return the 50th and the 99th percentile, in microseconds, of what the middleware adds to one request."""
    return asyncio.run(_inside(body_bytes, requests))


async def _inside(body_bytes: int, requests: int) -> tuple[float, float]:
    request = {"type": "http.request", "body": bytes(body_bytes)}
    start = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]}
    answer = {"type": "http.response.body", "body": bytes(body_bytes)}

    async def app(_: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        await receive()
        await send(start)
        await send(answer)

    async def receive() -> MutableMapping[str, Any]:
        return request

    async def send(_: MutableMapping[str, Any]) -> None:
        pass

    headers = [(b"host", b"127.0.0.1"), (b"user-agent", b"python-requests/2.32"), (b"accept", b"*/*")]
    headers += [(b"content-type", b"application/json"), (b"content-length", str(body_bytes).encode())]
    scope = {"type": "http", "method": "POST", "path": "/v1/models/iris:predict", "headers": headers}
    captured = CaptureMiddleware(app, sink=MemorySink(), name="iris")
    spent_us = np.empty(requests)
    for number in range(requests):
        began = time.perf_counter_ns()
        await captured(scope, receive, send)
        spent_us[number] = (time.perf_counter_ns() - began) / 1e3
        if number % 64 == 0:
            await asyncio.sleep(0)
    await captured.aclose()
    p50, p99 = np.percentile(spent_us, (50, 99))
    return float(p50), float(p99)


def main(sizes: dict[str, tuple[int, int]] = SIZES) -> None:
    """Print the tables."""
    print(f"Capture: {conditions(sizes, ROUNDS, SECONDS)}")
    print(f"{machine('uvicorn', 'uvloop', 'fastapi', 'scikit-learn')}\n")
    print(
        "| body | server | requests/s | CPU µs/request (lowest to highest) | more | events a request | p50 / p99 ms |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    sink = free_port()
    command = [sys.executable, "-m", "benchmarks.iris_server", "sink", str(sink)]
    with running(command, sink), serving("bare", sink) as bare, serving("ours", sink) as ours:
        for server in (bare, ours):
            measure(server, (1, 16), sink, seconds=0.5)
        for name, size in sizes.items():
            samples: dict[str, list[Sample]] = {"bare": [], "with capture": []}
            for _ in range(ROUNDS):
                for server, taken in zip((bare, ours), samples.values(), strict=True):
                    taken.append(measure(server, size, sink))
            for kind, taken in samples.items():
                more = f"{100 * (paired(taken, samples['bare']) - 1):+.0f} %"
                print(row(name, kind, taken, more), flush=True)
    print("\n| body | inside the middleware, µs p50 / p99 |\n| --- | --- |")
    for name, (body_bytes, requests) in INSIDE.items():
        print("| {} | {:.0f} / {:.0f} |".format(name, *inside(body_bytes, requests)))


if __name__ == "__main__":
    main()
