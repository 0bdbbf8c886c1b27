from __future__ import annotations

import doctest

import pytest

from inferwatch_explainers import exact_shapley, kernel_shap


@pytest.mark.parametrize("module", [exact_shapley, kernel_shap], ids=lambda module: str(module.__name__))
def test_examples_in_docstrings_print_what_they_say(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]  # typeshed wants a ModuleType, and it is one
    assert result.attempted > 0
    assert result.failed == 0
