"""Events of other senders than KServe's agent, and of several models at once, over HTTP and as the API shows them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inferwatch.aliases import Aliases
from inferwatch.clock import ManualClock
from inferwatch.events import REQUEST_TYPE, RESPONSE_TYPE
from inferwatch.payload_log.dead_letter import DeadLetter
from inferwatch_logger.ingest import Ingest
from tests.logger.watched_log import START_NS, WatchedLog, watched_log

SELDON = {
    "ce-specversion": "1.0",
    "ce-source": "http://:8000/",
    "ce-namespace": "ml",
    "ce-endpoint": "example",
    "ce-inferenceservicename": "seldon-model",
    "ce-modelid": "classifier",
    "content-type": "application/json",
}
ASKED = {"ce-type": "io.seldon.serving.inference.request", "ce-time": "2026-11-21T10:00:00Z"}
ANSWERED = {"ce-type": "io.seldon.serving.inference.response", "ce-time": "2026-11-21T10:00:00.1Z"}


class Sink:
    """A payload log behind an ingest."""

    def __init__(self, log: WatchedLog, aliases: Aliases | None = None) -> None:
        self.log = log
        letters = DeadLetter(log.directory, clock=ManualClock(START_NS))
        self.ingest = Ingest(log.journal, letters, aliases=aliases)

    def post(self, body: object, *headers: dict[str, str], **attributes: str) -> int:
        """Send an event in binary mode, and return the status."""
        fields: dict[str, str] = {f"ce-{name}": value for name, value in attributes.items()}
        for more in headers:
            fields |= more
        raw = [(name.encode(), value.encode()) for name, value in fields.items()]
        scope = {"type": "http", "method": "POST", "path": "/", "headers": raw}
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(self.ingest(scope, receive, send))
        assert self.log.pipeline.wait_for(self.log.journal.end(), 120)
        return int(sent[0]["status"])

    def payloads(self, query: str = "") -> list[dict[str, Any]]:
        """Return the payloads oldest first."""
        return list(self.log.get(f"/api/payloads?{query}").json["items"])[::-1]

    def detail(self, item: dict[str, Any]) -> Any:
        return self.log.get(f"/api/payloads/{item['key']}").json


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Sink]:
    with watched_log(tmp_path, ()) as log:
        yield Sink(log)


def test_events_of_seldon_name_the_right_service_and_are_joined(sink: Sink) -> None:
    """As Seldon's executor sends them: an id for each event, and one `requestid` for both halves."""
    for model, rows in (("classifier", [[2, 1]]), ("scaler", [[5, 6], [7, 8]])):
        node = {"ce-modelid": model}
        assert sink.post({"instances": rows}, SELDON, ASKED, node, id=f"a-{model}", requestid="12b0") == 200
        assert sink.post({"predictions": rows}, SELDON, ANSWERED, node, id=f"b-{model}", requestid="12b0") == 200
    first, second = sink.payloads("model=ml/seldon-model")
    assert [(item["id"], item["outcome"], item["rows"], item["request_id"]) for item in (first, second)] == [
        ("12b0", "paired", 1, "12b0"),
        ("12b0", "paired", 2, "12b0"),
    ]
    assert (first["endpoint"], first["component"]) == ("example", "predictor")
    attributes = sink.detail(first)["request"]["attributes"]
    assert (attributes["id"], attributes["type"], attributes["modelid"]) == (
        "a-classifier",
        ASKED["ce-type"],
        "classifier",
    )
    ledger = sink.log.journal.ledger()
    assert (ledger.received, ledger.stored, ledger.ignored) == (4, 4, {})


def test_seldons_samples_name_the_model_alone(sink: Sink) -> None:
    alone = {name: value for name, value in SELDON.items() if name not in ("ce-inferenceservicename", "ce-endpoint")}
    assert sink.post({"instances": [[1]]}, alone, ASKED, id="1") == 200
    (item,) = sink.payloads("model=ml/classifier")
    assert (item["id"], item["endpoint"], item["outcome"]) == ("1", "default", "request_only")


def test_a_type_that_stands_for_nothing_is_ignored_with_success(tmp_path: Path) -> None:
    with watched_log(tmp_path, ()) as log:
        sink = Sink(log, Aliases(request=["com.shop.asked"], response=[]))
        assert sink.post({"instances": [[1]]}, SELDON, ASKED, id="1") == 200
        assert sink.post({"instances": [[1]]}, SELDON, {"ce-type": "com.shop.asked"}, id="1") == 200
        ledger = log.journal.ledger()
        assert (ledger.received, ledger.stored, ledger.ignored) == (2, 1, {ASKED["ce-type"]: 1})
        (item,) = sink.payloads("model=ml/seldon-model")
        assert item["protocol"] == "v1"


def step(sink: Sink, second: float, name: str, identity: str, request: Any, response: Any, **more: str) -> None:
    """Send both halves of what a step of a graph was asked."""
    for kind, later, body in ((REQUEST_TYPE, 0.0, request), (RESPONSE_TYPE, 0.5, response)):
        named = {"specversion": "1.0", "id": identity, "source": "http://localhost:9081/", "type": kind}
        time = f"2026-11-21T10:00:{second + later:09.6f}Z"
        status = sink.post(body, **named, time=time, namespace="default", inferenceservicename=name, **more)
        assert status == 200


def model(sink: Sink, name: str) -> dict[str, Any]:
    return dict(sink.log.get(f"/api/models/default/{name}").json)


def test_the_steps_of_a_graph_share_an_id_and_count_once_for_every_model(sink: Sink) -> None:
    """A sequence whose second node is an ensemble; the router passes `Ce-Id` on."""
    rows, scaled = {"instances": [[1, 2], [3, 4]]}, {"predictions": [[0.1, 0.2], [0.3, 0.4]]}
    step(sink, 0, "scaler", "g-1", rows, scaled)
    for name in ("tree", "forest"):
        step(sink, 1, name, "g-1", {"instances": scaled["predictions"]}, {"predictions": [0, 1]})
    step(sink, 1.1, "tree", "g-1", {"instances": [[1]]}, {"predictions": [0]}, component="transformer")
    step(sink, 9, "tree", "g-2", {"instances": [[9]]}, {"predictions": [0]})
    for name, events, count in (("scaler", 2, 2), ("tree", 6, 4), ("forest", 2, 2)):
        found = model(sink, name)
        assert (found["events"], found["rows"], found["unpaired"]) == (events, count, {"requests": 0, "responses": 0})
    shared = sink.payloads("id=g-1")
    assert [item["outcome"] for item in shared] == ["paired"] * 4
    assert len({item["key"] for item in shared}) == 4
    steps = sink.detail(shared[0])["steps"]
    assert [(item["name"], item["component"], item["rows"]) for item in steps] == [
        ("tree", "predictor", 2),
        ("forest", "predictor", 2),
        ("tree", "transformer", 1),
    ]
    assert steps[0] == shared[1]
    ledger = sink.log.journal.ledger()
    assert (ledger.received, ledger.stored, ledger.duplicate) == (10, 10, 0)


def test_the_steps_of_a_graph_that_share_a_request_id_are_found_by_it(sink: Sink) -> None:
    """By default each step's logger makes up an id; `X-Request-Id` is among the logged headers."""
    for number, name in enumerate(("scaler", "tree")):
        metadata = json.dumps({"X-Request-Id": ["q-7"], "Accept": ["*/*"]})
        step(sink, number, name, f"own-{number}", {"instances": [[1]]}, {"predictions": [0]}, metadata=metadata)
    step(sink, 3, "tree", "own-3", {"instances": [[1]]}, {"predictions": [0]}, metadata='{"x-request-id":["q-8"]}')
    found = sink.payloads("request_id=q-7")
    assert [(item["name"], item["request_id"], item["id"]) for item in found] == [
        ("scaler", "q-7", "own-0"),
        ("tree", "q-7", "own-1"),
    ]
    assert [item["name"] for item in sink.payloads("request_id=q-8")] == ["tree"]
    assert sink.payloads("request_id=own-0") == []
    assert [item["id"] for item in sink.detail(found[0])["steps"]] == ["own-1"]
    assert [item["id"] for item in sink.detail(found[1])["steps"]] == ["own-0"]
    (lonely,) = sink.payloads("request_id=q-8")
    assert sink.detail(lonely)["steps"] == []


def test_an_id_that_a_client_uses_for_every_call_joins_no_calls_of_another_time(sink: Sink) -> None:
    step(sink, 0, "scaler", "1", {"instances": [[1]]}, {"predictions": [0]})
    sink.post(
        {"instances": [[1]]},
        specversion="1.0",
        id="1",
        source="s",
        type=REQUEST_TYPE,
        time="2026-11-21T09:00:00Z",
        inferenceservicename="tree",
    )
    assert [sink.detail(item)["steps"] for item in sink.payloads("id=1")] == [[], []]
