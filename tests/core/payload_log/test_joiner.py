"""Requests and responses find each other in any order, within the timeout, in bounded memory."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatch.events import Stream
from inferwatch.payload_log.joiner import Joiner, Payload, Sought

STREAM = Stream("default", "income", "predictor", "default")
SECOND = 1_000_000_000
T0 = 1_800_000_000 * SECOND


class Index:
    """The payloads that were joined, as the index on disk holds them."""

    def __init__(self) -> None:
        self.payloads: dict[str, Payload] = {}
        self.looked_up: list[Sought] = []

    def find_open(self, sought: Sought) -> Sequence[Payload]:
        self.looked_up.append(sought)
        return [
            payload
            for payload in self.payloads.values()
            if (payload.stream, payload.id) == (sought.stream, sought.id) and sought.fits(payload)
        ]

    def joiner(self, timeout_s: float = 60.0, most_open: int = 1000) -> Joiner:
        return Joiner(timeout_s, self.find_open, most_open=most_open)

    def join(self, joiner: Joiner, halves: Iterable[Payload]) -> list[Payload]:
        joined = []
        for half in halves:
            payload = joiner.join(half)
            self.payloads[payload.key] = payload
            joined.append(payload)
        return joined

    def pairs(self) -> set[tuple[int | None, int | None]]:
        return {(payload.request_time_ns, payload.response_time_ns) for payload in self.payloads.values()}


_offsets = iter(range(1, 10**9))


def request(identity: str, second: float, stream: Stream = STREAM, **fields: object) -> Payload:
    offset, time_ns = next(_offsets), T0 + round(second * SECOND)
    payload = Payload(f"request-{offset}", identity, stream, "v1", 2, request_offset=offset, request_time_ns=time_ns)
    return _with(payload, fields)


def response(identity: str, second: float, stream: Stream = STREAM, **fields: object) -> Payload:
    offset, time_ns = next(_offsets), T0 + round(second * SECOND)
    payload = Payload(f"response-{offset}", identity, stream, "v1", 1, response_offset=offset, response_time_ns=time_ns)
    return _with(payload, fields)


def _with(payload: Payload, fields: dict[str, object]) -> Payload:
    for name, value in fields.items():
        setattr(payload, name, value)
    return payload


def seconds(payload: Payload) -> tuple[float | None, float | None]:
    times = (payload.request_time_ns, payload.response_time_ns)
    first, second = (None if time is None else (time - T0) / SECOND for time in times)
    return first, second


@pytest.mark.parametrize("answer_first", [False, True])
def test_either_half_may_come_first(answer_first: bool) -> None:
    halves = [request("a", 0), response("a", 0.5)]
    first, second = halves[::-1] if answer_first else halves
    index = Index()
    joiner = index.joiner()
    index.join(joiner, [first])
    assert (first.outcome, joiner.pending) == ("response_only" if answer_first else "request_only", 1)
    (joined,) = index.join(joiner, [second])
    assert joined is first
    assert (joined.outcome, joined.time_ns, joiner.pending) == ("paired", T0, 0)
    assert (joined.rows, joined.key) == (2, first.key)
    assert seconds(joined) == (0, 0.5)


def test_halves_of_different_streams_or_ids_never_meet() -> None:
    index = Index()
    others = [STREAM._replace(endpoint="canary"), STREAM._replace(component="transformer"), STREAM._replace(name="b")]
    joined = index.join(
        index.joiner(), [request("a", 0), response("b", 0), *(response("a", 0, stream) for stream in others)]
    )
    assert [payload.outcome for payload in joined] == ["request_only"] + ["response_only"] * 4


@pytest.mark.parametrize("most_open", [1, 100])
def test_halves_of_different_senders_never_meet(most_open: int) -> None:
    index = Index()
    halves = [request("1-1", 0, sender="a"), request("1-1", 0.1, sender="b"), response("1-1", 0.2, sender="a")]
    halves += [response("1-1", 0.3, sender="c"), response("1-1", 0.4)]
    index.join(index.joiner(most_open=most_open), halves)
    assert sorted((payload.sender, payload.outcome) for payload in index.payloads.values()) == [
        ("", "response_only"),
        ("a", "paired"),
        ("b", "request_only"),
        ("c", "response_only"),
    ]


@pytest.mark.parametrize(("apart_s", "outcome"), [(59.999, "paired"), (60, "paired"), (60.001, "response_only")])
def test_event_time_decides_whether_it_is_too_late(apart_s: float, outcome: str) -> None:
    index = Index()
    assert index.join(index.joiner(), [request("a", 0), response("a", apart_s)])[-1].outcome == outcome
    assert index.join(index.joiner(), [response("b", apart_s), request("b", 0)])[-1].outcome == outcome.replace(
        "response", "request"
    )


def test_a_response_belongs_to_the_request_before_it_that_is_nearest() -> None:
    index = Index()
    halves = [request("a", 0), request("a", 10), request("a", 20), response("a", 19), response("a", 9)]
    assert [seconds(payload) for payload in index.join(index.joiner(), halves)[-2:]] == [(10, 19), (0, 9)]


def test_a_request_belongs_to_the_response_after_it_that_is_nearest() -> None:
    index = Index()
    halves = [response("a", 19), response("a", 9), response("a", 29), request("a", 10), request("a", 0)]
    assert [seconds(payload) for payload in index.join(index.joiner(), halves)[-2:]] == [(10, 19), (0, 9)]


def test_times_of_sending_may_stand_in_the_wrong_order() -> None:
    index = Index()
    halves = [request("a", 0.2), response("a", 0.1), response("b", 3), request("b", 3.1), request("b", 3.5)]
    joined = index.join(index.joiner(), halves)
    assert [payload.outcome for payload in joined] == ["paired", "paired", "paired", "paired", "request_only"]


def test_a_client_that_uses_one_id_for_everything_loses_nothing() -> None:
    index = Index()
    joiner = index.joiner()
    halves = [half for n in range(500) for half in (request("1", n), response("1", n + 0.25))]
    index.join(joiner, halves)
    assert index.pairs() == {(T0 + n * SECOND, T0 + n * SECOND + SECOND // 4) for n in range(500)}
    assert joiner.pending == 0


def test_an_empty_answer_is_no_health_check() -> None:
    index = Index()
    for halves in (
        [request("a", 0), response("a", 1, excluded="health", protocol="health", rows=0)],
        [response("b", 1, excluded="health", protocol="health", rows=0), request("b", 0)],
    ):
        joined = index.join(index.joiner(), halves)[-1]
        assert (joined.excluded, joined.protocol, joined.rows) == (None, "v1", 2)


@pytest.mark.parametrize("marked", ["request", "response"])
def test_an_explainers_call_is_excluded_by_either_half(marked: str) -> None:
    halves = [request("a", 0), response("a", 1)]
    halves[marked == "response"].excluded = "explain"
    index = Index()
    assert index.join(index.joiner(), halves)[-1].excluded == "explain"


def test_a_pair_says_what_either_half_says() -> None:
    index = Index()
    halves = [request("a", 0, truncated=True), response("a", 1, status=503, fault="the reply is an error")]
    joined = index.join(index.joiner(), halves)[-1]
    assert (joined.status, joined.truncated, joined.fault) == (503, True, "the reply is an error")
    halves = [response("b", 1, status=200, fault="second"), request("b", 0, fault="first")]
    joined = index.join(index.joiner(), halves)[-1]
    assert (joined.status, joined.truncated, joined.fault) == (200, False, "first")


def test_memory_lets_go_of_what_timed_out() -> None:
    index = Index()
    joiner = index.joiner(timeout_s=10)
    for second in range(1000):
        index.join(joiner, [request(str(second), second)])
        assert joiner.pending <= 11
    assert joiner.pending == 11


def test_traffic_in_order_never_asks_the_index() -> None:
    index = Index()
    joiner = index.joiner(timeout_s=10)
    index.join(joiner, [request(f"lonely {second}", second) for second in range(100)])
    index.join(joiner, [half for n in range(100, 200) for half in (request(str(n), n), response(str(n), n + 0.5))])
    assert index.looked_up == []


def test_a_late_half_finds_its_partner_in_the_index() -> None:
    index = Index()
    joiner = index.joiner(timeout_s=10)
    index.join(joiner, [request("a", 0), *(request(str(second), second) for second in range(100))])
    (joined,) = index.join(joiner, [response("a", 1)])
    assert seconds(joined) == (0, 1)
    assert len(index.looked_up) == 1
    assert (index.looked_up[0].from_ns, index.looked_up[0].to_ns) == (T0 - 9 * SECOND, T0 + 11 * SECOND)


def test_memory_is_bounded_and_what_is_beyond_is_looked_up() -> None:
    index = Index()
    joiner = index.joiner(most_open=5)
    for number in range(100):
        index.join(joiner, [request(str(number), number / 10)])
        assert joiner.pending <= 5
    joined = index.join(joiner, [response(str(number), number / 10 + 0.01) for number in range(100)])
    assert {payload.outcome for payload in joined} == {"paired"}
    assert joiner.pending == 0


@pytest.mark.parametrize("most_open", [1000, 3])
def test_a_restart_joins_what_went_before(most_open: int) -> None:
    index = Index()
    old = [request("forgotten", 0), request("old", 50), *(request(str(n), 100 + n) for n in range(10))]
    index.join(index.joiner(timeout_s=60, most_open=most_open), old)
    joiner = index.joiner(timeout_s=60, most_open=most_open)
    joiner.restore(old[1:], T0 + 109 * SECOND)
    assert joiner.pending == min(11, most_open)
    joined = index.join(
        joiner, [response("forgotten", 1), response("old", 51), *(response(str(n), 112 + n) for n in range(10))]
    )
    assert {payload.outcome for payload in joined} == {"paired"}


def test_a_restart_without_open_halves_still_knows_the_time() -> None:
    index = Index()
    index.join(index.joiner(), [request("late", 0)])
    joiner = index.joiner()
    joiner.restore([], T0 + 1000 * SECOND)
    (joined,) = index.join(joiner, [response("late", 1)])
    assert joined.outcome == "paired"


LATENCIES = st.lists(st.integers(-500, 9_000), min_size=1, max_size=30)


@given(LATENCIES, st.randoms(use_true_random=False), st.sampled_from([2, 5, 1000]), st.booleans())
def test_any_order_joins_the_same_pairs(
    latencies: list[int], shuffled: random.Random, most_open: int, restarting: bool
) -> None:
    """Ids are used again only after twice the timeout; then no order can confuse them."""
    expected = {
        (number, T0 + number * 7_000_000_000 + 1, T0 + number * 7_000_000_000 + 1 + latency * 1_000_000)
        for number, latency in enumerate(latencies)
    }
    halves = []
    for number, asked_ns, answered_ns in expected:
        identity = str(number % 4)  # the same id each 28 s, and the timeout is 10 s
        halves.append(request(identity, (asked_ns - T0) / SECOND))
        halves[-1].request_time_ns = asked_ns
        halves.append(response(identity, 0))
        halves[-1].response_time_ns = answered_ns
    shuffled.shuffle(halves)
    index = Index()
    joiner = index.joiner(timeout_s=10, most_open=most_open)
    for count, half in enumerate(halves):
        index.join(joiner, [half])
        assert joiner.pending <= most_open
        if restarting and count % 7 == 3:
            latest_ns = max(half.time_ns for half in halves[: count + 1])
            still_open = [payload for payload in index.payloads.values() if payload.outcome != "paired"]
            joiner = index.joiner(timeout_s=10, most_open=most_open)
            joiner.restore([p for p in still_open if p.time_ns >= latest_ns - 10 * SECOND][-most_open:], latest_ns)
    assert index.pairs() == {times for _, *rest in expected for times in [tuple(rest)]}


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20)), min_size=1, max_size=40))
def test_sequential_use_of_one_id_is_joined_in_sequence(steps: list[tuple[int, int]]) -> None:
    """One id, one request after the other: in the order of time every response finds its own request."""
    index = Index()
    moments = [0]
    for pause, latency in steps:
        moments += [moments[-1] + pause + 1, moments[-1] + pause + 1 + latency]
    asked = list(pairwise(moments))[1::2]
    index.join(index.joiner(), [half for a, b in asked for half in (request("x", a), response("x", b))])
    assert {seconds(payload) for payload in index.payloads.values()} == set(asked)
