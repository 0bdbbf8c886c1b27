"""Shapley values of words, held against the enumeration of all coalitions of words."""

from __future__ import annotations

from itertools import combinations
from math import comb
from typing import Any

import numpy as np
import pytest

from inferwatch.errors import InvalidOption, InvalidRows, PredictorTimeout
from inferwatch_explainers import TextShap

TEXT = "not so good, not so bad"


def mood(texts: list[str]) -> Any:
    """Good and bad count; what stands behind `not` counts the other way round."""
    scores = []
    for text in texts:
        said = text.replace(",", "").split()
        signs = [-1.0 if "not" in said[:place] else 1.0 for place in range(len(said))]
        scores.append(
            sum(sign * {"good": 2.0, "bad": -1.0}.get(word, 0.0) for word, sign in zip(said, signs, strict=True))
        )
    return np.array(scores)


def enumerated(text: str, mask: str) -> list[float]:
    """Return the Shapley values of words parted by spaces, by their definition."""
    said = text.split()
    d = len(said)

    def worth(stands: set[int]) -> float:
        written = [word if place in stands else mask + word[len(word.rstrip(",")) :] for place, word in enumerate(said)]
        return float(mood([" ".join(written)])[0])

    return [
        sum(
            (worth({*others, word}) - worth(set(others))) / (d * comb(d - 1, size))
            for size in range(d)
            for others in combinations([each for each in range(d) if each != word], size)
        )
        for word in range(d)
    ]


def test_words_have_the_values_of_the_definition_each_at_its_place() -> None:
    calls: list[list[str]] = []

    def asked(texts: list[str]) -> Any:
        calls.append(texts)
        return mood(texts)

    found = TextShap(asked).explain([TEXT, "bad"])
    first, second = found.as_dicts()
    assert first["features"] == ["not", "so", "good", "not", "so", "bad"]
    assert [TEXT[start:end] for start, end in first["positions"]] == first["features"]
    np.testing.assert_allclose(first["values"], enumerated(TEXT, "UNK"), atol=1e-9)
    assert (first["base_value"], first["prediction"], first["exact"]) == (0.0, mood([TEXT])[0], True)
    assert (second["values"], second["positions"]) == ([-1.0], [[0, 3]])
    assert found.deadline_reached is False
    assert found.predictor_calls == len(calls)
    assert found.predictor_rows >= sum(map(len, calls))
    assert all(len(set(call)) == len(call) for call in calls)


def test_words_can_be_left_out_and_labels_and_outputs_explained() -> None:
    [entry] = (
        TextShap(lambda texts: np.array([len(text.split()) for text in texts], dtype=float), mask=None)
        .explain(["a a a b"])
        .as_dicts()
    )
    np.testing.assert_allclose(entry["values"], 1.0)
    [entry] = TextShap(lambda texts: np.where(mood(texts) > 0, "up", "down")).explain(["so good"]).as_dicts()
    assert (entry["target"], entry["prediction"]) == ("up", 1.0)
    np.testing.assert_allclose(entry["values"], [0.0, 1.0], atol=1e-9)
    two = TextShap(lambda texts: np.stack([mood(texts), -mood(texts)], axis=1))
    [entry] = two.explain(["so good"], target=1).as_dicts()
    assert entry["target"] == 1
    np.testing.assert_allclose(entry["values"], [0.0, -2.0], atol=1e-9)


def test_a_long_text_is_sampled_and_a_deadline_gives_a_coarser_answer() -> None:
    text = "so good and bad " * 10
    [entry] = TextShap(mood, seed=1).explain([text]).as_dicts()
    assert abs(entry["gap"]) < 1e-9
    np.testing.assert_allclose(entry["values"], [0.0, 2.0, 0.0, -1.0] * 10, atol=1e-6)
    now = [100.0]

    def slow(texts: list[str]) -> Any:
        now[0] += 0.02 + 1e-4 * len(texts)
        if now[0] > 100.6:
            raise PredictorTimeout("too slow")
        return mood(texts)

    found = TextShap(slow, deadline_s=0.5, clock=lambda: now[0]).explain([text.replace("so", "not") + "so good"] * 3)
    assert found.deadline_reached
    assert now[0] <= 100.55
    with pytest.raises(PredictorTimeout):
        TextShap(slow, deadline_s=0.5, clock=lambda: now[0]).explain([text] * 9)


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ([], "at least one text"),
        (["..."], "text 0 has no words"),
        (["a", "b " * 1001], "text 1 has 1001 words; at most"),
    ],
)
def test_bad_texts_are_named(texts: list[str], says: str) -> None:
    with pytest.raises(InvalidRows, match=says):
        TextShap(mood).explain(texts)
    with pytest.raises(InvalidOption, match="samples is 1"):
        TextShap(mood, samples=1)
