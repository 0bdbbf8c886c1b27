"""Which rows a window holds."""

from __future__ import annotations

import logging

import pytest

from inferwatch_detectors.worker import Worker
from tests.detectors.watched import items, model
from tests.detectors.worker.plugged import EACH, SEEN, numbers, restarted, status, status_of


@pytest.mark.usefixtures("plug")
def test_windows_hold_exactly_their_rows_and_split_events() -> None:
    worker = Worker([model(SEEN)])
    found = worker.judge(
        items([numbers(1, 2, 3, second=1), numbers(4, 5, 6, 7, 8, 9, second=2), numbers(10, second=3)])
    )
    assert [finding.why for finding in found] == ["[1.0, 2.0, 3.0, 4.0] since 1", "[5.0, 6.0, 7.0, 8.0] since 2"]
    assert status(worker).needs_rows == 2
    assert worker.judge(items([numbers(11, 12, second=4)]))[0].why == "[9.0, 10.0, 11.0, 12.0] since 2"


@pytest.mark.usefixtures("plug")
def test_windows_within_one_instant_have_ids_of_their_own() -> None:
    found = Worker([model(SEEN)]).judge(items([numbers(*range(40))]))
    assert len({finding.id for finding in found}) == len(found) == 10


@pytest.mark.usefixtures("plug")
def test_the_burn_in_enters_no_window(caplog: pytest.LogCaptureFixture) -> None:
    worker = Worker([model(SEEN, EACH, burn_in_rows=3)])
    assert status_of(worker, [numbers(1)]) == ("waiting", 2 + 4)
    with caplog.at_level(logging.INFO):
        found = worker.judge(items([numbers(200, 3, 4, 5, 6), numbers(7)]))
    assert caplog.messages == ["default/income: burn-in over after 3 rows: rows independent, as estimated"]
    assert [finding.method for finding in found] == ["seen", "each"] or [f.method for f in found] == ["each", "seen"]
    (window,) = [finding for finding in found if finding.method == "seen"]
    assert window.why == "[4.0, 5.0, 6.0, 7.0] since 0"


MINUTES = {"kind": "drift", "method": "seen", "window": {"minutes": 1}}


@pytest.mark.usefixtures("plug")
def test_windows_of_time_close_by_the_times_in_the_log() -> None:
    worker = Worker([model(MINUTES)])
    found = worker.judge(items([numbers(1, 2, second=5), numbers(3, second=50), numbers(4, second=64.9)]))
    assert (found, status(worker).window_rows, status(worker).needs_rows) == ([], None, None)
    assert [f.why for f in worker.judge(items([numbers(5, second=65)]))] == ["[1.0, 2.0, 3.0, 4.0] since 5"]
    assert worker.judge(items([numbers(6, second=64), numbers(7, second=70)])) == []
    again = restarted(worker, model(MINUTES))
    assert [f.why for f in again.judge(items([numbers(8, second=126)]))] == ["[5.0, 7.0] since 64.9"]
    assert (status(again).late, status(again).windows) == (1, 2)


@pytest.mark.usefixtures("plug")
def test_a_clock_that_is_fast_closes_no_windows_of_others() -> None:
    worker = Worker([model(MINUTES)])
    arrived = items([numbers(1, second=5), numbers(2, second=250), numbers(3, second=10)], arrival_s=6)
    assert worker.judge(arrived) == []
    assert [f.why for f in worker.judge(items([numbers(4, second=66)], arrival_s=66))] == ["[1.0, 3.0] since 5"]
    assert status(worker).late == 0


@pytest.mark.usefixtures("plug")
def test_windows_that_overlap_hold_rows_again() -> None:
    worker = Worker([model(SEEN | {"window": {"rows": 4, "slide": 2}})])
    found = worker.judge(items([numbers(1, 2, 3, 4, 5, 6)]))
    assert [f.why for f in found] == ["[1.0, 2.0, 3.0, 4.0] since 0", "[3.0, 4.0, 5.0, 6.0] since 0"]
    assert status(restarted(worker, model(SEEN | {"window": {"rows": 4, "slide": 2}}))).needs_rows == 2
