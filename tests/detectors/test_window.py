"""Windows hold what they promise, wherever the rows came from and however often the window was put away."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatch.errors import InvalidRows
from inferwatch.rows import Batch
from inferwatch_detectors.window import Extent, LiveWindow, Marks


def rows(count: int) -> Batch:
    return Batch.of(np.arange(2.0 * count).reshape(count, 2), times_ns=np.arange(count, dtype=np.int64) * 10 - 50)


def at(*times: int) -> Batch:
    """Rows at these times, numbered."""
    numbers = np.arange(float(len(times)))
    return Batch.of(np.column_stack([numbers, numbers]), times_ns=np.array(times, np.int64))


def marks(batch: Batch) -> Marks:
    return np.maximum.accumulate(batch.times_ns)


def closed(extent: Extent, batch: Batch) -> list[tuple[list[float], int, int]]:
    """The rows of each window, the end of the one before, and how many rows of it had been judged."""
    return told(LiveWindow(extent).add(batch, marks(batch)))


def told(windows: Sequence[Batch]) -> list[tuple[list[float], int, int]]:
    return [(window.values[:, 0].tolist(), window.since_ns, window.again) for window in windows]


def test_an_event_may_be_split_between_windows() -> None:
    window = LiveWindow(Extent(4))
    assert told(window.add(rows(10), marks(rows(10)))) == [([0, 2, 4, 6], -50, 0), ([8, 10, 12, 14], -20, 0)]
    assert window.needs_rows == 2


def test_rows_keep_the_payloads_they_came_with_also_across_restarts() -> None:
    window, part = LiveWindow(Extent(3)), rows(6).slice(1, 6)
    assert window.add(part.slice(0, 2), marks(part)[:2]) == []
    again = LiveWindow(Extent(3))
    again.load(window.dump(), width=2)
    (found,) = again.add(part.slice(2, 4), marks(part)[2:4])
    assert found.keys.tolist() == found.payload_ids.tolist() == ["row-1", "row-2", "row-3"]
    assert found.index.tolist() == [0, 0, 0]


def test_a_window_of_rows_slides_by_rows_and_says_how_many_it_held_before() -> None:
    assert closed(Extent(4, slide_rows=1), at(*range(6))) == [
        ([0, 1, 2, 3], 0, 0),
        ([1, 2, 3, 4], 3, 3),
        ([2, 3, 4, 5], 4, 3),
    ]


def test_a_window_of_time_begins_with_its_first_row_and_ends_with_the_watermark() -> None:
    assert closed(Extent(span_ns=10), at(3, 5, 12, 13, 30, 40)) == [([0, 1, 2], 3, 0), ([3], 12, 0), ([4], 13, 0)]


def test_rows_out_of_order_belong_to_the_window_that_is_open() -> None:
    assert closed(Extent(span_ns=10), at(3, 9, 4, 13)) == [([0, 1, 2], 3, 0)]


def test_late_rows_are_counted_and_reopen_nothing() -> None:
    window, batch = LiveWindow(Extent(span_ns=10)), at(3, 13, 12, 2, 14, 23)
    assert told(window.add(batch, marks(batch))) == [([0], 3, 0), ([1, 4], 3, 0)]
    assert window.late == 2


def test_a_row_from_the_past_of_the_watermark_opens_no_window() -> None:
    window, batch = LiveWindow(Extent(span_ns=10)), at(3, 40)
    assert window.add(batch, np.array([50, 50])) == []
    assert window.late == 2


def test_a_row_ahead_of_the_watermark_waits_for_its_own_window() -> None:
    window, batch = LiveWindow(Extent(span_ns=10)), at(0, 40, 5, 11, 41, 50)
    assert told(window.add(batch, np.array([0, 3, 5, 11, 41, 50]))) == [([0, 2], 0, 0), ([3], 5, 0), ([1, 4], 11, 0)]
    assert window.late == 0


def test_windows_of_time_slide_by_time() -> None:
    assert closed(Extent(span_ns=10, slide_ns=5), at(0, 4, 6, 11, 16, 40)) == [
        ([0, 1, 2], 0, 0),
        ([2, 3], 6, 1),
        ([3, 4], 11, 1),
    ]


@pytest.mark.parametrize(
    ("slide", "expected"),
    [(None, [[0, 1, 2], [3, 4]]), (1, [[0, 1, 2], [1, 2, 3], [2, 3, 4]])],
    ids=["one by one", "sliding"],
)
def test_whichever_limit_comes_first_closes(slide: int | None, expected: list[list[float]]) -> None:
    found = closed(Extent(3, 10, slide_rows=slide), at(0, 1, 2, 3, 4, 30))
    assert [values for values, _, _ in found] == expected


CUTS = st.lists(st.integers(0, 40), max_size=8)
EXTENTS = st.sampled_from(
    [
        *(Extent(size) for size in (1, 3, 7)),
        Extent(7, slide_rows=2),
        *(Extent(span_ns=span) for span in (1, 6, 25)),
        Extent(span_ns=12, slide_ns=5),
        Extent(5, 30),
        Extent(4, 9, slide_rows=3),
    ]
)


@given(CUTS, EXTENTS, st.lists(st.integers(0, 200), min_size=40, max_size=40), st.booleans())
def test_neither_batches_nor_restarts_change_a_window(
    cuts: list[int], extent: Extent, times: list[int], restarting: bool
) -> None:
    whole = at(*(number * 2 + jump // 20 for number, jump in enumerate(times)))
    mark = marks(whole) - 3
    once = LiveWindow(extent)
    expected = told(once.add(whole, mark))
    window, found = LiveWindow(extent), list[Batch]()
    for start, stop in pairwise([0, *sorted(cuts), 40]):
        found += window.add(whole.slice(start, stop), mark[start:stop])
        if restarting:
            data, window = window.dump(), LiveWindow(extent)
            window.load(data, width=2)
        assert window.needs_rows is None or 1 <= window.needs_rows <= (extent.rows or 0)
    assert told(found) == expected
    assert window.late == once.late


@given(EXTENTS, st.lists(st.integers(0, 200), min_size=40, max_size=40))
def test_windows_spend_no_row_and_no_moment_twice(extent: Extent, jumps: list[int]) -> None:
    whole = at(*(number * 2 + jump for number, jump in enumerate(jumps)))
    window = LiveWindow(extent)
    found = window.add(whole, marks(whole))
    assert sum(len(part) - part.again for part in found) <= 40 - window.late
    spans = [max(0, int(part.times_ns.max()) - part.since_ns) for part in found]
    assert sum(spans) <= int(whole.times_ns.max() - whole.times_ns.min())


def test_a_window_put_away_before_any_row_begins_anew() -> None:
    window = LiveWindow(Extent(2))
    window.load(LiveWindow(Extent(2)).dump(), width=2)
    assert told(window.add(rows(2), marks(rows(2)))) == [([0, 2], -50, 0)]


@pytest.mark.parametrize(("size", "width"), [(5, 3), (3, 2), (4, 2)])
def test_a_dump_that_does_not_fit_is_refused(size: int, width: int) -> None:
    window = LiveWindow(Extent(10))
    assert window.add(rows(4), marks(rows(4))) == []
    with pytest.raises(InvalidRows, match=rf"holds 4 rows of 2 columns, wanted: below {size} of {width}"):
        LiveWindow(Extent(size)).load(window.dump(), width=width)
