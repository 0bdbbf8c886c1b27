"""Findings are kept once, listed by what is asked for, and statuses are replaced by newer ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest

from inferwatch.events import Service, Stream
from inferwatch.finding import FeatureFinding, Finding, Window
from inferwatch.payload_log.findings import (
    FindingFilter,
    list_findings,
    list_statuses,
    save_findings,
    save_statuses,
    status_document,
    status_from,
)
from inferwatch.payload_log.state import State
from inferwatch.status import DetectorStatus

STREAM = Stream("default", "income", "predictor", "default")
DRIFT = Finding("drift", "histogram", 4.0, 3.0, 100, Window(50, 100, 500), features=(FeatureFinding("age", 4, 2, 0.1),))
OUTLIER = Finding("outlier", "mahalanobis", 1.0, 3.0, 200, payload_id="a", key="k", row=0)
ALL = [
    DRIFT.at(STREAM, "inputs", "r", ("k", 0)),
    OUTLIER.at(STREAM, "rows", "r"),
    replace(OUTLIER, score=5.0, time_ns=300, key="l").at(STREAM._replace(endpoint="canary"), "rows", "r"),
    DRIFT.at(Stream("shop", "income", "predictor", "default"), "inputs", "r", ("k", 0)),
]


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    opened = State.open(tmp_path)
    save(opened, *ALL)
    yield opened
    opened.close()


def save(state: State, *findings: Finding) -> None:
    with state.transaction() as connection:
        save_findings(connection, findings)


def listed(state: State, wanted: FindingFilter) -> list[Finding]:
    with state.read() as connection:
        return [Finding.from_dict(document) for _, document in list_findings(connection, wanted)]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (FindingFilter(), [3, 2, 1, 0]),
        (FindingFilter(service=Service("default", "income")), [2, 1, 0]),
        (FindingFilter(service=Service("shop", "income")), [3]),
        (FindingFilter(endpoint="canary"), [2]),
        (FindingFilter(kind="drift"), [3, 0]),
        (FindingFilter(detector="rows"), [2, 1]),
        (FindingFilter(fired=True), [3, 2, 0]),
        (FindingFilter(fired=False), [1]),
        (FindingFilter(since_ns=200), [2, 1]),
        (FindingFilter(until_ns=200), [3, 0]),
        (FindingFilter(payload_key="k"), [1]),
        (FindingFilter(kind="outlier", fired=True, endpoint="default"), []),
    ],
)
def test_filters(state: State, wanted: FindingFilter, found: list[int]) -> None:
    assert listed(state, wanted) == [ALL[number] for number in found]


def test_pages_follow_each_other(state: State) -> None:
    with state.read() as connection:
        first = list_findings(connection, FindingFilter(), limit=3)
        rest = list_findings(connection, FindingFilter(), before=first[-1][0], limit=3)
    assert [document["id"] for _, document in (*first, *rest)] == [finding.id for finding in ALL[::-1]]


def test_a_finding_is_kept_once(state: State) -> None:
    save(state, *ALL, replace(ALL[0], score=9.0))
    assert listed(state, FindingFilter()) == ALL[::-1]


def test_numbers_of_numpy_are_numbers(state: State) -> None:
    found = replace(DRIFT, score=np.float64(7), p_value=np.float64(0.5)).at(STREAM, "numpy", "r")
    save(state, found)
    assert listed(state, FindingFilter(detector="numpy")) == [found]


STATUS = DetectorStatus(*STREAM, "inputs", "drift", "histogram", window_rows=500, needs_rows=7, notes=("a", "b"))


@pytest.mark.parametrize(
    "status",
    [STATUS, replace(STATUS, newest=ALL[0], state="alarm", windows=3, failures=1, scored=9, flagged=2, last_run_ns=5)],
)
def test_a_status_survives_json(status: DetectorStatus) -> None:
    assert status_from(status_document(status)) == status
    assert orjson.loads(status_document(status))["state"] == status.state


def test_score_and_threshold_are_those_of_the_newest_finding() -> None:
    judged = replace(STATUS, newest=DRIFT)
    assert (judged.score, judged.threshold, STATUS.score, STATUS.threshold) == (4.0, 3.0, None, None)


def test_statuses_are_those_of_the_last_time_alone(state: State) -> None:
    other = replace(STATUS, name="other")
    canary = replace(STATUS, endpoint="canary")
    for statuses in ([STATUS, other], [replace(STATUS, windows=1), canary]):
        with state.transaction() as connection:
            save_statuses(connection, statuses)
    with state.read() as connection:
        assert list_statuses(connection) == [canary, replace(STATUS, windows=1)]
        assert list_statuses(connection, Service("default", "income")) == [canary, replace(STATUS, windows=1)]
        assert list_statuses(connection, Service("default", "other")) == []
