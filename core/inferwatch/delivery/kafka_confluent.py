"""Kafka through confluent-kafka: its synchronous producer, polled from the event loop while messages are under way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException

from inferwatch.delivery.kafka_options import Options, Value, resolved
from inferwatch.errors import ConfigError, DeliveryError, Fault
from inferwatch.secret_file import SecretFile
from inferwatch.wire.kafka import Message

_POLL_S: Final = 0.002
_REFUSALS: Final = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_MSG_SIZE,
    }
)
_NOT_MADE: Final = "Failed to create producer: "
"""Begins a complaint about options that are good one by one."""
_DEFAULTS: Final[Mapping[str, Any]] = {
    "acks": "all",
    "enable.idempotence": True,
    "compression.type": "lz4",
    "linger.ms": 2,
    "partitioner": "murmur2_random",  # as the Java client and kafka-python do: a key has one partition
    "message.max.bytes": 16_777_216,  # the broker has the last word
    "queue.buffering.max.messages": 100_000,
    "reconnect.backoff.max.ms": 1_000,
    "socket.keepalive.enable": True,
    "log_level": 0,  # what goes wrong is in the errors of `send`
}


class _Batch:
    """The outcomes of one send, as they come."""

    def __init__(self, count: int) -> None:
        self.outcomes: list[DeliveryError | None] = [None] * count
        self.left = count

    def end(self, index: int, outcome: DeliveryError | None) -> None:
        self.outcomes[index] = outcome
        self.left -= 1


class ConfluentProducer:
    """A `Producer` on librdkafka. Raises `ConfigError` for options that it does not take."""

    def __init__(self, bootstrap: str, options: Options, timeout_s: float) -> None:
        self._bootstrap = bootstrap
        self._timeout_s = timeout_s
        self._defaults = {**_DEFAULTS, "message.timeout.ms": round(timeout_s * 1000)}
        self._options = options
        self._client: confluent_kafka.Producer | None = None
        self._trouble = ""
        self._denied = False
        check_confluent(options)

    async def send(self, topic: str, messages: Sequence[Message], /) -> list[DeliveryError | None]:
        """Return one outcome a message: None where every in-sync replica has it."""
        outcomes = await self._tried(topic, messages)
        for index, outcome in enumerate(outcomes):  # a broker refuses a batch as a whole: ask again, one by one
            if outcome is not None and not outcome.retryable:
                (outcomes[index],) = await self._tried(topic, messages[index : index + 1])
        return outcomes

    async def reach(self, topic: str, /) -> None:
        """Return once the topic can be written. Raises `DeliveryError` where it cannot be at present."""
        client = self._connected()
        try:
            found = await asyncio.to_thread(client.list_topics, topic, self._timeout_s)
            error = found.topics[topic].error
        except KafkaException as raised:
            error = raised.args[0]
        client.poll(0)
        if error is not None:
            raise self._fault(error)

    async def aclose(self) -> None:
        """Give up what was not sent and close every connection."""
        client, self._client = self._client, None
        if client is not None:
            client.purge()
            await asyncio.to_thread(client.flush, 1.0)

    async def _tried(self, topic: str, messages: Sequence[Message]) -> list[DeliveryError | None]:
        try:
            client = self._connected()
        except DeliveryError as error:
            return [error] * len(messages)
        batch = _Batch(len(messages))
        for index, message in enumerate(messages):
            self._produce(client, topic, message, partial(self._delivered, batch, index), partial(batch.end, index))
        client.poll(0)
        while batch.left:
            await asyncio.sleep(_POLL_S)
            client.poll(0)
        return batch.outcomes

    def _connected(self) -> confluent_kafka.Producer:
        """Return the client; another one where the last was denied, since its secrets may have been exchanged."""
        if self._client is None or self._denied:
            try:
                config = {**self._defaults, **resolved(self._options), "bootstrap.servers": self._bootstrap}
            except ConfigError as error:  # a secret that cannot be read for the moment
                raise DeliveryError(str(error), retryable=True) from error
            self._denied = False
            self._client = confluent_kafka.Producer({**config, "error_cb": self._note_trouble})
        return self._client

    def _produce(
        self,
        client: confluent_kafka.Producer,
        topic: str,
        message: Message,
        delivered: Callable[[KafkaError | None, object], None],
        end: Callable[[DeliveryError], None],
    ) -> None:
        try:
            client.produce(topic, message.value, message.key, headers=list(message.headers), on_delivery=delivered)
        except BufferError as error:
            end(DeliveryError(f"librdkafka's queue is full: {error}", retryable=True))
        except KafkaException as error:
            end(self._fault(error.args[0]))

    def _delivered(self, batch: _Batch, index: int, error: KafkaError | None, _: object) -> None:
        batch.end(index, None if error is None else self._fault(error))

    def _fault(self, error: KafkaError) -> DeliveryError:
        if error.fatal():
            self._client = None  # a producer does nothing more after this; the next send begins with another
        text = f"{error.str()} ({self._trouble})" if self._trouble else error.str()
        return DeliveryError(f"{self._bootstrap}: {text}", retryable=error.code() not in _REFUSALS)

    def _note_trouble(self, error: KafkaError) -> None:
        if error.code() != KafkaError._ALL_BROKERS_DOWN:  # which says less than what came before it
            self._trouble = error.str()
        if error.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL):
            self._denied = True


def check_confluent(options: Options) -> None:
    """Raise `ConfigError` with every option that librdkafka does not take, or with why they do not go together."""
    values = resolved(options)
    together = _complaint(values)
    if together is None:
        return
    alone = {name: _complaint({name: value}) for name, value in values.items()}
    faults = [
        Fault(name, _unlike(options[name], complaint))
        for name, complaint in alone.items()
        if complaint is not None and not complaint.startswith(_NOT_MADE)
    ]
    if not faults:
        named = next((name for name in values if name in together), "")
        faults = [Fault(named, together.removeprefix(_NOT_MADE))]
    raise ConfigError(faults)


def _complaint(values: Mapping[str, Value]) -> str | None:
    """Return what librdkafka says against options; without servers a client connects to nothing, and checks them."""
    try:
        confluent_kafka.Producer({"log_level": 0, **values})
    except KafkaException as error:
        return str(error.args[0].str())
    except (TypeError, ValueError) as error:
        return str(error)
    return None


def _unlike(given: object, complaint: str) -> str:
    """Return a complaint without the value, where that is a secret."""
    return f"what {given.path} holds is not allowed here" if isinstance(given, SecretFile) else complaint
