"""The examples in docstrings print what they say. Detectors and explainers have tests of their own for theirs."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from collections.abc import Iterator

import pytest

PACKAGES = ("inferwatch", "inferwatch_logger", "inferwatch_dashboards", "inferwatch_cli")


def documented() -> Iterator[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    for package in PACKAGES:
        path = importlib.import_module(package).__path__
        for found in pkgutil.walk_packages(path, f"{package}."):
            if not found.name.endswith(("__main__", "demo.model_server")):  # one runs, one needs KServe's environment
                module = importlib.import_module(found.name)
                yield from (test for test in finder.find(module, found.name) if test.examples)


EXAMPLES = sorted(documented(), key=lambda test: test.name)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_example(example: doctest.DocTest, capsys: pytest.CaptureFixture[str]) -> None:
    failed, attempted = doctest.DocTestRunner().run(example)
    assert attempted > 0
    assert failed == 0, capsys.readouterr().out


def test_there_are_examples() -> None:
    assert {example.name for example in EXAMPLES} >= {"inferwatch.clock.ManualClock", "inferwatch.cells.category"}
