"""Predictions, embeddings, segments and endpoints side by side are judged like inputs: as functions of the log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferwatch.cells import objects
from inferwatch.events import CloudEvent
from inferwatch.finding import Finding
from inferwatch.reference import Reference
from inferwatch.rows import Column, Matrix, Rows
from inferwatch.status import DetectorStatus
from inferwatch_detectors import gathering, lane, stream_judge
from inferwatch_detectors.worker import Worker
from tests.detectors.watched import HISTOGRAM, instances, items, learnt, model
from tests.inferences import explanation, request, response

LEARNT = 120
ALARMS = {"expected_run_length_windows": 50}
ANSWERS = HISTOGRAM | {"name": "answers", "on": "predictions"}


@pytest.fixture(autouse=True, scope="module")
def quickly_learnt() -> Iterator[None]:
    """Let few rows be a reference."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (gathering, lane, stream_judge):
            patch.setattr(module, "LEARNT_ROWS", LEARNT)
        yield


def inference(number: int, answers: list[Any], *, rows: list[Any] | None = None, **extensions: str) -> list[CloudEvent]:
    asked = rows or instances(len(answers), seed=number)
    return [
        request(f"q{number}", number, asked, **extensions),
        response(f"q{number}", number + 0.1, answers, **extensions),
    ]


def answers(random: np.random.Generator, count: int, mean: float = 0.0) -> list[float]:
    return [round(value, 6) for value in random.normal(mean, 1, count).tolist()]


def status(worker: Worker, detector: str, endpoint: str = "default") -> DetectorStatus:
    (found,) = [each for each in worker.statuses() if (each.detector, each.endpoint) == (detector, endpoint)]
    return found


def by_time(findings: Sequence[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: (finding.time_ns, finding.id))


def test_predictions_are_compared_with_the_first_ones() -> None:
    worker, random = Worker([model(ANSWERS, false_alarms=ALARMS)]), np.random.default_rng(1)
    assert status_notes(worker, [request("a", 0, instances(3))]) == (
        f"the reference is learnt from the first rows; {LEARNT} are missing",
        "no response of a pair has come yet",
    )
    events = [event for number in range(60) for event in inference(number, answers(random, 4, 2.0 * (number >= 45)))]
    found = by_time(worker.judge(items(events)))
    assert [finding.window and finding.window.rows for finding in found] == [50, 50]
    assert [finding.fired for finding in found] == [False, True]
    assert found[0].features[0].name == "prediction"
    assert found[0].assumption.endswith(f"compared with the first {LEARNT} live rows")


def status_notes(worker: Worker, events: list[CloudEvent]) -> tuple[str, ...]:
    worker.judge(items(events))
    return status(worker, "answers").notes


def test_predictions_of_the_reference_are_compared_with_where_it_has_them() -> None:
    watched = model(ANSWERS, HISTOGRAM, false_alarms=ALARMS, outputs=["job"])
    worker = Worker([watched])
    events = [
        event
        for number in range(25)
        for event in inference(number, ["clerk", "smith"], rows=[{"age": row[0]} for row in instances(2, seed=number)])
    ]
    found = worker.judge(items(events))
    assert {(finding.detector, finding.features[0].name) for finding in found} == {
        ("histogram", "age"),
        ("answers", "prediction"),
    } or {(finding.detector, finding.features[0].name) for finding in found} == {
        ("histogram", "age"),
        ("answers", "job"),
    }


def test_only_answers_that_count_are_judged_and_one_that_is_early_waits() -> None:
    worker = Worker([model(ANSWERS)])
    early = [response("e", 1, [1.0, 2.0]), request("e", 1, instances(2))]
    events = [
        *early,
        response("lonely", 2, [1.0] * 7),
        *inference(3, [1.0] * 5, component="explainer"),
        request("bad", 4, instances(2)),
        response("bad", 4, [9.0] * 9, statuscode="500"),
    ]
    worker.judge(items(events[:1]))
    again = Worker([model(ANSWERS)])
    again.load({name: data for name, data in worker.dump().items() if data is not None})
    again.judge(items(events)[1:])
    assert status(again, "answers").needs_rows == LEARNT - 2 + 50


VECTORS = HISTOGRAM | {"name": "vectors", "on": "embeddings"}


def embedding(number: int, vectors: Any) -> list[CloudEvent]:
    data = [{"embedding": vector.tolist(), "index": place} for place, vector in enumerate(vectors)]
    asked = {"model": "e5", "input": ["a text"] * len(data)}
    answered = {"object": "list", "data": data, "model": "e5", "usage": {"prompt_tokens": 1, "total_tokens": 1}}
    return [request(f"e{number}", number, orjson.dumps(asked)), response(f"e{number}", number, orjson.dumps(answered))]


def test_embeddings_are_judged_by_length_and_projections() -> None:
    worker, random = Worker([model(VECTORS, false_alarms=ALARMS)]), np.random.default_rng(4)
    events = []
    for number in range(60):
        vectors = random.normal(size=(4, 64))
        vectors[:, 5] += 8.0 * (number >= 45)
        events += embedding(number, vectors)
    found = by_time(worker.judge(items(events)))
    assert [finding.fired for finding in found] == [False, True]
    assert found[0].features[0].name.startswith(("length", "projection_"))
    assert len(found[0].features) == 17
    worker.judge(items(embedding(99, random.normal(size=(4, 32)))))
    assert status(worker, "vectors").notes == ("vectors have 32 numbers, not 64",)


def listed(number: int, asked: Matrix, answered: Matrix) -> list[CloudEvent]:
    vectors = {"instances": [{"vector": vector} for vector in asked.tolist()]}
    answers = {"predictions": [{"label": "y", "vector": vector} for vector in answered.tolist()]}
    return [
        request(f"v{number}", number, orjson.dumps(vectors)),
        response(f"v{number}", number, orjson.dumps(answers)),
    ]


def test_lists_are_no_categories_and_vectors_are_compared_with_those_of_the_reference() -> None:
    random = np.random.default_rng(8)
    known = Column("vector", objects(random.normal(size=(2_000, 24)).tolist()))
    reference = Reference.build(Rows((known,), 2_000), created_ns=0)
    worker = Worker([model(HISTOGRAM, VECTORS, ANSWERS, reference=reference, false_alarms=ALARMS)])
    events = []
    for number in range(63):
        asked, answered = random.normal(size=(2, 4, 24))
        asked[:, 5] += 8.0 * (number >= 50)
        events += listed(number, asked, answered)
    found = by_time(worker.judge(items(events)))
    fired = {
        rule["name"]: [each.fired for each in found if each.detector == rule["name"]] for rule in (VECTORS, ANSWERS)
    }
    assert fired == {"vectors": [False] * 4 + [True], "answers": [False] * 2}
    assert [each.fired for each in found if each.detector == "histogram"] == fired["vectors"]


ATTRIBUTED = HISTOGRAM | {"name": "reasons", "on": "explanations"}


def reasons(random: np.random.Generator, number: int, job: float = 0.0) -> CloudEvent:
    values = random.normal([0.0, job], [0.3, 0.1], (4, 2)).tolist()
    return explanation(f"x{number}", number, values)


def test_a_model_that_decides_by_other_features_alarms_while_its_inputs_stay() -> None:
    random = np.random.default_rng(5)
    worker = Worker([model(ATTRIBUTED, HISTOGRAM, false_alarms=ALARMS)])
    events = [request("q", 0, instances(50))]
    events += [reasons(random, number, 0.5 * (number >= 45)) for number in range(60)]
    found = by_time(worker.judge(items(events)))
    assert [(finding.detector, finding.fired) for finding in found] == [
        ("histogram", False),
        ("reasons", False),
        ("reasons", True),
    ]
    assert [feature.name for feature in found[2].features] == ["job", "age"]
    told = f"contributions to predictions, compared with the first {LEARNT} live rows"
    assert found[2].assumption.endswith(told)


def test_only_attributions_of_one_method_count_each_once() -> None:
    random = np.random.default_rng(6)
    worker = Worker([model(ATTRIBUTED)])
    assert worker.judge(items([request("q", 0, instances(3))])) == []
    assert "no explanation by features has come yet" in status(worker, "reasons").notes
    events = [
        explanation("words", 1, [[1.0, 2.0]], method="text_shap", positions=[[0, 3], [4, 7]]),
        reasons(random, 1),
        explanation("again", 2, [[1.0, 2.0]] * 9, cached=True),
        explanation("margin", 3, [[9.0, 9.0]] * 9, method="tree_shap"),
        explanation("wrong", 4, [["1", 2.0], [True, 0.0], [1.0]]),
        explanation("gaps", 5, [[None, 2.0]]),
    ]
    worker.judge(items(events))
    assert status(worker, "reasons").needs_rows == LEARNT - 5 + 50
    assert "explanations by tree_shap are left out: those by kernel_shap came first" in status(worker, "reasons").notes


def test_explanations_of_models_that_nobody_asks_about_are_left() -> None:
    worker = Worker([model(HISTOGRAM)])
    assert worker.judge(items([reasons(np.random.default_rng(0), 1)])) == []
    assert worker.statuses() == []


def test_what_is_not_there_is_waited_for_and_said() -> None:
    worker = Worker([model(VECTORS)])
    worker.judge(items([event for number in range(5) for event in inference(number, [1.0, 2.0])]))
    assert status(worker, "vectors").state == "waiting"
    assert "no vectors have come yet, in requests or in responses of pairs" in status(worker, "vectors").notes


def towns(shifted_from: int = 10_000) -> list[CloudEvent]:
    """Two tenants take turns; from some request on the ages of tenant b rise."""
    found = []
    for number in range(160):
        tenant = "ab"[number % 2]
        age = 70 if tenant == "b" and number >= shifted_from else 40
        rows = instances(5, seed=number, age=age)
        found.append(request(f"t{number}", number, rows, metadata=f'{{"X-Tenant": ["{tenant}"]}}'))
    return found


SPLIT = [{"by": {"header": "x-tenant"}}, {"by": "job"}]


def test_segments_are_judged_apart_and_share_the_false_alarms() -> None:
    watched = model(HISTOGRAM, false_alarms=ALARMS, segments=SPLIT, reference=learnt(seed=3, count=2000))
    worker = Worker([watched])
    found = by_time(worker.judge(items(towns(shifted_from=120))))
    segments = {finding.segment for finding in found}
    assert segments == {None, "x-tenant=a", "x-tenant=b", "job=clerk", "job=smith"}
    assert not any(finding.fired for finding in found if finding.segment == "x-tenant=a")
    (b, *_) = [finding for finding in found if finding.segment == "x-tenant=b" and finding.fired]
    assert b.threshold == pytest.approx(-np.log10(1 / 50 / 5))
    assert b.assumption.endswith(f"compared with the segment's first {LEARNT} rows")
    assert not any("segment" in finding.assumption for finding in found if finding.segment == "job=clerk")
    told = status(worker, "histogram")
    assert told.state == "alarm"
    assert any(note.startswith("segment x-tenant=b: age rose") for note in told.notes)


def test_segments_without_end_are_one() -> None:
    watched = model(HISTOGRAM, segments=[{"by": {"header": "x-tenant"}}])
    worker = Worker([watched])
    events = [
        request(f"t{number}", number, instances(40), metadata=f'{{"x-tenant": ["{number % 30}"]}}')
        for number in range(180)
    ]
    segments = {finding.segment for finding in worker.judge(items(events))}
    assert len(segments) == 22
    assert "x-tenant=other" in segments


CANARY = HISTOGRAM | {"name": "canary", "against": {"endpoint": "stable"}}


def canary(shift: float) -> list[CloudEvent]:
    """Both endpoints drift away from the reference together; canary by `shift` more."""
    found = []
    for number in range(120):
        age = 40 + number / 4
        found.append(request(f"s{number}", number, instances(12, seed=number, age=age), endpoint="stable"))
        rows = instances(3, seed=1000 + number, age=age + shift)
        found.append(request(f"c{number}", number + 0.5, rows, endpoint="canary"))
    return found


@pytest.mark.parametrize("shift", [0, 15])
def test_a_canary_is_judged_against_what_stable_receives_at_the_same_time(shift: float) -> None:
    found = Worker([model(CANARY, false_alarms={"expected_run_length_windows": 1000})]).judge(items(canary(shift)))
    assert {finding.endpoint for finding in found} == {"canary"}
    assert len(found) == 7
    assert [finding.fired for finding in found] == [shift > 0] * 7
    assert found[0].assumption.endswith("compared with endpoint stable at the same time")


def test_a_canary_without_stable_waits_and_says_so() -> None:
    worker = Worker([model(CANARY)])
    assert worker.judge(items(request(f"c{n}", n, instances(60), endpoint="canary") for n in range(2))) == []
    assert status(worker, "canary", "canary").notes == ("endpoint stable has no traffic yet",)


EVERYTHING = model(
    HISTOGRAM | {"window": {"rows": 30, "slide": 10}},
    {"name": "minutes", "kind": "quality", "window": {"minutes": 1, "slide": 0.5}},
    ANSWERS,
    CANARY | {"against": {"endpoint": "default"}, "window": {"rows": 20}},
    {"kind": "quality", "window": {"rows": 40}},
    {"kind": "outlier", "method": "mahalanobis", "false_alarm_rate": 0.05},
    ATTRIBUTED,
    reference=learnt(seed=3, count=2000),
    segments=SPLIT,
    burn_in_rows=20,
    false_alarms={"expected_run_length_days": 1},
)


def everything() -> list[CloudEvent]:
    random, found = np.random.default_rng(8), list[CloudEvent]()
    for number in range(150):
        endpoint = "canary" if number % 4 == 3 else "default"
        marks = {"endpoint": endpoint, "metadata": f'{{"x-tenant": ["{"abc"[number % 3]}"]}}'}
        count = int(random.integers(1, 6))
        asked, answered = inference(number, answers(random, count), rows=instances(count, seed=number), **marks)
        if number % 13 == 0:
            asked = request(f"q{number}", number - 80, instances(count, seed=number), **marks)
        found += [answered, asked] if number % 5 == 0 else [asked, answered]
        if number % 3 == 0:
            found.append(reasons(random, number))
    return found


@pytest.fixture(scope="module")
def expected(quickly_learnt: None) -> list[Finding]:  # noqa: ARG001 - the order of fixtures
    return by_time(Worker([EVERYTHING]).judge(items(everything())))


@pytest.mark.slow
def test_everything_is_judged(expected: list[Finding]) -> None:
    judged = {(finding.detector, finding.endpoint, finding.segment) for finding in expected}
    assert {("histogram", "default", None), ("minutes", "default", None), ("answers", "default", None)} <= judged
    assert ("reasons", "default", None) in judged
    assert {("canary", "canary", None), ("quality", "default", "job=clerk")} <= judged
    assert len({finding.id for finding in expected}) == len(expected)


@pytest.mark.slow
@given(st.lists(st.integers(0, 300), max_size=6), st.booleans())
@settings(max_examples=8, deadline=None)
def test_neither_deliveries_nor_restarts_change_a_finding(
    expected: list[Finding], cuts: list[int], restarting: bool
) -> None:
    delivered = items(everything())
    worker, found, kept = Worker([EVERYTHING]), list[Finding](), dict[str, bytes]()
    for start, stop in pairwise([0, *sorted(cuts), len(delivered)]):
        found += worker.judge(delivered[start:stop])
        if restarting:
            for name, data in worker.dump().items():
                kept.pop(name, None)
                if data is not None:
                    kept[name] = data
            before, worker = worker.statuses(), Worker([EVERYTHING])
            worker.load(kept)
            assert sorted(map(repr, worker.statuses())) == sorted(map(repr, before))
    assert by_time(found) == expected
