"""What `kubectl apply -k` would send, held to the types of Kubernetes, to KServe's CRD, and to itself."""

from __future__ import annotations

import copy
import json
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from jsonschema import Draft202012Validator

from inferwatch._version import __version__
from inferwatch.events import ORIGIN_HEADER
from tests.components import ROOT, demo_python
from tests.deploy.conftest import Objects

CRD = ROOT.parent / "shared" / "schemas" / "kubernetes" / "InferenceService.serving.kserve.io.v1beta1.json"

pytestmark = pytest.mark.integration


def builtin_faults(objects: list[Any]) -> list[str]:
    check = [demo_python(), Path(__file__).with_name("typed.py")]
    checked = subprocess.run(check, input=json.dumps(objects), capture_output=True, text=True, check=True)
    faults: list[str] = json.loads(checked.stdout)
    return faults


def inference_service_faults(manifest: Any) -> list[str]:
    if not CRD.is_file():
        pytest.skip("the JSON Schema of KServe's InferenceService is not beside the repository")
    schema = json.loads(CRD.read_text(encoding="utf-8"))
    return [f"{fault.json_path}: {fault.message}" for fault in Draft202012Validator(schema).iter_errors(manifest)]


def container(objects: Objects) -> Any:
    return objects["Deployment"]["spec"]["template"]["spec"]["containers"][0]


def test_the_base_has_what_up_needs(base: Objects) -> None:
    assert sorted(base) == ["ConfigMap", "Deployment", "PersistentVolumeClaim", "Service"]


def test_every_field_is_known_to_kubernetes(base: Objects, sample: Objects) -> None:
    builtins = [item for kind, item in sample.items() if kind != "InferenceService"]
    assert builtin_faults([*base.values(), *builtins]) == []


def test_unknown_missing_and_mistyped_fields_would_be_found(base: Objects) -> None:
    broken = copy.deepcopy(base["Deployment"])
    broken["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    broken["spec"]["template"]["spec"]["securityContext"]["fsGroup"] = "65532"
    del broken["spec"]["selector"]
    assert {fault.split(":")[0] for fault in builtin_faults([broken])} == {
        "Deployment.spec.selector",
        "Deployment.spec.template.spec.containers.0.readinesProbe",
        "Deployment.spec.template.spec.securityContext.fsGroup",
    }


def test_every_field_of_the_inference_service_is_known_to_kserve(sample: Objects) -> None:
    assert inference_service_faults(sample["InferenceService"]) == []


def test_a_misspelt_field_of_the_inference_service_would_be_found(sample: Objects) -> None:
    broken = copy.deepcopy(sample["InferenceService"])
    broken["spec"]["predictor"]["logger"]["metadataHeader"] = []
    assert inference_service_faults(broken) != []


def test_the_service_reaches_the_pod(base: Objects) -> None:
    labels = base["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert base["Service"]["spec"]["selector"].items() <= labels.items()
    assert base["Deployment"]["spec"]["selector"]["matchLabels"].items() <= labels.items()
    ports = {port["name"] for port in container(base)["ports"]}
    assert {port["targetPort"] for port in base["Service"]["spec"]["ports"]} <= ports


def test_the_pod_mounts_volumes_that_exist(base: Objects) -> None:
    pod = base["Deployment"]["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert {mount["name"] for mount in container(base)["volumeMounts"]} == set(volumes)
    assert volumes["data"]["persistentVolumeClaim"]["claimName"] == base["PersistentVolumeClaim"]["metadata"]["name"]
    assert volumes["configuration"]["configMap"]["name"] == base["ConfigMap"]["metadata"]["name"]


def test_up_reads_the_configuration_that_is_mounted(base: Objects) -> None:
    arguments = container(base)["args"]
    mounted = {mount["name"]: mount["mountPath"] for mount in container(base)["volumeMounts"]}
    configuration = Path(arguments[arguments.index("--config") + 1])
    assert str(configuration.parent) == mounted["configuration"]
    assert configuration.name in base["ConfigMap"]["data"]
    assert "path: /data/payloads" in base["ConfigMap"]["data"][configuration.name]
    assert mounted["data"] == "/data"


def test_up_listens_where_the_probes_ask(base: Objects) -> None:
    arguments, ports = container(base)["args"], container(base)["ports"]
    assert arguments[arguments.index("--port") + 1] == str(ports[0]["containerPort"])
    assert arguments[arguments.index("--host") + 1] == "0.0.0.0"  # noqa: S104 - a pod listens on its own address
    probes = {
        name: container(base)[name]["httpGet"]["path"] for name in ("startupProbe", "readinessProbe", "livenessProbe")
    }
    assert probes == {"startupProbe": "/healthz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"}


def test_the_pod_has_no_privileges(base: Objects) -> None:
    pod = base["Deployment"]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 65532
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(base)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_requests_are_stated_and_memory_is_limited(base: Objects) -> None:
    resources = container(base)["resources"]
    assert {"cpu", "memory"} <= set(resources["requests"])
    assert "memory" in resources["limits"]
    assert "cpu" not in resources["limits"]


def test_one_pod_writes_the_log(base: Objects) -> None:
    assert (base["Deployment"]["spec"]["replicas"], base["Deployment"]["spec"]["strategy"]) == (1, {"type": "Recreate"})


def test_the_image_is_the_version_of_this_repository(base: Objects) -> None:
    assert container(base)["image"] == f"inferwatch:{__version__}"


def test_the_logger_sends_to_the_service(sample: Objects) -> None:
    logger = sample["InferenceService"]["spec"]["predictor"]["logger"]
    service = sample["Service"]
    address = urlsplit(logger["url"])
    name, namespace = (address.hostname or "").split(".")[:2]
    assert (name, namespace) == (service["metadata"]["name"], service["metadata"]["namespace"])
    assert address.port in [port["port"] for port in service["spec"]["ports"]]
    assert (address.path, logger["mode"]) == ("/events", "all")


def test_the_logger_keeps_the_marks_of_explain_traffic(sample: Objects) -> None:
    headers = sample["InferenceService"]["spec"]["predictor"]["logger"]["metadataHeaders"]
    assert ORIGIN_HEADER in headers
    assert all(header == "-".join(part.capitalize() for part in header.split("-")) for header in headers)


def test_the_explainer_has_the_image_and_the_configuration_of_up(sample: Objects) -> None:
    explainer = sample["InferenceService"]["spec"]["explainer"]
    [runs], [volume] = explainer["containers"], explainer["volumes"]
    assert volume["configMap"]["name"] == sample["ConfigMap"]["metadata"]["name"]
    assert volume["configMap"]["name"] != "inferwatch-configuration"  # the hash restarts it too
    assert (runs["image"], runs["args"][0]) == (container(sample)["image"], "explain")
    [mount] = runs["volumeMounts"]
    assert (mount["name"], f"{mount['mountPath']}/inferwatch.yaml") == (volume["name"], runs["args"][2])


def test_the_sample_configures_the_model_that_it_serves(sample: Objects) -> None:
    data = sample["ConfigMap"]["data"]
    assert f"name: {sample['InferenceService']['metadata']['name']}" in data["inferwatch.yaml"]
    assert "reference: reference.csv" in data["inferwatch.yaml"]
    assert data["reference.csv"].count("\n") == 151
