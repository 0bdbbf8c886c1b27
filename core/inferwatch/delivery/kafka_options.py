"""Options of Kafka clients, by librdkafka's names whichever client is asked; secrets stay in their files until then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from inferwatch.errors import ConfigError, Fault
from inferwatch.secret_file import SecretFile

Client = Literal["confluent", "kafka-python"]
Value = str | int | float | bool
Options = Mapping[str, Value | SecretFile]

_OURS: Final = frozenset(
    {
        "bootstrap.servers",
        "metadata.broker.list",
        "acks",
        "request.required.acks",
        "enable.idempotence",
        "group.id",
        "auto.offset.reset",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "group.protocol",
        "partition.assignment.strategy",
    }
)
"""What delivery and reading rely on."""


def resolved(options: Options) -> dict[str, Value]:
    """Return the options with their secrets read. Raises `ConfigError` for files that hold none."""
    values: dict[str, Value] = {}
    faults = []
    for name, value in options.items():
        try:
            values[name] = value.read() if isinstance(value, SecretFile) else value
        except ValueError as error:
            faults.append(Fault(name, str(error)))
    if faults:
        raise ConfigError(faults)
    return values


def faults_of(options: Options) -> list[Fault]:
    """Return what is wrong with options whichever client they are for: not the user's to choose, or no such secret."""
    faults = [Fault(name, "is set by inferwatch; leave it out") for name in sorted(options.keys() & _OURS)]
    try:
        resolved(options)
    except ConfigError as error:
        faults.extend(error.faults)
    return faults


def is_server_list(text: str) -> bool:
    """Say whether a text is `host:port[,host:port...]`."""
    parts = [server.strip().rpartition(":") for server in text.split(",")]
    return all(host and port.isascii() and port.isdecimal() and 0 < int(port) < 65536 for host, _, port in parts)
