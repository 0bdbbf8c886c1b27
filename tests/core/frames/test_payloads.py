"""Payloads as a table, and what every table of the log keeps to: types, names, times, explanations."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

import inferwatch
from inferwatch.events import Service
from inferwatch.explanation_event import ExplanationEvent
from inferwatch.payload_log.feature_names import keep_feature_names
from inferwatch.payload_log.frames import EXPLANATION_COLUMNS
from tests.core.frames.logged import SECOND_NS, START_NS, Log, answered, asked


def test_one_row_an_instance_in_the_order_of_the_log(log: Log) -> None:
    log.take(
        asked("a", 1, {"instances": [{"age": 30, "class": "x"}, {"age": 40, "class": "y"}]}),
        answered("a", 2, {"predictions": [0.25, 0.75]}, statuscode="200"),
        asked("b", 3, {"instances": [{"age": 50, "class": "z"}]}, endpoint="canary"),
    )
    frame = log.payloads()
    assert list(frame.columns) == [
        *("id", "key", "row", "request_time", "response_time", "component", "endpoint", "outcome", "status"),
        *("excluded", "request_id", "age", "class", "prediction"),
    ]
    assert frame["id"].tolist() == ["a", "a", "b"]
    assert frame["row"].tolist() == [0, 1, 0]
    assert frame["age"].tolist() == [30, 40, 50]
    assert frame["class"].tolist() == ["x", "y", "z"]
    assert frame["prediction"].tolist()[:2] == [0.25, 0.75]
    assert np.isnan(frame["prediction"][2])
    assert frame["endpoint"].tolist() == ["default", "default", "canary"]
    assert frame["outcome"].tolist() == ["paired", "paired", "request_only"]
    assert frame["status"].tolist() == [200, 200, pd.NA]
    assert frame["request_time"][0] == pd.Timestamp("2026-11-21T10:00:01Z")
    assert frame["response_time"].isna().tolist() == [False, False, True]
    assert frame["excluded"].isna().all()
    assert frame["key"].nunique() == 2


def test_columns_that_alternate_keep_the_order(log: Log) -> None:
    for number in range(6):
        log.take(asked(f"{number}", number, {"instances": [{("left", "right")[number % 2]: number}]}))
    frame = log.payloads()
    assert frame["id"].tolist() == ["0", "1", "2", "3", "4", "5"]
    assert frame["left"].dropna().tolist() == [0, 2, 4]
    assert frame["right"].dropna().tolist() == [1, 3, 5]


def test_a_response_without_request_has_its_outputs(log: Log) -> None:
    log.take(answered("a", 1, {"predictions": [1, 2]}))
    frame = log.payloads()
    assert frame["prediction"].tolist() == [1, 2]
    assert frame["request_time"].isna().all()
    assert frame["outcome"].tolist() == ["response_only"] * 2


def test_what_nobody_can_decode_is_left_out(log: Log) -> None:
    log.take(asked("a", 1, b"]"), asked("b", 2, {"instances": [[1]]}), answered("b", 3, {"error": "no"}))
    assert log.payloads()["id"].tolist() == ["b"]


def test_integers_stay_exact_beside_missing_ones(log: Log) -> None:
    large = 2**53 + 1
    log.take(
        asked("a", 1, {"instances": [{"number": large}]}),
        asked("b", 2, {"instances": [{"number": 0.5}]}),
        asked("c", 3, {"instances": [{"other": 2**64 - 1}]}),
    )
    frame = log.payloads()
    assert frame["number"][0] == large
    assert frame["other"][2] == 2**64 - 1


def test_integers_are_integers(log: Log) -> None:
    log.take(asked("a", 1, {"instances": [[2**60], [3]]}))
    assert log.payloads()["instances[0]"].dtype == np.int64


PAYLOAD_TYPES = {
    **dict.fromkeys(("id", "key", "component", "endpoint", "outcome", "excluded", "request_id"), "string"),
    **dict.fromkeys(("request_time", "response_time"), "datetime64[ns, UTC]"),
    "row": "int64",
    "status": "Int64",
}
FINDING_TYPES = {
    **dict.fromkeys(("id", "namespace", "name", "endpoint", "version", "component", "segment", "detector"), "string"),
    **dict.fromkeys(("kind", "method", "payload_id", "key", "assumption", "why"), "string"),
    **dict.fromkeys(("score", "threshold", "p_value", "statistic"), "float64"),
    "time": "datetime64[ns, UTC]",
    "fired": "bool",
    "row": "Int64",
    "features": "object",
    "window": "object",
}


def types_of(frame: pd.DataFrame, names: Mapping[str, str]) -> dict[str, str]:
    return {name: str(frame[name].dtype) for name in names}


def test_types_are_the_same_whatever_there_is(log: Log) -> None:
    log.take(answered("a", 2, {"predictions": [{"class": 1}]}))
    empty = log.of("nobody")
    for model in (log, empty):
        assert types_of(model.payloads(), PAYLOAD_TYPES) == PAYLOAD_TYPES
        assert types_of(model.findings(), FINDING_TYPES) == FINDING_TYPES
    log.take(asked("a", 1, {"instances": [[1]]}, statuscode="200"))
    assert types_of(log.payloads(), PAYLOAD_TYPES) == PAYLOAD_TYPES
    assert types_of(log.findings(), FINDING_TYPES) == FINDING_TYPES
    assert set(log.findings().columns) == set(FINDING_TYPES)
    assert (
        log.findings(flat=True).dtypes.astype(str).to_dict() == empty.findings(flat=True).dtypes.astype(str).to_dict()
    )


def test_a_model_that_changes_its_columns_stays_readable(log: Log) -> None:
    """Columns come, go, become wider, and change from whole numbers to fractions, texts and truth values."""
    log.take(
        asked("v1", 1, {"instances": [{"age": 30, "code": 7, "ok": 1, "gone": 2**53 + 1}]}),
        asked("v2", 2, {"instances": [{"age": 30.5, "code": "x7", "ok": True}]}),
        asked("v3", 3, {"instances": [[1, 2], [3, 4]]}),
        asked("v4", 4, {"instances": [[1, 2, "wide"]]}),
        asked("v5", 5, {"inputs": [{"name": "age", "shape": [1, 1], "datatype": "FP32", "data": [0.5]}]}),
    )
    frame = log.payloads()
    assert frame["id"].tolist() == ["v1", "v2", "v3", "v3", "v4", "v5"]
    assert frame["age"].dtype == np.float64
    assert frame["age"].dropna().tolist() == [30.0, 30.5, 0.5]
    assert frame["code"].tolist()[:2] == [7, "x7"]
    assert frame["ok"].tolist()[:2] == [1, True]
    assert frame["gone"][0] == 2**53 + 1
    assert frame["instances[1]"].dropna().tolist() == [2, 4, 2]
    assert frame["instances[2]"].dropna().tolist() == ["wide"]


def test_positions_take_the_names_that_the_model_was_configured_with(log: Log) -> None:
    log.take(asked("a", 1, {"instances": [[1, "x"]]}), asked("b", 2, {"instances": [[1, "x", 3]]}))
    service = Service("default", log.model.partition("/")[2])
    keep_feature_names(log.state, {service: ["old", "names"]})
    keep_feature_names(log.state, {service: ["age", "job"], Service("default", "another"): ["x"]})
    frame = log.payloads()
    assert frame["age"].dropna().tolist() == [1]
    assert frame["job"].dropna().tolist() == ["x"]
    assert frame["instances[2]"].dropna().tolist() == [3]
    assert "instances[1]" in log.payloads(features=())
    assert log.payloads(features=["a", "b"])["b"].dropna().tolist() == ["x"]


def test_payloads_are_chosen_as_the_api_does(log: Log) -> None:
    log.take(
        asked("a", 1, {"instances": [[1]]}),
        answered("a", 2, {"predictions": [1]}),
        asked("b", 3, {"instances": [[1]]}),
        asked("inferwatch-explain-1", 4, {"instances": [[1]]}),
    )
    assert log.payloads(id="b")["id"].tolist() == ["b"]
    assert log.payloads(outcome="paired")["id"].tolist() == ["a"]
    assert log.payloads(excluded="explain")["id"].tolist() == ["inferwatch-explain-1"]
    with pytest.raises(ValueError, match="outcome is 'paired' or 'request_only' or 'response_only', not 'done'"):
        log.payloads(outcome="done")
    with pytest.raises(ValueError, match=r"kind is 'drift' or .*, not 'drfit'"):
        log.findings(kind="drfit")


def test_positions_take_the_names_that_are_given(log: Log) -> None:
    log.take(asked("a", 1, {"instances": [[1, "x"]]}), asked("b", 2, {"instances": [{"age": 2, "job": "y"}]}))
    frame = log.payloads(features=["age", "job"])
    assert frame["age"].tolist() == [1, 2]
    assert frame["job"].tolist() == ["x", "y"]


def test_names_that_are_taken_say_of_which_half_they_are(log: Log) -> None:
    log.take(asked("a", 1, {"instances": [{"id": 7, "x": 1}]}), answered("a", 2, {"predictions": [{"x": 2, "row": 3}]}))
    frame = log.payloads()
    assert frame[["id", "request.id", "x", "response.x", "response.row"]].iloc[0].tolist() == ["a", 7, 1, 2, 3]


def test_halves_of_different_length_end_in_missing_values(log: Log) -> None:
    log.take(asked("a", 1, {"instances": [[1], [2]]}), answered("a", 2, {"predictions": [9]}))
    frame = log.payloads()
    assert frame["prediction"][0] == 9
    assert frame["prediction"].isna().tolist() == [False, True]


def test_excluded_traffic_says_why(log: Log) -> None:
    log.take(asked("inferwatch-explain-1", 1, {"instances": [[1]]}), asked("b", 2, {"instances": [[1]]}))
    excluded = log.payloads()["excluded"]
    assert excluded[0] == "explain"
    assert excluded.isna().tolist() == [False, True]


@pytest.mark.parametrize(
    ("bounds", "ids"),
    [
        ({"since": "2026-11-21T10:00:02Z"}, ["1", "2"]),
        ({"until": datetime(2026, 11, 21, 10, 0, 2, tzinfo=UTC)}, ["0"]),
        ({"since": pd.Timestamp("2026-11-21T11:00:02+01:00"), "until": "2026-11-21T10:00:03Z"}, ["1"]),
    ],
)
def test_times_bound_what_is_read(log: Log, bounds: dict[str, Any], ids: list[str]) -> None:
    log.take(*(asked(str(number), number + 1, {"instances": [[number]]}) for number in range(3)))
    assert log.payloads(**bounds)["id"].tolist() == ids
    assert len(log.findings(**bounds)) == len(ids)


def test_explanations_read_as_sentences_and_are_drawn(log: Log) -> None:
    entry = {"method": "kernel_shap", "features": ["age"], "values": [0.5], "base_value": 0.25, "prediction": 0.75}
    of = Service("default", log.model.partition("/")[2])
    for second, entries in ((1, [entry, entry | {"target": 1}]), (2, [{"method": "alibi.ALE", "curve": [1]}])):
        told = ExplanationEvent(f"x-{second}", START_NS + second * SECOND_NS, of, entries, ["m", "n"], f"p-{second}")
        log.take(told.event())
    frame = log.explanations()
    assert list(frame.columns) == list(EXPLANATION_COLUMNS)
    assert frame["payload_id"].tolist() == ["p-1", "p-1", "p-2"]
    assert frame["row"].tolist() == [0, 1, pd.NA]
    assert (frame["target"].notna().tolist(), frame["target"][1]) == ([False, True, False], 1)
    assert repr(frame["explanation"][0]) == "kernel_shap: age +0.5"
    assert "<img" in frame["explanation"][1]._repr_html_()
    assert frame["explanation"][2].entry["curve"] == [1]
    assert log.explanations(since=frame["time"][2])["id"].tolist() == ["x-2"]
    assert log.explanations(until=frame["time"][2])["id"].tolist() == ["x-1", "x-1"]


def test_nothing_is_an_empty_frame_with_its_columns(log: Log) -> None:
    frame = inferwatch.payloads("default/none", data=log.directory)
    assert frame.empty
    assert {"id", "row", "request_time", "endpoint", "outcome", "excluded"} <= set(frame.columns)
    assert {"score", "features"} <= set(log.findings().columns)
