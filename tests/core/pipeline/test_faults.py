"""A pipeline that is killed, or whose files fail, goes on as if nothing had been."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inferwatch import pipeline as pipeline_module
from inferwatch.errors import PayloadLogError
from inferwatch.finding import Finding
from inferwatch.payload_log.entry import Entry
from inferwatch.payload_log.journal import Journal
from inferwatch.payload_log.state import State
from inferwatch.pipeline import Item
from tests.core.pipeline.deriving import (
    WAIT_S,
    RowCounter,
    content,
    derive,
    pipeline_of,
    running,
    state_in,
)
from tests.inferences import request

Kills = st.lists(st.tuples(st.sampled_from(["judge", "before", "within", "after"]), st.integers(1, 9)), max_size=5)


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


def test_what_outlasts_the_patience_is_left_without_a_fault_and_judged_again(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    judge, judging, closed = RowCounter(), threading.Event(), threading.Event()

    def slow(_: Sequence[Item]) -> list[Finding]:
        judging.set()
        closed.wait(WAIT_S)
        return []

    judge.judge = slow  # type: ignore[method-assign]
    monkeypatch.setattr(pipeline_module, "JOIN_S", 0.0)
    journal.append([request("a", 0, [[1]])]).result()
    with state_in(tmp_path / "state") as state:
        pipeline = pipeline_of(journal, state, judge)
        pipeline.start()
        assert judging.wait(WAIT_S)
        pipeline.stop(patience_s=0)
    closed.set()
    pipeline._thread.join(WAIT_S)
    assert [(record.levelname, "judges it again" in record.message) for record in caplog.records] == [("WARNING", True)]
    with state_in(tmp_path / "state") as state:
        assert state.position() == 0
