"""A load generator: requests over keep-alive connections, one under way on each.

`python -m benchmarks.load events|predictions PORT SIZE CONNECTIONS SECONDS` prints a JSON object with the number of
requests answered 2xx, the seconds it took, and the 50th and 99th percentile of the latency in milliseconds. `SIZE` is
the bytes of a body of events, or the rows of a prediction. It runs in a process of its own, so that its work is not the
server's.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import uvloop

_EVENT = (
    "POST /events HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: {size}\r\n"
    "Ce-Component: predictor\r\nCe-Endpoint: \r\nCe-Id: {id}\r\nCe-Inferenceservicename: income\r\n"
    'Ce-Metadata: {{"X-Request-Id":["abc"]}}\r\nCe-Namespace: default\r\n'
    "Ce-Recordedtime: {time}Z\r\nCe-Source: http://localhost:9081/\r\nCe-Specversion: 1.0\r\nCe-Time: {time}Z\r\n"
    "Ce-Type: org.kubeflow.serving.inference.{half}\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n"
)
_PREDICTION = (
    "POST /v1/models/iris:predict HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: python-requests/2.32\r\n"
    "Accept: */*\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n\r\n"
)
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Load:
    """What came of a load: requests answered, the seconds they took, percentiles of the latency."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One round against one server: requests a second, processor microseconds a request, latency, events a request."""

    rate: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    events: float

    @classmethod
    def of(cls, load: Load, *, cpu_s: float = 0.0, seconds: float | None = None, events: int = 0) -> Sample:
        """Return what came of a load: of the server's processor seconds, of `seconds` where what it did took longer,
        of the events that it sent."""
        requests = load.requests
        rate = requests / (load.seconds if seconds is None else seconds)
        return cls(rate, 1e6 * cpu_s / requests, load.p50_ms, load.p99_ms, events / requests)


def run_load(kind: str, port: int, size: int, connections: int, seconds: float) -> Load:
    """Return what came of loading a server from another process. Raises `CalledProcessError` where it refused."""
    arguments = [kind, *(str(argument) for argument in (port, size, connections, seconds))]
    command = [sys.executable, "-m", "benchmarks.load", *arguments]
    return Load(**json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=60).stdout))


def v1_body(size: int, key: str) -> bytes:
    """Return a V1 body of about `size` bytes: rows of 16 numbers under `instances` or `predictions`."""
    row = "[" + ",".join(f"{number}.125" for number in range(16)) + "]"
    return f'{{"{key}":[{",".join([row] * max(1, size // len(row)))}]}}'.encode()


def events(body_bytes: int) -> Callable[[int], bytes]:
    """Return what gives the request and the response event of an inference in turns, with an id of their own."""
    bodies = v1_body(body_bytes, "instances"), v1_body(body_bytes, "predictions")
    prefix = uuid.uuid4().hex[:24]

    def event(count: int) -> bytes:
        number, half = divmod(count, 2)
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{number % 1000000:06d}"
        named = {"id": f"{prefix}-{number}", "time": moment, "half": ("request", "response")[half]}
        return _EVENT.format(size=len(bodies[half]), **named).encode() + bodies[half]

    return event


def predictions(rows: int) -> Callable[[int], bytes]:
    """Return what gives a prediction request of so many flowers, always the same."""
    body = json.dumps({"instances": [[5.1, 3.5, 1.4, 0.2]] * rows}).encode()
    message = _PREDICTION.format(size=len(body)).encode() + body
    return lambda count: message  # noqa: ARG005 - named as the one of events


KINDS = {"events": events, "predictions": predictions}


class Connection(asyncio.Protocol):
    """Sends one message after the other, each when the one before is answered."""

    def __init__(self, message: Callable[[int], bytes], until: float) -> None:
        self.message = message
        self.until = until
        self.count = 0
        self.began = 0.0
        self.latencies: list[float] = []
        self.closed = asyncio.get_running_loop().create_future()
        self.received = b""
        """Of an answer, what came until its head was complete."""
        self.missing: int | None = None
        """How many bytes of its body are still to come."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.send()

    def send(self) -> None:
        data = self.message(self.count)
        self.count += 1
        self.began = time.perf_counter()
        self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        if self.missing is None:
            self.received += data
            head, end, body = self.received.partition(b"\r\n\r\n")
            if not end:
                return
            length = _LENGTH.search(head)
            self.missing = (int(length[1]) if length else 0) - len(body)
        else:
            self.missing -= len(data)
        if self.missing > 0:
            return
        if not self.received.startswith(b"HTTP/1.1 2"):
            self.closed.set_exception(RuntimeError(f"refused: {self.received[:200]!r}"))
            self.transport.close()
            return
        self.received, self.missing = b"", None
        now = time.perf_counter()
        self.latencies.append(now - self.began)
        if now < self.until:
            self.send()
        else:
            self.transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)


async def load(kind: str, port: int, size: int, connections: int, seconds: float) -> dict[str, float]:
    """Return the fields of `Load` for sending so many seconds."""
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    made = [
        (await loop.create_connection(lambda: Connection(KINDS[kind](size), began + seconds), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    await asyncio.gather(*(connection.closed for connection in made))
    latencies = sorted(latency for connection in made for latency in connection.latencies)
    return {
        "requests": len(latencies),
        "seconds": time.perf_counter() - began,
        "p50_ms": 1e3 * latencies[len(latencies) // 2],
        "p99_ms": 1e3 * latencies[len(latencies) * 99 // 100],
    }


if __name__ == "__main__":
    chosen, *numbers = sys.argv[1:]
    port_text, size_text, connections_text, seconds_text = numbers
    work = load(chosen, int(port_text), int(size_text), int(connections_text), float(seconds_text))
    print(json.dumps(uvloop.run(work)))
