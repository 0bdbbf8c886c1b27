"""Windows hold exactly n rows, wherever the rows came from and however often the window was put away."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatch.errors import InvalidRows
from inferwatch.rows import Batch
from inferwatch_detectors.window import RowWindow


def rows(count: int) -> Batch:
    return Batch.of(np.arange(2.0 * count).reshape(count, 2), times_ns=np.arange(count, dtype=np.int64) * 10 - 50)


def judged(windows: list[Batch]) -> list[tuple[list[float], int, int, int]]:
    return [(w.values[:, 0].tolist(), int(w.times_ns[0]), int(w.times_ns[-1]), w.since_ns) for w in windows]


def test_an_event_may_be_split_between_windows() -> None:
    window = RowWindow(4)
    assert judged(list(window.add(rows(10)))) == [([0, 2, 4, 6], -50, -20, -50), ([8, 10, 12, 14], -10, 20, -20)]
    assert window.needs_rows == 2


def test_rows_keep_the_payloads_they_came_with() -> None:
    (found,) = RowWindow(3).add(rows(5).slice(1, 4))
    assert found.keys.tolist() == found.payload_ids.tolist() == ["row-1", "row-2", "row-3"]


CUTS = st.lists(st.integers(0, 40), max_size=8)


@given(CUTS, st.integers(1, 12), st.booleans())
def test_neither_batches_nor_restarts_change_a_window(cuts: list[int], size: int, restarting: bool) -> None:
    whole = rows(40)
    expected = judged(list(RowWindow(size).add(whole)))
    window, found = RowWindow(size), list[Batch]()
    bounds = [0, *sorted(cuts), 40]
    for start, stop in pairwise(bounds):
        found += window.add(whole.slice(start, stop))
        if restarting:
            data, window = window.dump(), RowWindow(size)
            window.load(data, width=2)
        assert 1 <= window.needs_rows <= size
    assert judged(found) == expected


def test_a_window_put_away_before_any_row_begins_anew() -> None:
    window = RowWindow(2)
    window.load(RowWindow(2).dump(), width=2)
    assert judged(list(window.add(rows(2)))) == [([0, 2], -50, -40, -50)]


@pytest.mark.parametrize(("size", "width"), [(5, 3), (3, 2), (4, 2)])
def test_a_dump_that_does_not_fit_is_refused(size: int, width: int) -> None:
    window = RowWindow(10)
    assert list(window.add(rows(4))) == []
    with pytest.raises(InvalidRows, match=rf"holds 4 rows of 2 columns, wanted: below {size} of {width}"):
        RowWindow(size).load(window.dump(), width=width)
