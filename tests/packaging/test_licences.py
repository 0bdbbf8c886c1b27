"""No package under a licence that forbids production use or would pass to the project.

Read from the metadata of everything that is installed, and by name from the lock files, since an environment may hold
less than its lock.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.components import ROOT, demo_python, legacy_python

REFUSED = {
    "alibi": (Version("0.9.5"), "Business Source License"),
    "alibi-detect": (Version("0.11.5"), "Business Source License"),
    "ecos": (Version("0"), "GPL"),
}
"""Package, the first version refused, why. alibi's and alibi-detect's metadata do not tell."""

NAMELESS = {"cuda-toolkit"}
"""Packages without any files or licence of their own, which only bring others."""

FORBIDDEN = re.compile(r"\bA?GPL|Affero|(?<!Lesser )General Public|Business Source|\bBUSL|SSPL|Commons Clause", re.I)


def licence(distribution: Distribution) -> str:
    metadata = distribution.metadata
    if "License-Expression" in metadata:
        return metadata["License-Expression"]
    classifiers = [value for value in metadata.get_all("Classifier") or () if value.startswith("License ::")]
    declared = "; ".join([*classifiers, metadata["License"][:200] if "License" in metadata else ""])
    return declared if declared.strip("; ") else _licence_file(distribution)


def _licence_file(distribution: Distribution) -> str:
    """The text that comes with a package whose metadata do not name a licence."""
    files = distribution.metadata.get_all("License-File") or ()
    return "\n".join(distribution.read_text(f"licenses/{name}") or "" for name in files)


def forbidden(text: str) -> bool:
    """Say whether a licence text leaves no permissive choice."""
    return all(FORBIDDEN.search(choice) for choice in re.split(r"\bOR\b", text))


@pytest.mark.parametrize("lock", sorted((ROOT / "locks").glob("*.txt")), ids=lambda path: path.stem)
def test_locks_hold_no_refused_package(lock: Path) -> None:
    lines = lock.read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert pins
    for pin in pins:
        [version] = [Version(specifier.version) for specifier in pin.specifier]
        since, why = REFUSED.get(pin.name, (None, ""))
        assert since is None or version < since, f"{pin.name} {version}: {why}"


def test_nothing_installed_is_forbidden() -> None:
    refuse_forbidden(distributions())


@pytest.mark.integration
def test_nothing_beside_the_model_server_is_forbidden() -> None:
    [packages] = demo_python().parents[1].glob("lib/python*/site-packages")
    refuse_forbidden(distributions(path=[str(packages)]))


@pytest.mark.profile
def test_nothing_of_the_profiles_is_forbidden() -> None:
    refuse_forbidden(distributions())
    [packages] = legacy_python().parents[1].glob("lib/python*/site-packages")
    refuse_forbidden(distributions(path=[str(packages)]))


def refuse_forbidden(installed: Iterable[Distribution]) -> None:
    found = {
        distribution.name: licence(distribution) for distribution in installed if distribution.name not in NAMELESS
    }
    assert len(found) > 50
    assert {name: text for name, text in found.items() if forbidden(text) or not text.strip("; ")} == {}


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("Apache-2.0", False),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", False),
        ("License :: OSI Approved :: GNU Lesser General Public License v2 or later (LGPLv2+); LGPL-2.1", False),
        ("BSL-1.0", False),  # Boost
        ("GPL-3.0-only", True),
        ("License :: OSI Approved :: GNU General Public License v3 (GPLv3); ", True),
        ("BUSL-1.1", True),
        ("Business Source License 1.1", True),
        ("AGPL-3.0-or-later", True),
        ("GPL-2.0-only OR MIT", False),
    ],
)
def test_the_gate_tells_licences_apart(text: str, refused: bool) -> None:
    assert forbidden(text) is refused
