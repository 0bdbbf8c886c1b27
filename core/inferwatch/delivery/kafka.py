"""A sink that writes to a Kafka topic: CloudEvents in binary mode, keyed by stream, idempotent, acknowledged by all.

One of two clients does the work: `confluent` (confluent-kafka, the extra `kafka`) or `kafka-python` (the extra
`kafka-pure`, several times the CPU, no C library). Options have librdkafka's names for either. What concerns the event
itself, such as its size, is a refusal; everything else, a missing topic or permission included, may be retried.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from urllib.parse import urlsplit

from inferwatch.delivery.kafka_options import Client, Options, faults_of, is_server_list
from inferwatch.delivery.outcomes import PartialDelivery
from inferwatch.errors import ConfigError, DeliveryError, Fault, MissingExtra
from inferwatch.events import CloudEvent
from inferwatch.wire.kafka import Message, to_kafka


class Producer(Protocol):
    """A client of a broker. Nothing is started by constructing it."""

    async def send(self, topic: str, messages: Sequence[Message], /) -> list[DeliveryError | None]:
        """Return one outcome a message: None where every in-sync replica has it."""
        ...

    async def reach(self, topic: str, /) -> None:
        """Return once the topic can be written. Raises `DeliveryError` where it cannot be at present."""
        ...

    async def aclose(self) -> None:
        """Give up what was not sent and close every connection."""
        ...


class KafkaSink:
    """Writes events to the topic of `kafka://host:port[,host:port...]/topic`.

    `timeout_s` bounds the wait for an acknowledgement. `options`: for example `security.protocol`, `sasl.mechanism`,
    `sasl.username`, `sasl.password`, `ssl.ca.location`, `compression.type`, `linger.ms`; a `SecretFile` as value is
    read when the client connects, and again after a refusal. Raises `ConfigError` for a URL or an option that cannot be
    used, `MissingExtra` where the client is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        client: Client = "confluent",
        options: Options | None = None,
        timeout_s: float = 10.0,
    ) -> None:
        bootstrap, self._topic = _checked(url)
        self.url = url
        self._producer = producer_of(client, bootstrap, options, timeout_s)

    async def send(self, events: Sequence[CloudEvent], /) -> None:
        """Write the events. Raises `DeliveryError`, `PartialDelivery` where they fared differently."""
        messages = [to_kafka(event) for event in events]
        outcomes = await self._producer.send(self._topic, messages)
        if any(outcomes):
            raise PartialDelivery(outcomes)

    async def aclose(self) -> None:
        """Give up what was not sent and close every connection."""
        await self._producer.aclose()


def producer_of(client: Client, bootstrap: str, options: Options | None, timeout_s: float) -> Producer:
    """Return a producer for `host:port[,...]`. Raises `ConfigError` with every fault of the options, `MissingExtra`."""
    given = dict(options or {})
    faults = faults_of(given)
    usable = {name: value for name, value in given.items() if name not in {fault.path for fault in faults}}
    try:
        producer = _producer(client, bootstrap, usable, timeout_s)
    except ConfigError as error:
        raise ConfigError([*faults, *error.faults]) from error
    if faults:
        raise ConfigError(faults)
    return producer


def _producer(client: str, bootstrap: str, options: Options, timeout_s: float) -> Producer:
    if client == "confluent":
        try:
            from inferwatch.delivery.kafka_confluent import ConfluentProducer
        except ModuleNotFoundError as error:
            raise MissingExtra("Kafka", "kafka") from error
        return ConfluentProducer(bootstrap, options, timeout_s)
    if client == "kafka-python":
        try:
            from inferwatch.delivery.kafka_pure import PureProducer
        except ModuleNotFoundError as error:
            raise MissingExtra("Kafka by the client kafka-python", "kafka-pure") from error
        return PureProducer(bootstrap, options, timeout_s)
    raise ConfigError([Fault("client", f"{client!r} is unknown; allowed: confluent, kafka-python")])


def _checked(url: str) -> tuple[str, str]:
    """The bootstrap servers and the topic."""
    parts = urlsplit(url)
    topic = parts.path.strip("/")
    usable = parts.scheme == "kafka" and topic and "/" not in topic and not parts.query and "@" not in parts.netloc
    if not usable or not is_server_list(parts.netloc):
        raise ConfigError([Fault("sink", f"{url!r} is no URL of a topic; allowed is kafka://host:port[,...]/topic")])
    return parts.netloc, topic
