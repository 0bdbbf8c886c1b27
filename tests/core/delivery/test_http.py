"""The HTTP sink against a scripted server: replies of every kind, connections of every fate."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from inferwatch.delivery.http import HttpSink
from inferwatch.delivery.outcomes import PartialDelivery, outcomes_of
from inferwatch.errors import ConfigError, DeliveryError
from inferwatch.events import CloudEvent
from tests.core.delivery.scripted_sink import OK, TAKES_BATCHES, answer, scripted_sink
from tests.waiting import run, until

EVENTS = [CloudEvent(str(number), "/s", "t", extensions={"namespace": "n"}, data=b"x" * number) for number in range(5)]


async def outcomes(sink: HttpSink, events: Sequence[CloudEvent]) -> list[DeliveryError | None]:
    try:
        await sink.send(events)
    except DeliveryError as error:
        return list(outcomes_of(error, len(events)))
    return [None] * len(events)


def test_events_arrive_whole_and_in_order_on_one_connection() -> None:
    async def test() -> None:
        async with scripted_sink() as server:
            sink = HttpSink(server.url)
            await sink.send(EVENTS)
            await sink.send(EVENTS)
            assert server.events == EVENTS * 2
            assert server.connections == 1
            assert set(server.targets) == {"POST /logs?x=1 HTTP/1.1"}
            await sink.aclose()

    run(test())


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nx: y\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    ],
)
def test_every_kind_of_success_keeps_the_connection(reply: bytes) -> None:
    async def test() -> None:
        async with scripted_sink(lambda _: reply) as server:
            sink = HttpSink(server.url)
            await sink.send(EVENTS)
            assert (server.ids, server.connections) == (["0", "1", "2", "3", "4"], 1)
            await sink.aclose()

    run(test())


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
    ],
)
def test_a_server_that_closes_gets_every_event_once(reply: bytes) -> None:
    async def test() -> None:
        async with scripted_sink(lambda _: reply) as server:
            sink = HttpSink(server.url)
            await sink.send(EVENTS)
            assert (server.ids, server.connections) == (["0", "1", "2", "3", "4"], 5)
            await sink.aclose()

    run(test())


def test_an_idle_connection_that_the_server_closed_is_no_failure() -> None:
    async def test() -> None:
        async with scripted_sink() as server:
            sink = HttpSink(server.url)
            await sink.send(EVENTS[:1])
            server.at.hang_up()
            await sink.send(EVENTS[1:])
            assert (server.ids, server.connections) == (["0", "1", "2", "3", "4"], 2)
            await sink.aclose()

    run(test())


@pytest.mark.parametrize(
    ("status", "retryable"),
    [
        *((status, False) for status in (400, 401, 404, 413, 301)),
        *((status, True) for status in (408, 425, 429, 500, 502, 503, 504)),
    ],
)
def test_which_refusals_may_be_retried(status: int, retryable: bool) -> None:
    async def test() -> None:
        async with scripted_sink(lambda event: answer(status, body=b"no") if event.id == "2" else OK) as server:
            sink = HttpSink(server.url)
            found = await outcomes(sink, EVENTS)
            assert [outcome is None for outcome in found] == [True, True, False, True, True]
            assert found[2] is not None
            assert found[2].retryable is retryable
            assert str(found[2]) == f"{server.url} answered {status}"
            await sink.aclose()

    run(test())


def test_batches_go_where_the_sink_says_that_it_takes_them() -> None:
    async def test() -> None:
        async with scripted_sink(lambda _: TAKES_BATCHES) as server:
            sink = HttpSink(server.url)
            small = [
                *EVENTS,
                CloudEvent("json", "/s", "t", 1, "application/json", {"truncated": "true"}, b'{"a":  1.50}', True),
            ]
            large = CloudEvent("large", "/s", "t", data=bytes(20_000))
            await sink.send([*small, large, large, *small])
            assert server.sizes == [1, 5, 1, 1, 6]
            assert server.events == [*small, large, large, *small]
            assert server.connections == 1
            server.reply = lambda _: OK
            server.batch_reply = lambda _: OK
            await sink.send(EVENTS)
            await sink.send(EVENTS)
            assert server.sizes[5:] == [5, 1, 1, 1, 1, 1], "a sink that no longer says so gets one by one"
            await sink.aclose()

    run(test())


def test_a_batch_that_is_refused_is_sent_one_by_one() -> None:
    async def test() -> None:
        def reply(event: CloudEvent) -> bytes:
            return answer(400) if event.id == "2" else TAKES_BATCHES

        async with scripted_sink(reply, lambda _: answer(413)) as server:
            sink = HttpSink(server.url)
            found = await outcomes(sink, EVENTS)
            assert [outcome is None for outcome in found] == [True, True, False, True, True]
            assert server.sizes == [1, 4, 1, 1, 1, 1]
            await sink.aclose()

    run(test())


@pytest.mark.parametrize("failure", [None, answer(503, "retry-after: 7")])
def test_a_batch_that_fails_may_be_retried_whole(failure: bytes | None) -> None:
    async def test() -> None:
        async with scripted_sink(lambda _: TAKES_BATCHES, lambda _: failure) as server:
            sink = HttpSink(server.url)
            found = await outcomes(sink, EVENTS)
            assert found[0] is None
            assert all(outcome is not None and outcome.retryable for outcome in found[1:])
            assert server.sizes[:2] == [1, 4]
            await sink.aclose()

    run(test())


def test_a_retry_date_to_come() -> None:
    async def test() -> None:
        moment = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
        async with scripted_sink(lambda _: answer(429, f"Retry-After: {moment}")) as server:
            sink = HttpSink(server.url)
            (outcome,) = await outcomes(sink, EVENTS[:1])
            assert outcome is not None
            assert outcome.retry_after_s is not None
            assert 30 < outcome.retry_after_s <= 90
            await sink.aclose()

    run(test())


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7.0), ("0.5", 0.5), ("-3", 0.0), ("nan", None), ("soon", None), ("1 Jan 2020 00:00:00 GMT", 0.0)],
)
def test_retry_after_in_seconds_or_as_a_date(value: str, seconds: float | None) -> None:
    async def test() -> None:
        async with scripted_sink(lambda _: answer(503, f"Retry-After: {value}")) as server:
            sink = HttpSink(server.url)
            (outcome,) = await outcomes(sink, EVENTS[:1])
            assert outcome is not None
            assert outcome.retry_after_s == seconds
            await sink.aclose()

    run(test())


def test_a_connection_that_breaks_midway_leaves_the_rest_retryable() -> None:
    async def test() -> None:
        async with scripted_sink(lambda event: None if event.id == "3" else OK) as server:
            sink = HttpSink(server.url)
            with pytest.raises(PartialDelivery) as raised:
                await sink.send(EVENTS)
            found = raised.value.outcomes
            assert [outcome is None for outcome in found] == [True, True, True, False, False]
            assert all(outcome.retryable for outcome in found if outcome)
            await sink.aclose()

    run(test())


@pytest.mark.parametrize(
    "reply",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"\xff\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\nconnection: close\r\n\r\ncut",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n5\r\ncut",
    ],
)
def test_a_reply_that_is_no_http_or_breaks_off_is_retryable(reply: bytes) -> None:
    async def test() -> None:
        async with scripted_sink(lambda _: reply) as server:
            sink = HttpSink(server.url)
            with pytest.raises(DeliveryError) as raised:
                await sink.send(EVENTS[:1])
            assert raised.value.retryable
            await sink.aclose()

    run(test())


def test_a_server_that_never_answers_times_out() -> None:
    async def test() -> None:
        async with scripted_sink(lambda _: b"") as server:
            sink = HttpSink(server.url, timeout_s=0.5)
            with pytest.raises(DeliveryError, match="no reply") as raised:
                await sink.send(EVENTS[:1])
            assert raised.value.retryable
            assert server.ids == ["0"]
            await sink.aclose()

    run(test())


def test_connections_to_a_server_that_reads_nothing_are_broken_off() -> None:
    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:  # the kernel takes connections for it
            sink = HttpSink(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout_s=0.2)
            before = open_files()
            for _ in range(4):
                with pytest.raises(DeliveryError):
                    await sink.send([CloudEvent("1", "/s", "t", data=bytes(1 << 24))])
            await until(
                lambda: open_files() == before
            )  # to close would wait until all is written, and hold it until then

    run(test())


def test_nobody_there_is_retryable() -> None:
    async def test() -> None:
        async with scripted_sink() as server:
            url = server.url
        with pytest.raises(DeliveryError, match="cannot connect") as raised:
            await HttpSink(url).send(EVENTS)
        assert raised.value.retryable

    run(test())


@pytest.mark.parametrize("url", ["", "ftp://a", "http://", "127.0.0.1:80", "http://a:99999", "http://u:p@a/"])
def test_a_url_that_cannot_be_used_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="sink"):
        HttpSink(url)
