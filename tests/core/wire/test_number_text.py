"""Numbers out of text are those that Python reads, to the bit, by simdjson and by Arrow."""

from __future__ import annotations

from decimal import Decimal, localcontext
from math import inf, nextafter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatch.wire import number_text
from inferwatch.wire.number_text import numbers_of
from tests.core.wire.interpreters import without_simdjson

FRACTIONS = st.floats(0, allow_infinity=False, width=64).filter(lambda value: nextafter(value, inf) < inf)


def halfway(value: float, digit: int) -> str:
    """Spell what is halfway between a float and the next, or a little more: what is hardest to round."""
    with localcontext(prec=1200):
        return f"{(Decimal(value) + Decimal(nextafter(value, inf))) / 2:e}".replace("e", f"000{digit}e")


@given(st.lists(st.builds(halfway, FRACTIONS, st.integers(0, 9)), min_size=1))
def test_fractions_are_rounded_as_python_rounds(spelt: list[str]) -> None:
    spelt = [number if "." in number else number.replace("000", ".000", 1) for number in spelt]
    text = f"[{','.join(spelt)}]".encode()
    expected = np.array(list(map(float, spelt)))
    with without_simdjson():
        found = numbers_of(text, whole=False)
    assert found is not None
    assert found.tobytes() == expected.tobytes()
    if number_text.Parser is not None:
        found = numbers_of(text, whole=False)
        assert found is not None
        assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("numbers", "dtype"),
    [
        ([2**63 - 1, -(2**63)], np.int64),
        ([2**63, 2**64 - 1, 0], np.uint64),
        ([2**64, 0], None),
        ([2**63, -1], None),
        ([-(2**63) - 1], None),
    ],
)
def test_whole_numbers_are_of_the_type_that_holds_them(numbers: list[int], dtype: type | None) -> None:
    with without_simdjson():
        found = numbers_of(str(numbers).encode(), whole=True)
    assert (found is None) == (dtype is None)
    assert found is None or (found.dtype == dtype and found.tolist() == numbers)
