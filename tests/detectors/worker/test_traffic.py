"""The worker's findings are a function of the rows in the order of the log, and of nothing else."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferwatch import pipeline as pipeline_module
from inferwatch.clock import NS_PER_S, ManualClock
from inferwatch.events import CloudEvent
from inferwatch.finding import Finding
from inferwatch.payload_log.findings import FindingFilter, list_findings
from inferwatch.payload_log.journal import Journal
from inferwatch.payload_log.state import State
from inferwatch.pipeline import Pipeline
from inferwatch_detectors import worker as worker_module
from inferwatch_detectors.worker import Worker
from tests.detectors.watched import HISTOGRAM, MAHALANOBIS, instances, items, model
from tests.detectors.worker.plugged import EACH, SEEN, numbers, status
from tests.inferences import NOON, request, response


@pytest.mark.usefixtures("plug")
def test_a_row_is_found_by_payload_key_and_index() -> None:
    (found,) = Worker([model(EACH)]).judge(items([numbers(1, 2), numbers(3, 400, second=7, identity="b")]))
    assert (found.payload_id, found.key, found.row) == ("b", f"b/{NOON + 7 * NS_PER_S}", 1)
    assert (found.namespace, found.name, found.detector) == ("default", "income", "each")


@pytest.mark.usefixtures("plug")
def test_only_rows_of_requests_that_count_are_judged() -> None:
    worker = Worker([model(SEEN, EACH)])
    events = [
        response("a", 0, [[500, "clerk"]] * 9),
        numbers(500, 500, identity="inferwatch-explain-1"),
        numbers(500, 500, metadata='{"X-Inferwatch-Origin":["explain"]}'),
        request("a", 0, b""),
        request("a", 0, b'{"name": "income", "ready": true}'),
        request("a", 0, b"noise"),
        request("a", 0, []),
    ]
    assert worker.judge(items(events)) == []
    assert (status(worker).needs_rows, status(worker, "each").scored) == (4, 0)


@pytest.mark.usefixtures("plug")
def test_streams_are_judged_apart_and_only_where_a_detector_wants_them() -> None:
    transformer = {"kind": "drift", "method": "seen", "name": "raw", "component": "transformer", "window": {"rows": 2}}
    worker = Worker([model(SEEN, transformer)])
    worker.judge(
        items(
            [
                numbers(1, 2, 3),
                numbers(4, 5, endpoint="canary"),
                numbers(6, component="transformer"),
                numbers(7, component="explainer"),
                numbers(8, component="router"),
                numbers(9, inferenceservicename="other"),
                numbers(10, namespace="other"),
            ]
        )
    )
    assert {(s.component, s.endpoint, s.detector): s.needs_rows for s in worker.statuses()} == {
        ("predictor", "default", "seen"): 1,
        ("predictor", "canary", "seen"): 2,
        ("transformer", "default", "raw"): 1,
    }
    assert {tuple(orjson.loads(name)[:4]) for name in worker.dump()} == {
        ("default", "income", "predictor", "default"),
        ("default", "income", "predictor", "canary"),
        ("default", "income", "transformer", "default"),
    }


@pytest.mark.usefixtures("plug")
def test_invented_streams_are_limited_and_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker_module, "MOST_STREAMS", 3)
    other = model(SEEN, name="other")
    worker = Worker([model(SEEN), other])
    with caplog.at_level(logging.WARNING):
        worker.judge(items(numbers(1, endpoint=f"invented-{number}") for number in range(20)))
        worker.judge(items([numbers(1, inferenceservicename="other")]))
    assert [status.endpoint for status in worker.statuses()] == ["invented-0", "invented-1", "invented-2", "default"]
    assert len(caplog.records) == 1


def mixed_traffic() -> list[CloudEvent]:
    """Rows of two streams, some by name and some by order, a shift on the way, and what is not to be judged."""
    events = []
    random = np.random.default_rng(5)
    for number in range(60):
        rows: list[Any] = instances(int(random.integers(1, 9)), seed=number, age=40 if number < 40 else 60)
        if number % 3 == 0:
            rows = [{"job": job, "age": age} for age, job in rows]
        if number % 7 == 0:
            rows[0] = {"age": 4000, "job": 7} if number % 3 == 0 else [4000, 7]
        endpoint = "canary" if number % 5 == 4 else "default"
        events.append(request(f"{number % 11}", number * 60, rows, endpoint=endpoint))
        events.append(response(f"{number % 11}", number * 60 + 1, [0] * len(rows), endpoint=endpoint))
    events[10:10] = [
        request("x", 299, b""),
        request("x", 299, b"noise"),
        numbers(5, 5, identity="inferwatch-explain-9"),
    ]
    return events


REAL = model(HISTOGRAM, MAHALANOBIS, burn_in_rows=30, false_alarms={"expected_run_length_windows": 20})


@pytest.fixture(scope="module")
def expected() -> list[Finding]:
    return by_id(Worker([REAL]).judge(items(mixed_traffic())))


def by_id(findings: Sequence[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: finding.id)


def test_real_detectors_find_the_shift_and_the_planted_rows(expected: list[Finding]) -> None:
    drift = [finding for finding in expected if finding.kind == "drift" and finding.endpoint == "default"]
    drift.sort(key=lambda finding: finding.time_ns)
    assert [finding.window and finding.window.rows for finding in drift] == [50] * len(drift)
    assert drift[-1].fired
    assert drift[-1].features[0].name == "age"
    flagged = {(finding.key, finding.row) for finding in expected if finding.kind == "outlier" and finding.fired}
    planted = {(f"{number % 11}/{NOON + number * 60 * NS_PER_S}", 0) for number in range(0, 60, 7)}
    assert planted <= flagged
    assert len({finding.id for finding in expected}) == len(expected)


@given(st.lists(st.integers(0, 123), max_size=6), st.booleans())
@settings(max_examples=15, deadline=None)
def test_neither_deliveries_nor_restarts_change_a_finding(
    expected: list[Finding], cuts: list[int], restarting: bool
) -> None:
    """The same events in the same order, in other batches, with a restart between them: the same findings and ids."""
    delivered = items(mixed_traffic())
    worker, found, kept = Worker([REAL]), list[Finding](), dict[str, bytes]()
    bounds = [0, *sorted(cuts), len(delivered)]
    for start, stop in pairwise(bounds):
        found += worker.judge(delivered[start:stop])
        if restarting:
            kept |= {name: data for name, data in worker.dump().items() if data is not None}
            before, worker = worker.statuses(), Worker([REAL])
            worker.load(kept)
            assert sorted(map(repr, worker.statuses())) == sorted(map(repr, before))
    assert by_id(found) == expected


def test_through_the_pipeline_the_size_of_its_steps_changes_nothing(
    expected: list[Finding], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock(NOON + 86_400 * NS_PER_S)
    found = []
    with Journal.open(tmp_path, clock=clock) as journal:
        journal.append(mixed_traffic()).result()
        for size in (2, 13, 2000):
            monkeypatch.setattr(pipeline_module, "BATCH_EVENTS", size)
            (tmp_path / f"{size}").mkdir()
            with State.open(tmp_path / f"{size}") as state:
                pipeline = Pipeline(journal, state, Worker([REAL]), pair_timeout_s=60, clock=clock)
                pipeline.start()
                pipeline.stop(60)
                with state.read() as connection:
                    listed = list_findings(connection, FindingFilter(), limit=10_000)
            found.append(sorted((document for _, document in listed), key=lambda document: document["id"]))
    assert found[0] == found[1] == found[2]
    # the keys of payloads are the journal's here, so ids differ from those of the bare worker
    assert sorted(document["score"] for document in found[0]) == sorted(finding.score for finding in expected)
