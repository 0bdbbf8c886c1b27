"""Names that come from paths."""

from __future__ import annotations

import pytest

from inferwatch.events import CloudEvent
from inferwatch_logger.capture import Capture
from inferwatch_logger.proxy.naming import CaptureByPath


def captured(*paths: str, source: str | None = None) -> list[CloudEvent]:
    events: list[CloudEvent] = []
    capture = CaptureByPath(Capture.of(name="unknown", namespace="prod", source=source), events.append)
    for path in paths:
        inference = capture("POST", path, [])
        assert inference is not None
        inference.request_end()
    return events


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/models/income:predict", "income"),
        ("/v2/models/a-b.c_1/versions/3/infer", "a-b.c_1"),
        ("/v1/models/", "unknown"),
        ("/openai/v1/completions", "unknown"),
    ],
)
def test_the_path_names_the_model(path: str, name: str) -> None:
    (event,) = captured(path)
    assert event.stream[:2] == ("prod", name)
    assert event.source == f"/namespaces/prod/services/{name}/predictor"
    (event,) = captured(path, source="http://localhost:9081/")
    assert event.source == "http://localhost:9081/"


def test_names_are_bounded() -> None:
    events = captured(*(f"/v1/models/m{number}:predict" for number in range(1_003)), "/v1/models/m1:predict")
    assert [event.stream.name for event in events[998:]] == ["m998", "m999", "unknown", "unknown", "unknown", "m1"]
