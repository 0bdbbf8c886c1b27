"""Refusals, health and the ledger of the API, and what its documentation says of every route."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from inferwatch_logger.api import api_app
from inferwatch_logger.replies import FindingItem, LedgerReply, ModelDetail, ModelItem, Page, PayloadDetail, PayloadItem
from tests.logger.api.reading import only
from tests.logger.watched_log import Reply, WatchedLog, pair


class TestRefusals:
    @pytest.mark.parametrize(
        ("address", "word"),
        [
            ("/api/payloads?limit=0", "limit"),
            ("/api/payloads?limit=1001", "1000"),
            ("/api/findings?limit=many", "limit"),
            ("/api/findings?since=yesterday", "since"),
            ("/api/payloads?until=2026-11-21T10:00:00", "zone"),
            ("/api/findings?fired=perhaps", "fired"),
            ("/api/findings?kind=drifts", "kind"),
            ("/api/payloads?outcome=lost", "outcome"),
            ("/api/payloads?model=income", "namespace/name"),
            ("/api/findings?model=/income", "namespace/name"),
            ("/api/models?limt=3", "limt"),
            ("/api/ledger?verbose=1", "verbose"),
            ("/api/models/default/income?x=1", "x"),
            ("/api/payloads?cursor=abc", "cursor"),
            ("/api/findings?cursor=%FF%00", "cursor"),
            ("/api/models?cursor=WyJmaW5kaW5ncyIsMl0", "cursor"),  # of the findings
            ("/api/findings?cursor=bnVsbA", "cursor"),  # null
            ("/api/findings?cursor=WyJmaW5kaW5ncyIsMWUzMF0", "cursor"),  # 1e30
        ],
    )
    def test_a_bad_question_is_400_with_a_sentence(self, shared: WatchedLog, address: str, word: str) -> None:
        self.refused(shared.get(address), 400, word)

    @pytest.mark.parametrize(
        "address",
        ["/api/models/default/none", "/api/payloads/none", "/api/none", "/api", "/api/models/default", "/none"],
    )
    def test_what_is_not_there_is_404(self, shared: WatchedLog, address: str) -> None:
        self.refused(shared.get(address), 404)

    def test_another_method_is_405(self, shared: WatchedLog) -> None:
        reply = shared.get("/api/models", method="DELETE")
        self.refused(reply, 405, "GET")
        assert reply.headers["allow"] == "GET"

    def test_an_unreadable_log_is_503(self, log: WatchedLog) -> None:
        with log.state.transaction() as connection:
            connection.execute("DROP TABLE statuses")
        self.refused(log.get("/api/models"), 503, "state.db")

    def refused(self, reply: Reply, status: int, word: str = "") -> None:
        assert reply.status == status
        assert reply.json.keys() == {"error"}
        assert word in reply.json["error"]
        assert "\n" not in reply.json["error"]


class Stuck:
    """A pipeline that cannot go on."""

    fault = "state.db: the disk is full"

    def wait_for(self, *_: float) -> bool:
        """Return at once that it is not there yet."""
        return False


class TestHealth:
    def test_ready(self, log: WatchedLog) -> None:
        assert (log.get("/healthz").status, log.get("/readyz").status) == (200, 200)

    def test_what_is_missing_is_named(self, log: WatchedLog) -> None:
        log.app = api_app(log.monitor, log.journal, Stuck())
        reply = log.get("/readyz")
        assert (reply.status, reply.json) == (503, {"error": "pipeline: state.db: the disk is full"})
        assert log.get("/healthz").status == 200

    def test_what_events_are_taken_without_is_told_and_does_not_matter(self, log: WatchedLog) -> None:
        log.app = api_app(log.monitor, log.journal, log.pipeline, beside={"sealing": Stuck()})
        reply = log.get("/readyz")
        told = ["sealing: state.db: the disk is full"]
        assert (reply.status, reply.json) == (200, {"status": "ready", "warnings": told})
        log.app = api_app(log.monitor, log.journal, Stuck(), beside={"sealing": Stuck()})
        reply = log.get("/readyz")
        assert (reply.status, reply.json["error"]) == (503, f"pipeline: state.db: the disk is full; {told[0]}")


def test_the_ledger_adds_up(log: WatchedLog) -> None:
    log.take(*pair(1, [[1, "a"]], [0]))
    log.journal.append(pair(1, [[1, "a"]], [0]), ignored=["x.y"], malformed=["bad_time"]).result(timeout=30)
    log.journal.refuse("overloaded", 3)
    account = log.get("/api/ledger").json
    assert account["ingest"] == {
        "received": 9,
        "stored": 2,
        "duplicate": 2,
        "ignored": {"x.y": 1},
        "malformed": {"bad_time": 1},
        "refused": {"overloaded": 3},
        "clamped": 0,
    }
    assert account["capture"] == {"captured": 0, "delivered": 0, "spooled": 0, "in_flight": 0, "dropped": {}}


def test_a_reader_sees_what_was_accepted_before(log: WatchedLog) -> None:
    for number in range(5):
        log.journal.append(pair(number, [[1, "a"]], [0])).result(timeout=30)
        assert only(log, f"/api/payloads?id=id-{number}")["outcome"] == "paired"


def test_a_reader_is_answered_while_the_pipeline_is_stuck(log: WatchedLog) -> None:
    log.app = api_app(log.monitor, log.journal, Stuck())
    assert log.get("/api/payloads").status == 200


def test_replies_are_what_the_documentation_says(log: WatchedLog) -> None:
    log.take(*pair(1, [[2000, "Private"]], [0]))
    key = only(log, "/api/payloads")["key"]
    replies: dict[str, type[BaseModel]] = {
        "/api/models": Page[ModelItem],
        "/api/models/default/income": ModelDetail,
        "/api/findings": Page[FindingItem],
        "/api/payloads": Page[PayloadItem],
        f"/api/payloads/{key}": PayloadDetail,
        "/api/ledger": LedgerReply,
    }
    for address, shape in replies.items():
        reply = log.get(address)
        documented = shape.model_validate_json(reply.body)
        assert documented.model_dump(by_alias=True) == reply.json, address


def test_every_route_documents_its_reply_and_its_errors(log: WatchedLog) -> None:
    paths = log.get("/openapi.json").json["paths"]
    routes = {path: item["get"]["responses"] for path, item in paths.items() if path.startswith("/api")}
    assert set(routes) == {
        "/api/models",
        "/api/models/{namespace}/{name}",
        "/api/findings",
        "/api/payloads",
        "/api/payloads/{key}",
        "/api/ledger",
    }
    for responses in routes.values():
        assert "$ref" in responses["200"]["content"]["application/json"]["schema"]
        assert responses["4XX"]["content"]["application/json"]["schema"]["$ref"].endswith("/Fault")
        assert "422" not in responses
