"""The worker's findings are a function of the rows in the order of the log, and of nothing else."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
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
from inferwatch.errors import UnkeepablePromise
from inferwatch.events import CloudEvent
from inferwatch.finding import Finding, Window
from inferwatch.payload_log.findings import FindingFilter, list_findings
from inferwatch.payload_log.journal import Journal
from inferwatch.payload_log.state import State
from inferwatch.pipeline import Pipeline
from inferwatch.protocols import Detector
from inferwatch.rows import Batch
from inferwatch.status import DetectorStatus
from inferwatch_detectors import plugins
from inferwatch_detectors import worker as worker_module
from inferwatch_detectors.registry import DETECTORS, Entry
from inferwatch_detectors.worker import MonitoredModel, Worker
from tests.detectors.watched import HISTOGRAM, MAHALANOBIS, instances, items, learnt, model
from tests.inferences import NOON, request, response

SEEN = {"kind": "drift", "method": "seen", "window": {"rows": 4}}
EACH = {"kind": "outlier", "method": "each"}


class Seen:
    """Finds in each window what it saw; raises for a number that it is told to fear."""

    def __init__(self, feared: float = np.inf, alarm: float = 1e9) -> None:
        self._feared = feared
        self._alarm = alarm

    def observe(self, batch: Batch, /) -> list[Finding]:
        first = batch.values[:, 0]
        if (first == self._feared).any():
            raise ZeroDivisionError("no such number")
        window = Window(int(batch.times_ns[0]), int(batch.times_ns[-1]), len(batch))
        why = f"{first.tolist()} since {(batch.since_ns - NOON) / NS_PER_S:g}"
        return [Finding("drift", "seen", float(first.max()), self._alarm, window.to_ns, window, why=why)]


class Each:
    """Finds something in each row above 100."""

    def observe(self, batch: Batch, /) -> list[Finding]:
        return [
            Finding("outlier", "each", value, 100.0, time_ns, payload_id=payload, key=key, row=row)
            for value, time_ns, payload, key, row in zip(
                batch.values[:, 0].tolist(),
                batch.times_ns.tolist(),
                batch.payload_ids,
                batch.keys,
                batch.index.tolist(),
                strict=True,
            )
            if value > 100
        ]


Plug = Callable[..., None]


@pytest.fixture
def plug(monkeypatch: pytest.MonkeyPatch) -> Plug:
    """Put the small detectors, and others given as (kind, method)=builder, among those of the registry."""

    def plugged(**built: Callable[[], Detector]) -> None:
        known: dict[str, Callable[[], Detector]] = {"seen": Seen, "each": Each, **built}
        entries = {
            (kind, method): Entry(kind, method, kind == "drift", lambda *_, make=make, **__: make())
            for method, make in known.items()
            for kind in ("drift", "outlier")
        }
        monkeypatch.setattr(plugins, "DETECTORS", dict(DETECTORS) | entries)

    plugged()
    return plugged


def numbers(*values: float, second: float = 0, identity: str = "a", **extensions: str) -> CloudEvent:
    return request(identity, second, [[value, "clerk"] for value in values], **extensions)


def status(worker: Worker, detector: str = "seen") -> DetectorStatus:
    (found,) = [status for status in worker.statuses() if status.detector == detector]
    return found


def restarted(worker: Worker, *models: MonitoredModel) -> Worker:
    """Return a worker of these models that continues from what the other dumps."""
    again = Worker(models)
    again.load({name: data for name, data in worker.dump().items() if data is not None})
    return again


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


@pytest.mark.usefixtures("plug")
def test_a_dump_holds_what_changed_since_the_last() -> None:
    worker = Worker([model(SEEN)])
    worker.judge(items([numbers(1), numbers(2, endpoint="canary")]))
    assert {orjson.loads(name)[3] for name in worker.dump()} == {"default", "canary"}
    assert worker.dump() == {}
    worker.judge(items([numbers(3)]))
    assert {orjson.loads(name)[3] for name in worker.dump()} == {"default"}


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


def status_of(worker: Worker, events: list[CloudEvent]) -> tuple[str, int | None]:
    worker.judge(items(events))
    return status(worker).state, status(worker).needs_rows


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


@pytest.mark.usefixtures("plug")
def test_missing_and_extra_columns_are_named() -> None:
    worker = Worker([model(SEEN)])
    worker.judge(items([request("a", 0, [{"age": 1, "wage": 2, "town": "b"}])]))
    assert status(worker).notes == ("columns missing: job", "columns unknown to the reference: wage, town")
    assert status(worker).needs_rows == 3


CHANGES: Mapping[str, tuple[dict[str, Any], bool]] = {
    "nothing": ({}, True),
    "the deadline of an explainer": ({"explainers": [{"method": "a", "predictor": "http://a"}]}, True),
    "the window": ({"detectors": [SEEN | {"window": {"rows": 5}}]}, False),
    "the promise": ({"false_alarms": {"expected_run_length_windows": 7}}, False),
    "the smallest effect": ({"false_alarms": {"smallest_effect": 0.2}}, False),
    "the burn-in": ({"burn_in_rows": 1}, False),
}


@pytest.mark.usefixtures("plug")
@pytest.mark.parametrize("change", CHANGES)
def test_what_is_kept_is_used_while_the_rule_is_the_same(change: str) -> None:
    fields, kept = CHANGES[change]
    worker = Worker([model(SEEN)])
    worker.judge(items([numbers(1, 2, 3, 4, 5)]))
    again = restarted(worker, model(SEEN, **fields))
    if kept:
        assert status(again) == status(worker)
        assert status(again).needs_rows == 3
    else:
        assert (status(again).windows, status(again).state) == (0, "waiting")


@pytest.mark.usefixtures("plug")
def test_another_reference_begins_anew_and_gives_other_ids() -> None:
    worker = Worker([model(SEEN)])
    (first,) = worker.judge(items([numbers(1, 2, 3, 4, 5)]))
    other = model(SEEN, reference=learnt(seed=9))
    again = restarted(worker, other)
    assert (status(again).windows, status(again).needs_rows) == (0, 4)
    (second,) = again.judge(items([numbers(1, 2, 3, 4)]))
    assert first.id != second.id
    assert replace(first, id="") == replace(second, id="")


@pytest.mark.usefixtures("plug")
def test_a_detector_that_is_new_or_gone_leaves_the_others_as_they_were() -> None:
    worker = Worker([model(SEEN, EACH)])
    worker.judge(items([numbers(1, 2, 300)]))
    again = restarted(worker, model(SEEN, SEEN | {"name": "other"}))
    assert [(s.detector, s.needs_rows) for s in again.statuses()] == [("seen", 1), ("other", 4)]
    assert len(again.judge(items([numbers(4)]))) == 1
    assert restarted(worker).statuses() == []


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


class Counting(Each):
    """Remembers how many rows it saw, and finds so many in the last of each batch."""

    def __init__(self) -> None:
        self.rows = 0

    def observe(self, batch: Batch, /) -> list[Finding]:
        self.rows += len(batch)
        time_ns = int(batch.times_ns[-1])
        return [Finding("outlier", "each", self.rows, 1e9, time_ns, key=batch.keys[-1], row=int(batch.index[-1]))]

    def dump(self) -> bytes:
        return str(self.rows).encode()

    def load(self, data: bytes, /) -> None:
        self.rows = int(data)


@pytest.mark.parametrize("detector", [EACH, SEEN], ids=["of rows", "of windows, built after the burn-in"])
def test_a_detector_with_a_memory_continues_from_it(plug: Plug, detector: dict[str, Any]) -> None:
    plug(each=Counting, seen=Counting)
    watched = model(detector, burn_in_rows=2)
    worker = Worker([watched])
    worker.judge(items([numbers(*range(6))]))
    again = restarted(worker, watched)
    (found,) = again.judge(items([numbers(*range(4))]))
    assert found.score == (10 if detector is EACH else 8)


@pytest.mark.usefixtures("plug")
def test_loading_forgets_what_was_there() -> None:
    worker = Worker([model(SEEN)])
    worker.judge(items([numbers(1, 2)]))
    worker.load({})
    assert (worker.statuses(), worker.dump()) == ([], {})
