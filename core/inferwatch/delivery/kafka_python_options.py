"""librdkafka's options in kafka-python's words. What kafka-python cannot honour is a fault, never left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from kafka import codec

from inferwatch.delivery.kafka_options import Options, resolved
from inferwatch.errors import ConfigError, Fault
from inferwatch.secret_file import SecretFile

Role = Literal["producer", "consumer"]
_Table = Mapping[str, tuple[str, Callable[[Any], Any]]]


def _one_of(*allowed: str) -> Callable[[object], str]:
    def convert(value: object) -> str:
        if str(value).upper() not in allowed:
            raise ValueError(f"{value!r} is none of {', '.join(allowed)}")
        return str(value).upper()

    return convert


def _checks_hostname(value: object) -> bool:
    if value not in ("https", "none", ""):
        raise ValueError(f"{value!r} is none of https, none")
    return value == "https"


def _flag(value: object) -> bool:
    text = str(value).lower()
    if text not in ("true", "false"):
        raise ValueError(f"{value!r} is none of true, false")
    return text == "true"


def _number(value: object) -> float:
    try:
        return float(str(value))
    except ValueError:
        raise ValueError(f"{value!r} is no number") from None


def _whole(value: object) -> int:
    if not str(value).isdecimal():
        raise ValueError(f"{value!r} is no whole number")
    return int(str(value))


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


def _isolation(value: object) -> str:
    if value not in ("read_committed", "read_uncommitted"):
        raise ValueError(f"{value!r} is none of read_committed, read_uncommitted")
    return str(value)


_mechanism = _one_of("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "GSSAPI")

_COMMON: Final[_Table] = {
    "security.protocol": ("security_protocol", _one_of("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")),
    "sasl.mechanism": ("sasl_mechanism", _mechanism),
    "sasl.mechanisms": ("sasl_mechanism", _mechanism),
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
    "metadata.max.age.ms": ("metadata_max_age_ms", _whole),
    "connections.max.idle.ms": ("connections_max_idle_ms", _whole),
    "retry.backoff.ms": ("retry_backoff_ms", _whole),
    "reconnect.backoff.ms": ("reconnect_backoff_ms", _whole),
    "reconnect.backoff.max.ms": ("reconnect_backoff_max_ms", _whole),
    "max.in.flight": ("max_in_flight_requests_per_connection", _whole),
}
_OF_ROLE: Final[Mapping[Role, _Table]] = {
    "producer": {
        "compression.type": ("compression_type", _compression),
        "compression.codec": ("compression_type", _compression),
        "linger.ms": ("linger_ms", _number),
        "batch.size": ("batch_size", _whole),
        "message.max.bytes": ("max_request_size", _whole),
        "request.timeout.ms": ("request_timeout_ms", _whole),
    },
    "consumer": {
        "client.rack": ("client_rack", str),
        "group.instance.id": ("group_instance_id", str),
        "session.timeout.ms": ("session_timeout_ms", _whole),
        "heartbeat.interval.ms": ("heartbeat_interval_ms", _whole),
        "max.poll.interval.ms": ("max_poll_interval_ms", _whole),
        "fetch.min.bytes": ("fetch_min_bytes", _whole),
        "fetch.wait.max.ms": ("fetch_max_wait_ms", _whole),
        "fetch.max.bytes": ("fetch_max_bytes", _whole),
        "fetch.message.max.bytes": ("max_partition_fetch_bytes", _whole),
        "max.partition.fetch.bytes": ("max_partition_fetch_bytes", _whole),
        "isolation.level": ("isolation_level", _isolation),
        "check.crcs": ("check_crcs", _flag),
    },
}
_ALL: Final[_Table] = {**_COMMON, **_OF_ROLE["producer"], **_OF_ROLE["consumer"]}


def translated(options: Options, role: Role) -> dict[str, Any]:
    """Return the options that concern the role, secrets read. Raises `ConfigError` with every fault of any of them."""
    values = resolved(options)
    wanted: dict[str, Any] = {}
    faults = []
    for name, value in values.items():
        if name not in _ALL:
            faults.append(Fault(name, f"is no option for kafka-python; allowed: {', '.join(sorted(_ALL))}"))
            continue
        theirs, convert = _ALL[name]
        try:
            converted = convert(value)
        except ValueError as error:
            secret = options[name]
            why = f"what {secret.path} holds is not allowed here" if isinstance(secret, SecretFile) else str(error)
            faults.append(Fault(name, why))
            continue
        if name in _COMMON or name in _OF_ROLE[role]:
            wanted[theirs] = converted
    if faults:
        raise ConfigError(faults)
    return wanted
