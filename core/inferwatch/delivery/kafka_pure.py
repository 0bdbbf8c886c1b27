"""Kafka through kafka-python: everything that may block runs in a thread."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

import kafka
from kafka import errors

from inferwatch.delivery.kafka_options import Options
from inferwatch.delivery.kafka_python_options import translated
from inferwatch.errors import ConfigError, DeliveryError
from inferwatch.wire.kafka import Message

_REFUSALS: Final = (
    errors.MessageSizeTooLargeError,
    errors.RecordListTooLargeError,
    errors.InvalidRecordError,
)


class PureProducer:
    """A `Producer` on kafka-python. Raises `ConfigError` for options that it does not take."""

    def __init__(self, bootstrap: str, options: Options, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        milliseconds = round(timeout_s * 1000)
        self._bootstrap = bootstrap
        self._config = {
            "bootstrap_servers": bootstrap.split(","),
            "acks": "all",
            "enable_idempotence": True,
            "compression_type": "lz4",
            "linger_ms": 2,
            "max_request_size": 16_777_216,  # the broker has the last word
            "delivery_timeout_ms": milliseconds,
            "request_timeout_ms": milliseconds // 2,
            "max_block_ms": milliseconds // 2,
            "bootstrap_timeout_ms": milliseconds // 2,
            "reconnect_backoff_max_ms": 1_000,
            "metrics_enabled": False,
        }
        self._options = options
        translated(options, "producer")  # checks them
        self._client: kafka.KafkaProducer | None = None
        self._turn = threading.Lock()
        self._closed = False

    async def send(self, topic: str, messages: Sequence[Message], /) -> list[DeliveryError | None]:
        """Return one outcome a message: None where every in-sync replica has it."""
        return await asyncio.to_thread(self._send, topic, messages)

    async def reach(self, topic: str, /) -> None:
        """Return once the topic can be written. Raises `DeliveryError` where it cannot be at present."""
        await asyncio.to_thread(self._reach, topic)

    async def aclose(self) -> None:
        """Give up what was not sent and close every connection."""
        self._closed = True
        await asyncio.to_thread(self._discard)

    def _send(self, topic: str, messages: Sequence[Message]) -> list[DeliveryError | None]:
        """One send has the client for itself: a refusal takes everything along that it has under way."""
        with self._turn:
            outcomes = self._tried(topic, messages)
            for index, outcome in enumerate(outcomes):
                if outcome is not None and not outcome.retryable and len(messages) > 1:
                    (outcomes[index],) = self._tried(topic, messages[index : index + 1])
        return outcomes

    def _tried(self, topic: str, messages: Sequence[Message]) -> list[DeliveryError | None]:
        faults: list[errors.KafkaError | None] = []
        try:
            client = self._connected()
            futures = [client.send(topic, one.value, one.key, list(one.headers)) for one in messages]
            faults = [_fault(future, self._timeout_s) for future in futures]
        except errors.KafkaError as error:
            faults = [error] * len(messages)
        if any(faults):
            self._discard()  # idempotence leaves it unusable after some of them
        return [None if fault is None else self._outcome(fault) for fault in faults]

    def _outcome(self, fault: errors.KafkaError) -> DeliveryError:
        return DeliveryError(f"{self._bootstrap}: {fault}", retryable=not isinstance(fault, _REFUSALS))

    def _connected(self) -> kafka.KafkaProducer:
        if self._client is None and not self._closed:
            knock(self._bootstrap, self._timeout_s / 2)
            self._client = _started({**self._config, **self._translated()})
        if self._closed:
            self._discard()
            raise errors.KafkaError("the sink is closed")
        return self._client

    def _translated(self) -> dict[str, Any]:
        try:
            return translated(self._options, "producer")
        except ConfigError as error:  # a secret that cannot be read for the moment
            raise errors.KafkaError(str(error)) from error

    def _reach(self, topic: str) -> None:
        with self._turn:
            try:
                knock(self._bootstrap, self._timeout_s / 2)
                self._connected().partitions_for(topic)
            except errors.KafkaError as error:
                self._discard()
                raise DeliveryError(f"{self._bootstrap}: {error}", retryable=True) from error

    def _discard(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client._sender.force_close()  # close alone insists on sending everything first
            client.close(timeout=1.0)


def _fault(future: Any, timeout_s: float) -> errors.KafkaError | None:  # noqa: ANN401 - kafka-python has no types
    try:
        future.get(timeout_s)
    except errors.KafkaError as error:
        return error
    return None


def knock(bootstrap: str, timeout_s: float) -> None:
    """Raise `KafkaConnectionError` where nobody listens; kafka-python leaves a socket behind when it finds that out."""
    faults = []
    for server in bootstrap.split(","):
        host, _, port = server.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout_s).close()
            return
        except OSError as error:
            faults.append(str(error))
    raise errors.KafkaConnectionError("; ".join(faults))


def _started(config: Mapping[str, Any]) -> kafka.KafkaProducer:
    """Return a connected producer; one that cannot connect does not close its sockets by itself."""
    made: list[Any] = []

    def connected(**options: Any) -> Any:  # noqa: ANN401
        made.append(kafka.KafkaProducer.DEFAULT_CONFIG["kafka_client"](**options))
        return made[-1]

    try:
        return kafka.KafkaProducer(**config, kafka_client=connected)
    except errors.KafkaError:
        for client in made:
            client.close()
        raise
