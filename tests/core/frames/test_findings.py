"""Findings as a table."""

from __future__ import annotations

import numpy as np
import pandas as pd

import inferwatch
from inferwatch.finding import Finding
from tests.core.frames.logged import SECOND_NS, START_NS, Log, asked


def test_flat_findings_have_a_row_a_feature_and_plain_cells(log: Log) -> None:
    log.take(asked("a", 1, {"instances": [[1]]}))
    frame = log.findings(flat=True)
    assert frame[["feature", "feature_score", "feature_effect", "feature_fired"]].iloc[0].tolist() == [
        *("age", 2.0, 0.6, False),
    ]
    assert np.isnan(frame["feature_effect_low"][0])
    assert frame[["window_from", "window_to", "window_rows"]].iloc[0].tolist() == [
        *(pd.Timestamp("2026-11-21T10:00:00Z"), pd.Timestamp("2026-11-21T10:00:01Z"), 5),
    ]
    assert frame["score"].tolist() == [0.0]
    assert not {"features", "window"} & set(frame.columns)


def test_findings_have_the_fields_of_the_api(log: Log) -> None:
    log.take(*(asked(str(number), number, {"instances": [[number]]}) for number in range(2)))
    frame = log.findings()
    fields = Finding("drift", "histogram", 0.0, 1.0, START_NS).as_dict()
    assert set(frame.columns) == set(fields)
    assert frame["time"].tolist() == [pd.Timestamp(START_NS + number * SECOND_NS, tz="UTC") for number in range(2)]
    assert frame["fired"].tolist() == [False, True]
    assert frame["features"][0][0]["name"] == "age"
    assert frame["window"][1] == {
        "from": pd.Timestamp("2026-11-21T10:00:00Z"),
        "to": pd.Timestamp("2026-11-21T10:00:01Z"),
        "rows": 5,
    }
    assert len(log.findings(fired=True)) == 1
    assert len(inferwatch.findings(data=log.directory, kind="outlier")) == 0
    assert len(inferwatch.findings("default/other", data=log.directory)) == 0
    assert len(inferwatch.findings(data=log.directory)) >= 2
