"""The cluster's path: events over HTTP onto a topic of a real broker, and from the topic into the payload log.

Onto the topic: `inferwatch ingest` by either client, beside the sink that the documentation of FastAPI, the cloudevents
SDK and confluent-kafka leads to; each answers after the acknowledgement of all replicas. From the topic: bare
confluent-kafka; the same with our codec and decoder, which is what any reader of rows needs; `store`'s reader until the
events are in the log; and `inferwatch store` until they are joined and can be asked for. The broker shares the cores.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast
from uuid import uuid4

import confluent_kafka
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from benchmarks.delivery import broker, event, print_row
from benchmarks.ingest import Target, compare, table
from benchmarks.load import v1_body
from benchmarks.processes import cpu_s, machine, running
from inferwatch.clock import SystemClock
from inferwatch.delivery.kafka_options import Client
from inferwatch.events import CloudEvent, Role
from inferwatch.payload_log.dead_letter import DeadLetter
from inferwatch.payload_log.journal import Journal
from inferwatch.payload_log.positions import Positions
from inferwatch.payload_log.views import StateReader, count_services
from inferwatch.transport.consumer import Subscription
from inferwatch.transport.opening import open_consumer
from inferwatch.wire.decode import decode
from inferwatch.wire.kafka import from_kafka, to_kafka
from inferwatch_cli.demo.processes import free_port
from inferwatch_logger.topic_reader import TopicReader

SIZES = {"256 B": 256, "1 KiB": 1024, "10 KiB": 10_240}
EVENTS = {"256 B": 40_000, "1 KiB": 40_000, "10 KiB": 8_000}
ROUNDS = 3
CONNECTIONS = 16
_CLIENTS: tuple[Client, ...] = ("confluent", "kafka-python")
_SERVER = [str(Path(sys.executable).with_name("inferwatch"))]

Headers = list[tuple[str, bytes | None]]

Reading = Callable[[str, str, int], tuple[float, float]]
"""Reads so many events of a topic of a broker; events a second, and processor microseconds an event."""


def configured(directory: Path, bootstrap: str, topic: str, client: Client = "confluent") -> Path:
    path = directory / "inferwatch.yaml"
    path.write_text(
        f"transport: {{kind: kafka, bootstrap: '{bootstrap}', topic: {topic}, client: {client}, group: g-{uuid4()}}}\n"
        "payload_log: {path: data}\n"
    )
    return path


def ingest(bootstrap: str, client: Client) -> Callable[[int, Path], Sequence[str]]:
    """Return the command of our ingest."""

    def command(port: int, directory: Path) -> Sequence[str]:
        config = configured(directory, bootstrap, f"ours-{client}", client)
        return [*_SERVER, "ingest", "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]

    return command


def peer(bootstrap: str) -> Callable[[int, Path], Sequence[str]]:
    """Return the command of the sink of FastAPI, the SDK and confluent-kafka."""
    return lambda port, _: [sys.executable, "-m", "benchmarks.kafka_sink", str(port), bootstrap]


def make_topics(bootstrap: str, *topics: str) -> None:
    """Make the topics, so that no first event meets one that is only being made."""
    admin = AdminClient({"bootstrap.servers": bootstrap})  # which drops what it was asked once nobody holds it
    for each in admin.create_topics([NewTopic(name) for name in topics]).values():
        each.result()


def filled(bootstrap: str, size_bytes: int, count: int) -> str:
    """Return a new topic that holds so many requests."""
    topic = f"full-{uuid4()}"
    body = v1_body(size_bytes, "instances")
    producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap, "linger.ms": 20, "compression.type": "lz4"})
    for number in range(count):
        key, headers, value = to_kafka(replace(event(number, 1), data=body))
        while True:
            try:
                producer.produce(topic, value, key, headers=list(headers))
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush()
    return topic


def bare(bootstrap: str, topic: str, count: int, *, decoded: bool = False) -> tuple[float, float]:
    """Read with confluent-kafka alone, headers included; with `decoded`, events and their rows."""
    config = {"bootstrap.servers": bootstrap, "group.id": str(uuid4()), "auto.offset.reset": "earliest"}
    consumer = confluent_kafka.Consumer(config)
    consumer.subscribe([topic])
    read, start, spent = 0, 0.0, 0.0
    while read < count:
        messages = consumer.consume(1000, 1.0)
        if messages and not read:
            start, spent = time.perf_counter(), time.process_time()
        for message in messages:
            headers, value = cast("Headers", message.headers()), message.value()
            if decoded:
                (one,) = from_kafka(headers, value)
                assert isinstance(one, CloudEvent)
                assert decode(one.data, one.role or Role.REQUEST).rows is not None
        read += len(messages)
    rate, cost = count / (time.perf_counter() - start), 1e6 * (time.process_time() - spent) / count
    consumer.close()
    return rate, cost


def into_the_log(bootstrap: str, topic: str, count: int, *, client: Client) -> tuple[float, float]:
    """Read as `store` does, until the events are in the log."""
    with tempfile.TemporaryDirectory() as name, Journal.open(name) as journal:
        positions = Positions(journal, topic)
        subscription = Subscription(bootstrap, topic, f"g-{uuid4()}", positions.member, client)
        dead_letter = DeadLetter(Path(name))
        reader = TopicReader(
            partial(open_consumer, subscription),
            journal,
            positions,
            dead_letter,
            max_body_bytes=1 << 25,
            clock=SystemClock(),
        )
        reader.start()
        journal.wait(0, 60)
        start, spent, first = time.perf_counter(), time.process_time(), journal.end()
        while journal.end() < count:
            journal.wait(journal.end(), 1)
        rest = count - first
        rate, cost = rest / (time.perf_counter() - start), 1e6 * (time.process_time() - spent) / rest
        reader.stop()
    return rate, cost


def store(bootstrap: str, topic: str, count: int) -> tuple[float, float]:
    """Run `inferwatch store` until the events are joined, from the first of them on."""
    with tempfile.TemporaryDirectory() as name:
        directory, port = Path(name), free_port()
        config = configured(directory, bootstrap, topic)
        command = [*_SERVER, "store", "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
        with running(command, port) as process:
            while not (directory / "data" / "state.db").exists():
                time.sleep(0.02)
            with closing(StateReader(directory / "data")) as state:
                first = joined(state, 1)
                start, spent = time.perf_counter(), cpu_s(process)
                rest = joined(state, count) - first
            return rest / (time.perf_counter() - start), 1e6 * (cpu_s(process) - spent) / rest


def joined(state: StateReader, count: int) -> int:
    """Wait until so many events are joined, and return how many are."""
    while True:
        with state.read() as connection:
            found = sum(counts.events for counts in count_services(connection))
        if found >= count:
            return found
        time.sleep(0.02)


READINGS: dict[str, Reading] = {
    "confluent-kafka alone": bare,
    "... with our codec and decoder": partial(bare, decoded=True),
    "store's reader, in the log, confluent": partial(into_the_log, client="confluent"),
    "store's reader, in the log, kafka-python": partial(into_the_log, client="kafka-python"),
    "inferwatch store, joined": store,
}


def main() -> None:
    """Print the tables."""
    with broker() as port:
        if port is not None:
            measure(f"127.0.0.1:{port}")


def measure(bootstrap: str) -> None:
    """Print the tables for a broker that runs."""
    print(f"{machine('confluent-kafka', 'kafka-python', 'uvicorn', 'fastapi', 'cloudevents')}\n")
    print(f"Onto the topic: {CONNECTIONS} keep-alive connections, one event under way on each.\n")
    print("| body | connections | sink | events/s (lowest to highest) | ratio | CPU µs/event | ratio | p50 / p99 ms |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    make_topics(bootstrap, *(f"ours-{client}" for client in _CLIENTS), "peer")
    targets = [Target(f"inferwatch ingest, {client}", ingest(bootstrap, client)) for client in _CLIENTS]
    targets.append(Target("FastAPI + SDK + confluent-kafka", peer(bootstrap)))
    for name in ("1 KiB", "10 KiB"):
        samples = compare(targets, SIZES[name], CONNECTIONS, ROUNDS)
        print("\n".join(table(samples, SIZES[name], CONNECTIONS)), flush=True)
    print(f"\nFrom the topic, one partition; medians of {ROUNDS} rounds in turns, lowest to highest.\n")
    print("| from Kafka | body | events/s | CPU µs/event |\n| --- | --- | --- | --- |")
    for name, size in SIZES.items():
        topic = filled(bootstrap, size, EVENTS[name])
        taken: dict[str, list[tuple[float, float]]] = {reading: [] for reading in READINGS}
        for _ in range(ROUNDS):
            for reading, read in READINGS.items():
                taken[reading].append(read(bootstrap, topic, EVENTS[name]))
        for reading, samples_of in taken.items():
            print_row(reading, name, samples_of)


if __name__ == "__main__":
    measure(sys.argv[1]) if len(sys.argv) > 1 else main()
