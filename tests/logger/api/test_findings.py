"""Findings, filtered and paged."""

from __future__ import annotations

from collections.abc import Iterator

import orjson
import pytest

from inferwatch.finding import Finding
from tests.logger.api.reading import all_of, only
from tests.logger.watched_log import WatchedLog, pair, watched_log


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
