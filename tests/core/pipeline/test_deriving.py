"""What the pipeline derives is a function of the journal, wherever and however often it is stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from inferwatch import pipeline as pipeline_module
from inferwatch.clock import NS_PER_S, ManualClock
from inferwatch.errors import PayloadLogError
from inferwatch.events import Role
from inferwatch.exclusion import Exclusion, HeaderRule
from inferwatch.finding import Finding
from inferwatch.payload_log.index import PayloadFilter, list_payloads
from inferwatch.payload_log.joiner import Payload
from inferwatch.payload_log.journal import Journal
from inferwatch.payload_log.state import State
from inferwatch.pipeline import Item, Pipeline
from inferwatch.status import DetectorStatus
from tests.core.pipeline.deriving import (
    EVENING,
    WAIT_S,
    RowCounter,
    content,
    derive,
    pipeline_of,
    running,
    state_in,
    traffic,
)
from tests.inferences import NOON, explanation, request, response


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
