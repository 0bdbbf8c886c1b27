"""The configurations and the image of deploy/, without any tool of Kubernetes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from inferwatch.settings import load_settings
from inferwatch_cli.checks import checked
from tests.components import ROOT
from tests.deploy.conftest import DEPLOY

CONTAINERFILE = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("configuration", sorted(DEPLOY.glob("*/inferwatch.yaml")), ids=lambda path: path.parent.name)
def test_every_configuration_is_valid(configuration: Path) -> None:
    found = checked(configuration)
    assert str(found.settings.payload_log.path) == "/data/payloads"
    assert len(found.models) == len(found.settings.models)


def test_the_sample_judges_and_explains() -> None:
    [model] = load_settings(DEPLOY / "samples" / "inferwatch.yaml").models
    assert [detector.kind for detector in model.detectors] == ["drift", "outlier"]
    assert [explainer.method for explainer in model.explainers] == ["kernel_shap"]


def test_every_file_of_a_kustomization_exists() -> None:
    for folder in ("base", "samples"):
        listed = yaml.safe_load((DEPLOY / folder / "kustomization.yaml").read_text(encoding="utf-8"))
        files = [name for generator in listed["configMapGenerator"] for name in generator["files"]]
        assert all((DEPLOY / folder / name).exists() for name in [*listed["resources"], *files])


def test_the_image_copies_every_package_of_the_wheel() -> None:
    copied = [word for line in re.findall(r"^COPY (?!--from)(.*)$", CONTAINERFILE, re.M) for word in line.split()[:-1]]
    assert all((ROOT / name).exists() for name in copied)
    packages = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert {package.split("/")[0] for package in packages} <= set(copied)
    assert {"pyproject.toml", "README.md", "LICENSE", "locks/base.txt"} <= set(copied)


def test_the_image_runs_as_nobody_on_a_named_base() -> None:
    assert re.findall(r"^USER (.*)$", CONTAINERFILE, re.M) == ["65532:65532"]
    bases = re.findall(r"^FROM (\S+)", CONTAINERFILE, re.M)
    assert bases == ["docker.io/library/python:3.12-slim-bookworm"] * 2


def test_the_image_starts_the_command() -> None:
    assert "inferwatch" in PROJECT["project"]["scripts"]
    assert 'ENTRYPOINT ["/opt/inferwatch/bin/inferwatch"]' in CONTAINERFILE
