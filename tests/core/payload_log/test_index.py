"""Payloads are listed, counted and found again by what a half may complete."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from inferwatch.events import Role, Service, Stream
from inferwatch.payload_log.index import (
    PayloadFilter,
    PayloadWriter,
    list_payloads,
    open_payloads,
    recently_open,
    steps_of,
)
from inferwatch.payload_log.joiner import Payload, Sought
from inferwatch.payload_log.state import State
from inferwatch.payload_log.views import ServiceCounts, count_services, count_unpaired

STREAM = Stream("default", "income", "predictor", "default")
CANARY = STREAM._replace(endpoint="canary")
OTHER = Stream("shop", "income", "predictor", "default")

PAIRED = Payload("k1", "a", STREAM, "v1", 3, 1, 2, 100, 110, status=200)
ASKED = Payload("k2", "a", STREAM, "v2", 2, 3, None, 200, None, truncated=True, fault="cut")
ANSWERED = Payload("k3", "b", CANARY, "v1", 0, None, 4, None, 310)
EXCLUDED = Payload("k4", "c", OTHER, "v1", 1, 5, 6, 400, 401, excluded="explain", request_id="r")
ALL = [PAIRED, ASKED, ANSWERED, EXCLUDED]


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    opened = State.open(tmp_path)
    save(opened, ALL)
    yield opened
    opened.close()


def save(state: State, payloads: list[Payload]) -> None:
    with state.transaction() as connection:
        PayloadWriter(connection).save(payloads)


def listed(state: State, wanted: PayloadFilter, before: int | None = None, limit: int = 100) -> list[Payload]:
    with state.read() as connection:
        return [payload for _, payload in list_payloads(connection, wanted, before=before, limit=limit)]


def test_payloads_are_listed_as_they_were_saved_newest_first(state: State) -> None:
    assert listed(state, PayloadFilter()) == ALL[::-1]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (PayloadFilter(service=Service("default", "income")), [ANSWERED, ASKED, PAIRED]),
        (PayloadFilter(request_id="r"), [EXCLUDED]),
        (PayloadFilter(request_id="c"), []),
        (PayloadFilter(service=Service("shop", "income")), [EXCLUDED]),
        (PayloadFilter(service=Service("shop", "none")), []),
        (PayloadFilter(since_ns=200), [EXCLUDED, ANSWERED, ASKED]),
        (PayloadFilter(until_ns=200), [PAIRED]),
        (PayloadFilter(since_ns=200, until_ns=310), [ASKED]),
        (PayloadFilter(id="a"), [ASKED, PAIRED]),
        (PayloadFilter(id="a", since_ns=150), [ASKED]),
        (PayloadFilter(key="k3"), [ANSWERED]),
        (PayloadFilter(outcome="paired"), [EXCLUDED, PAIRED]),
        (PayloadFilter(outcome="request_only"), [ASKED]),
        (PayloadFilter(outcome="response_only"), [ANSWERED]),
        (PayloadFilter(excluded="explain"), [EXCLUDED]),
        (PayloadFilter(id="'; DROP TABLE payloads; --"), []),
    ],
)
def test_filters(state: State, wanted: PayloadFilter, found: list[Payload]) -> None:
    assert listed(state, wanted) == found


def test_pages_follow_each_other_without_overlap(state: State) -> None:
    with state.read() as connection:
        first = list_payloads(connection, PayloadFilter(), limit=3)
        second = list_payloads(connection, PayloadFilter(), before=first[-1][0], limit=3)
    assert [payload for _, payload in (*first, *second)] == ALL[::-1]


def test_the_other_half_replaces_what_was_known(state: State) -> None:
    whole = replace(ANSWERED, protocol="v1", rows=4, request_offset=9, request_time_ns=300, fault=None, status=500)
    save(state, [whole])
    assert listed(state, PayloadFilter(key="k3")) == [whole]
    assert len(listed(state, PayloadFilter())) == 4
    assert listed(state, PayloadFilter(since_ns=300, until_ns=301)) == [whole]


def sought(stream: Stream, identity: str, lacking: Role, from_ns: int, to_ns: int) -> Sought:
    return Sought(stream, identity, lacking, from_ns, to_ns)


@pytest.mark.parametrize(
    ("half", "found"),
    [
        (sought(STREAM, "a", Role.RESPONSE, 200, 200), [ASKED]),
        (sought(STREAM, "a", Role.RESPONSE, -(2**70), 2**70), [ASKED]),
        (sought(STREAM, "a", Role.RESPONSE, 201, 300), []),
        (sought(STREAM, "a", Role.RESPONSE, 100, 199), []),
        (sought(STREAM, "a", Role.REQUEST, 0, 300), []),
        (sought(CANARY, "a", Role.RESPONSE, 0, 300), []),
        (sought(CANARY, "b", Role.REQUEST, 300, 320), [ANSWERED]),
        (sought(OTHER, "c", Role.REQUEST, 0, 1000), []),
    ],
)
def test_a_half_finds_the_payloads_that_it_may_complete(state: State, half: Sought, found: list[Payload]) -> None:
    with state.read() as connection:
        assert open_payloads(connection, half) == found


STEPS = [
    Payload("s1", "x", STREAM._replace(component="transformer"), "v1", 1, 11, 12, 1000, 1009, request_id="q"),
    Payload("s2", "x", STREAM, "v1", 1, 13, 14, 1001, 1008),
    Payload("s3", "y", OTHER, "v1", 1, 15, 16, 1005, 1006, request_id="q"),
    Payload("s4", "x", OTHER, "v1", 1, 17, None, 2001, None),
    Payload("s5", "x", OTHER, "v1", 1, 18, None, 1002, None, sender="pod:1"),
    Payload("s6", "x", STREAM, "v1", 1, 19, 20, 1003, 1004),
]


@pytest.mark.parametrize(("number", "steps"), [(0, [1, 5, 2]), (1, [0]), (2, [0]), (3, []), (4, [])])
def test_the_steps_of_a_graph_share_an_id_or_a_request_id_about_the_same_time(
    state: State, number: int, steps: list[int]
) -> None:
    save(state, STEPS)
    with state.read() as connection:
        assert steps_of(connection, STEPS[number], 500, 10) == [STEPS[step] for step in steps]
        assert steps_of(connection, STEPS[number], 500, 1) == [STEPS[step] for step in steps[:1]]


def test_steps_are_found_by_indexes(state: State) -> None:
    with state.read() as connection:
        read: list[str] = []
        connection.set_trace_callback(read.append)
        steps_of(connection, STEPS[0], 500, 10)
        connection.set_trace_callback(None)
        plan = " ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {read[0]}"))
    assert "USING INDEX payloads_by_id" in plan
    assert "USING INDEX payloads_by_request" in plan


def test_looking_for_a_half_reads_no_payload_of_another_time(state: State) -> None:
    """A client that uses one id for everything must not make each look-up read all that it ever sent."""
    save(state, [Payload(f"x{n}", "one", STREAM, "v1", 1, n, None, n * 1000) for n in range(2000)])
    steps: list[int] = []
    with state.transaction() as connection:
        connection.set_progress_handler(lambda: steps.append(1), 10)
        assert len(open_payloads(connection, sought(STREAM, "one", Role.RESPONSE, 5000, 6000))) == 2
        connection.set_progress_handler(None, 0)
    assert len(steps) < 50  # of ten instructions each; reading all 2,000 takes some 1,000 times as many


def test_recent_open_halves_are_the_newest_in_the_order_of_the_log(state: State) -> None:
    with state.read() as connection:
        assert recently_open(connection, 0, 10) == [ASKED, ANSWERED]
        assert recently_open(connection, 0, 1) == [ANSWERED]
        assert recently_open(connection, 201, 10) == [ANSWERED]


def test_services_count_what_their_streams_brought(state: State) -> None:
    with state.transaction() as connection:
        writer = PayloadWriter(connection)
        writer.count([(STREAM, 3, 5, 200), (CANARY, 1, 0, 310)])
        writer.count([(STREAM, 1, 2, 150)])
    with state.read() as connection:
        assert count_services(connection) == [
            ServiceCounts(STREAM.service, 5, 7, 310),
            ServiceCounts(OTHER.service, 0, 0, 0),
        ]


def test_a_half_is_lonely_once_the_streams_time_is_past_the_timeout(state: State) -> None:
    with state.transaction() as connection:
        PayloadWriter(connection).count([(STREAM, 0, 0, 260), (CANARY, 0, 0, 371)])
    with state.read() as connection:
        assert count_unpaired(connection, STREAM.service, 60) == (0, 1)
        assert count_unpaired(connection, STREAM.service, 59) == (1, 1)
        assert count_unpaired(connection, OTHER.service, 0) == (0, 0)


def test_a_stream_keeps_its_number_over_restarts(state: State) -> None:
    save(state, [replace(PAIRED, key="k9")])
    with state.read() as connection:
        assert connection.execute("SELECT count(*) FROM streams").fetchone() == (3,)
