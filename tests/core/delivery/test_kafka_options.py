"""Options of Kafka clients: every fault is named, nothing is left out, and secrets are never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferwatch.delivery.kafka import producer_of
from inferwatch.delivery.kafka_options import Client, Options, Value, is_server_list
from inferwatch.errors import ConfigError
from inferwatch.secret_file import SecretFile

CLIENTS: tuple[Client, ...] = ("confluent", "kafka-python")
TEXT = "hunter2 \u00e9"


def faults(client: Client, options: Options) -> dict[str, str]:
    with pytest.raises(ConfigError) as raised:
        producer_of(client, "127.0.0.1:1", options, 1.0)
    return {fault.path: fault.message for fault in raised.value.faults}


@pytest.mark.parametrize("client", CLIENTS)
def test_every_fault_is_named(client: Client, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    given: Options = {
        "group.id": "g",
        "acks": 1,
        "linger.ms": "soon",
        "no.such.option": 1,
        "sasl.password": SecretFile(tmp_path / "absent"),
        "ssl.key.password": SecretFile(tmp_path / "empty"),
        "client.id": "fine",
    }
    found = faults(client, given)
    assert set(found) == set(given) - {"client.id"}
    assert str(tmp_path / "absent") in found["sasl.password"]
    assert "empty" in found["ssl.key.password"]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("name", ["fetch.min.bytes", "security.protocol", "fetch.wait.max.ms"])
def test_a_secret_is_never_shown(client: Client, name: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(TEXT + "\r\n")
    found = faults(client, {name: SecretFile(tmp_path / "secret")})
    assert list(found) == [name]
    assert "hunter2" not in found[name]
    assert str(tmp_path) in found[name]


def test_a_secret_is_read_anew_each_time(tmp_path: Path) -> None:
    secret = SecretFile(tmp_path / "secret")
    for text in (TEXT, "other"):
        secret.path.write_text(text + "\n")
        assert secret.read() == text


@pytest.mark.parametrize("client", CLIENTS)
def test_options_of_the_other_role_are_known(client: Client) -> None:
    given: dict[str, Value | SecretFile] = {"session.timeout.ms": 6000, "fetch.min.bytes": 1, "linger.ms": 0}
    producer_of(client, "127.0.0.1:1", given, 1.0)


def test_librdkafka_tells_what_does_not_go_together() -> None:
    found = faults("confluent", {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN"})
    assert found == {"": "sasl.username and sasl.password must be set"}


@pytest.mark.parametrize("value", ["maybe", "", 2])
def test_kafka_python_reads_values_as_librdkafka_does(value: Value) -> None:
    assert list(faults("kafka-python", {"check.crcs": value})) == ["check.crcs"]
    assert list(faults("kafka-python", {"ssl.endpoint.identification.algorithm": "http"})) != []


@pytest.mark.parametrize(
    ("text", "good"),
    [("a:1", True), ("a:1,b:65535", True), ("[::1]:9092", True), ("a", False), ("a:0", False), ("a:1,", False)],
)
def test_server_lists(text: str, good: bool) -> None:
    assert is_server_list(text) is good
