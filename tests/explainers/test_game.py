from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatch_explainers.game import Game, first_occurrences
from tests.explainers.models import Recorder


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 3), max_size=200))
def test_first_occurrences_are_those_of_a_dictionary(keys: list[int]) -> None:
    seen: dict[int, int] = {}
    expected = [seen.setdefault(key, place) for place, key in enumerate(keys)]
    assert first_occurrences(np.array(keys, dtype=np.uint64)).tolist() == expected


def test_keys_whose_hashes_collide_are_told_apart() -> None:
    keys = np.arange(5000, dtype=np.uint64)  # the leading bits of all of them are the same
    np.testing.assert_array_equal(first_occurrences(keys), np.arange(5000))


@pytest.mark.parametrize("levels", [2, 1000])
def test_each_distinct_row_is_asked_once_and_answers_land_where_they_belong(levels: int) -> None:
    generator = np.random.default_rng(0)
    background = generator.integers(0, levels, (40, 4)).astype(float)
    rows = generator.integers(0, levels, (3, 4)).astype(float)
    recorder = Recorder(lambda asked: asked @ np.array([1.0, 10.0, 100.0, 1000.0]))
    masks = generator.random((9, 4)) < 0.5
    game = Game(recorder, background, rows)
    everything = np.ones((1, 4), dtype=bool)
    _, answers = game.ask([(everything, slice(0, 1)), (masks, slice(5, 30))])
    [asked] = recorder.asked
    assert len(np.unique(asked, axis=0)) == len(asked) == game.predictor_rows
    for row in range(3):
        for place, mask in enumerate(masks):
            filled = np.where(mask, rows[row], background[5:30])
            np.testing.assert_allclose(answers[row, place], filled @ np.array([1.0, 10.0, 100.0, 1000.0]))
