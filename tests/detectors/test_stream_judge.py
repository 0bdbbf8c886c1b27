"""A detector is built of everything that its settings, its model and its stream say."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from inferwatch.errors import UnkeepablePromise
from inferwatch.events import Stream
from inferwatch.promise import Promise
from inferwatch_detectors import MahalanobisOutlier, plugins
from inferwatch_detectors.dependence import Dependence
from inferwatch_detectors.post import built_detector
from inferwatch_detectors.registry import Asked, Entry
from inferwatch_detectors.stream_judge import StreamJudge
from tests.detectors.watched import HISTOGRAM, MAHALANOBIS, REFERENCE, model

STREAM = Stream("default", "income", "predictor", "default")


def offered(monkeypatch: pytest.MonkeyPatch, detector: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return what a builder is offered for a detector."""
    seen: list[dict[str, Any]] = []

    def build(reference: Any, asked: Asked) -> Any:
        seen.append({"reference": reference, **asdict(asked), "dependence": asked.dependence, "promise": asked.promise})
        return MahalanobisOutlier(REFERENCE, false_alarm_rate=0.1)

    entry = Entry(detector["kind"], detector["method"], False, build)
    monkeypatch.setattr(plugins, "DETECTORS", {(detector["kind"], detector["method"]): entry})
    settings = model(detector, **fields).settings
    built_detector(settings.detectors[0], settings.false_alarms, REFERENCE, Dependence.independent(2))
    return seen[0]


def test_every_setting_of_a_drift_detector_reaches_its_builder(monkeypatch: pytest.MonkeyPatch) -> None:
    alarms = {"expected_run_length_rows": 9000, "smallest_effect": 0.3}
    found = offered(monkeypatch, HISTOGRAM | {"window": {"rows": 77}}, false_alarms=alarms)
    assert found["reference"] is REFERENCE
    assert (found["window_rows"], found["promise"], found["smallest_effect"]) == (77, Promise(9000, "rows"), 0.3)
    assert found["dependence"] == Dependence.independent(2)


@pytest.mark.parametrize(("report", "report_all"), [({}, False), ({"report": "all"}, True)])
def test_every_setting_of_an_outlier_detector_reaches_its_builder(
    monkeypatch: pytest.MonkeyPatch, report: dict[str, str], report_all: bool
) -> None:
    found = offered(monkeypatch, MAHALANOBIS | report)
    assert (found["false_alarm_rate"], found["report_all"]) == (0.05, report_all)


def test_a_kind_has_a_default_method() -> None:
    detectors = model({"kind": "drift"}, {"kind": "outlier"}).settings.named_detectors()

    assert [(name, settings.method) for name, settings in detectors] == [
        ("histogram", "histogram"),
        ("ensemble", "ensemble"),
    ]


def test_an_unkeepable_promise_is_refused_when_it_is_built_and_noted_when_it_runs() -> None:
    greedy = model(HISTOGRAM | {"window": {"rows": 2}}, false_alarms={"expected_run_length_windows": 1e9})
    with pytest.raises(UnkeepablePromise):
        built_detector(greedy.settings.detectors[0], greedy.settings.false_alarms, REFERENCE, None)
    (status,) = StreamJudge(STREAM, greedy.settings, greedy.reference).statuses()
    assert status.state == "waiting"
    assert len(status.notes) == 1


def test_a_status_says_where_the_detector_stands_before_any_row() -> None:
    watched = model(HISTOGRAM, MAHALANOBIS, burn_in_rows=30)
    drift, outlier = StreamJudge(STREAM, watched.settings, watched.reference).statuses()
    assert (drift.detector, drift.kind, drift.method, drift.state) == ("histogram", "drift", "histogram", "waiting")
    assert (drift.window_rows, drift.needs_rows) == (50, 80)
    assert (outlier.detector, outlier.window_rows, outlier.needs_rows, outlier.state) == (
        "mahalanobis",
        None,
        None,
        "waiting",
    )
    assert (drift.namespace, drift.name, drift.component, drift.endpoint) == STREAM
