"""Interpreters for which there is no simdjson."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from inferwatch.wire import number_text, numeric


@contextmanager
def without_simdjson() -> Iterator[None]:
    """Have no simdjson."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "simdjson", None)
        for module in (number_text, numeric):
            patch.setattr(module, "Parser", None)
        yield
