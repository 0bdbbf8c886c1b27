"""Capture inside KServe's own model server: what a sink on the network receives of real V1 and V2 calls."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from inferwatch.events import REQUEST_TYPE, RESPONSE_TYPE, CloudEvent, Role, Stream
from inferwatch.wire.cloudevents import from_http
from inferwatch.wire.decode import decode
from inferwatch_cli.demo.processes import answering, free_port, running

pytestmark = pytest.mark.integration

SERVER = Path(__file__).with_name("kserve_doubler.py")
V1 = b'{"instances": [1, 2.5,  3]}'
V2 = b'{"id": "7", "inputs": [{"name": "x", "shape": [2], "datatype": "FP64", "data": [1.5, 2]}]}'
WAIT_S = 120.0


@dataclass
class Received:
    """What the sink was sent, oldest first."""

    events: list[CloudEvent] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def add(self, event: CloudEvent) -> None:
        with self.changed:
            self.events.append(event)
            self.changed.notify_all()

    def of(self, event_id: str, count: int) -> list[CloudEvent]:
        """Wait for so many events of an id; return them, the request first."""

        def found() -> list[CloudEvent]:
            return [event for event in self.events if event.id == event_id]

        with self.changed:
            assert self.changed.wait_for(lambda: len(found()) >= count, WAIT_S), found()
            return sorted(found(), key=lambda event: event.type)


@contextmanager
def sink(received: Received, *, port: int = 0) -> Iterator[ThreadingHTTPServer]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            (event,) = from_http([(k.encode("latin-1"), v.encode("latin-1")) for k, v in self.headers.items()], body)
            assert isinstance(event, CloudEvent), event
            received.add(event)
            self.send_response(202)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@dataclass(frozen=True)
class Doubler:
    url: str

    def call(self, path: str, body: bytes | None, **headers: str) -> tuple[int, bytes]:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.url + path, body, {"content-type": "application/json", **given})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()


@contextmanager
def doubler(python: Path, sink_port: int, log: Path) -> Iterator[Doubler]:
    url = f"http://127.0.0.1:{free_port()}"
    command: list[str | Path] = [
        python,
        SERVER,
        f"http://127.0.0.1:{sink_port}/logs?x=1",
        "--http_port",
        url.rpartition(":")[2],
    ]
    with running(command, log) as process:
        asyncio.run(answering(f"{url}/v2/health/ready", process, log))
        yield Doubler(url)


@pytest.fixture(scope="module")
def received() -> Received:
    return Received()


@pytest.fixture(scope="module")
def server(
    received: Received, model_server_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Doubler]:
    with (
        sink(received) as http,
        doubler(model_server_python, http.server_port, tmp_path_factory.mktemp("kserve") / "log") as running_server,
    ):
        yield running_server


def test_a_v1_call_gives_two_events_with_the_bytes_of_the_wire(server: Doubler, received: Received) -> None:
    before_ns = time.time_ns()
    status, answered = server.call(
        "/v1/models/doubler:predict", V1, ce_id="call-1", x_request_id="r-1", authorization="Bearer s3cret"
    )
    assert (status, json.loads(answered)) == (200, {"predictions": [2, 5.0, 6]})
    request, response = received.of("call-1", 2)
    assert (request.type, response.type) == (REQUEST_TYPE, RESPONSE_TYPE)
    assert (request.data, response.data) == (V1, answered)
    assert request.content_type == response.content_type == "application/json"
    for event in (request, response):
        assert event.stream == Stream("prod", "doubler", "predictor", "default")
        assert json.loads(event.extensions["metadata"]) == {"X-Request-Id": ["r-1"]}
        assert (event.extensions["path"], event.extensions["method"]) == ("/v1/models/doubler:predict", "POST")
        assert event.time_ns is not None
        assert before_ns <= event.time_ns <= time.time_ns()
        assert "s3cret" not in repr(event)
    assert response.extensions["statuscode"] == "200"
    assert 0 < float(response.extensions["latencyms"]) < 10_000
    assert "statuscode" not in request.extensions
    decoded = decode(request.data, Role.REQUEST)
    assert decoded.rows is not None
    assert decoded.rows.columns[0].values.tolist() == [1, 2.5, 3]


def test_a_v2_call(server: Doubler, received: Received) -> None:
    status, answered = server.call("/v2/models/doubler/infer", V2, ce_id="call-2")
    assert status == 200
    request, response = received.of("call-2", 2)
    assert (request.data, response.data) == (V2, answered)
    decoded = decode(response.data, Role.RESPONSE)
    assert (decoded.protocol, decoded.fault) == ("v2", None)
    assert decoded.rows is not None
    assert {column.name: column.values.tolist() for column in decoded.rows.columns} == {"doubled": [3.0, 4.0]}


def test_a_call_without_an_id_gets_one(server: Doubler, received: Received) -> None:
    body = b'{"instances": [77]}'
    assert server.call("/v1/models/doubler:predict", body)[0] == 200
    with received.changed:
        assert received.changed.wait_for(lambda: any(event.data == body for event in received.events), WAIT_S)
        (fresh,) = (event.id for event in received.events if event.data == body)
    assert len(fresh) == 36
    assert [event.type for event in received.of(fresh, 2)] == [REQUEST_TYPE, RESPONSE_TYPE]


@pytest.mark.parametrize(("body", "status"), [(b'{"instances": ["x"]}', 400), (b'{"instances": [null]}', 500)])
def test_a_call_that_fails_is_an_event_too(server: Doubler, received: Received, body: bytes, status: int) -> None:
    event_id = f"failing-{status}"
    found, answered = server.call("/v1/models/doubler:predict", body, ce_id=event_id)
    assert found == status
    request, response = received.of(event_id, 2)
    assert request.data == body
    assert response.extensions["statuscode"] == str(status)
    assert response.data in (answered, b"")  # KServe writes the body of a 500 outside of every middleware


def test_a_health_call_decodes_as_health(server: Doubler, received: Received) -> None:
    status, answered = server.call("/v1/models/doubler", None, ce_id="health-1")
    assert status == 200
    request, response = received.of("health-1", 2)
    assert (request.data, response.data) == (b"", answered)
    assert decode(request.data, Role.REQUEST).protocol == decode(response.data, Role.RESPONSE).protocol == "health"


def test_probes_and_scrapes_are_not_captured(server: Doubler, received: Received) -> None:
    server.call("/v2/health/live", None, ce_id="probe-1", user_agent="kube-probe/1.32")
    server.call("/metrics", None, ce_id="scrape-1")
    server.call("/v1/models/doubler:predict", V1, ce_id="after-probes")
    received.of("after-probes", 2)
    assert not [event for event in received.events if event.id in ("probe-1", "scrape-1")]


def test_a_dead_sink_changes_no_answer_and_nothing_is_lost_once_it_is_back(
    model_server_python: Path, tmp_path: Path
) -> None:
    port = free_port()
    with doubler(model_server_python, port, tmp_path / "log") as lonely:
        for number in range(20):
            status, answered = lonely.call("/v1/models/doubler:predict", V1, ce_id=f"early-{number}")
            assert (status, json.loads(answered)) == (200, {"predictions": [2, 5.0, 6]})
        received = Received()
        with sink(received, port=port):
            for number in range(20):
                assert [event.data for event in received.of(f"early-{number}", 2)] == [V1, answered]
            assert len({(event.id, event.type) for event in received.events}) == len(received.events)


def test_the_last_events_are_delivered_when_the_server_stops(model_server_python: Path, tmp_path: Path) -> None:
    received = Received()
    with sink(received) as http:
        with doubler(model_server_python, http.server_port, tmp_path / "log") as short:
            for number in range(50):
                short.call("/v1/models/doubler:predict", V1, ce_id=f"late-{number}")
        assert sum(event.id.startswith("late-") for event in received.events) == 100
