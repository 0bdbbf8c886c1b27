"""HTTP/2 through the relay: what passes is unchanged, and what it says of calls is captured."""

from __future__ import annotations

import asyncio
import gzip
import sys
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from hypothesis import given, settings
from hypothesis import strategies as st

from inferwatch.events import CloudEvent
from inferwatch_logger.capture import UNNAMED, Capture
from inferwatch_logger.fail_open import FailOpen
from inferwatch_logger.proxy.conversation import Conversation
from inferwatch_logger.recorder import Recorder
from tests.logger.proxy.http2 import Client, End, answering
from tests.logger.proxy.relayed import Reader, Relayed, Upstream, Writer, relayed, run

INFER = "/inference.GRPCInferenceService/ModelInfer"
GRPC = [("content-type", "application/grpc"), ("te", "trailers"), ("user-agent", "grpc-python/1.85")]


def framed(message: bytes) -> bytes:
    return bytes([0]) + len(message).to_bytes(4, "big") + message


def echo(end: End, stream: int) -> None:
    """Answer a gRPC call with its own messages."""
    end.h2.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc"), ("x-many", "v" * 300)])
    end.h2.send_data(stream, end.streams[stream].body)
    end.h2.send_headers(stream, [("grpc-status", "0"), ("grpc-message", "fine")], end_stream=True)


def refuse(end: End, stream: int) -> None:
    """Answer with an error of gRPC, which has head and trailer in one."""
    fields = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "3"), ("grpc-message", "no")]
    end.h2.send_headers(stream, fields, end_stream=True)


def ignore(_: End, __: int) -> None:
    """Never answer."""


async def connected(it: Relayed) -> Client:
    return Client(*await it.connect())


def said(event: CloudEvent) -> tuple[str, bytes, bool, str | None, str | None]:
    extensions = event.extensions
    kind = event.type.rpartition(".")[2]
    return kind, event.data, event.truncated, extensions.get("statuscode"), extensions.get("grpcstatus")


def test_a_unary_call_is_two_events_with_its_frames() -> None:
    async def test() -> None:
        async with relayed(answering(echo), metadata_headers=["x-tenant"]) as it, await connected(it) as client:
            for number in range(3):  # whose header fields come from the tables more and more
                given = [*GRPC, ("ce-id", f"call-{number}"), ("x-tenant", "a"), ("authorization", "s3cret")]
                stream = await client.ask(INFER, framed(b"body"), given)
                assert (stream.body, stream.trailer) == (
                    framed(b"body"),
                    [("grpc-status", "0"), ("grpc-message", "fine")],
                )
                assert dict(stream.fields)["x-many"] == "v" * 300
            events = await it.settled()
            assert [event.id for event in events] == ["call-0"] * 2 + ["call-1"] * 2 + ["call-2"] * 2
            assert list(map(said, events[:2])) == [
                ("request", framed(b"body"), False, None, None),
                ("response", framed(b"body"), False, "200", "OK"),
            ]
            for event in events:
                assert event.content_type == "application/grpc"
                assert (event.extensions["path"], event.extensions["method"]) == (INFER, "POST")
                assert event.extensions["metadata"] == '{"X-Tenant":["a"]}'
            assert not it.relay.unlogged
            assert it.relay.requests == 3

    run(test)


def test_an_error_of_grpc_has_its_code() -> None:
    async def test() -> None:
        async with relayed(answering(refuse)) as it, await connected(it) as client:
            stream = await client.ask(INFER, framed(b"x"), GRPC)
            assert dict(stream.fields)["grpc-message"] == "no"
            assert list(map(said, await it.settled()))[1] == ("response", b"", False, "400", "INVALID_ARGUMENT")

    run(test)


def test_calls_without_grpc_are_captured_too() -> None:
    def reply(end: End, stream: int) -> None:
        end.h2.send_headers(stream, [(":status", "103"), ("link", "</x>")])
        end.h2.send_headers(stream, [(":status", "404"), ("content-type", "application/json")])
        end.h2.send_data(stream, b"{}", end_stream=True)

    async def test() -> None:
        async with relayed(answering(reply)) as it, await connected(it) as client:
            await client.ask("/v1/models/m%3Apredict?a=1", b"{}", [("content-type", "text/json")])
            request, response = await it.settled()
            assert request.extensions["path"] == "/v1/models/m:predict"
            assert said(response) == ("response", b"{}", False, "404", None)
            assert (request.content_type, response.content_type) == ("text/json", "application/json")

    run(test)


def test_many_calls_at_once_and_large_ones() -> None:
    async def test() -> None:
        async with relayed(answering(echo_in_parts)) as it, await connected(it) as client:
            bodies = [framed(b"%03d" % number * (40_000 if number % 20 == 0 else 3)) for number in range(100)]
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(client.ask(INFER, body, GRPC)) for body in bodies]
            assert [task.result().body for task in tasks] == bodies
            responses = [event.data for event in await it.settled() if event.type.endswith("response")]
            assert sorted(responses) == sorted(bodies)

    background: set[asyncio.Task[None]] = set()

    def echo_in_parts(end: End, stream: int) -> None:
        async def send() -> None:
            end.h2.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
            await end.send(stream, end.streams[stream].body, end=False)
            end.h2.send_headers(stream, [("grpc-status", "0")], end_stream=True)
            end.flush()

        task = asyncio.get_running_loop().create_task(send())
        background.add(task)
        task.add_done_callback(background.discard)

    run(test)


def test_what_is_longer_than_is_kept_is_cut_and_passes_whole() -> None:
    async def test() -> None:
        async with relayed(answering(echo), max_body_bytes=10) as it, await connected(it) as client:
            assert (await client.ask(INFER, framed(bytes(3000)), GRPC)).body == framed(bytes(3000))
            request, response = await it.settled()
            assert (len(request.data), request.truncated, len(response.data), response.truncated) == (
                10,
                True,
                10,
                True,
            )

    run(test)


def test_a_client_that_cancels_and_an_upstream_that_resets() -> None:
    def half(end: End, stream: int) -> None:
        end.h2.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
        end.h2.send_data(stream, b"half")
        if end.streams[stream].body == b"reset":
            end.h2.reset_stream(stream, 2)

    async def test() -> None:
        async with relayed(answering(half)) as it, await connected(it) as client:
            assert (await client.ask(INFER, b"reset", GRPC)).reset == 2
            cancelled = client.begin(INFER, GRPC)
            await client.send(cancelled, b"cancel", end=True)
            await client.until(lambda: client.streams[cancelled].body == b"half")
            client.h2.reset_stream(cancelled, 8)
            unfinished = client.begin(INFER, GRPC)
            await client.send(unfinished, b"unfinished", end=False)
            client.h2.reset_stream(unfinished, 8)
            assert (await client.ask(INFER, b"reset", GRPC)).reset == 2  # the connection goes on
            assert sorted(map(said, await it.settled())) == [
                ("request", b"cancel", False, None, None),
                ("request", b"reset", False, None, None),
                ("request", b"reset", False, None, None),
                ("request", b"unfinished", True, None, None),
                ("response", b"half", True, "200", None),
                ("response", b"half", True, "200", None),
                ("response", b"half", True, "200", None),
            ]

    run(test)


def test_an_answer_before_the_end_of_the_request() -> None:
    async def early(_: Upstream, reader: Reader, writer: Writer) -> None:
        end = End(reader, writer, client=False)
        task = asyncio.create_task(end.receive())
        await end.until(lambda: end.streams[1].body == b"part")
        refuse(end, 1)
        end.flush()
        await task

    async def test() -> None:
        async with relayed(early) as it, await connected(it) as client:
            stream = client.begin(INFER, GRPC)
            await client.send(stream, b"part", end=False)
            await client.until(lambda: client.streams[stream].ended)
            client.h2.send_headers(stream, [("x-trailer", "1")], end_stream=True)  # which begins no call
            client.flush()
            assert list(map(said, await it.settled())) == [
                ("request", b"part", True, None, None),
                ("response", b"", False, "400", "INVALID_ARGUMENT"),
            ]
            assert it.relay.requests == 1

    run(test)


def test_calls_that_are_cut_off_by_the_end_of_the_connection() -> None:
    async def test() -> None:
        async with relayed(answering(ignore)) as it:
            async with await connected(it) as client:
                await client.send(client.begin(INFER, GRPC), b"x", end=True)
                await client.greeted()
            assert list(map(said, await it.settled())) == [("request", b"x", False, None, None)]

    run(test)


def test_a_drain_asks_for_no_more_calls_and_lets_those_under_way_finish() -> None:
    asked, may = asyncio.Event(), asyncio.Event()
    tasks: list[asyncio.Task[None]] = []

    def later(end: End, stream: int) -> None:
        async def send() -> None:
            await may.wait()
            echo(end, stream)
            end.flush()

        tasks.append(asyncio.get_running_loop().create_task(send()))
        asked.set()

    async def test() -> None:
        async with relayed(answering(later)) as it, await connected(it) as client:
            async with await connected(it) as idle:
                await idle.greeted()
                call = asyncio.create_task(client.ask(INFER, b"x", GRPC))
                await asked.wait()
                drained = asyncio.create_task(it.relay.drain(10.0))
                await idle.until(lambda: idle.dismissed)
                await client.until(lambda: client.dismissed)
                assert not drained.done()
                may.set()
                assert (await call).body == b"x"
                await asyncio.wait_for(drained, 60)
            assert [event.type.rpartition(".")[2] for event in it.events] == ["request", "response"]

    run(test)


def test_what_cannot_be_followed_passes_and_is_counted() -> None:
    def odd(end: End, stream: int) -> None:
        echo(end, stream)
        end.flush()
        end.writer.write(b"\0\0\x01\x09\x04\0\0\0\x01\0")  # CONTINUATION of nothing
        end.flush()

    async def test() -> None:
        async with relayed(answering(odd)) as it:
            reader, writer = await it.connect()
            client = Client(reader, writer)
            stream = client.begin(INFER, GRPC)
            client.h2.send_data(stream, b"x", end_stream=True)
            client.flush()
            await reader.readuntil(b"\0\0\x01\x09\x04\0\0\0\x01\0")
            assert [event.data for event in await it.settled()] == [b"x", b"x"]
            assert (it.relay.unlogged, it.relay.guarded.errors) == ({"h2c": 1}, 0)

    run(test)


def test_without_the_library_calls_pass_and_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "inferwatch_logger.proxy.conversation", raising=False)
    monkeypatch.setitem(sys.modules, "hpack", None)

    async def test() -> None:
        async with relayed(answering(echo)) as it, await connected(it) as client:
            assert (await client.ask(INFER, b"x", GRPC)).body == b"x"
            assert await it.settled() == []
            assert it.relay.unlogged == {"h2c": 1}

    run(test)


def asking(model: bytes, *, compressed: bool = False) -> bytes:
    """Return a request in its frame: the model's name, and an id."""
    message = bytes([10, len(model)]) + model + bytes([26, 1]) + b"7"
    packed = gzip.compress(message) if compressed else message
    return bytes([compressed]) + len(packed).to_bytes(4, "big") + packed


def test_the_model_is_the_one_that_the_message_names() -> None:
    bodies = [asking(b"income"), asking(b"iris", compressed=True), asking(b"not a name"), b""]

    async def test() -> None:
        async with relayed(answering(echo), name=None) as it, await connected(it) as client:
            for number, body in enumerate(bodies):
                stream = client.begin(INFER, [*GRPC, ("ce-id", str(number))])
                for place in range(len(body)):
                    await client.send(stream, body[place : place + 1], end=False)
                client.h2.end_stream(stream)
                client.flush()
                await client.answered(stream)
                assert client.streams[stream].body == body
            client.h2.reset_stream(client.begin(INFER, GRPC), 8)
            client.flush()
            events = await it.settled()
            names = [(event.id, event.extensions["inferenceservicename"], event.data) for event in events[:8]]
            expected = ["income", "iris", UNNAMED, UNNAMED]
            assert names == [(str(number), expected[number], bodies[number]) for number in range(4) for _ in "12"]
            assert said(events[8]) == ("request", b"", True, None, None)
            assert events[0].source == "/namespaces/prod/services/income/predictor"

    run(test)


def test_a_switch_of_one_model_holds_for_grpc_too() -> None:
    async def test() -> None:
        models = {"iris": {"enabled": False}}
        async with relayed(answering(echo), name=None, models=models) as it, await connected(it) as client:
            for model in (b"iris", b"income"):
                assert (await client.ask(INFER, asking(model), GRPC)).body == asking(model)
            assert [event.extensions["inferenceservicename"] for event in await it.settled()] == ["income"] * 2

    run(test)


def test_faults_of_capture_change_no_call() -> None:
    def broken(_: CloudEvent) -> None:
        raise RuntimeError("no room")

    async def test() -> None:
        async with relayed(answering(echo), emit=broken) as it, await connected(it) as client:
            for _ in range(3):
                assert (await client.ask(INFER, b"x", GRPC)).body == b"x"
            await it.settled()
            assert it.relay.guarded.errors == 6
            assert not it.relay.unlogged

    run(test)


def recorded(sent: bytes, answered: bytes) -> tuple[list[CloudEvent], int, bool]:
    """Follow what two sides sent; return the events, the faults of our own, and whether it was followed to its end."""
    events: list[CloudEvent] = []
    guarded = FailOpen()
    recorder = Recorder(Capture.of(), events.append, guarded=guarded)
    relay: Any = SimpleNamespace(recorder=recorder, guarded=guarded, requests=0, unlogged=Counter())
    conversation = Conversation(relay)
    conversation.asked(sent)
    conversation.answered(answered)
    conversation.close()
    return events, guarded.errors, not relay.unlogged


def conversation() -> tuple[bytes, bytes]:
    """Return what the two sides of three calls send."""
    client = H2Connection(H2Configuration(client_side=True))
    server = H2Connection(H2Configuration(client_side=False))
    client.initiate_connection()
    server.initiate_connection()
    head = [(":method", "POST"), (":scheme", "http"), (":authority", "h"), (":path", INFER), *GRPC]
    for stream in (1, 3, 5):
        client.send_headers(stream, [*head, ("x-number", str(stream) * 30)])
        client.send_data(stream, asking(b"income"), end_stream=True)
    sent = client.data_to_send()
    server.receive_data(sent)
    for stream in (1, 3, 5):
        server.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
        server.send_data(stream, framed(b"fine"))
        server.send_headers(stream, [("grpc-status", "0")], end_stream=True)
    return sent, server.data_to_send()


SENT, ANSWERED = conversation()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_nothing_that_passes_makes_a_fault_of_ours(data: st.DataObject) -> None:
    events, errors, followed = recorded(SENT, ANSWERED)
    assert (len(events), errors, followed) == (6, 0, True)
    broken = []
    for whole in (SENT, ANSWERED):
        place = data.draw(st.integers(0, len(whole)))
        length = data.draw(st.integers(0, 12))
        broken.append(whole[:place] + data.draw(st.binary(max_size=12)) + whole[place + length :])
    events, errors, _ = recorded(broken[0], broken[1])
    assert errors == 0
    assert len(events) <= 6
