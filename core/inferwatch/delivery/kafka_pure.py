"""Kafka through kafka-python: everything that may block runs in a thread."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import kafka
from kafka import codec, errors

from inferwatch.errors import ConfigError, DeliveryError, Fault
from inferwatch.wire.kafka import Message

_REFUSALS: Final = (
    errors.MessageSizeTooLargeError,
    errors.RecordListTooLargeError,
    errors.InvalidRecordError,
)


def _checks_hostname(value: object) -> bool:
    if value not in ("https", "none", ""):
        raise ValueError(f"{value!r} is none of https, none")
    return value == "https"


def _file(value: object) -> str:
    if not Path(str(value)).is_file():
        raise ValueError(f"{str(value)!r} is no file")
    return str(value)


def _compression(value: object) -> str | None:
    if value == "none":
        return None
    has = getattr(codec, f"has_{value}", None)
    if has is None or not has():
        raise ValueError(f"{value!r} is unknown, or the package that it needs is not installed")
    return str(value)


_OPTIONS: Final[Mapping[str, tuple[str, Callable[[Any], Any]]]] = {
    "security.protocol": ("security_protocol", lambda value: str(value).upper()),
    "sasl.mechanism": ("sasl_mechanism", str),
    "sasl.mechanisms": ("sasl_mechanism", str),
    "sasl.username": ("sasl_plain_username", str),
    "sasl.password": ("sasl_plain_password", str),
    "sasl.kerberos.service.name": ("sasl_kerberos_service_name", str),
    "ssl.ca.location": ("ssl_cafile", _file),
    "ssl.certificate.location": ("ssl_certfile", _file),
    "ssl.key.location": ("ssl_keyfile", _file),
    "ssl.key.password": ("ssl_password", str),
    "ssl.crl.location": ("ssl_crlfile", _file),
    "ssl.cipher.suites": ("ssl_ciphers", str),
    "ssl.endpoint.identification.algorithm": ("ssl_check_hostname", _checks_hostname),
    "client.id": ("client_id", str),
    "compression.type": ("compression_type", _compression),
    "compression.codec": ("compression_type", _compression),
    "linger.ms": ("linger_ms", float),
    "batch.size": ("batch_size", int),
    "message.max.bytes": ("max_request_size", int),
    "request.timeout.ms": ("request_timeout_ms", int),
    "metadata.max.age.ms": ("metadata_max_age_ms", int),
    "connections.max.idle.ms": ("connections_max_idle_ms", int),
    "retry.backoff.ms": ("retry_backoff_ms", int),
    "reconnect.backoff.ms": ("reconnect_backoff_ms", int),
    "reconnect.backoff.max.ms": ("reconnect_backoff_max_ms", int),
    "max.in.flight": ("max_in_flight_requests_per_connection", int),
}


class PureProducer:
    """A `Producer` on kafka-python. Raises `ConfigError` for options that it does not take."""

    def __init__(self, bootstrap: str, options: Mapping[str, Any], timeout_s: float) -> None:
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
            **_translated(options),
        }
        self._client: kafka.KafkaProducer | None = None
        self._turn = threading.Lock()
        self._closed = False

    async def send(self, topic: str, messages: Sequence[Message], /) -> list[DeliveryError | None]:
        """Return one outcome a message: None where every in-sync replica has it."""
        return await asyncio.to_thread(self._send, topic, messages)

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
            _knock(self._bootstrap, self._timeout_s / 2)
            self._client = _started(self._config)
        if self._closed:
            self._discard()
            raise errors.KafkaError("the sink is closed")
        return self._client

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


def _knock(bootstrap: str, timeout_s: float) -> None:
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


def _translated(options: Mapping[str, Any]) -> dict[str, Any]:
    translated: dict[str, Any] = {}
    faults = []
    for name, value in options.items():
        if name not in _OPTIONS:
            faults.append(Fault(name, f"is no option for kafka-python; allowed: {', '.join(sorted(_OPTIONS))}"))
            continue
        theirs, convert = _OPTIONS[name]
        try:
            translated[theirs] = convert(value)
        except ValueError as error:
            faults.append(Fault(name, str(error)))
    if faults:
        raise ConfigError(faults)
    return translated
