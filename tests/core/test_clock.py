"""Instants read and write as RFC 3339, to the nanosecond."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatch.clock import NS_PER_S, ManualClock, SystemClock, format_time, parse_time

YEAR_1_NS, YEAR_10000_NS = -62_135_596_800 * NS_PER_S, 253_402_300_800 * NS_PER_S


@pytest.mark.parametrize(
    ("text", "instant_ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t00:00:01.5z", 1_500_000_000),
        ("1970-01-01 00:00:01.000000001+00:00", 1_000_000_001),
        ("1970-01-01T01:30:00+01:30", 0),
        ("1969-12-31T23:59:59.25Z", -750_000_000),
        ("2026-11-21T02:22:01.48059340Z", 1_795_227_721_480_593_400),  # eight digits: Go trims zeros
        ("2026-11-21T02:22:01.1234567899Z", 1_795_227_721_123_456_789),  # the tenth is cut, not rounded
        ("2016-12-31T23:59:60Z", 1_483_228_799 * NS_PER_S),
        ("0001-01-01T00:00:00Z", YEAR_1_NS),  # Go's zero time
        (" 1970-01-01T00:00:00Z\n", 0),
    ],
)
def test_a_time_is_read_to_the_nanosecond(text: str, instant_ns: int) -> None:
    assert parse_time(text) == instant_ns


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "1795227721",
        "2026-11-21",
        "2026-11-21T10:00:00",
        "2026-11-21T10:00:00.Z",
        "2026-11-21T25:00:00Z",
        "2026-11-21T10:00:00+24:00",
        "2026-13-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "٢٠٢٦-11-21T10:00:00Z",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not an RFC 3339 time|must be in|out of range|strictly between"):
        parse_time(text)


@given(st.integers(YEAR_1_NS, YEAR_10000_NS - 1))
def test_every_instant_of_the_calendar_is_written_as_it_is_read(instant_ns: int) -> None:
    text = format_time(instant_ns)
    assert parse_time(text) == instant_ns
    assert datetime.fromisoformat(text[:19]).replace(tzinfo=UTC).timestamp() == instant_ns // NS_PER_S


def test_fractions_are_written_as_far_as_they_go() -> None:
    assert format_time(NS_PER_S) == "1970-01-01T00:00:01Z"
    assert format_time(NS_PER_S + 120_000_000) == "1970-01-01T00:00:01.12Z"
    assert format_time(-1) == "1969-12-31T23:59:59.999999999Z"
    assert format_time(YEAR_1_NS) == "0001-01-01T00:00:00Z"


def test_a_manual_clock_moves_only_when_told() -> None:
    clock = ManualClock(5)
    assert (clock.now_ns(), clock.now_ns()) == (5, 5)
    clock.advance(0.1)
    assert clock.now_ns() == 100_000_005


def test_the_system_clock_tells_the_machines_time() -> None:
    earlier = datetime.now(UTC).timestamp()
    assert earlier - 1 <= SystemClock().now_ns() / NS_PER_S <= datetime.now(UTC).timestamp() + 1
