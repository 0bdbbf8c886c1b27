from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.components import ROOT, program

DEPLOY = ROOT / "deploy"

Objects = dict[str, Any]
"""Kubernetes objects by kind; no two of ours are of one kind."""


def kustomize(folder: Path) -> Objects:
    tool = program("kubectl", "kustomize")
    verb = "kustomize" if tool.name == "kubectl" else "build"
    built = subprocess.run([tool, verb, folder], capture_output=True, text=True, check=True)
    assert built.stderr == ""
    return {item["kind"]: item for item in yaml.safe_load_all(built.stdout)}


@pytest.fixture(scope="session")
def base() -> Objects:
    return kustomize(DEPLOY / "base")


@pytest.fixture(scope="session")
def sample() -> Objects:
    return kustomize(DEPLOY / "samples")
