"""What the worker tells of its detectors."""

from __future__ import annotations

import pytest

from inferwatch.clock import NS_PER_S
from inferwatch.errors import UnkeepablePromise
from inferwatch.protocols import Detector
from inferwatch_detectors.worker import Worker
from tests.detectors.watched import items, model
from tests.detectors.worker.plugged import EACH, SEEN, Plug, Seen, numbers, restarted, status, status_of
from tests.inferences import NOON, request


def test_a_status_goes_from_waiting_to_alarm_and_back(plug: Plug) -> None:
    plug(seen=lambda: Seen(alarm=50))
    worker = Worker([model(SEEN)])
    assert status_of(worker, [numbers(1, 2, 3)]) == ("waiting", 1)
    assert status_of(worker, [numbers(60, second=5)]) == ("alarm", 4)
    assert (status(worker).windows, status(worker).scored, status(worker).last_run_ns) == (1, 4, NOON + 5 * NS_PER_S)
    assert (status(worker).score, status(worker).threshold, status(worker).window_rows) == (60, 50, 4)
    worker = restarted(worker, model(SEEN))
    assert status_of(worker, [numbers(70)]) == ("alarm", 3)
    assert status_of(worker, [numbers(1, 2, 3)]) == ("alarm", 4)
    assert status_of(worker, [numbers(1, 2, 3, 4)]) == ("ok", 4)
    assert status(worker).windows == 3


@pytest.mark.usefixtures("plug")
def test_a_detector_of_rows_counts_what_it_scored_and_flagged() -> None:
    worker = Worker([model(EACH)])
    worker.judge(items([numbers(1, 2, 300), numbers(400)]))
    found = status(worker, "each")
    assert (found.state, found.scored, found.flagged, found.needs_rows, found.newest) == ("ok", 4, 2, None, None)


def test_a_detector_that_raises_is_counted_and_named_and_the_others_go_on(
    plug: Plug, caplog: pytest.LogCaptureFixture
) -> None:
    plug(seen=lambda: Seen(feared=13))
    worker = Worker([model(SEEN, EACH)])
    found = worker.judge(items([numbers(13, 200, 3, 4), numbers(13, 6, 7, 8)]))
    assert [finding.method for finding in found] == ["each"]
    failed = status(worker)
    assert (failed.failures, failed.windows, failed.state) == (2, 0, "waiting")
    assert failed.notes == ("ZeroDivisionError: no such number",)
    assert status(worker, "each").notes == ()
    assert len(caplog.records) == 1
    assert len(worker.judge(items([numbers(1, 2, 3, 4)]))) == 1
    assert (status(worker).failures, status(worker).windows, status(worker).notes) == (2, 1, ())


def test_a_promise_that_cannot_be_kept_is_told_in_the_notes(plug: Plug) -> None:
    def refuse() -> Detector:
        raise UnkeepablePromise("the reference holds 10 rows, 500 would do")

    plug(seen=refuse)
    worker = Worker([model(SEEN, EACH)])
    assert len(worker.judge(items([numbers(1, 2, 3, 4, 500)]))) == 1
    assert (status(worker).state, status(worker).notes) == ("waiting", ("the reference holds 10 rows, 500 would do",))


@pytest.mark.usefixtures("plug")
def test_columns_that_do_not_match_are_told_and_nothing_is_judged_until_they_do() -> None:
    worker = Worker([model(SEEN)])
    assert worker.judge(items([request("a", 0, [[1, 2, 3]] * 9)])) == []
    assert status(worker).notes == ("rows have 3 columns without names, the reference has 2: age, job",)
    assert status(worker).needs_rows == 4
    assert len(worker.judge(items([numbers(1, 2, 3, 4)]))) == 1
    assert status(worker).notes == ()
    # a mismatch in the middle of a delivery costs only its own rows
    assert worker.judge(items([numbers(1, 2), request("a", 0, [[1]] * 9), numbers(3, 4)]))[0].why.startswith("[1.0, 2")
    assert (status(worker).unfit, status(restarted(worker, model(SEEN))).unfit) == (18, 18)


@pytest.mark.usefixtures("plug")
def test_missing_and_extra_columns_are_named() -> None:
    worker = Worker([model(SEEN)])
    worker.judge(items([request("a", 0, [{"age": 1, "wage": 2, "town": "b"}])]))
    assert status(worker).notes == ("columns missing: job", "columns unknown to the reference: wage, town")
    assert status(worker).needs_rows == 3


@pytest.mark.usefixtures("plug")
def test_runs_are_observed_with_their_method() -> None:
    class Runs:
        def __init__(self) -> None:
            self.seen: list[str] = []

        def ran(self, method: str, seconds: float) -> None:
            assert seconds >= 0
            self.seen.append(method)

    runs = Runs()
    Worker([model(SEEN, EACH)], runs).judge(items([numbers(*range(9))]))
    assert sorted(runs.seen) == ["each", "seen", "seen"]
