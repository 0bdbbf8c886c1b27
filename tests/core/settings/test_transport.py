"""The transport: what is allowed, what every fault says, and that no fault shows a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferwatch.errors import ConfigError
from inferwatch.secret_file import SecretFile
from inferwatch.settings import AnyTransport, EmbeddedTransport, KafkaTransport, load_settings


def read(folder: Path, text: str) -> AnyTransport:
    (folder / "inferwatch.yaml").write_text(text, encoding="utf-8")
    return load_settings(folder / "inferwatch.yaml").transport


def test_nothing_said_is_one_process(tmp_path: Path) -> None:
    assert read(tmp_path, "") == EmbeddedTransport()


def test_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFERWATCH_TRANSPORT__BOOTSTRAP", "z:9")
    transport = read(tmp_path, "transport: {kind: kafka, bootstrap: 'a:1', group: g}")
    assert transport == KafkaTransport(kind="kafka", bootstrap="z:9", group="g")


def test_a_transport_over_kafka(tmp_path: Path) -> None:
    text = "{kind: kafka, bootstrap: 'a:1,b:2', options: {linger.ms: 5, sasl.password: {file: pass}, x: true}}"
    transport = read(tmp_path, f"transport: {text}")
    assert isinstance(transport, KafkaTransport)
    assert (transport.topic, transport.findings_topic) == ("inferwatch.payloads", "inferwatch.findings")
    assert (transport.group, transport.client) == ("inferwatch", "confluent")
    assert transport.options == {"linger.ms": 5, "sasl.password": SecretFile(tmp_path / "pass"), "x": True}
    assert "pass" not in repr(transport)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("{kind: kafka}", "transport.bootstrap"),
        ("{kind: kafka, bootstrap: a}", "transport.bootstrap"),
        ("{kind: kafka, bootstrap: 'a:1', topic: 'x y'}", "transport.topic"),
        ("{kind: kafka, bootstrap: 'a:1', client: other}", "transport.client"),
        ("{kind: kafka, bootstrap: 'a:1', options: {sasl.password: [hunter2]}}", "transport.options"),
        ("{kind: kafka, bootstrap: 'a:1', options: {sasl.password: {fil: hunter2}}}", "transport.options"),
        ("{kind: kafka, bootstrap: 'a:1', options: 3}", "transport.options"),
    ],
)
def test_faults_of_a_transport_name_the_setting_and_no_secret(tmp_path: Path, text: str, path: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, f"transport: {text}")
    (fault,) = raised.value.faults
    assert fault.path == path
    assert "hunter2" not in str(fault)
