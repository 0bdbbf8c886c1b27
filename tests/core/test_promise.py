"""A promise becomes the probability with which one window may alarm falsely."""

from __future__ import annotations

import math
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatch.promise import NS_PER_DAY, Promise

Unit = Literal["windows", "rows", "days"]


@pytest.mark.parametrize(
    ("promise", "rows", "span_ns", "probability"),
    [
        (Promise(1000), 500, 0, 1 / 1000),
        (Promise(1000), 5, NS_PER_DAY, 1 / 1000),
        (Promise(1e6, "rows"), 500, 0, 500 / 1e6),
        (Promise(30, "days"), 500, NS_PER_DAY // 24, 1 / (24 * 30)),
        (Promise(0.5, "days"), 500, NS_PER_DAY // 10, 0.2),
        (Promise(1.5), 500, 0, 0.5),
        (Promise(1, "days"), 500, 10 * NS_PER_DAY, 0.5),
    ],
)
def test_a_window_spends_what_it_spans(promise: Promise, rows: int, span_ns: int, probability: float) -> None:
    assert promise.alarm_probability(rows, span_ns) == pytest.approx(probability, rel=1e-12)


@given(
    st.floats(1.0001, 1e9),
    st.sampled_from(["windows", "rows", "days"]),
    st.integers(1, 10**7),
    st.integers(-NS_PER_DAY, 100 * NS_PER_DAY),
)
def test_the_probability_can_always_be_kept(length: float, unit: Unit, rows: int, span_ns: int) -> None:
    assert 0 < Promise(length, unit).alarm_probability(rows, span_ns) <= 0.5


@pytest.mark.parametrize("unit", ["windows", "rows", "days"])
@pytest.mark.parametrize("length", [0, -1, math.inf, math.nan])
def test_an_impossible_run_length_is_refused_with_its_value(length: float, unit: Unit) -> None:
    with pytest.raises(ValueError, match=f"not {length}"):
        Promise(length, unit)


def test_only_days_may_be_below_one() -> None:
    assert Promise(0.25, "days").alarm_probability(1, NS_PER_DAY // 100) == pytest.approx(0.04)
    with pytest.raises(ValueError, match="above 1 rows, not 1"):
        Promise(1, "rows")


def test_a_promise_reads_as_a_sentence() -> None:
    assert str(Promise(30, "days")) == "one false alarm in 30 days"
