"""Which transport each command needs, and what it does with the options of the clients."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import orjson
import pytest

from inferwatch.errors import ConfigError
from inferwatch.events import REQUEST_TYPE
from inferwatch.events import Service as ServedModel
from inferwatch.payload_log.feature_names import feature_names
from inferwatch.payload_log.state import State
from inferwatch_cli.checks import Checked, checked
from inferwatch_cli.ingesting import open_ingest
from inferwatch_cli.parts import Service
from inferwatch_cli.proxy_options import ProxyOptions
from inferwatch_cli.proxying import sidecar_of
from inferwatch_cli.storing import open_store
from inferwatch_cli.up import open_up
from tests.logger.test_access import TOKEN, ask

Opening = Callable[[Checked, Path | None], AbstractContextManager[Service]]
NOBODY = "127.0.0.1:9"
EVENT = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": REQUEST_TYPE}


def configured(folder: Path, transport: str, further: str = "") -> Path:
    path = folder / "inferwatch.yaml"
    path.write_text(f"transport: {transport}\npayload_log: {{path: data}}\n{further}", encoding="utf-8")
    return path


def kafka(options: str = "{}", client: str = "confluent") -> str:
    return f"{{kind: kafka, bootstrap: '{NOBODY}', client: {client}, options: {options}}}"


@pytest.mark.parametrize(("opening", "kind"), [(open_up, "kafka"), (open_ingest, "embedded"), (open_store, "embedded")])
def test_a_command_names_the_transport_that_it_needs(tmp_path: Path, opening: Opening, kind: str) -> None:
    path = configured(tmp_path, kafka() if kind == "kafka" else "{kind: embedded}")
    with pytest.raises(ConfigError, match=f"transport.kind: '{kind}'"), opening(checked(path), None):
        pass


def test_check_names_every_fault_of_a_transport(tmp_path: Path) -> None:
    ours = "acks: 0, partition.assignment.strategy: cooperative-sticky"
    path = configured(tmp_path, kafka(f"{{linger.ms: soon, no.such: 1, {ours}, sasl.password: {{file: absent}}}}"))
    with pytest.raises(ConfigError) as raised:
        checked(path)
    names = {fault.path.removeprefix("transport.options.") for fault in raised.value.faults}
    assert names == {"linger.ms", "no.such", "acks", "partition.assignment.strategy", "sasl.password"}


def test_an_ingest_without_brokers_says_so_and_refuses(tmp_path: Path) -> None:
    auth = "auth: {bearer_token_file: token, ingest_path_prefix: s3gment}"
    (tmp_path / "token").write_text(TOKEN)
    with open_ingest(checked(configured(tmp_path, kafka(client="kafka-python"), auth))) as service:
        app = service.application
        assert ask(app, "/healthz")[0] == 200
        status, body, _ = ask(app, "/readyz")
        assert (status, "brokers" in orjson.loads(body)["error"]) == (503, True)
        assert [ask(app, "/api/ledger")[0], ask(app, "/events", "POST")[0]] == [401, 404]
        status, _, _ = ask(app, "/s3gment/events", "POST", b"{}", **EVENT)
        assert status == 503
        assert ask(app, "/s3gment/events", "POST", b"{}")[0] == 400
        account = orjson.loads(ask(app, "/api/ledger", authorization=f"Bearer {TOKEN}")[1])["ingest"]
        assert (account["received"], account["refused"]) == (2, {"unavailable": 1})
        assert 'outcome="refused",transport="http"' in ask(app, "/metrics")[1]
    assert (tmp_path / "data" / "dead-letter.jsonl").read_text().count("\n") == 1


def test_an_ingest_needs_nothing_to_write_to(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file stands where the directory would be")
    with open_ingest(checked(configured(tmp_path, kafka(client="kafka-python")))) as service:
        assert ask(service.application, "/events", "POST", b"{}")[0] == 400
        account = orjson.loads(ask(service.application, "/api/ledger")[1])["ingest"]
        assert account["malformed"] == {"missing_attribute": 1}


def test_a_store_without_brokers_shows_what_it_has(tmp_path: Path) -> None:
    with open_store(checked(configured(tmp_path, kafka(client="kafka-python")))) as service:
        status, body, _ = ask(service.application, "/readyz")
        assert (status, orjson.loads(body)["error"].startswith("topic: ")) == (503, True)
        assert orjson.loads(ask(service.application, "/api/payloads")[1]) == {"items": [], "next": None}
        assert ask(service.application, "/events", "POST", b"{}", **EVENT)[0] in (404, 405)  # it takes none


def test_a_store_keeps_the_names_of_features_and_says_that_nothing_judges(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known = "name: m, reference: {logged: {first: 1000}}, features: [{name: age, kind: numeric}]"
    models = f"models: [{{{known}, detectors: [{{kind: drift, method: histogram, window: {{rows: 500}}}}]}}]"
    configuration = checked(configured(tmp_path, kafka(client="kafka-python"), models))
    with open_store(configuration), State.open(tmp_path / "data") as state, state.read() as connection:
        assert feature_names(connection, ServedModel("default", "m")) == ("age",)
        assert feature_names(connection, ServedModel("default", "other")) == ()
    assert "detectors are configured and none runs here" in caplog.text


def test_the_sidecar_writes_as_the_transport_says(tmp_path: Path) -> None:
    def sinks_of(transport: str) -> None:
        path = configured(tmp_path, transport)
        sidecar_of(ProxyOptions(sink=[f"kafka://{NOBODY}/t"], config=path))

    sinks_of(kafka("{linger.ms: 5}"))
    with pytest.raises(ConfigError, match=r"linger\.ms"):
        sinks_of(kafka("{linger.ms: soon}"))
