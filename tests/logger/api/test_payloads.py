"""Payloads: filtered, paged, and each by itself."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator

import pytest

from inferwatch.events import Role
from tests.logger.api.reading import all_of, detail, newest_key, only
from tests.logger.watched_log import WatchedLog, event, pair, watched_log


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
