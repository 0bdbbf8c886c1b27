"""`scripts/environment` and the lock files, with an interpreter that only writes down what it is asked."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.components import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCKS = sorted((ROOT / "locks").glob("*.txt"))

RECORDER = """#!/bin/bash
case "$*" in
  --version) echo "Python $VERSION"; exit ;;
  *version_info*) [ "$VERSION" != 3.9.2 ]; exit ;;
esac
echo "$(basename "$0") $*" >> "$CALLS"
if [ "$1 $2" = "-m venv" ]; then
  mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && cp "$0" "$3/bin/uv"
fi
"""


class Workplace:
    """A copy of what the script reads, and what its interpreter was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls = folder, folder / "calls"
        shutil.copytree(ROOT / "scripts", folder / "scripts")
        shutil.copytree(ROOT / "locks", folder / "locks")
        shutil.copy(ROOT / "pyproject.toml", folder)
        self.python = folder / "recorder"
        self.python.write_text(RECORDER, encoding="utf-8")
        self.python.chmod(0o755)

    def make(self, *arguments: str, python: str = "", version: str = "3.11.9") -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PYTHON": python or str(self.python), "VERSION": version, "CALLS": str(self.calls)}
        command = ["scripts/environment", "venv", "locks/base.txt", *arguments]
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)

    def asked(self) -> list[str]:
        lines = self.calls.read_text(encoding="utf-8").splitlines() if self.calls.exists() else []
        self.calls.unlink(missing_ok=True)
        return lines


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


def test_the_first_run_installs_within_the_lock(workplace: Workplace) -> None:
    assert workplace.make("--editable", ".[all]", "--group", "lint").returncode == 0
    asked = workplace.asked()
    assert asked[0] == "recorder -m venv venv"
    assert asked[-1].startswith("uv pip install")
    assert asked[-1].endswith("--python venv/bin/python --constraint locks/base.txt --editable .[all] --group lint")


def test_the_second_run_does_nothing(workplace: Workplace) -> None:
    workplace.make("--editable", ".[all]")
    workplace.asked()
    again = workplace.make("--editable", ".[all]")
    assert (again.returncode, again.stdout, again.stderr, workplace.asked()) == (0, "", "", [])


@pytest.mark.parametrize("changed", ["pyproject.toml", "locks/base.txt", "scripts/demo-requirements.txt"])
def test_a_change_installs_again(workplace: Workplace, changed: str) -> None:
    workplace.make("--editable", ".[all]")
    workplace.asked()
    [stamp] = (workplace.folder / "venv").glob(".installed-*")
    os.utime(workplace.folder / changed, (0, stamp.stat().st_mtime + 10))
    assert workplace.make("--editable", ".[all]").returncode == 0
    assert [line.split()[0] for line in workplace.asked()] == ["python", "uv"]


def test_other_arguments_install_again(workplace: Workplace) -> None:
    workplace.make("--editable", ".[all]")
    workplace.asked()
    workplace.make("--editable", ".[all]", "--group", "test")
    assert workplace.asked()[-1].endswith("--group test")


def test_another_interpreter_makes_it_anew(workplace: Workplace) -> None:
    workplace.make("--editable", ".[all]")
    workplace.asked()
    other = workplace.folder / "other"
    other.write_text(RECORDER.replace("$VERSION", "3.12.1"), encoding="utf-8")
    other.chmod(0o755)
    done = workplace.make("--editable", ".[all]", python=str(other))
    assert "venv is of Python 3.11.9; making it anew with Python 3.12.1" in done.stderr
    assert workplace.asked()[0] == "other -m venv venv"


@pytest.mark.parametrize(
    ("python", "version", "message"),
    [("python-nowhere", "", "get one with: apt-get install python3"), ("", "3.9.2", "PYTHON=python3.12 make setup")],
)
def test_a_missing_prerequisite_is_named_in_one_line(
    workplace: Workplace, python: str, version: str, message: str
) -> None:
    done = workplace.make("--editable", ".[all]", python=python, version=version)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_locks_are_pins_and_nothing_else(lock: Path) -> None:
    lines = [line for line in lock.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert lines
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9.-]+==[\w.!+]+( ; [^#@/]+)?", line)] == []


def test_the_base_lock_pins_everything_that_is_asked_for() -> None:
    extras = PROJECT["project"]["optional-dependencies"].values()
    groups = PROJECT["dependency-groups"].values()
    asked = [*PROJECT["project"]["dependencies"], *(line for lines in (*extras, *groups) for line in lines), "uv"]
    pinned = pins(ROOT / "locks" / "base.txt")
    for requirement in map(Requirement, asked):
        if requirement.name != "inferwatch":
            versions = pinned.get(requirement.name.lower(), [])
            assert versions, f"{requirement} has no pin; run scripts/lock"
            assert all(version in requirement.specifier for version in versions), f"{requirement}; run scripts/lock"


@pytest.mark.parametrize("environment", ["demo", "cloudevents1", "cloudevents2"])
def test_the_other_locks_pin_what_their_environment_is_for(environment: str) -> None:
    pinned = pins(ROOT / "locks" / f"{environment}.txt")
    for requirement in map(Requirement, [*required(environment), *PROJECT["project"]["dependencies"]]):
        assert all(version in requirement.specifier for version in pinned[requirement.name.lower()])


def test_the_lock_of_old_libraries_pins_what_they_need() -> None:
    pinned = pins(ROOT / "locks" / "legacy-explain.txt")
    for requirement in map(Requirement, required("legacy-explain")):
        assert all(version in requirement.specifier for version in pinned[requirement.name.lower()])
    assert "inferwatch" not in pinned


def required(environment: str) -> list[str]:
    """Return what an environment is made for."""
    lines = (ROOT / "scripts" / f"{environment}-requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]


def pins(lock: Path) -> dict[str, list[str]]:
    """Return the versions of each package; several where they depend on the version of Python."""
    found: dict[str, list[str]] = {}
    for line in lock.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            pin = Requirement(line)
            found.setdefault(pin.name, []).extend(specifier.version for specifier in pin.specifier)
    return found
