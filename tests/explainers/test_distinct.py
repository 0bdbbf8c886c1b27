"""Inputs that are alike are found, and none that are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from inferwatch_explainers.distinct import distinct, first_occurrences


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 3), max_size=200))
def test_first_occurrences_are_those_of_a_dictionary(keys: list[int]) -> None:
    seen: dict[int, int] = {}
    expected = [seen.setdefault(key, place) for place, key in enumerate(keys)]
    assert first_occurrences(np.array(keys, dtype=np.uint64)).tolist() == expected


def test_keys_whose_hashes_collide_are_told_apart() -> None:
    keys = np.arange(5000, dtype=np.uint64)  # the leading bits of all of them are the same
    np.testing.assert_array_equal(first_occurrences(keys), np.arange(5000))


ROWS = np.random.default_rng(0).integers(0, 3, (300, 4)) / 4.0


@pytest.mark.parametrize("inputs", [ROWS, np.array([f"{row}" for row in ROWS])], ids=["rows", "texts"])
def test_inputs_come_once_and_are_found_again(inputs: NDArray[Any]) -> None:
    once, places = distinct(inputs)
    np.testing.assert_array_equal(once[places], inputs)
    assert len(once) == len(np.unique(inputs, axis=0))


def test_rows_of_one_key_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inferwatch_explainers.distinct._keys", lambda rows: np.zeros(len(rows), dtype=np.uint64))
    once, places = distinct(ROWS)
    np.testing.assert_array_equal(once[places], ROWS)
