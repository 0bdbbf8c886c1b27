from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import BaseModel

from inferwatch.events import Role
from inferwatch.finding import Finding
from inferwatch.payload_log.reader import JournalReader
from inferwatch_logger.api import api_app
from inferwatch_logger.monitor import open_monitor
from inferwatch_logger.replies import FindingItem, LedgerReply, ModelDetail, ModelItem, Page, PayloadDetail, PayloadItem
from tests.logger.watched_log import INCOME, Reply, WatchedLog, event, pair, watched_log


@pytest.fixture
def log(tmp_path: Path) -> Iterator[WatchedLog]:
    with watched_log(tmp_path) as log:
        yield log


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedLog]:
    """A log for tests that look at their own payload alone, or at none."""
    with watched_log(tmp_path_factory.mktemp("shared")) as log:
        yield log


def all_of(log: WatchedLog, address: str, limit: int) -> list[dict[str, Any]]:
    """Follow `next` to the end."""
    items: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = log.get(f"{address}{'&' if '?' in address else '?'}limit={limit}{cursor}").json
        assert len(page["items"]) <= limit
        items += page["items"]
        if page["next"] is None:
            return items
        cursor = f"&cursor={page['next']}"


def only(log: WatchedLog, address: str) -> dict[str, Any]:
    (item,) = log.get(address).json["items"]
    return dict(item)


def detail(log: WatchedLog) -> dict[str, Any]:
    """The newest payload."""
    return dict(log.get(f"/api/payloads/{newest_key(log)}").json)


def newest_key(log: WatchedLog) -> str:
    return str(only(log, "/api/payloads?limit=1")["key"])


class TestModels:
    def test_a_configured_model_without_traffic_waits(self, log: WatchedLog) -> None:
        item = only(log, "/api/models")
        assert item == {
            "namespace": "default",
            "name": "income",
            "state": "waiting",
            "events": 0,
            "rows": 0,
            "last_event_time": None,
            "alarms": 0,
        }
        found = log.get("/api/models/default/income").json
        waiting = [(d["name"], d["kind"], d["state"], d["window_rows"], d["needs_rows"]) for d in found["detectors"]]
        assert waiting == [
            ("inputs", "drift", "waiting", 500, 500),
            ("mahalanobis", "outlier", "waiting", None, None),
        ]

    def test_traffic_is_counted_and_the_newest_verdict_is_the_state(self, log: WatchedLog) -> None:
        log.take(*pair(1, [[30, "Private"], [40, "Private"]], [0, 1]))
        assert only(log, "/api/models")["state"] == "ok"
        log.take(*pair(2, [[90, "Private"]], [0]))
        item = only(log, "/api/models")
        assert (item["state"], item["alarms"], item["events"], item["rows"]) == ("alarm", 1, 4, 3)
        assert item["last_event_time"] == "2026-11-21T10:00:02.1Z"

    def test_a_model_that_sends_nothing_for_an_hour_is_silent_but_for_its_alarm(self, log: WatchedLog) -> None:
        log.take(*pair(1, [[30, "Private"]], [0]))
        log.clock.advance(3_599)
        assert only(log, "/api/models")["state"] == "ok"
        log.clock.advance(7_200)
        assert only(log, "/api/models")["state"] == "silent"
        assert log.get("/api/models/default/income").json["state"] == "silent"
        log.take(*pair(2, [[31, "Private"]], [0]))  # of long ago, and it came just now
        assert only(log, "/api/models")["state"] == "ok"
        log.take(*pair(3, [[90, "Private"]], [0]))
        log.clock.advance(36_000)
        assert only(log, "/api/models")["state"] == "alarm"

    def test_a_detector_that_stands_still_while_events_come_is_stale(self, log: WatchedLog) -> None:
        log.take(*pair(1, [[30, "Private"]], [0]))
        log.clock.advance(2 * 86_400)
        log.take(*pair(2 * 86_400 + 1, [["?", "Private"]], [0]))
        assert only(log, "/api/models")["state"] == "stale"
        (found,) = [d for d in log.get("/api/models/default/income").json["detectors"] if d["name"] == "inputs"]
        assert found["state"] == "stale"

    def test_the_detail_says_what_is_watched(self, log: WatchedLog) -> None:
        log.take(*pair(1, [[60, "Private"]], [0]))
        found = log.get("/api/models/default/income").json
        assert found["features"] == [
            {"name": "age", "kind": "numeric", "categories": []},
            {"name": "class", "kind": "categorical", "categories": ["Private", "State-gov"]},
        ]
        assert found["reference"] == {
            "id": "abc",
            "rows": 5000,
            "created": "2026-11-01T00:00:00Z",
            "autocorrelation": 0.32,
        }
        assert (
            found["detectors"][0]
            | {
                "name": "inputs",
                "state": "alarm",
                "endpoint": "default",
                "score": 6.0,
                "threshold": 5.0,
                "needs_rows": 7,
                "last_run": "2026-11-21T10:00:01Z",
            }
            == found["detectors"][0]
        )
        assert found["detectors"][1]["state"] == "waiting"

    def test_a_service_that_nobody_configured_is_listed_with_a_note(self, log: WatchedLog) -> None:
        log.take(*pair(1, [[60]], [0], inferenceservicename="other", namespace="a"))
        assert [item["name"] for item in log.get("/api/models").json["items"]] == ["other", "income"]
        found = log.get("/api/models/a/other").json
        assert (found["state"], found["reference"], found["detectors"]) == ("waiting", None, [])
        assert "not configured" in found["notes"][0]

    def test_a_detector_that_was_taken_out_of_the_configuration_raises_no_alarm(self, tmp_path: Path) -> None:
        with watched_log(tmp_path) as log:
            log.take(*pair(1, [[90, "Private"]], [0]))
            assert only(log, "/api/models")["state"] == "alarm"
        bare = INCOME.settings.model_copy(update={"detectors": ()})
        with open_monitor(tmp_path, [type(INCOME)(bare)]) as monitor:
            assert [item.alarms for item in monitor.fleet()] == [0]

    def test_requests_that_nobody_answers_are_noted(self, log: WatchedLog) -> None:
        log.take(*(event(number, {"instances": [[1, "a"]]}, at_s=number * 30) for number in range(4)))
        found = log.get("/api/models/default/income").json
        assert found["unpaired"] == {"requests": 1, "responses": 0}
        assert any("no responses logged: batcher enabled" in note for note in found["notes"])

    def test_answers_silence_the_note(self, log: WatchedLog) -> None:
        log.take(*(event(number, {"instances": [[1, "a"]]}, at_s=number * 30) for number in range(4)))
        log.take(*pair(9, [[1, "a"]], [0]))
        assert log.get("/api/models/default/income").json["notes"] == []

    def test_bodies_that_nobody_can_decode_are_noted(self, log: WatchedLog) -> None:
        log.take(event(1, b"]"), event(1, {"predictions": [1]}, Role.RESPONSE))
        (note,) = log.get("/api/models/default/income").json["notes"]
        assert "1 of the newest 1 payloads cannot be decoded" in note

    def test_pages_follow_each_other_by_name(self, log: WatchedLog) -> None:
        services = [("a-b", "x"), ("a", "y"), ("a", "x/z"), ("default", "<b>"), ("a", "ä")]
        for number, (namespace, name) in enumerate(services):
            log.take(*pair(number, [[1]], [0], namespace=namespace, inferenceservicename=name))
        found = [(item["namespace"], item["name"]) for item in all_of(log, "/api/models", 2)]
        assert found == sorted([*services, ("default", "income")])

    def test_a_name_with_a_slash_has_its_page(self, log: WatchedLog) -> None:
        log.take(*pair(1, [[1]], [0], inferenceservicename="x/../z y"))
        assert log.get("/api/models/default/x%2F..%2Fz%20y").json["name"] == "x/../z y"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedLog]:
    with watched_log(tmp_path_factory.mktemp("findings")) as log:
        log.take(
            *pair(1, [[10, "Private"]], [0]),
            *pair(2, [[60, "Private"]], [0], endpoint="canary"),
            *pair(3, [[30, "Private"], [2000, "Private"]], [0, 1]),
        )
        yield log


class TestFindings:
    @pytest.mark.parametrize(
        ("query", "scores"),
        [
            ("", [9.0, 101.5, 6.0, 1.0]),
            ("fired=true", [9.0, 101.5, 6.0]),
            ("fired=false", [1.0]),
            ("kind=outlier", [9.0]),
            ("detector=inputs", [101.5, 6.0, 1.0]),
            ("endpoint=canary", [6.0]),
            ("model=default/income", [9.0, 101.5, 6.0, 1.0]),
            ("model=default/other", []),
            ("since=2026-11-21T10:00:02Z&until=2026-11-21T10:00:03Z", [6.0]),
            ("since=2026-11-21T11:00:03%2B01:00", [9.0, 101.5]),
            ("until=9999-01-01T00:00:00Z&since=0001-01-01T00:00:00Z&limit=1", [9.0]),
        ],
    )
    def test_filters(self, found: WatchedLog, query: str, scores: list[float]) -> None:
        assert [item["score"] for item in found.get(f"/api/findings?{query}").json["items"]] == scores

    def test_pages_follow_each_other(self, found: WatchedLog) -> None:
        whole = found.get("/api/findings").json["items"]
        assert all_of(found, "/api/findings", 1) == all_of(found, "/api/findings", 3) == whole

    def test_a_row_is_named_and_leads_to_its_payload(self, found: WatchedLog) -> None:
        finding = only(found, "/api/findings?kind=outlier")
        assert (finding["payload_id"], finding["row"], finding["window"]) == ("id-3", 1, None)
        payload = found.get(f"/api/payloads/{finding['key']}").json
        assert payload["id"] == "id-3"
        assert payload["findings"] == [finding]

    def test_it_is_the_finding_that_was_made(self, found: WatchedLog) -> None:
        finding = found.get("/api/findings?endpoint=canary").json["items"][0]
        assert orjson.loads(orjson.dumps(Finding.from_dict(finding).as_dict())) == finding
        assert finding["window"] == {"from": "2026-11-21T10:00:02Z", "to": "2026-11-21T10:00:02Z", "rows": 1}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedLog]:
    with watched_log(tmp_path_factory.mktemp("payloads")) as log:
        log.take(
            *pair(1, [[10, "Private"]], [0]),
            event(2, {"instances": [[20, "a"], [30, "b"]]}, statuscode="500"),
            event(3, {"predictions": [1]}, Role.RESPONSE, statuscode="200"),
            *pair(4, [[1]], [0], inferenceservicename="other"),
            event(5, {"instances": [[20, "a"]]}, metadata='{"X-Inferwatch-Origin":["explain"]}'),
        )
        yield log


class TestPayloads:
    @pytest.mark.parametrize(
        ("query", "ids"),
        [
            ("", ["id-5", "id-4", "id-3", "id-2", "id-1"]),
            ("model=default/income", ["id-5", "id-3", "id-2", "id-1"]),
            ("id=id-4", ["id-4"]),
            ("outcome=paired", ["id-4", "id-1"]),
            ("outcome=request_only", ["id-5", "id-2"]),
            ("outcome=response_only", ["id-3"]),
            ("excluded=explain", ["id-5"]),
            ("since=2026-11-21T10:00:02Z&until=2026-11-21T10:00:04Z", ["id-3", "id-2"]),
            ("id=nothing", []),
        ],
    )
    def test_filters(self, mixed: WatchedLog, query: str, ids: list[str]) -> None:
        assert [item["id"] for item in mixed.get(f"/api/payloads?{query}").json["items"]] == ids

    def test_pages_follow_each_other(self, mixed: WatchedLog) -> None:
        assert all_of(mixed, "/api/payloads?model=default/income", 3) == [
            item for item in mixed.get("/api/payloads").json["items"] if item["name"] == "income"
        ]

    def test_an_item_says_what_came_of_it(self, mixed: WatchedLog) -> None:
        item = only(mixed, "/api/payloads?id=id-3")
        assert (
            item
            | {
                "outcome": "response_only",
                "request_time": None,
                "response_time": "2026-11-21T10:00:03Z",
                "protocol": "v1",
                "status": 200,
                "truncated": False,
                "excluded": None,
            }
            == item
        )


class TestPayload:
    def test_rows_of_both_halves_under_the_names_of_the_features(self, shared: WatchedLog) -> None:
        shared.take(*pair(1, [[10, "Private"], [None, "x"]], [[0.5, 0.5], [0.25, 0.75]]))
        found = detail(shared)
        assert found["decoded"] == {
            "columns": ["age", "class", "prediction_0", "prediction_1"],
            "rows": [[10, "Private", 0.5, 0.5], [None, "x", 0.25, 0.75]],
        }
        assert found["request"]["body"] == {"instances": [[10, "Private"], [None, "x"]]}
        assert found["request"]["content_type"] == "application/json"
        assert found["response"]["attributes"]["type"] == "org.kubeflow.serving.inference.response"

    def test_names_of_the_payload_win(self, shared: WatchedLog) -> None:
        shared.take(event(2, {"instances": [{"class": "x", "age": 1}]}))
        assert detail(shared)["decoded"]["columns"] == ["class", "age"]

    def test_another_width_keeps_positions(self, shared: WatchedLog) -> None:
        shared.take(event(3, {"instances": [[1, 2, 3]]}))
        assert detail(shared)["decoded"]["columns"] == ["instances[0]", "instances[1]", "instances[2]"]

    def test_integers_are_exact_and_missing_is_null(self, shared: WatchedLog) -> None:
        body = b'{"instances":[[9007199254740993,1.5],[-9223372036854775808,null],[18446744073709551615,NaN]]}'
        shared.take(event(4, body))
        assert detail(shared)["decoded"]["rows"] == [
            [9007199254740993, 1.5],
            [-9223372036854775808, None],
            [18446744073709551615, None],
        ]

    def test_a_json_body_appears_byte_for_byte(self, shared: WatchedLog) -> None:
        body = b'{"instances": [[123456789012345678901234567890, 1.10]], "b": "\\u0000"}'
        shared.take(event(5, body))
        key = newest_key(shared)
        assert body in shared.get(f"/api/payloads/{key}").body

    def test_bytes_that_are_no_json_come_as_base64(self, shared: WatchedLog) -> None:
        shared.take(event(6, b"\xff\x00 no json"))
        found = detail(shared)
        assert b64decode(found["request"]["body"]["base64"]) == b"\xff\x00 no json"
        assert (found["decoded"], found["protocol"]) == (None, "unknown")
        assert found["fault"]

    def test_binary_cells_are_text_or_base64(self, shared: WatchedLog) -> None:
        shared.take(event(7, {"instances": [{"a": {"b64": "aGk="}, "b": {"b64": "/w=="}}]}))
        assert detail(shared)["decoded"]["rows"] == [["hi", {"base64": "/w=="}]]

    def test_fewer_answers_than_questions_end_in_nulls(self, shared: WatchedLog) -> None:
        shared.take(*pair(8, [[1, "a"], [2, "b"]], [7]))
        assert detail(shared)["decoded"]["rows"] == [[1, "a", 7], [2, "b", None]]

    def test_an_error_reply_has_no_columns(self, shared: WatchedLog) -> None:
        shared.take(event(9, {"instances": [[1, "a"]]}), event(9, {"error": "bad"}, Role.RESPONSE, statuscode="500"))
        found = detail(shared)
        assert found["decoded"] == {"columns": ["age", "class"], "rows": [[1, "a"]]}
        assert (found["status"], found["response"]["body"]) == (500, {"error": "bad"})


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


def test_a_log_is_read_from_outside_while_it_is_written(log: WatchedLog) -> None:
    log.take(*pair(1, [[60, "Private"]], [0]))
    with open_monitor(log.directory, [INCOME], clock=log.clock) as monitor, JournalReader(log.directory) as events:
        assert monitor.fleet() == log.monitor.fleet()
        log.take(*pair(2, [[10, "Private"]], [0]))
        assert monitor.fleet() == log.monitor.fleet()
        assert monitor.ledger() == log.journal.ledger() == events.ledger()
