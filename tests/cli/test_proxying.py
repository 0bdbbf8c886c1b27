"""`inferwatch proxy`: which sidecar its options and those of KServe's agent make."""

from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from inferwatch.errors import ConfigError
from inferwatch.events import CloudEvent
from inferwatch_cli.agent_options import ignored_options
from inferwatch_cli.main import app
from inferwatch_cli.proxy_options import ProxyOptions
from inferwatch_cli.proxying import sidecar_of
from tests.certificates import authority, signed
from tests.core.delivery.scripted_sink import scripted_sink


def options(**given: Any) -> ProxyOptions:
    return ProxyOptions(**({"sink": ["http://sink:1/logs"]} | given))


def faults(**given: Any) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        sidecar_of(options(**given))
    return [str(fault) for fault in raised.value.faults]


def test_the_upstream_is_the_url_or_else_a_port_of_this_machine() -> None:
    for url, host, port in (
        (None, "127.0.0.1", 8080),
        ("http://model.example/", "model.example", 80),
        ("https://model.example", "model.example", 443),
        ("http://[::1]:9000", "::1", 9000),
    ):
        pool = sidecar_of(options(upstream=url)).pool
        assert (pool.host, pool.port) == (host, port)


@pytest.mark.parametrize("url", ["model:80", "ftp://model", "http://", "http://model/path", "http://model:x"])
def test_an_upstream_that_cannot_be_one(url: str) -> None:
    assert faults(upstream=url) == [
        f"--upstream: {url!r} is no URL of a model server; allowed is http(s)://host[:port]",
    ]


def test_the_agents_options_reach_the_events() -> None:
    sidecar = sidecar_of(
        options(
            inference_service="iris",
            namespace="ns1",
            endpoint="canary",
            component="transformer",
            source_uri="http://localhost:9081/",
            log_mode="response",
            metadata_headers=["X-Request-Id, x-tenant", "x-user"],
            metadata_annotations='owner=me,"team=a,b",note=c,d,x.io/limits={"a":[1,2],"b":"c=d"},e=',
        )
    )
    capture = sidecar.capture
    assert not capture.by_path
    assert (capture.requests, capture.responses, capture.source) == (False, True, "http://localhost:9081/")
    assert {b"x-request-id", b"x-tenant", b"x-user"} < set(capture.metadata)
    annotations = json.loads(capture.attributes.pop("annotations"))
    limits = '{"a":[1,2],"b":"c=d"}'
    assert annotations == {"owner": "me", "team": "a,b", "note": "c,d", "x.io/limits": limits, "e": ""}
    assert capture.attributes == {
        "inferenceservicename": "iris",
        "namespace": "ns1",
        "component": "transformer",
        "endpoint": "canary",
    }


def test_the_configuration_says_what_the_options_do_not(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "capture: {mode: request, metadata_headers: [x-a], paths: ['/p/*'], max_body_bytes: 7, queue_bytes: 65536}\n"
        "models: [{name: income, reference: r.csv}]\n"
    )
    sidecar = sidecar_of(options(config=config))
    capture = sidecar.capture
    assert (capture.attributes["inferenceservicename"], capture.by_path) == ("income", False)
    assert (capture.requests, capture.responses, capture.max_body_bytes) == (True, False, 7)
    assert b"x-a" in capture.metadata
    assert [capture.takes("POST", path, {}) for path in ("/q", "/p/1")] == [False, True]
    sidecar = sidecar_of(options(config=config, log_mode="all", inference_service="other"))
    assert (sidecar.capture.responses, sidecar.capture.attributes["inferenceservicename"]) == (True, "other")


def test_every_fault_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVING_READINESS_PROBE", '{"exec": {"command": ["true"]}}')
    given = {"sink": [], "log_mode": "some", "spool_bytes": 1, "upstream": "x"}
    assert [fault.partition(":")[0] for fault in faults(**given)] == [
        "--upstream",
        "--spool-bytes",
        "--log-mode",
        "--sink",
        "SERVING_READINESS_PROBE",
    ]
    monkeypatch.delenv("SERVING_READINESS_PROBE")
    assert faults(metadata_annotations="plain") == ["--metadata-annotations: 'plain' is not NAME=VALUE"]
    assert faults(sink=["ftp://x"]) == [
        "--sink: 'ftp://x' is no URL of a sink; allowed are http(s)://host[:port][/path] and kafka://host:port[,...]/topic"
    ]
    assert faults(inference_service="")[0].startswith("--inference-service: is empty")
    assert faults(spool=tmp_path, spool_bytes=10)[0].startswith("--spool-bytes: 10 is too small for a queue file")
    config = tmp_path / "config.yaml"
    config.write_text('capture: {models: {a: {redact: [{path: "$.a", action: hash, key_file: none}]}}}')
    assert faults(config=config)[0].startswith(f"capture.models.a.redact: {tmp_path}/none: No such")


def test_the_model_is_served_where_the_certificates_that_kserve_names_are_not_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    absent = tmp_path / "ca.crt"
    sidecar_of(options(sink=["https://sink/"], logger_ca_cert_file=str(absent), logger_tls_skip_verify=True))
    assert not caplog.messages
    sidecar_of(options(sink=["https://sink/"], logger_ca_cert_file=str(absent)))
    assert caplog.messages == [f"--logger-ca-cert-file: there is no {absent}; sinks are verified as without it"]
    absent.write_text("none")
    assert "cannot be used" in faults(sink=["https://sink/"], logger_ca_cert_file=str(absent))[0]


def test_the_certificates_that_kserve_mounts_count_by_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inferwatch_cli.proxying._CA_DIRECTORY", tmp_path)
    (tmp_path / "service-ca.crt").write_text("none")
    [fault] = faults(sink=["https://sink/"])
    assert fault.startswith(f"--logger-ca-cert-file: {tmp_path}/service-ca.crt cannot be used: ")
    authority(tmp_path, "ca")
    (tmp_path / "ca.pem").rename(tmp_path / "service-ca.crt")
    sidecar_of(options(sink=["https://sink/"]))


def test_the_configuration_says_how_sinks_over_https_are_verified(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("capture: {tls: {ca_file: tls/ca.pem}}\n")
    https = ["https://sink/"]
    [fault] = faults(sink=https, config=config)
    assert fault.startswith(f"capture.tls.ca_file: {tmp_path}/tls/ca.pem cannot be used: ")
    [fault] = faults(sink=["http://sink/"], config=config)
    assert fault == "capture.tls: is for sinks over https, and none of --sink is one"
    (tmp_path / "tls").mkdir()
    authority(tmp_path / "tls", "ca")
    sidecar_of(options(sink=https, config=config))
    (tmp_path / "other.pem").write_text("none")
    [fault] = faults(sink=https, config=config, logger_ca_cert_file=str(tmp_path / "other.pem"))
    assert fault.startswith(f"--logger-ca-cert-file: {tmp_path}/other.pem cannot be used: "), "the option wins"
    (tmp_path / "tls/ca.pem").unlink()
    sidecar_of(options(sink=https, config=config, logger_tls_skip_verify=True))


def test_events_reach_a_sink_that_shows_and_asks_for_what_the_configuration_names(tmp_path: Path) -> None:
    authority(tmp_path, "ca")
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tmp_path / "ca.pem")
    serving.load_cert_chain(*signed(tmp_path, "server", by="ca"))
    serving.verify_mode = ssl.CERT_REQUIRED
    signed(tmp_path, "client", by="ca")
    config = tmp_path / "config.yaml"
    config.write_text("capture: {tls: {ca_file: ca.pem, certificate_file: client.pem, key_file: client.key}}\n")

    async def test() -> None:
        async with scripted_sink(tls=serving) as sink:
            delivery = sidecar_of(options(sink=[sink.url], config=config)).delivery
            delivery.emit(CloudEvent("1", "/s", "t"))
            await delivery.aclose()
            assert sink.ids == ["1"]

    asyncio.run(asyncio.wait_for(test(), 120))


def test_a_ca_file_of_the_upstream(tmp_path: Path) -> None:
    absent = tmp_path / "ca.crt"
    [fault] = faults(upstream="https://model", upstream_ca_file=absent)
    assert fault.startswith(f"--upstream-ca-file: {absent} cannot be used: ")
    [fault] = faults(upstream="http://model", upstream_ca_file=absent)
    assert fault == "--upstream-ca-file: verifies an upstream over https, and 'http://model' is none"


def test_options_of_the_agent_that_mean_nothing_here_are_known() -> None:
    given = ["--workers", "5", "--log-store-format=csv", "--enable-batcher", "--enable-puller"]
    assert ignored_options(given) == ["--workers", "--log-store-format", "--enable-batcher", "--enable-puller"]
    for unknown in (["--wrokers", "5"], ["stray"], ["-x"]):
        with pytest.raises(ConfigError, match="is no option"):
            ignored_options(unknown)


@pytest.mark.parametrize(
    ("switch", "skipped"),
    [
        (["--logger-tls-skip-verify", "false"], False),
        (["--logger-tls-skip-verify", "true"], True),
        (["--logger-tls-skip-verify=F"], False),
        (["--logger-tls-skip-verify=true"], True),
        (["--logger-tls-skip-verify"], True),
    ],
)
def test_the_command_line_of_kserves_injector(
    monkeypatch: pytest.MonkeyPatch, switch: list[str], skipped: bool
) -> None:
    taken: list[tuple[ProxyOptions, list[str]]] = []
    monkeypatch.setattr("inferwatch_cli.proxying.run_proxy", lambda *given: taken.append(given))
    given = ["--enable-batcher", "--max-batchsize", "32", "--log-url", "https://sink/", "--source-uri", ""]
    given += ["--log-mode", "all", "--inference-service", "income", "--namespace", "default", "--endpoint", ""]
    given += ["--component", "predictor", *switch, "--component-port", "8085"]
    result = CliRunner().invoke(app, ["proxy", *given])
    assert result.exit_code == 0, result.output
    [(it, further)] = taken
    assert (it.logger_tls_skip_verify, it.component_port, it.inference_service) == (skipped, 8085, "income")
    assert ignored_options(further) == ["--enable-batcher", "--max-batchsize"]
