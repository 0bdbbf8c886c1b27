"""A real Kafka broker for tests: one node on the loopback, killed and restarted at will."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from inferwatch.events import CloudEvent
from inferwatch.wire.kafka import from_kafka
from inferwatch_cli.demo.processes import free_port
from tests.components import ROOT, missing

_QUIET = {"log_level": 0}
_QUICK = {"JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"}
"""Half the processor time until it answers."""
WAIT_S = 120.0


@dataclass
class Broker:
    """Runs `scripts/kafka` in a directory, from `start` to `stop` or `kill`; the data outlives both."""

    directory: Path
    port: int = field(default_factory=free_port)
    properties: Path | None = None
    _process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        command: list[str | Path] = [ROOT / "scripts" / "kafka", "run", self.directory, str(self.port)]
        further = [] if self.properties is None else [self.properties]
        self._process = subprocess.Popen([*command, *further], env={**os.environ, **_QUICK})
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                AdminClient({"bootstrap.servers": self.bootstrap, **_QUIET}).list_topics(timeout=1)
                return
            except KafkaException:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self.directory / "log").read_text()[-2000:]) from None

    def kill(self) -> None:
        """End it with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(WAIT_S)

    def messages(self, topic: str, count: int) -> list[Message]:
        """Wait until a topic has so many messages; return all that it has."""
        config = {"bootstrap.servers": self.bootstrap, "group.id": "reader", "enable.auto.commit": False, **_QUIET}
        consumer = Consumer(config | {"enable.partition.eof": False})
        try:
            partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
            consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
            found: list[Message] = []
            deadline = time.monotonic() + WAIT_S
            while len(found) < count and time.monotonic() < deadline:
                found += [one for one in consumer.consume(1000, 0.1) if one.error() is None]
            return found + [one for one in consumer.consume(1000, 0.2) if one.error() is None]
        finally:
            consumer.close()

    def records(self, topic: str) -> int:
        """Return how many records a topic has."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "reader", **_QUIET})
        try:
            partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
            marks = [consumer.get_watermark_offsets(TopicPartition(topic, one), timeout=10) for one in partitions]
            return sum(high - low for low, high in marks)
        finally:
            consumer.close()

    def events(self, topic: str, count: int) -> list[CloudEvent]:
        """Wait until a topic has so many events; return all that it has, partition by partition."""
        found: list[CloudEvent] = []
        for message in self.messages(topic, count):
            headers = message.headers() or []
            assert isinstance(headers, list)
            (event,) = from_kafka(
                [(name, value) for name, value in headers if isinstance(value, bytes)], message.value()
            )
            assert isinstance(event, CloudEvent)
            found.append(event)
        return found


def broker_in(
    directory: Path, properties: Mapping[str, str] | None = None, port: int | None = None
) -> Iterator[Broker]:
    """Start a broker and stop it in the end. Skips where Java, or what Maven would bring, is not there."""
    got = subprocess.run([ROOT / "scripts" / "kafka", "get"], capture_output=True, text=True, check=False)
    if got.returncode:
        missing(got.stderr.strip().splitlines()[-1], "scripts/kafka get")
    broker = Broker(directory, free_port() if port is None else port)
    if properties is not None:
        broker.properties = directory.with_suffix(".properties")
        broker.properties.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def kafka_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker for the whole run; each test takes a topic of its own."""
    yield from broker_in(tmp_path_factory.mktemp("kafka") / "broker")
