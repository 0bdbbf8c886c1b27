"""Components that a test starts and the environment may lack."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).parents[1]


def missing(what: str, remedy: str) -> NoReturn:
    """Skip the test and say why; fail where `CI` is set, because there nothing may be left out."""
    reason = f"{what} is not here; get it with: {remedy}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def program(*names: str) -> Path:
    """Return the first of the programs that is on PATH or was built by `scripts/components`."""
    path = os.pathsep.join([os.environ.get("PATH", ""), str(ROOT / "build" / "bin")])
    for name in names:
        if found := shutil.which(name, path=path):
            return Path(found)
    missing(" or ".join(names), "scripts/components")


def demo_python() -> Path:
    """Return the interpreter of the environment that has KServe's model server."""
    return _interpreter("demo", "the environment of the model server", "make setup-demo")


def cloudevents_python(major: int) -> Path:
    """Return the interpreter of the environment that has that version of the `cloudevents` SDK."""
    return _interpreter(f"cloudevents{major}", f"version {major} of the cloudevents SDK", "make setup-cloudevents")


def legacy_python() -> Path:
    """Return the interpreter of the environment that has alibi and AIX360."""
    return _interpreter("legacy-explain", "the environment of alibi and AIX360", "make setup-profiles")


def _interpreter(environment: str, what: str, remedy: str) -> Path:
    python = ROOT / ".venvs" / environment / "bin" / "python"
    if not python.exists():
        missing(what, remedy)
    return python
