from __future__ import annotations

import doctest
from importlib import import_module

import pytest

from inferwatch_explainers.adapters.table import ADAPTERS
from inferwatch_explainers.registry import METHODS

OWN = [method for method in METHODS if method not in ADAPTERS]


@pytest.mark.parametrize("method", [*OWN, "permutation_importance"])
def test_the_example_of_every_explainer_prints_what_it_says(method: str) -> None:
    outcome = doctest.testmod(import_module(f"inferwatch_explainers.{method}"))
    assert outcome.attempted > 0
    assert outcome.failed == 0
