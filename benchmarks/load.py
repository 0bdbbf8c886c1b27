"""A load generator: CloudEvents over keep-alive connections, one request under way on each.

`python -m benchmarks.load PORT BODY_BYTES CONNECTIONS SECONDS` prints a JSON object with the number of events answered
2xx, the seconds it took, and the 50th and 99th percentile of the latency in milliseconds. It runs in a process of its
own, so that its work is not the server's.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid
from typing import cast

import uvloop

_HEAD = (
    "POST /events HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: {size}\r\n"
    "Ce-Component: predictor\r\nCe-Endpoint: \r\nCe-Id: {id}\r\nCe-Inferenceservicename: income\r\n"
    'Ce-Metadata: {{"X-Request-Id":["abc"]}}\r\nCe-Namespace: default\r\n'
    "Ce-Recordedtime: {time}Z\r\nCe-Source: http://localhost:9081/\r\nCe-Specversion: 1.0\r\nCe-Time: {time}Z\r\n"
    "Ce-Type: org.kubeflow.serving.inference.{half}\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n"
)


def v1_body(size: int, key: str) -> bytes:
    """Return a V1 body of about `size` bytes: rows of 16 numbers under `instances` or `predictions`."""
    row = "[" + ",".join(f"{number}.125" for number in range(16)) + "]"
    return f'{{"{key}":[{",".join([row] * max(1, size // len(row)))}]}}'.encode()


class Connection(asyncio.Protocol):
    """Sends request and response events in turn, the next one when the last one is answered."""

    def __init__(self, bodies: tuple[bytes, bytes], until: float) -> None:
        self.bodies = bodies
        self.until = until
        self.prefix = uuid.uuid4().hex[:24]
        self.count = 0
        self.began = 0.0
        self.latencies: list[float] = []
        self.closed = asyncio.get_running_loop().create_future()
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.send()

    def send(self) -> None:
        number, half = divmod(self.count, 2)
        self.count += 1
        body = self.bodies[half]
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{number % 1000000:06d}"
        words = ("request", "response")
        head = _HEAD.format(size=len(body), id=f"{self.prefix}-{number}", time=moment, half=words[half])
        self.began = time.perf_counter()
        self.transport.write(head.encode() + body)

    def data_received(self, data: bytes) -> None:
        self.received += data
        if b"\r\n\r\n" not in self.received:
            return
        if not self.received.startswith(b"HTTP/1.1 2"):
            self.closed.set_exception(RuntimeError(f"refused: {self.received[:200]!r}"))
            self.transport.close()
            return
        self.received = b""
        now = time.perf_counter()
        self.latencies.append(now - self.began)
        if now < self.until:
            self.send()
        else:
            self.transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)


async def load(port: int, body_bytes: int, connections: int, seconds: float) -> dict[str, float]:
    """Return what came of sending for so many seconds."""
    loop = asyncio.get_running_loop()
    bodies = v1_body(body_bytes, "instances"), v1_body(body_bytes, "predictions")
    began = time.perf_counter()
    made = [
        (await loop.create_connection(lambda: Connection(bodies, began + seconds), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    await asyncio.gather(*(connection.closed for connection in made))
    latencies = sorted(latency for connection in made for latency in connection.latencies)
    return {
        "events": len(latencies),
        "seconds": time.perf_counter() - began,
        "p50_ms": 1e3 * latencies[len(latencies) // 2],
        "p99_ms": 1e3 * latencies[len(latencies) * 99 // 100],
    }


if __name__ == "__main__":
    port_text, body_text, connections_text, seconds_text = sys.argv[1:]
    print(json.dumps(uvloop.run(load(int(port_text), int(body_text), int(connections_text), float(seconds_text)))))
