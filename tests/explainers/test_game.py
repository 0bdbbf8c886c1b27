from __future__ import annotations

import numpy as np
import pytest

from inferwatch_explainers.game import Game
from tests.explainers.models import Recorder


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
