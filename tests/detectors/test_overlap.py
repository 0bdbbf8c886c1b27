"""Windows that overlap keep the promise: each spends what it adds."""

from __future__ import annotations

import numpy as np
import pytest

from inferwatch.promise import NS_PER_DAY, Promise
from inferwatch.rows import Batch
from inferwatch_detectors import HistogramDrift
from inferwatch_detectors.window import Extent, LiveWindow
from tests.detectors.references import numbers

ROWS = 60_000
NS_A_ROW = NS_PER_DAY // ROWS


@pytest.mark.slow
@pytest.mark.parametrize("extent", [Extent(200, slide_rows=50), Extent(span_ns=200 * NS_A_ROW, slide_ns=50 * NS_A_ROW)])
@pytest.mark.parametrize("promise", [Promise(1000, "rows"), Promise(1 / 60, "days")])
def test_overlapping_windows_alarm_no_more_often_than_promised(extent: Extent, promise: Promise) -> None:
    """60 false alarms are promised in 60,000 rows or a day; seeded, and 85 allowed, three standard deviations."""
    random = np.random.default_rng(11)
    reference = numbers(random.normal(size=(5000, 3)))
    detector = HistogramDrift(reference, window_rows=200, promise=promise, smallest_effect=0)
    times = np.arange(ROWS, dtype=np.int64) * NS_A_ROW
    windows = LiveWindow(extent).add(Batch.of(random.normal(size=(ROWS, 3)), times_ns=times), times)
    fired = [finding.fired for window in windows for finding in detector.observe(window)]
    assert len(fired) > 1000
    assert 1 <= sum(fired) <= 85
