"""Interpreters for which there is no simdjson."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from inferwatch.wire import number_text, numeric


@contextmanager
def without_simdjson() -> Iterator[None]:
    """Have no simdjson, and texts of tests that consist of parts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(number_text, "_PART", 4093)
        patch.setitem(sys.modules, "simdjson", None)
        for module in (number_text, numeric):
            patch.setattr(module, "Parser", None)
        yield
