"""The sidecar's manifests: each option is one of the command's, and what points at it meets it."""

from __future__ import annotations

from typing import Any

import pytest
import typer
import yaml

from inferwatch._version import __version__
from inferwatch_cli.main import app
from inferwatch_cli.proxy_options import ProxyOptions
from inferwatch_cli.proxying import sidecar_of
from tests.deploy.conftest import DEPLOY, kustomize
from tests.deploy.test_manifests import builtin_faults


def read(name: str) -> Any:
    return yaml.safe_load((DEPLOY / "sidecar" / name).read_text(encoding="utf-8"))


POD = read("deployment.yaml")["spec"]["template"]
CONTAINER = POD["spec"]["containers"][1]
OPTIONS = dict(argument.removeprefix("--").split("=", 1) for argument in CONTAINER["args"][1:])


def test_every_option_is_one_of_the_commands() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # a group has some
    known = {option for parameter in commands[CONTAINER["args"][0]].params for option in parameter.opts}
    assert {f"--{name}" for name in OPTIONS} <= known


def test_the_options_make_a_sidecar_of_the_model_server() -> None:
    sidecar = sidecar_of(
        ProxyOptions(
            upstream=OPTIONS["upstream"],
            sink=[OPTIONS["sink"]],
            port=int(OPTIONS["port"]),
            inference_service=OPTIONS["inference-service"],
        )
    )
    assert f"--rest_api_port={sidecar.pool.port}" in POD["spec"]["containers"][0]["args"]
    assert sidecar.pool.host == "127.0.0.1"


def test_ports_probes_and_volumes_meet() -> None:
    ports = {port["name"]: str(port["containerPort"]) for port in CONTAINER["ports"]}
    assert ports == {"relay": OPTIONS["port"], "admin": OPTIONS["admin-port"]}
    assert [port["targetPort"] for port in read("service.yaml")["spec"]["ports"]] == ["relay"]
    assert read("service.yaml")["spec"]["selector"] == POD["metadata"]["labels"]
    assert {CONTAINER[probe]["httpGet"]["port"] for probe in ("readinessProbe", "livenessProbe")} == {"admin"}
    assert [mount["mountPath"] for mount in CONTAINER["volumeMounts"]] == [OPTIONS["spool"]]
    assert CONTAINER["image"] == f"inferwatch:{__version__}"
    assert OPTIONS["sink"] == "http://inferwatch.default:8080/"  # the Service of base/


def test_the_agents_image_starts_the_sidecar() -> None:
    text = (DEPLOY / "Containerfile.agent").read_text(encoding="utf-8")
    assert 'ENTRYPOINT ["/opt/inferwatch/bin/inferwatch", "proxy"]' in text
    assert f"FROM inferwatch:{__version__}" in text


@pytest.mark.integration
def test_every_field_is_known_to_kubernetes() -> None:
    assert builtin_faults(list(kustomize(DEPLOY / "sidecar").values())) == []
