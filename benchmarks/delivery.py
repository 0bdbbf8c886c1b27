"""Delivery: what it costs to queue an event, to bring it to our ingest, and to a real Kafka broker by either client.

Ingest: the same events, through memory, in batches and as single pipelined requests; processor time on both sides.
Kafka: events go through the queue file to a broker on the same machine, beside the bare clients, which are given the
finished messages; all with acknowledgements of all replicas, idempotent, lz4.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import confluent_kafka
import kafka
import numpy as np

from benchmarks.processes import cpu_s, machine, running
from inferwatch.delivery.delivery import Delivery
from inferwatch.delivery.file_queue import FileQueue
from inferwatch.delivery.kafka import KafkaSink
from inferwatch.delivery.kafka_options import Client
from inferwatch.delivery.queue import MemoryQueue, Queue
from inferwatch.events import REQUEST_TYPE, CloudEvent
from inferwatch.wire.kafka import to_kafka
from inferwatch_cli.demo.processes import free_port

SIZES = {"100 B": 100, "1 KiB": 1024, "10 KiB": 10_240, "1 MiB": 1 << 20}
ROUNDS = 3
HTTP_EVENTS = 8_000
EVENTS = {"confluent": 20_000, "kafka-python": 4_000}
_SOURCE = "/namespaces/default/services/income/predictor"
_EXTENSIONS = {
    "inferenceservicename": "income",
    "namespace": "default",
    "component": "predictor",
    "endpoint": "default",
    "metadata": '{"X-Request-Id":["8f14e45f-ceea-467f-9575-1a2b3c4d5e6f"]}',
    "path": "/v1/models/income:predict",
    "method": "POST",
    "recordedtime": "2026-11-21T10:00:00.123456789Z",
}


def event(number: int, size_bytes: int) -> CloudEvent:
    identity = f"00000000-0000-4000-8000-{number:012d}"
    body = np.random.default_rng(number).integers(48, 58, size_bytes, np.uint8).tobytes()
    return CloudEvent(identity, _SOURCE, REQUEST_TYPE, time.time_ns(), "application/json", _EXTENSIONS, body)


def queued_us(queue: Queue, size_bytes: int) -> tuple[float, float]:
    """Return microseconds to put one event, median and 99th percentile."""
    events = [event(number, size_bytes) for number in range(64)]
    spent: list[float] = []
    for number in range(max(500, 20_000_000 // (size_bytes + 2000))):
        start = time.perf_counter()
        queue.put(events[number % 64], 0.0)
        spent.append((time.perf_counter() - start) * 1e6)
    p50, p99 = np.percentile(spent, (50, 99))
    return float(p50), float(p99)


async def ours(client: Client, port: int, events: Sequence[CloudEvent]) -> None:
    """Deliver the events through the queue file to a broker."""
    with tempfile.TemporaryDirectory() as spool:
        sink = KafkaSink(f"kafka://127.0.0.1:{port}/ours-{client}", client=client, timeout_s=30.0)
        await acknowledged(Delivery([sink], spool=Path(spool)), events)


async def acknowledged(delivery: Delivery, events: Sequence[CloudEvent]) -> None:
    """Emit the events, and wait until all are acknowledged."""
    for number, one in enumerate(events):
        delivery.emit(one)
        if number % 64 == 0:
            await asyncio.sleep(0)
    while delivery.account().delivered < len(events):  # noqa: ASYNC110 - the account has no event of its own
        await asyncio.sleep(0.005)
    await delivery.aclose()


async def bare_confluent(port: int, events: Sequence[CloudEvent]) -> None:
    left = len(events)

    def delivered(error: object, _: object) -> None:
        nonlocal left
        assert error is None
        left -= 1

    config = {"bootstrap.servers": f"127.0.0.1:{port}", "acks": "all", "enable.idempotence": True}
    producer = confluent_kafka.Producer(config | {"compression.type": "lz4", "linger.ms": 2})
    for key, headers, value in [to_kafka(one) for one in events]:
        producer.produce("bare-confluent", value, key, headers=list(headers), on_delivery=delivered)
        producer.poll(0)
    producer.flush()
    assert left == 0


async def bare_kafka_python(port: int, events: Sequence[CloudEvent]) -> None:
    producer = kafka.KafkaProducer(
        bootstrap_servers=f"127.0.0.1:{port}", acks="all", enable_idempotence=True, compression_type="lz4", linger_ms=2
    )
    messages = [to_kafka(one) for one in events]
    futures = [producer.send("bare-python", value, key, list(headers)) for key, headers, value in messages]
    for future in futures:
        future.get(30)
    producer.close()


def timed(work: Callable[[], Awaitable[None]], count: int) -> tuple[float, float]:
    """Return events a second, and processor microseconds an event of this process."""

    async def whole() -> None:
        await work()

    wall, cpu = time.perf_counter(), time.process_time()
    asyncio.run(whole())
    return count / (time.perf_counter() - wall), (time.process_time() - cpu) / count * 1e6


def to_a_broker(port: int, client: Client, size_bytes: int) -> dict[str, list[tuple[float, float]]]:
    """Return what rounds in turns have measured, ours and the bare client."""
    events = [event(number, size_bytes) for number in range(EVENTS[client])]
    bare = bare_confluent if client == "confluent" else bare_kafka_python
    found: dict[str, list[tuple[float, float]]] = {f"ours, {client}": [], f"{client} alone": []}
    asyncio.run(ours(client, port, events[:500]))
    asyncio.run(bare(port, events[:500]))
    for _ in range(ROUNDS):
        found[f"ours, {client}"].append(timed(lambda: ours(client, port, events), len(events)))
        found[f"{client} alone"].append(timed(lambda: bare(port, events), len(events)))
    return found


def over_http(size_bytes: int) -> dict[str, list[tuple[float, float, float]]]:
    """Return events a second, and processor microseconds an event of sender and ingest, of rounds in turns."""
    found: dict[str, list[tuple[float, float, float]]] = {"batches": [], "single requests": []}
    count = HTTP_EVENTS if size_bytes < 5000 else HTTP_EVENTS // 4
    with tempfile.TemporaryDirectory() as directory, ExitStack() as servers:
        ports = {}
        for kind, sink in zip(found, ("ours", "unbatched"), strict=True):
            port = free_port()
            command = [sys.executable, "-m", "benchmarks.sinks", sink, str(port), f"{directory}/{sink}"]
            ports[kind] = (port, servers.enter_context(running(command, port)))
        for number in range(ROUNDS):
            events = [event(number * count + one, size_bytes) for one in range(count)]
            for kind, (port, process) in ports.items():
                before = cpu_s(process)
                delivery = Delivery([f"http://127.0.0.1:{port}/events"])
                rate, own = timed(partial(acknowledged, delivery, events), count)
                found[kind].append((rate, own, (cpu_s(process) - before) / count * 1e6))
    return found


def _print_http() -> None:
    print("\n| to our ingest | body | events/s | CPU µs/event, sender | ingest |\n| --- | --- | --- | --- | --- |")
    for size in ("100 B", "1 KiB", "10 KiB"):
        for kind, samples in over_http(SIZES[size]).items():
            rate, own, theirs = (statistics.median(column) for column in zip(*samples, strict=True))
            print(f"| {kind} | {size} | {rate:,.0f} | {own:.1f} | {theirs:.1f} |", flush=True)


def main() -> None:
    """Print the tables."""
    print("Delivery: the queue, our ingest, and Kafka.")
    print(f"{machine('confluent-kafka', 'kafka-python')}\n")
    print("| put one event, µs p50 / p99 | " + " | ".join(SIZES) + " |\n| --- |" + " --- |" * len(SIZES))
    with tempfile.TemporaryDirectory() as directory:
        file = FileQueue(Path(directory) / "0.queue", 256 << 20)
        kinds: dict[str, Queue] = {"queue file": file.positions[0], "memory": MemoryQueue(64 << 20)}
        for kind, queue in kinds.items():
            cells = ["{:.1f} / {:.1f}".format(*queued_us(queue, size)) for size in SIZES.values()]
            print(f"| {kind} | {' | '.join(cells)} |", flush=True)
        file.close()
    _print_http()
    with broker() as port:
        if port is not None:
            _print_kafka(port)


@contextmanager
def broker() -> Iterator[int | None]:
    """Yield the port of a broker that runs; None where there is none to be had, which is said."""
    got = subprocess.run(["scripts/kafka", "get"], capture_output=True, text=True, check=False)
    if got.returncode:
        print(f"\nKafka is not measured: {got.stderr.strip()}")
        yield None
        return
    port = free_port()
    with (
        tempfile.TemporaryDirectory() as directory,
        running(["scripts/kafka", "run", f"{directory}/broker", str(port)], port),
    ):
        yield port


def print_row(kind: str, size: str, samples: Sequence[tuple[float, float]]) -> None:
    """Print a row of events a second and processor microseconds an event: medians, lowest to highest."""
    rates, costs = zip(*samples, strict=True)
    print(
        f"| {kind} | {size} | {statistics.median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f}) "
        f"| {statistics.median(costs):.1f} ({min(costs):.1f} to {max(costs):.1f}) |",
        flush=True,
    )


def _print_kafka(port: int) -> None:
    print(f"\nMedians of {ROUNDS} rounds in turns, lowest to highest.\n")
    print("| to Kafka | body | events/s | CPU µs/event |\n| --- | --- | --- | --- |")
    clients: tuple[Client, ...] = ("confluent", "kafka-python")
    for client in clients:
        for size in ("1 KiB", "10 KiB"):
            for kind, samples in to_a_broker(port, client, SIZES[size]).items():
                print_row(kind, size, samples)


if __name__ == "__main__":
    main()
