"""Interpreters for which there is no simdjson."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from inferwatch.wire import number_text, numbers, numeric


@contextmanager
def without_simdjson() -> Iterator[None]:
    """Have no simdjson, texts that consist of parts, and arrays of 256 numbers that are large."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(number_text, "_PART", 4093)
        patch.setattr(numbers, "MIN_NUMBERS", 256)
        patch.setattr(numbers, "_MIN_BYTES", 513)
        patch.setitem(sys.modules, "simdjson", None)
        for module in (number_text, numeric):
            patch.setattr(module, "Parser", None)
        yield
