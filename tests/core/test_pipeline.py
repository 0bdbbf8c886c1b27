"""What the pipeline derives is a function of the journal, wherever and however often it is stopped."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inferwatch import pipeline as pipeline_module
from inferwatch.clock import NS_PER_S, ManualClock
from inferwatch.errors import PayloadLogError
from inferwatch.events import CloudEvent, Role, Stream
from inferwatch.exclusion import Exclusion, HeaderRule
from inferwatch.finding import Finding, Window
from inferwatch.payload_log.entry import Entry
from inferwatch.payload_log.index import PayloadFilter, list_payloads
from inferwatch.payload_log.joiner import Payload
from inferwatch.payload_log.journal import Journal
from inferwatch.payload_log.state import State
from inferwatch.pipeline import Item, Pipeline
from inferwatch.status import DetectorStatus
from tests.inferences import NOON, explanation, request, response

TABLES = ("position", "streams", "payloads", "findings", "judges", "statuses")
WAIT_S = 20.0
EVENING = NOON + 6 * 3600 * NS_PER_S


class RowCounter:
    """Finds something in every third row of a stream, and remembers how many there were."""

    def __init__(self) -> None:
        self.counts: dict[Stream, int] = {}

    def judge(self, items: Sequence[Item], /) -> list[Finding]:
        return [finding for item in items if item.role is Role.REQUEST for finding in self._count(item)]

    def _count(self, item: Item) -> Iterator[Finding]:
        rows = item.decoded.rows
        for row in range(rows.count if rows is not None and item.excluded is None else 0):
            seen = self.counts[item.stream] = self.counts.get(item.stream, 0) + 1
            if seen % 3 == 0:
                window = Window(item.time_ns, item.time_ns, seen)
                found = Finding("drift", "count", float(seen), 3.0, item.time_ns, window, row=row)
                yield found.at(item.stream, "count", "each third row", (item.payload_key, row))

    def dump(self) -> Mapping[str, bytes | None]:
        return {orjson.dumps([*stream]).decode(): str(count).encode() for stream, count in self.counts.items()}

    def load(self, states: Mapping[str, bytes], /) -> None:
        self.counts = {Stream(*orjson.loads(name)): int(count) for name, count in states.items()}

    def statuses(self) -> list[DetectorStatus]:
        return [DetectorStatus(*stream, "count", "drift", "count", scored=n) for stream, n in self.counts.items()]


class Killed(BaseException):
    """The process died here."""


class Trap:
    """Springs at a given pass, and never again."""

    def __init__(self, passes: int, fault: BaseException) -> None:
        self._passes = passes
        self._fault = fault

    def step(self) -> None:
        self._passes -= 1
        if self._passes == 0:
            raise self._fault


class TrappedJudge(RowCounter):
    def __init__(self, trap: Trap) -> None:
        super().__init__()
        self._trap = trap

    def judge(self, items: Sequence[Item], /) -> list[Finding]:
        found = super().judge(items)
        self._trap.step()
        return found


class TrappedState(State):
    """Springs its traps at the begin, before the commit, and behind the commit of its transactions."""

    before: Trap | None = None
    within: Trap | None = None
    after: Trap | None = None

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        if self.before:
            self.before.step()
        with super().transaction() as connection:
            yield connection
            if self.within:
                self.within.step()
        if self.after:
            self.after.step()


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small steps, each with a commit, and no pause before another try."""
    monkeypatch.setattr(pipeline_module, "BATCH_EVENTS", 3)
    monkeypatch.setattr(pipeline_module, "COMMIT_INTERVAL_S", 0)
    monkeypatch.setattr(pipeline_module, "RETRY_S", 0)
    monkeypatch.setattr(pipeline_module, "time", SimpleNamespace(monotonic=lambda: 1.0))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path, clock=ManualClock(EVENING)) as opened:
        yield opened


def traffic() -> list[CloudEvent]:
    """40 events: pairs in both orders, a reused id, two streams, probes, explainers' calls, and noise."""
    events: list[CloudEvent] = []
    for number in range(9):
        endpoint = "canary" if number % 4 == 3 else "default"
        pair = [
            request(f"{number % 5}", number * 100, [[1.5, number]] * (number % 3 + 1), endpoint=endpoint),
            response(f"{number % 5}", number * 100 + 1, [0] * (number % 3 + 1), endpoint=endpoint, statuscode="200"),
        ]
        events += pair[:: -1 if number % 2 else 1]
        events.append(request(f"lonely {number}", number * 100 + 2, [[0.5, 1]]))
    events += [response("lonely 1", 103, b""), response("late", 50, [1]), request("late", 49, [[1, 2]])]
    events += [request("inferwatch-explain-1", 950, [[1, 2]] * 50), request("probe", 950, b"")]
    events += [request("noise", 951, b"\xff\xfe"), request("other", 952, [[1]], inferenceservicename="other")]
    events += [response("again", 953 + number, [number]) for number in range(6)]
    return events


def pipeline_of(journal: Journal, state: State, judge: RowCounter, **options: Any) -> Pipeline:
    return Pipeline(journal, state, judge, pair_timeout_s=60, clock=ManualClock(NOON), **options)


def content(state: State) -> dict[str, list[tuple[Any, ...]]]:
    with state.read() as connection:
        return {table: connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in TABLES}


def derive(journal: Journal, state: State, judge: RowCounter | None = None) -> dict[str, list[tuple[Any, ...]]]:
    """Follow the journal to its end and return everything that was derived."""
    pipeline = pipeline_of(journal, state, judge or RowCounter())
    with running(pipeline):
        assert pipeline.wait_for(journal.end(), WAIT_S)
    return content(state)


@contextmanager
def running(pipeline: Pipeline) -> Iterator[None]:
    pipeline.start()
    try:
        yield
    finally:
        pipeline.stop()


@contextmanager
def state_in(directory: Path, kind: type[State] = State) -> Iterator[Any]:
    directory.mkdir(exist_ok=True)
    state = kind.open(directory)
    try:
        yield state
    finally:
        state.close()


@pytest.fixture
def undisturbed(journal: Journal, tmp_path: Path) -> dict[str, list[tuple[Any, ...]]]:
    journal.append(traffic()).result()
    with state_in(tmp_path / "undisturbed") as state:
        return derive(journal, state)


def test_everything_is_derived(undisturbed: dict[str, list[tuple[Any, ...]]], journal: Journal) -> None:
    assert undisturbed["position"] == [(1, journal.end())]
    streams = {row[2:5]: row[5:7] for row in undisturbed["streams"]}
    events, rows = streams["income", "predictor", "default"]
    assert (events, rows) == (35, 15 + 9 + 1 + 50)  # pairs, lonely ones, the late one, the explainer's
    assert streams["income", "predictor", "canary"] == (4, 3)
    assert streams["other", "predictor", "default"] == (1, 1)
    scored = {status[0:3]: orjson.loads(status[-1])["scored"] for status in undisturbed["statuses"]}
    assert scored["default", "income", "default"] == 15 + 9 + 1  # the 50 rows of the explainer's call are only stored
    assert len(undisturbed["findings"]) == 25 // 3 + 3 // 3


def test_halves_become_payloads(journal: Journal, tmp_path: Path) -> None:
    journal.append(traffic()).result()
    with state_in(tmp_path / "state") as state:
        derive(journal, state)
        with state.read() as connection:
            found = [payload for _, payload in list_payloads(connection, PayloadFilter())]
    by_id: dict[str, list[Payload]] = {}
    for payload in found:
        by_id.setdefault(payload.id, []).append(payload)
    (late,), (probe,), (explained,), (noise,) = (by_id[i] for i in ("late", "probe", "inferwatch-explain-1", "noise"))
    assert (late.outcome, late.request_time_ns, late.time_ns) == ("paired", NOON + 49 * NS_PER_S, NOON + 49 * NS_PER_S)
    assert (probe.protocol, probe.excluded, explained.excluded) == ("health", "health", "explain")
    assert (noise.protocol, noise.rows, noise.excluded) == ("unknown", 0, None)
    assert noise.fault is not None
    assert "no JSON" in noise.fault
    assert [payload.outcome for payload in by_id["again"]] == ["response_only"] * 6
    assert [len(by_id[identity]) for identity in "01234"] == [2, 2, 2, 2, 1]
    assert {payload.outcome for identity in "01234" for payload in by_id[identity]} == {"paired"}
    (answered,) = by_id["lonely 1"]  # by a body without a byte, which makes no health check of it
    assert (answered.outcome, answered.protocol, answered.excluded) == ("paired", "v1", None)


def test_what_a_rule_excludes_is_stored_and_not_judged(journal: Journal, tmp_path: Path) -> None:
    synthetic = {"metadata": '{"X-Synthetic":["true"]}'}
    events = [request("real", 0, [[1.5, 2]]), response("real", 1, [0])]
    events += [request("synthetic", 2, [[1.5, 2]], **synthetic), response("synthetic", 3, [0], **synthetic)]
    journal.append(events).result()
    judge = RowCounter()
    with State.open(tmp_path) as state:
        exclusion = Exclusion([HeaderRule("x-synthetic", "true")])
        pipeline = Pipeline(journal, state, judge, pair_timeout_s=60, clock=ManualClock(EVENING), exclusion=exclusion)
        pipeline.start()
        pipeline.stop()
        with state.read() as connection:
            found = {payload.id: payload.excluded for _, payload in list_payloads(connection, PayloadFilter())}
        assert state.rows() == 2
    assert found == {"real": None, "synthetic": "rule"}
    assert list(judge.counts.values()) == [1]


@pytest.mark.parametrize("batch_events", [1, 7, 1000])
def test_the_size_of_a_step_changes_nothing(
    undisturbed: dict[str, list[tuple[Any, ...]]],
    journal: Journal,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    batch_events: int,
) -> None:
    monkeypatch.setattr(pipeline_module, "BATCH_EVENTS", batch_events)
    with state_in(tmp_path / "other steps") as state:
        assert derive(journal, state) == undisturbed


def test_a_limit_of_bytes_makes_smaller_steps_and_changes_nothing(
    undisturbed: dict[str, list[tuple[Any, ...]]], journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline_module, "BATCH_BYTES", 1)
    with state_in(tmp_path / "small steps") as state:
        assert derive(journal, state) == undisturbed


Kills = st.lists(st.tuples(st.sampled_from(["judge", "before", "within", "after"]), st.integers(1, 9)), max_size=5)


@given(kills=Kills)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_killed_anywhere_nothing_is_judged_twice_or_skipped(
    kills: list[tuple[str, int]],
    undisturbed: dict[str, list[tuple[Any, ...]]],
    journal: Journal,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    directory = tmp_path_factory.mktemp("killed")
    for place, passes in kills:
        run_until_killed(journal, directory, place, Trap(passes, Killed()))
    with state_in(directory) as state:
        assert derive(journal, state) == undisturbed


def run_until_killed(journal: Journal, directory: Path, place: str, trap: Trap) -> None:
    with state_in(directory, TrappedState) as state, threads_may_die():
        judge = TrappedJudge(trap) if place == "judge" else RowCounter()
        pipeline = pipeline_of(journal, state, judge)
        if place != "judge":
            setattr(state, place, trap)
        pipeline.start()
        pipeline.stop()  # either it died on the way, or it reaches the end


@contextmanager
def threads_may_die() -> Iterator[None]:
    hook = threading.excepthook
    threading.excepthook = lambda told: None if told.exc_type is Killed else hook(told)
    try:
        yield
    finally:
        threading.excepthook = hook


@pytest.mark.parametrize(
    ("place", "fault"),
    [
        ("judge", ValueError("a defect")),
        ("before", PayloadLogError("disk")),
        ("within", sqlite3.OperationalError("disk I/O error")),
        ("after", sqlite3.OperationalError("disk I/O error")),
    ],
)
def test_a_fault_passes_and_leaves_no_trace(
    undisturbed: dict[str, list[tuple[Any, ...]]], journal: Journal, tmp_path: Path, place: str, fault: Exception
) -> None:
    with state_in(tmp_path / "faulty", TrappedState) as state:
        trap = Trap(4, fault)
        judge = TrappedJudge(trap) if place == "judge" else RowCounter()
        pipeline = pipeline_of(journal, state, judge)
        if place != "judge":
            setattr(state, place, trap)
        with running(pipeline):
            assert pipeline.wait_for(journal.end(), WAIT_S)
        assert pipeline.fault is None
        assert content(state) == undisturbed


class FullState(State):
    """A disk that is full for the first transactions that bring anything."""

    full_for = 0

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        with super().transaction() as connection:
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            self.full_for -= 1
            connection.execute(f"PRAGMA max_page_count = {pages if self.full_for > 0 else 2**30}")
            yield connection


def test_a_full_disk_is_told_and_passes(
    journal: Journal, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline_module, "BATCH_EVENTS", 1000)
    journal.append([request(f"{number}" * 50, number, [[1, 2]]) for number in range(500)]).result()
    with state_in(tmp_path / "plain") as state:
        expected = derive(journal, state)
    with state_in(tmp_path / "full", FullState) as state:
        state.full_for = 6
        assert derive(journal, state) == expected
    told = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert len(told) == 1  # once a cause, not once a try
    assert "full" in told[0]
    assert "state.db" in told[0]


def test_a_journal_that_cannot_be_read_is_a_fault_until_it_can(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, seen = journal.read, list[str | None]()

    def broken(after: int, limit: int, *, max_bytes: int) -> list[Entry]:
        seen.append(pipeline.fault)
        if len(seen) <= 3:
            raise PayloadLogError("log.db: disk I/O error")
        return read(after, limit, max_bytes=max_bytes)

    monkeypatch.setattr(journal, "read", broken)
    with state_in(tmp_path / "state") as state:
        pipeline = pipeline_of(journal, state, RowCounter())
        pipeline.start()
        pipeline.stop()
        while len(seen) < 4:  # stopping ends a pipeline that has a fault
            pipeline = pipeline_of(journal, state, RowCounter())
            pipeline.start()
            pipeline.stop()
    assert pipeline.fault is None
    assert seen[0] is None


def test_a_fault_is_shown_while_it_lasts(journal: Journal, tmp_path: Path) -> None:
    judge, at_fault, repaired = RowCounter(), threading.Event(), threading.Event()
    shown: list[str | None] = []

    def broken(_: Sequence[Item]) -> list[Finding]:
        shown.append(pipeline.fault)
        if len(shown) < 3:
            raise ValueError("no")
        at_fault.set()
        repaired.wait(WAIT_S)
        return []

    judge.judge = broken  # type: ignore[method-assign]  # a defect that passes
    journal.append([request("a", 0, [[1]])]).result()
    with state_in(tmp_path / "state") as state:
        pipeline = pipeline_of(journal, state, judge)
        with running(pipeline):
            assert at_fault.wait(WAIT_S)
            assert not pipeline.wait_for(journal.end(), 0)
            repaired.set()
            assert pipeline.wait_for(journal.end(), WAIT_S)
            assert pipeline.fault is None
    assert shown == [None, "ValueError: no", "ValueError: no"]


def test_it_follows_what_comes_and_stops_at_the_end(journal: Journal, tmp_path: Path) -> None:
    with state_in(tmp_path / "state") as state:
        pipeline = pipeline_of(journal, state, RowCounter())
        with running(pipeline):
            assert pipeline.wait_for(0, 0)
            for number in range(5):
                end = journal.append([request(f"{number}", number, [[1, 2]])]).result()
                assert pipeline.wait_for(end, WAIT_S)
            journal.append([request("last", 9, [[1, 2]])]).result()
        assert state.position() == journal.end()
        assert not pipeline.wait_for(journal.end() + 1, 0)


def test_what_waits_for_a_longer_time_is_answered_in_the_negative(journal: Journal, tmp_path: Path) -> None:
    journal.append([request("a", 0, [[1]])]).result()
    with state_in(tmp_path / "state") as state:
        assert not pipeline_of(journal, state, RowCounter()).wait_for(journal.end(), 0.001)


def test_a_state_of_another_journal_is_refused_in_one_sentence(journal: Journal, tmp_path: Path) -> None:
    journal.append(traffic()).result()
    with (
        state_in(tmp_path / "state") as state,
        Journal.open(tmp_path / "other", clock=ManualClock(EVENING)) as other,
    ):
        derive(journal, state)
        with pytest.raises(PayloadLogError, match=r"state\.db goes on to offset 40 and log\.db ends at 0") as refused:
            pipeline_of(other, state, RowCounter())
    assert "\n" not in str(refused.value)


def test_detectors_that_are_no_more_leave_no_status(
    undisturbed: dict[str, list[tuple[Any, ...]]], journal: Journal, tmp_path: Path
) -> None:
    class Idle(RowCounter):
        def statuses(self) -> list[DetectorStatus]:
            return []

    assert len(undisturbed["statuses"]) == 3
    with state_in(tmp_path / "undisturbed") as state:
        pipeline = pipeline_of(journal, state, Idle())
        pipeline.start()
        pipeline.stop()
        assert content(state) == undisturbed | {"statuses": []}


class Watch:
    def __init__(self) -> None:
        self.seen: list[tuple[list[str], dict[str, int], int]] = []

    def processed(self, items: Sequence[Item], joins: Mapping[str, int], pending: int) -> None:
        self.seen.append(([item.event.id for item in items], dict(joins), pending))


def test_the_watcher_sees_each_event_and_what_became_of_halves(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline_module, "BATCH_EVENTS", 1)
    watch = Watch()
    first = [request("a", 0, [[1]]), request("b", 0, [[1]]), response("a", 1, [1])]
    journal.append([*first, request("c", 70, [[1]]), response("b", 59, [1, 0])]).result()
    with state_in(tmp_path / "state") as state:
        pipeline = pipeline_of(journal, state, RowCounter(), watcher=watch)
        pipeline.start()
        pipeline.stop()
    assert watch.seen == [
        (["a"], {}, 1),
        (["b"], {}, 2),
        (["a"], {"paired": 1}, 1),
        (["c"], {"request_only": 1}, 1),
        (["b"], {"late": 1, "uneven": 1}, 1),
    ]


def test_explanations_reach_the_judge_and_are_no_payloads(journal: Journal, tmp_path: Path) -> None:
    watch, seen = Watch(), list[tuple[str, Role | None]]()

    class Listener(RowCounter):
        def judge(self, items: Sequence[Item], /) -> list[Finding]:
            seen.extend((item.event.id, item.role) for item in items)
            return super().judge(items)

    journal.append([request("a", 0, [[1]]), explanation("x", 1, [[0.5, 1.0]]), response("a", 2, [1])]).result()
    with state_in(tmp_path / "state") as state:
        pipeline = pipeline_of(journal, state, Listener(), watcher=watch)
        pipeline.start()
        pipeline.stop()
        assert len(content(state)["payloads"]) == 1
    assert seen == [("a", Role.REQUEST), ("x", None), ("a", Role.RESPONSE)]
    assert [identity for each in watch.seen for identity in each[0]] == ["a", "a"]


@pytest.mark.parametrize(("statuscode", "status"), [("503", 503), ("20", None), ("2xx", None)])
def test_the_status_is_a_code_of_three_digits(
    journal: Journal, tmp_path: Path, statuscode: str, status: int | None
) -> None:
    journal.append([response("a", 1, [1], statuscode=statuscode)]).result()
    with state_in(tmp_path / "state") as state:
        derive(journal, state)
        with state.read() as connection:
            ((_, payload),) = list_payloads(connection, PayloadFilter())
    assert payload.status == status


def test_times_beyond_64_bits_are_joined_all_the_same(journal: Journal, tmp_path: Path) -> None:
    ancient = [
        replace(event, time_ns=-62_135_596_800 * 10**9) for event in (request("a", 0, [[1]]), response("a", 0, [1]))
    ]
    journal.append([*ancient, request("b", 0, [[1]])]).result()
    journal.append([replace(request("c", 0, [[1]]), time_ns=None)]).result()
    with state_in(tmp_path / "state") as state:
        derive(journal, state)
        with state.read() as connection:
            found = {payload.id: payload.outcome for _, payload in list_payloads(connection, PayloadFilter())}
    assert found == {"a": "paired", "b": "request_only", "c": "request_only"}
