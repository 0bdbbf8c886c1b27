"""The models, as the API tells of them."""

from __future__ import annotations

from pathlib import Path

from inferwatch.events import Role
from tests.logger.api.reading import all_of, only
from tests.logger.watched_log import INCOME, WatchedLog, event, pair, watched_log


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
        with watched_log(tmp_path, [type(INCOME)(bare)]) as log:
            assert only(log, "/api/models")["alarms"] == 0

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
