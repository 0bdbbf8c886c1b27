"""The wheel as a user gets it: built from the source distribution, installed alone into a fresh environment."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

from inferwatch._version import __version__
from tests.components import ROOT, missing
from tests.packaging.test_source import FOLDERS, PACKAGES

pytestmark = pytest.mark.integration

OPTIONAL = {
    "confluent_kafka",
    "grafana_foundation_sdk",
    "hpack",
    "kafka",
    "kserve",
    "pandas",
    "pyarrow",
    "scipy",
    "sklearn",
}
"""What the extras bring, and the model server of the demo; a module may need it, a package may not."""

WALK = """
import importlib, json, pkgutil
refused = {}
for name in PACKAGES:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        if not module.name.endswith("__main__"):
            try:
                importlib.import_module(module.name)
            except ImportError as fault:
                refused[module.name] = fault.name
print(json.dumps(refused))
"""


class Built(NamedTuple):
    """The source distribution and the wheel that was built from it."""

    sdist: Path
    wheel: Path


@pytest.fixture(scope="session")
def uv() -> Path:
    tool = Path(sys.executable).with_name("uv")
    if not tool.exists():
        missing("uv", "make setup-test")
    return tool


@pytest.fixture(scope="session")
def built(uv: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    out = tmp_path_factory.mktemp("dist")
    subprocess.run([str(uv), "build", "--quiet", "--out-dir", str(out), str(ROOT)], check=True)
    [sdist], [wheel] = out.glob("*.tar.gz"), out.glob("*.whl")
    return Built(sdist, wheel)


@pytest.fixture(scope="session")
def python(uv: Path, built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with the wheel and what it requires, and nothing else."""
    environment = tmp_path_factory.mktemp("clean")
    subprocess.run([str(uv), "venv", "--quiet", "--clear", "--python", sys.executable, str(environment)], check=True)
    interpreter = environment / "bin" / "python"
    constraint = ["--constraint", str(ROOT / "locks" / "base.txt")]
    target = ["--python", str(interpreter), str(built.wheel)]
    subprocess.run([str(uv), "pip", "install", "--quiet", *constraint, *target], check=True)
    return interpreter


def run(python: Path, code: str) -> str:
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=False, cwd=python.parent)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_wheel_holds_every_file_of_every_package(built: Built) -> None:
    held = set(zipfile.ZipFile(built.wheel).namelist())
    sources = {
        str(path.relative_to((ROOT / folder).parent))
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {f"{name}/py.typed" for name in PACKAGES} <= sources
    metadata = {name for name in held if ".dist-info/" in name}
    assert held - metadata == sources
    assert any(name.endswith("licenses/LICENSE") for name in metadata)


def test_the_source_distribution_holds_what_the_tests_need(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        held = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {"LICENSE", "README.md", "Makefile", "pyproject.toml", "locks/base.txt", "scripts/environment"} <= held
    assert "tests/packaging/test_wheel.py" in held
    assert not [name for name in held if name.startswith((".venv", "build/", "data/")) or "__pycache__" in name]


def test_the_wheel_states_version_and_command(python: Path) -> None:
    code = "from importlib.metadata import version; print(version('inferwatch'))"
    assert run(python, code) == __version__
    assert (python.parent / "inferwatch").exists()


def test_every_module_imports_without_any_extra(python: Path) -> None:
    code = f"PACKAGES = {PACKAGES!r}" + WALK
    refused: dict[str, str] = json.loads(run(python, code))
    assert {name: cause for name, cause in refused.items() if (cause or "").split(".")[0] not in OPTIONAL} == {}
    assert "inferwatch.events" not in refused


def test_the_command_runs_without_any_extra(python: Path) -> None:
    done = subprocess.run([python.parent / "inferwatch", "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert __version__ in done.stdout


def test_the_demo_environment_would_hold_the_wheel(python: Path) -> None:
    """KServe's SDK needs pandas below 3 and cloudevents below 2, so the base may require neither."""
    required = run(python, "from importlib.metadata import distributions as d; print(*(i.name for i in d()))").split()
    assert {"pandas", "cloudevents", "scipy", "torch"}.isdisjoint(required)
