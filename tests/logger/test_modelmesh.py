"""ModelMesh's payloads become events whose halves are joined within one sender."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatch.clock import ManualClock
from inferwatch.errors import InvalidEvent
from inferwatch.events import REQUEST_TYPE, RESPONSE_TYPE, CloudEvent
from inferwatch.payload_log.dead_letter import DeadLetter
from inferwatch.payload_log.index import recently_open
from inferwatch_logger.ingest import Ingest
from inferwatch_logger.modelmesh import PATH, WINDOW_S, ModelMesh
from tests.logger.watched_log import START_NS, WatchedLog, watched_log

POD = ("10.0.0.1", 41000)
SAME_POD = ("10.0.0.1", 41001)
HALVES = ("request", "response")
OTHER_POD = ("10.0.0.2", 41000)


def payload(kind: str, data: bytes = b"", /, **fields: Any) -> dict[str, Any]:
    status = "" if kind == "request" else "OK"
    return {
        "id": "69-1",
        "modelid": "income",
        "vModelId": None,
        "data": b64encode(data).decode(),
        "kind": kind,
        "status": status,
        "metadata": {"user-agent": "grpc"},
    } | fields


def taken(mesh: ModelMesh, kind: str, client: tuple[str, int] | None = POD, /, **fields: Any) -> CloudEvent:
    member = mesh.member(orjson.dumps(payload(kind, **fields)), client)
    assert isinstance(member, CloudEvent)
    return member


def senders(*halves: tuple[str, tuple[str, int]], wait_s: float = 0.0) -> list[str]:
    clock = ManualClock(START_NS)
    mesh = ModelMesh(clock)
    found = []
    for kind, client in halves:
        found.append(taken(mesh, kind, client).extensions["inferwatchsender"])
        clock.advance(wait_s)
    return found


def test_a_request_is_an_event_like_those_of_kserve() -> None:
    headers = {"authorization": "Bearer x", "X-Api-Key": "y", "x-request-id": "r", "trace-bin": "AAE="}
    event = taken(ModelMesh(ManualClock(START_NS)), "request", metadata=headers, data=b64encode(b"\x0a\x01m").decode())
    assert (event.id, event.type, event.time_ns, event.data) == ("69-1", REQUEST_TYPE, START_NS, b"\x0a\x01m")
    assert event.stream == ("default", "income", "predictor", "default")
    assert json.loads(event.extensions["metadata"]) == {"x-request-id": ["r"], "trace-bin": ["AAE="]}
    assert event.extensions["inferwatchsender"] == "10.0.0.1:41000"
    assert "statuscode" not in event.extensions


@pytest.mark.parametrize(
    ("code", "status"), [("OK", "200"), ("NOT_FOUND", "404"), ("UNAVAILABLE", "503"), ("?", "500")]
)
def test_a_response_has_the_status_of_its_code(code: str, status: str) -> None:
    event = taken(ModelMesh(ManualClock()), "response", status=code)
    assert (event.type, event.extensions["statuscode"], event.extensions["grpcstatus"]) == (RESPONSE_TYPE, status, code)


def test_equal_payloads_are_different_events() -> None:
    clock = ManualClock(START_NS)
    mesh = ModelMesh(clock)
    first = taken(mesh, "request")
    clock.advance(1e-9)
    assert taken(mesh, "request", OTHER_POD).key() != first.key()


class TestSenders:
    def test_one_connection_is_one_sender(self) -> None:
        assert senders(("request", POD), ("response", POD)) == ["10.0.0.1:41000"] * 2
        assert senders(("response", POD), ("request", POD)) == ["10.0.0.1:41000"] * 2

    def test_the_other_half_may_come_over_a_new_connection(self) -> None:
        assert senders(("request", POD), ("response", SAME_POD)) == ["10.0.0.1:41000"] * 2

    def test_another_pod_is_another_sender(self) -> None:
        assert senders(("request", POD), ("response", OTHER_POD)) == ["10.0.0.1:41000", "10.0.0.2:41000"]

    def test_each_connection_keeps_its_own(self) -> None:
        halves = ("request", POD), ("request", SAME_POD), ("response", SAME_POD), ("response", POD)
        ports = [sender.rpartition(":")[2] for sender in senders(*halves)]
        assert ports == ["41000", "41001", "41001", "41000"]

    def test_what_is_not_clear_is_not_joined(self) -> None:
        third = ("10.0.0.1", 41002)
        assert senders(("request", POD), ("request", SAME_POD), ("response", third))[2] == "10.0.0.1:41002"

    def test_a_half_is_joined_once(self) -> None:
        assert senders(("request", POD), ("response", SAME_POD), ("response", SAME_POD))[2] == "10.0.0.1:41001"

    def test_an_id_means_something_for_a_while_only(self) -> None:
        halves = ("request", POD), ("response", SAME_POD)
        assert senders(*halves, wait_s=WINDOW_S) == ["10.0.0.1:41000"] * 2
        assert senders(*halves, wait_s=WINDOW_S + 1) == ["10.0.0.1:41000", "10.0.0.1:41001"]

    def test_models_and_ids_are_kept_apart(self) -> None:
        mesh = ModelMesh(ManualClock())
        taken(mesh, "request")
        for other in ({"id": "69-2"}, {"modelid": "b"}):
            assert taken(mesh, "response", SAME_POD, **other).extensions["inferwatchsender"] == "10.0.0.1:41001"

    def test_memory_is_bounded(self) -> None:
        mesh = ModelMesh(ManualClock(), most_open=3)
        for number in range(9):
            taken(mesh, "request", id=str(number))
            taken(mesh, "request", id="same")
        assert taken(mesh, "response", SAME_POD, id="0").extensions["inferwatchsender"] == "10.0.0.1:41001"
        assert taken(mesh, "response", SAME_POD, id="8").extensions["inferwatchsender"] == "10.0.0.1:41000"

    def test_a_client_that_nobody_knows(self) -> None:
        assert taken(ModelMesh(ManualClock()), "request", None).extensions["inferwatchsender"] == "unknown:0"


@pytest.mark.parametrize(
    ("body", "reason", "says"),
    [
        (b"{", "bad_json", ""),
        (b"[]", "bad_json", "a JSON object"),
        (orjson.dumps(payload("both")), "bad_type", "'both'; allowed are request, response"),
        (orjson.dumps(payload("request", kind=None)), "bad_type", "kind"),
        (orjson.dumps(payload("request", kind=["request"])), "bad_type", "kind"),
        (orjson.dumps(payload("request", modelid="")), "missing_attribute", "modelid"),
        (orjson.dumps(payload("request", modelid=5)), "missing_attribute", "modelid"),
        (orjson.dumps(payload("request", id=None)), "missing_attribute", "id"),
        (orjson.dumps(payload("request", id=5)), "bad_type", "id"),
        (orjson.dumps(payload("request", id="a\0b")), "bad_character", "id"),
        (orjson.dumps(payload("request", data="?")), "bad_base64", "data"),
        (orjson.dumps(payload("request", data=5)), "bad_base64", "data"),
    ],
)
def test_what_is_no_payload_says_why(body: bytes, reason: str, says: str) -> None:
    invalid = ModelMesh(ManualClock()).member(body, POD)
    assert isinstance(invalid, InvalidEvent)
    assert invalid.reason == reason
    assert says in str(invalid)


TEXTS = st.sampled_from(["", "a", "request", "AAE=", "a\0b", "é\ufffe", "../x"])
JSON = st.none() | st.booleans() | st.integers(-5, 5) | TEXTS | st.lists(TEXTS, max_size=2)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(payload("request"), JSON)), st.booleans())
def test_no_document_raises(changes: dict[str, Any], metadata: bool) -> None:
    body = payload("request") | changes | ({"metadata": changes} if metadata else {})
    assert isinstance(ModelMesh(ManualClock()).member(orjson.dumps(body), POD), CloudEvent | InvalidEvent)


class Mesh:
    """A payload log behind an ingest that takes ModelMesh's payloads."""

    def __init__(self, log: WatchedLog, paths: dict[str, str] | None = None) -> None:
        self.log = log
        clock = ManualClock(START_NS)
        self.clock = clock
        letters = DeadLetter(log.directory, clock=clock)
        self.letters = letters.path
        self.mesh = ModelMesh(clock, paths)
        self.ingest = Ingest(log.journal, letters, max_body_bytes=10_000, modelmesh=self.mesh)

    def post(
        self, body: object, client: tuple[str, int] = POD, method: str = "POST", path: str = PATH
    ) -> tuple[int, dict[bytes, bytes], bytes]:
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        headers = [(b"content-type", b"application/json")]
        scope = {"type": "http", "method": method, "path": path, "headers": headers, "client": client}
        assert self.ingest.handles(scope)
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": data, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(self.ingest(scope, receive, send))
        self.clock.advance(0.001)
        return sent[0]["status"], dict(sent[0]["headers"]), sent[1].get("body", b"")

    def payloads(self) -> list[dict[str, Any]]:
        assert self.log.pipeline.wait_for(self.log.journal.end(), 120)
        items: list[dict[str, Any]] = self.log.get("/api/payloads?model=default/income").json["items"]
        return [dict(self.log.get(f"/api/payloads/{item['key']}").json) for item in items]


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    with watched_log(tmp_path, ()) as log:
        yield Mesh(log)


def corpus(case: str) -> bytes:
    cases = json.loads((Path(__file__).parents[1] / "core" / "wire" / "grpc_corpus.json").read_text(encoding="utf-8"))
    return next(b64decode(found["body"]) for found in cases if found["case"] == case)


def test_an_inference_is_stored_paired_and_decoded(mesh: Mesh) -> None:
    for half in (payload("request", corpus("typed, no frame")), payload("response", corpus("typed reply, no frame"))):
        status, headers, body = mesh.post(half)
        assert (status, headers[b"content-length"], body) == (200, b"0", b"")
    (found,) = mesh.payloads()
    assert (found["id"], found["outcome"], found["protocol"], found["status"]) == ("69-1", "paired", "grpc", 200)
    assert found["decoded"]["columns"] == ["x[0]", "x[1]", "n", "t", "y[0]", "y[1]"]
    assert found["decoded"]["rows"][1] == [2.5, 1e300, -(2**63), "", 1.0, 0.0]
    assert b64decode(found["request"]["body"]["base64"]) == corpus("typed, no frame")
    ledger = mesh.log.journal.ledger()
    assert (ledger.received, ledger.stored) == (2, 2)


def test_a_call_that_failed_has_a_status_and_no_rows(mesh: Mesh) -> None:
    mesh.post(payload("request", corpus("typed, no frame")))
    mesh.post(payload("response", status="NOT_FOUND"))
    (found,) = mesh.payloads()
    assert (found["outcome"], found["status"], found["excluded"], found["rows"]) == ("paired", 404, None, 2)


def test_pods_that_count_alike_are_not_mixed_up(mesh: Mesh) -> None:
    for kind, client, code in (
        ("request", POD, ""),
        ("request", OTHER_POD, ""),
        ("response", POD, "NOT_FOUND"),
        ("response", OTHER_POD, "OK"),
        ("response", OTHER_POD, "OK"),
    ):
        mesh.post(payload(kind, status=code), client)
    found = [
        (
            item["outcome"],
            item["status"],
            {item[half]["attributes"]["inferwatchsender"] for half in HALVES if item[half]},
        )
        for item in mesh.payloads()
    ]
    assert found == [
        ("response_only", 200, {"10.0.0.2:41000"}),
        ("paired", 200, {"10.0.0.2:41000"}),
        ("paired", 404, {"10.0.0.1:41000"}),
    ]


def test_what_is_no_payload_is_counted_and_kept_without_secrets(mesh: Mesh) -> None:
    secret = {"authorization": "Bearer hidden"}
    status, _, body = mesh.post(payload("both", metadata=secret))
    assert (status, b"allowed are request, response" in body) == (400, True)
    assert mesh.post(b'{"metadata": {"authorization": "hidden"')[0] == 400
    assert mesh.post(payload("request", bytes(9000)))[0] == 413
    assert mesh.post(b"", method="GET")[0] == 405
    assert mesh.log.journal.ledger().malformed == {"bad_type": 1, "bad_json": 1, "too_large": 1}
    assert "hidden" not in mesh.letters.read_text()


def test_each_path_has_the_namespace_of_its_models() -> None:
    mesh = ModelMesh(ManualClock(), {"/mesh-b": "team-b"})
    body = orjson.dumps(payload("request"))
    found = [mesh.member(body, POD, path) for path in mesh.paths]
    assert [member.stream.namespace for member in found if isinstance(member, CloudEvent)] == ["default", "team-b"]
    assert ModelMesh(ManualClock(), {PATH: "prod"}).paths == {PATH: "prod"}


def test_halves_of_two_namespaces_never_meet() -> None:
    mesh = ModelMesh(ManualClock(), {"/mesh-b": "team-b"})
    taken(mesh, "request")
    other = mesh.member(orjson.dumps(payload("response")), SAME_POD, "/mesh-b")
    assert isinstance(other, CloudEvent)
    assert other.extensions["inferwatchsender"] == "10.0.0.1:41001"


def test_payloads_come_in_at_every_path_and_nowhere_else(tmp_path: Path) -> None:
    with watched_log(tmp_path, ()) as log:
        mesh = Mesh(log, {"/mesh-b": "team-b"})
        assert mesh.post(payload("request"), path="/mesh-b")[0] == 200
        assert not mesh.ingest.handles({"type": "http", "method": "POST", "path": "/mesh-c"})
        assert log.pipeline.wait_for(log.journal.end(), 120)
        (item,) = log.get("/api/payloads?model=team-b/income").json["items"]
        assert (item["namespace"], item["outcome"]) == ("team-b", "request_only")


def test_halves_before_and_after_a_restart_of_ours_are_joined(tmp_path: Path) -> None:
    """The connection breaks with the process, so the second half comes over another one."""
    with watched_log(tmp_path, ()) as log:
        mesh = Mesh(log)
        mesh.post(payload("request"))
        mesh.post(payload("request", id="69-2"))
        mesh.post(payload("response", id="69-2"))
        assert log.pipeline.wait_for(log.journal.end(), 120)
    with watched_log(tmp_path, ()) as log:
        mesh = Mesh(log)
        with log.state.read() as connection:
            mesh.mesh.restore(recently_open(connection, 0, 100))
        mesh.post(payload("response"), SAME_POD)
        mesh.post(payload("response", id="69-2"), SAME_POD)
        found = {(item["id"], item["outcome"]) for item in mesh.payloads()}
    assert found == {("69-1", "paired"), ("69-2", "paired"), ("69-2", "response_only")}


def test_a_half_that_nobody_remembers_stays_alone(tmp_path: Path) -> None:
    """What a kill -9 took before it was derived: two payloads of one half each, and no pair of strangers."""
    with watched_log(tmp_path, ()) as log:
        Mesh(log).post(payload("request"))
        assert log.pipeline.wait_for(log.journal.end(), 120)
        mesh = Mesh(log)
        mesh.post(payload("response"), SAME_POD)
        assert sorted(item["outcome"] for item in mesh.payloads()) == ["request_only", "response_only"]


def test_credentials_in_metadata_are_never_stored(mesh: Mesh) -> None:
    secret = {"authorization": "Bearer s3cret", "x-api-key": "s3cret", "Cookie": "s3cret", "x-request-id": "r-1"}
    mesh.post(payload("request", metadata=secret))
    (found,) = mesh.payloads()
    assert json.loads(found["request"]["attributes"]["metadata"]) == {"x-request-id": ["r-1"]}
    assert found["request_id"] == "r-1"
    files = [path.read_bytes() for path in mesh.log.directory.rglob("*") if path.is_file()]
    assert files
    assert not [data for data in files if b"s3cret" in data]
