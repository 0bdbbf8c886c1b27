"""The layout: one package in each component folder, one version, and imports that bring nothing heavy."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tomllib
from types import ModuleType

import pytest

from inferwatch._version import __version__
from tests.components import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
PACKAGES = [folder.split("/")[1] for folder in FOLDERS]
HEAVY = {
    "aiohttp", "cloudevents", "fastapi", "grafana_foundation_sdk", "jinja2", "matplotlib", "pandas", "pyarrow",
    "pydantic", "pydantic_settings", "rich", "scipy", "sklearn", "torch", "typer", "uvicorn",
}  # fmt: skip


def test_every_package_that_the_wheel_lists_exists() -> None:
    assert all((ROOT / folder / name).is_file() for folder in FOLDERS for name in ("__init__.py", "py.typed"))


def test_component_folders_are_no_packages() -> None:
    assert not [folder for folder in FOLDERS if (ROOT / folder).parent.joinpath("__init__.py").exists()]


def test_test_folders_are_packages() -> None:
    folders = {path.parent for path in (ROOT / "tests").rglob("test_*.py")}
    assert not [folder for folder in folders if not (folder / "__init__.py").exists()]


@pytest.mark.parametrize("name", PACKAGES)
def test_all_lists_the_public_names(name: str) -> None:
    package = importlib.import_module(name)
    public = {
        key
        for key, value in vars(package).items()
        if not key.startswith("_") and not isinstance(value, ModuleType) and key not in ("annotations", "TYPE_CHECKING")
    }
    listed = set(getattr(package, "__all__", ()))
    assert public | {key for key in listed if key.startswith("__")} == listed
    assert all(getattr(package, key) is not None for key in listed)


@pytest.mark.parametrize("name", PACKAGES)
def test_packages_say_what_they_are(name: str) -> None:
    assert importlib.import_module(name).__doc__


@pytest.mark.parametrize("name", ["inferwatch", "inferwatch_logger"])
def test_what_runs_inside_a_model_server_imports_nothing_heavy(name: str) -> None:
    listing = f"import json, sys, {name}; print(json.dumps([name.split('.')[0] for name in sys.modules]))"
    imported = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True).stdout
    assert HEAVY.isdisjoint(json.loads(imported))


def test_importing_a_package_logs_nothing_and_starts_no_thread() -> None:
    names = ", ".join(PACKAGES)
    listing = f"import threading, logging, {names}; print(threading.active_count(), logging.getLogger().handlers)"
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("1 []", "")


def test_the_version_is_stated_once() -> None:
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert (ROOT / PROJECT["tool"]["hatch"]["version"]["path"]).read_text(encoding="utf-8").count(__version__) == 1
    sources = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if path.name != "_version.py"]
    assert not [path for path in sources if f'"{__version__}"' in path.read_text(encoding="utf-8")]


def test_the_changelog_begins_with_the_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    first = next(line for line in changelog.splitlines() if line.startswith("## "))
    assert first.startswith(f"## {__version__}")
