"""A finding survives JSON, and its id tells apart whatever is not the same verdict."""

from __future__ import annotations

import math
from dataclasses import replace

import orjson
import pytest

from inferwatch.clock import parse_time
from inferwatch.events import Stream
from inferwatch.finding import FeatureFinding, Finding, Window

NOON = parse_time("2026-11-21T12:00:00Z")
STREAM = Stream("default", "income", "predictor", "default")
DRIFT = Finding(
    kind="drift",
    method="histogram",
    score=4.0,
    threshold=3.0,
    time_ns=NOON,
    window=Window(NOON - 1_500_000_000, NOON, 500),
    p_value=1e-4,
    features=(
        FeatureFinding("age", 4.0, 12.5, 1e-5, effect=0.4, effect_low=0.3, effect_high=0.5, fired=True),
        FeatureFinding("sex", 0.1, 1.5, 0.9),
    ),
    why="age rose",
)
OUTLIER = Finding(
    kind="outlier", method="mahalanobis", score=5.0, threshold=3.0, time_ns=NOON, payload_id="a", key="k", row=3
)


@pytest.mark.parametrize("finding", [DRIFT, OUTLIER, replace(OUTLIER, score=3.0)])
def test_a_finding_survives_json(finding: Finding) -> None:
    placed = finding.at(STREAM, "inputs", "rule")
    assert Finding.from_dict(orjson.loads(orjson.dumps(placed.as_dict()))) == placed


def test_json_has_the_names_of_the_contract() -> None:
    named = DRIFT.at(STREAM, "inputs", "rule").as_dict()
    assert named["window"] == {"from": "2026-11-21T11:59:58.5Z", "to": "2026-11-21T12:00:00Z", "rows": 500}
    assert named["time"] == "2026-11-21T12:00:00Z"
    assert named["fired"] is True
    assert named["features"][0]["name"] == "age"
    assert (named["namespace"], named["name"], named["component"], named["endpoint"]) == STREAM
    assert {"id", "kind", "detector", "method", "score", "threshold", "p_value", "payload_id", "key", "row"} <= set(
        named
    )


def test_it_fires_above_the_threshold_and_not_on_it() -> None:
    assert replace(DRIFT, score=3.1).fired
    assert not replace(DRIFT, score=3.0).fired


def test_the_same_verdict_has_the_same_id_whatever_its_numbers() -> None:
    first = DRIFT.at(STREAM, "inputs", "rule", ("k", 2))
    assert first.id == replace(DRIFT, score=9.0).at(STREAM, "inputs", "rule", ("k", 2)).id
    assert len(first.id) == 24


def test_another_place_detector_rule_or_row_has_another_id() -> None:
    ids = [
        DRIFT.at(STREAM, "inputs", "rule", ("k", 2)).id,
        DRIFT.at(STREAM, "inputs", "rule", ("k", 3)).id,
        DRIFT.at(STREAM, "inputs", "rule", ("l", 2)).id,
        DRIFT.at(STREAM, "inputs", "new rule", ("k", 2)).id,
        DRIFT.at(STREAM, "other", "rule", ("k", 2)).id,
        DRIFT.at(STREAM._replace(endpoint="canary"), "inputs", "rule", ("k", 2)).id,
        replace(DRIFT, segment="north").at(STREAM, "inputs", "rule", ("k", 2)).id,
        replace(DRIFT, window=Window(NOON - 1, NOON, 500)).at(STREAM, "inputs", "rule", ("k", 2)).id,
        OUTLIER.at(STREAM, "inputs", "rule", ("k", 2)).id,
        replace(OUTLIER, row=4).at(STREAM, "inputs", "rule", ("k", 2)).id,
        replace(OUTLIER, key="l").at(STREAM, "inputs", "rule", ("k", 2)).id,
    ]
    assert len(set(ids)) == len(ids)


def test_the_id_of_a_row_does_not_depend_on_the_rows_delivered_with_it() -> None:
    assert OUTLIER.at(STREAM, "rows", "rule", ("k", 3)).id == OUTLIER.at(STREAM, "rows", "rule", ("z", 9)).id


def test_an_id_is_the_same_in_every_process() -> None:
    assert OUTLIER.at(STREAM, "rows", "rule").id == "3380baff8f25679fb3d20017"


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
def test_a_verdict_is_finite(number: float) -> None:
    with pytest.raises(ValueError, match=f"finite numbers, not {number} and 3.0"):
        replace(DRIFT, score=number)
    with pytest.raises(ValueError, match=f"not 4.0 and {number}"):
        replace(DRIFT, threshold=number)
    with pytest.raises(ValueError, match=f"not {number}"):
        FeatureFinding("age", number, 1.0, 0.5)
