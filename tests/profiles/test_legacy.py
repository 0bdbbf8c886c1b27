"""Every algorithm of alibi and AIX360 by a real call in its own environment, held against what is known otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inferwatch.errors import InvalidOption, PredictorError, PredictorTimeout
from inferwatch.explanation import Anchors, Explanation, Summary
from inferwatch.protocols import Predict
from inferwatch.rows import Matrix
from inferwatch_explainers.adapters.child_process import ChildProcess
from inferwatch_explainers.adapters.legacy import ADAPTERS
from inferwatch_explainers.adapters.setting import Setting
from inferwatch_explainers.texts import schema_of, texts_of
from tests.components import legacy_python
from tests.profiles.worlds import World, digits, table

pytestmark = [pytest.mark.profile, pytest.mark.filterwarnings("ignore")]  # the libraries' own

TABLE, DIGITS = table(), digits()


@pytest.fixture(scope="module")
def child() -> Iterator[ChildProcess]:
    process = ChildProcess(legacy_python())
    yield process
    process.close()


def explain(
    child: ChildProcess,
    method: str,
    rows: Matrix,
    world: World = TABLE,
    predict: Predict | None = None,
    shape: tuple[int, ...] = (),
    deadline_s: float | None = 110.0,
    most: int = 600,
    examples: Path | None = None,
    **options: Any,
) -> Explanation:
    adapter = ADAPTERS[method]
    setting = Setting(
        predict or world.scores,
        world.rows[:100],
        world.rows[:most],
        world.schema,
        adapter.checked(method, options),
        input_shape=shape,
        deadline_s=deadline_s,
        examples=examples,
        legacy=child,
    )
    return adapter.make(setting).explain(rows)


def entries(explanation: Explanation) -> list[dict[str, Any]]:
    assert isinstance(explanation, Summary)
    return explanation.as_dicts()


def holding(anchor: tuple[str, ...], rows: Matrix) -> Matrix:
    """Return the rows that keep to a rule of alibi's: `low < x1 <= high`, `x1 > 0.5`, `kind = c`."""
    kept = np.ones(len(rows), dtype=bool)
    names = list(TABLE.schema.names)
    for condition in anchor:
        words = condition.split(" ")
        if "=" in words:
            kept &= rows[:, 5] == ("a", "b", "c").index(words[-1])
        elif len(words) == 5:
            column = rows[:, names.index(words[2])]
            kept &= (float(words[0]) < column) & (column <= float(words[4]))
        else:
            column = rows[:, names.index(words[0])]
            kept &= {">": column > float(words[2]), "<=": column <= float(words[2])}[words[1]]
    return rows[kept]


@pytest.mark.parametrize("answers", ["scores", "labels"])
def test_anchors_of_a_table_hold_on_fresh_rows(child: ChildProcess, answers: str) -> None:
    rows = TABLE.rows[:2]
    found = explain(child, "alibi.AnchorTabular", rows, predict=getattr(TABLE, answers))
    assert isinstance(found, Anchors)
    generator = np.random.default_rng(1)
    fresh = np.column_stack([generator.permutation(column) for column in TABLE.rows.T])
    for row, anchor in zip(rows, found.anchors, strict=True):
        held = holding(anchor, fresh)
        assert len(held) > 20
        assert (TABLE.model.predict(held) == TABLE.model.predict(row[None])).mean() > 0.88
    assert np.isnan(found.precision_low).all()


def test_anchors_of_texts_are_the_words_that_decide(child: ChildProcess) -> None:
    texts = ["A great film, in the end not bad", "dull"]
    schema = schema_of("review", texts)
    rows = np.array([[0.0], [1.0]])
    adapter = ADAPTERS["alibi.AnchorText"]
    predict = TextPredictor()
    setting = Setting(
        lambda codes: predict(texts_of(codes, schema)),
        rows,
        rows,
        schema,
        adapter.checked("alibi.AnchorText", {}),
        deadline_s=110.0,
        legacy=child,
        predict_texts=predict,
    )
    found = adapter.make(setting).explain(rows)
    assert isinstance(found, Anchors)
    assert found.target == ("good", "bad")
    assert found.anchors[0] == ("great", "film")
    assert found.positions[0] == ((2, 7), (8, 12))
    assert (found.anchors[1], found.positions[1]) == ((), ())
    assert (found.precision > 0.9).all()
    assert all(len(set(call)) == len(call) for call in predict.calls)


class TextPredictor:
    """Says that films are good that are great, told once that they are films."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def __call__(self, texts: list[str]) -> Any:
        self.calls.append(texts)
        good = ["great" in text and "film" in text and not text.startswith("not") for text in texts]
        return np.where(good, "good", "bad").astype(object)


def test_anchor_of_an_image_keeps_its_decision(child: ChildProcess) -> None:
    [entry] = entries(explain(child, "alibi.AnchorImage", DIGITS.rows[5:6], DIGITS, shape=(1, 8, 8), n_segments=12))
    mask = np.array(entry["mask"])
    assert mask.shape == (8, 8)
    assert 0 < mask.sum() < 64
    assert entry["precision"] >= 0.9


def test_accumulated_effects_see_which_features_matter(child: ChildProcess) -> None:
    [entry] = entries(explain(child, "alibi.ALE", TABLE.rows[:1]))
    swing = {curve["feature"]: np.ptp(np.array(curve["effect"])[:, 1]) for curve in entry["curves"]}
    assert max(swing, key=lambda name: swing[name]) == "x0"
    assert swing["x0"] > 4 * max(swing["x2"], swing["x3"], swing["x4"])


@pytest.mark.parametrize("texts", [False, True])
def test_accumulated_effects_on_labels_name_them(child: ChildProcess, texts: bool) -> None:
    def labels(rows: Matrix) -> Any:
        return TABLE.labels(rows) if texts else TABLE.scores(rows).argmax(axis=1)

    [entry] = entries(explain(child, "alibi.ALE", TABLE.rows[:1], predict=labels))
    assert entry["targets"] == (["class 0", "class 1"] if texts else [0, 1])
    swing = {curve["feature"]: np.ptp(np.array(curve["effect"]), axis=0) for curve in entry["curves"]}
    assert swing["x0"].shape == (2,)
    assert (swing["x0"] > 2 * np.max([swing["x2"], swing["x3"], swing["x4"]], axis=0)).all()


def test_importance_of_shuffled_features(child: ChildProcess) -> None:
    found = {
        entry["feature"]: entry["importance"]
        for entry in entries(explain(child, "alibi.PermutationImportance", TABLE.rows[:1], n_repeats=5))
    }
    assert max(found, key=lambda name: found[name]) == "x0"


def test_trust_is_higher_inside_a_class_than_at_its_border(child: ChildProcess) -> None:
    margin = np.abs(TABLE.scores(TABLE.rows)[:, 1] - 0.5)
    inside, border = TABLE.rows[np.argsort(-margin)[:20]], TABLE.rows[np.argsort(margin)[:20]]
    scores = [
        entry["trust_score"] for entry in entries(explain(child, "alibi.TrustScore", np.vstack([inside, border])))
    ]
    assert np.median(scores[:20]) > np.median(scores[20:])


def test_labels_that_are_texts_come_back_as_texts(child: ChildProcess) -> None:
    [entry] = entries(explain(child, "alibi.TrustScore", TABLE.rows[:1], predict=TABLE.labels))
    assert {entry["prediction"], entry["closest_not_predicted"]} == {"class 0", "class 1"}


def test_prototypes_are_rows_of_the_reference(child: ChildProcess) -> None:
    [chosen] = entries(explain(child, "alibi.ProtoSelect", TABLE.rows[:1], num_prototypes=4))
    assert len(chosen["prototypes"]) == 4
    assert {prototype["class"] for prototype in chosen["prototypes"]} == {0, 1}
    [near] = entries(explain(child, "aix360.Protodash", TABLE.rows[:5], m=3))
    assert sum(prototype["weight"] for prototype in near["prototypes"]) == pytest.approx(1)
    known = {tuple(row[:5]) for row in TABLE.rows.round(9).tolist()}
    for prototype in chosen["prototypes"] + near["prototypes"]:
        assert tuple(round(prototype["row"][name], 9) for name in TABLE.schema.names[:5]) in known


@pytest.mark.parametrize("method", ["aix360.BRCG", "aix360.LogRR"])
def test_rules_stand_in_for_the_model(child: ChildProcess, method: str) -> None:
    [entry] = entries(explain(child, method, TABLE.rows[:1], most=150))
    assert entry["fidelity"] > 0.8
    assert any("x0" in str(rule) for rule in entry["rules"])


def test_reasons_are_learnt_with_decisions(child: ChildProcess, tmp_path: Path) -> None:
    decided = TABLE.model.predict(TABLE.rows).astype(float)
    taught = np.column_stack([TABLE.rows, (TABLE.rows[:, 0] > 0).astype(float), decided])
    np.save(tmp_path / "taught.npy", taught)
    found = entries(explain(child, "aix360.TED", TABLE.rows[:50], examples=tmp_path / "taught.npy"))
    assert np.mean([entry["explanation"] == (row[0] > 0) for entry, row in zip(found, TABLE.rows, strict=False)]) > 0.9


def test_a_predictor_that_fails_is_the_fault_that_is_told(child: ChildProcess) -> None:
    calls = 0

    def predict(rows: Matrix) -> Matrix:
        nonlocal calls
        calls += 1
        if calls > 2:
            raise PredictorError("the predictor is down")
        return TABLE.scores(rows)

    with pytest.raises(PredictorError, match="is down"):
        explain(child, "alibi.AnchorTabular", TABLE.rows[:1], predict=predict)
    assert entries(explain(child, "alibi.TrustScore", TABLE.rows[:1]))


def test_what_a_library_refuses_is_told_in_its_words(child: ChildProcess) -> None:
    with pytest.raises(InvalidOption, match="alike about every row"):
        explain(child, "aix360.BRCG", TABLE.rows[:1], predict=lambda rows: np.ones(len(rows), dtype=np.int64))


def test_a_deadline_ends_the_process_and_the_next_call_has_a_new_one(child: ChildProcess) -> None:
    with pytest.raises(PredictorTimeout, match="in time"):
        explain(child, "alibi.PermutationImportance", TABLE.rows[:1], deadline_s=0.2, n_repeats=100_000)
    assert entries(explain(child, "alibi.TrustScore", TABLE.rows[:1]))
