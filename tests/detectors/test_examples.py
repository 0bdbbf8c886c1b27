import doctest
from types import ModuleType

import pytest

from inferwatch_detectors import conformal_outlier, effect, histogram, quality, two_sample_drift


@pytest.mark.parametrize(
    "module", [conformal_outlier, effect, histogram, quality, two_sample_drift], ids=lambda module: module.__name__
)
def test_the_examples_in_docstrings_print_what_they_say(module: ModuleType) -> None:
    found = doctest.testmod(module)

    assert found.attempted
    assert not found.failed
