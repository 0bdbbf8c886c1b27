"""The forwarder answers for every event: once the brokers have it, or with why not."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from inferwatch.errors import DeliveryError
from inferwatch.events import REQUEST_TYPE, CloudEvent
from inferwatch.transport.forwarder import Forwarder
from inferwatch.wire.kafka import Message
from tests.waiting import eventually

LARGE = 10_000


class Brokers:
    """Take messages in the order in which they come, while they are there and not `held`."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.groups: list[int] = []
        self.fault: DeliveryError | None = None
        self.held = threading.Event()
        self.held.set()
        self.closed = False

    async def send(self, topic: str, messages: Sequence[Message], /) -> list[DeliveryError | None]:
        assert topic == "t"
        self.groups.append(len(messages))
        assert self.held.wait(120)
        if self.fault is not None:
            return [self.fault] * len(messages)
        too_large = DeliveryError("too large", retryable=False)
        outcomes = [too_large if len(message.value) >= LARGE else None for message in messages]
        self.taken += [message.value for message, outcome in zip(messages, outcomes, strict=True) if outcome is None]
        return outcomes

    async def reach(self, topic: str, /) -> None:
        assert topic == "t"
        if self.fault is not None:
            raise self.fault

    async def aclose(self) -> None:
        self.closed = True


def event(number: int, size_bytes: int = 0) -> CloudEvent:
    return CloudEvent(str(number), "/s", REQUEST_TYPE, number, data=str(number).encode().ljust(size_bytes))


@contextmanager
def forwarding(brokers: Brokers, bound: int = 1 << 20) -> Iterator[Forwarder]:
    with Forwarder.open(brokers, "t", max_inflight_bytes=bound) as forwarder:
        eventually("the forwarder has asked the brokers", lambda: (forwarder.fault is None) == (brokers.fault is None))
        yield forwarder


def account(forwarder: Forwarder) -> dict[str, object]:
    found = forwarder.ledger().as_dict()
    return {name: value for name, value in found.items() if value}


def test_what_waits_makes_up_the_next_group_in_order() -> None:
    brokers = Brokers()
    with forwarding(brokers) as forwarder:
        brokers.held.clear()
        first = forwarder.append([event(0)])
        eventually("the first group is sent", lambda: brokers.groups == [1])
        others = [forwarder.append([event(number)]) for number in range(1, 50)]
        assert not first.done()
        assert account(forwarder) == {}
        assert forwarder.waiting_bytes > 0
        brokers.held.set()
        for future in (first, *others):
            future.result(10)
        assert brokers.groups == [1, 49]
        assert brokers.taken == [str(number).encode() for number in range(50)]
        assert account(forwarder) == {"received": 50, "stored": 50}
        assert forwarder.waiting_bytes == 0
    assert brokers.closed


def test_brokers_that_are_away_are_said_at_once_until_they_answer_again() -> None:
    brokers = Brokers()
    with forwarding(brokers) as forwarder:
        brokers.held.clear()
        first = forwarder.append([event(0)])
        eventually("the first group is sent", lambda: brokers.groups == [1])
        behind = forwarder.append([event(1), event(2)])
        brokers.fault = DeliveryError("nobody is there", retryable=True)
        brokers.held.set()
        for future in (first, behind):  # what waits behind is not tried, but told too
            with pytest.raises(DeliveryError, match="nobody is there"):
                future.result(10)
        eventually("the brokers are missed", lambda: forwarder.fault == "nobody is there")
        with pytest.raises(DeliveryError, match="nobody is there"):
            forwarder.append([event(3)])
        forwarder.append(ignored=["other"], malformed=["bad_time"]).result(10)  # needs no broker
        assert account(forwarder) == {
            "received": 6,
            "refused": {"unavailable": 4},
            "ignored": {"other": 1},
            "malformed": {"bad_time": 1},
        }
        brokers.fault = None
        eventually("the brokers are back", lambda: forwarder.fault is None)
        forwarder.append([event(3)]).result(10)
        assert brokers.taken == [b"3"]


def test_too_large_is_refused_for_good_and_costs_its_neighbours_nothing() -> None:
    brokers = Brokers()
    with forwarding(brokers) as forwarder:
        with pytest.raises(DeliveryError, match="too large") as raised:
            forwarder.append([event(0, LARGE)]).result(10)
        assert not raised.value.retryable
        forwarder.append([event(1), event(2, LARGE), event(3)]).result(10)
        assert brokers.taken == [b"1", b"3"]
        assert account(forwarder) == {"received": 4, "stored": 2, "refused": {"too_large": 2}}
        assert forwarder.fault is None


def test_what_waits_is_bounded() -> None:
    brokers = Brokers()
    with forwarding(brokers, bound=25_000) as forwarder:
        brokers.held.clear()
        taken = forwarder.append([event(0, 9_000)])
        more = forwarder.append([event(1, 9_000)])
        with pytest.raises(DeliveryError, match="bytes wait for the brokers") as raised:
            forwarder.append([event(2, 9_000)])
        assert raised.value.retryable
        brokers.held.set()
        for future in (taken, more):
            future.result(10)
        assert account(forwarder) == {"received": 3, "stored": 2, "refused": {"overloaded": 1}}


def test_closing_sends_what_was_taken() -> None:
    brokers = Brokers()
    with forwarding(brokers) as forwarder:
        brokers.held.clear()
        futures = [forwarder.append([event(number)]) for number in range(5)]
        threading.Timer(0.1, brokers.held.set).start()
    assert [future.result(0) for future in futures] == [None] * 5
    with pytest.raises(DeliveryError, match="ending"):
        forwarder.append([event(9)])


def test_a_fault_of_our_own_is_told_and_the_next_group_sent() -> None:
    class Faulty(Brokers):
        async def send(self, topic: str, messages: Sequence[Message], /) -> list[DeliveryError | None]:
            if not self.groups:
                self.groups.append(0)
                raise RuntimeError("no such luck")
            return await super().send(topic, messages)

    brokers = Faulty()
    with forwarding(brokers) as forwarder:
        with pytest.raises(DeliveryError, match="no such luck"):
            forwarder.append([event(0)]).result(10)
        eventually("the brokers are back", lambda: forwarder.fault is None)
        forwarder.append([event(1)]).result(10)
        assert brokers.taken == [b"1"]
