"""Anchors of texts, held against rules that are known and texts that are perturbed anew, by other means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from inferwatch.errors import InvalidOption, InvalidRows, PredictorError, PredictorTimeout
from inferwatch_explainers import AnchorsText
from inferwatch_explainers.words import words
from tests.explainers.test_kernel_shap import SlowPredictor

Classify = Callable[[list[str]], Any]


def sentiment(texts: list[str]) -> Any:
    """Good films are good, unless it is said that they are not."""
    said = [set(text.lower().replace(",", " ").split()) for text in texts]
    return np.array(["good" if "good" in each and "not" not in each else "bad" for each in said], dtype=object)


class Asked:
    def __init__(self, classify: Classify) -> None:
        self._classify = classify
        self.calls: list[list[str]] = []

    def __call__(self, texts: list[str]) -> Any:
        self.calls.append(texts)
        return self._classify(texts)


def test_words_that_decide_are_found_where_they_stand() -> None:
    asked = Asked(sentiment)
    texts = ["This was a good film", "It is not as good as the book, not at all", "dull, dull, dull"]
    found = AnchorsText(asked).explain(texts)
    assert found.anchors == (("good",), ("not",), ())
    [[good], [one_not], []] = found.positions
    assert (texts[0][slice(*good)], texts[1][slice(*one_not)]) == ("good", "not")
    assert found.target == ("good", "bad", "bad")
    assert (found.precision >= 0.95).all()
    assert (found.precision_low <= found.precision).all()
    assert found.coverage.tolist() == [0.5, 0.5, 1.0]
    assert len(asked.calls) == found.predictor_calls <= 8
    assert sum(map(len, asked.calls)) == found.predictor_rows
    assert all(len(set(call)) == len(call) for call in asked.calls)


def test_entries_name_words_and_places() -> None:
    [entry] = AnchorsText(sentiment).explain(["Not good"]).as_dicts()
    assert (entry["anchor"], entry["positions"], entry["features"]) == (["Not"], [[0, 3]], ["text"])


@pytest.mark.parametrize(
    ("mask", "allowed"),
    [("UNK", {"a", "UNK"}), ("[MASK]", {"a", "[MASK]"}), (None, {"a"})],
)
def test_other_words_are_masked_or_left_out(mask: str | None, allowed: set[str]) -> None:
    asked = Asked(lambda texts: np.array([int(text.startswith("a")) for text in texts]))
    AnchorsText(asked, mask=mask).explain(["a a a"])
    assert {word for call in asked.calls for text in call for word in text.split()} == allowed


def test_samples_bound_the_texts_and_long_ones_still_get_a_rule() -> None:
    asked = Asked(sentiment)
    found = AnchorsText(asked, samples=1000).explain(["so " * 2000 + "not so"])
    assert sum(map(len, asked.calls)) <= 1000 + found.predictor_calls
    assert found.predictor_calls <= 8


@pytest.mark.parametrize("replaced", [0.3, 0.5])
def test_what_is_stated_holds_for_texts_perturbed_anew(replaced: float) -> None:
    """8 texts of 15 words that each weigh something: precision within 0.05 on 4,000 texts of our own making."""
    generator = np.random.default_rng(1)
    weights = dict(zip("abcdefghijklmnopqrstuvwxyz", generator.normal(size=26), strict=True))

    def weighed(texts: list[str]) -> Any:
        return np.array([sum(weights.get(word, 0.0) for word in text.split()) > 0.3 for text in texts]).astype(int)

    texts = [" ".join(generator.choice(list(weights), 15)) for _ in range(8)]
    found = AnchorsText(weighed, replaced=replaced).explain(texts)
    for row, text in enumerate(texts):
        fixed = [start // 2 for start, _ in found.positions[row]]  # words of one letter
        standing = generator.random((4000, 15)) > replaced
        assert found.coverage[row] == pytest.approx(standing[:, fixed].all(axis=1).mean(), abs=0.03)
        standing[:, fixed] = True
        anew = [" ".join(w if kept else "UNK" for w, kept in zip(text.split(), r, strict=True)) for r in standing]
        truth = (weighed(anew) == found.target[row]).mean()
        assert found.precision[row] == pytest.approx(truth, abs=0.05)
        assert found.precision_low[row] < truth + 0.02
    assert (found.precision >= 0.95).mean() > 0.7


def test_seeds_repeat_and_texts_are_explained_alike_alone_or_together() -> None:
    texts = ["a not so good film", "good good good"]
    together, again = AnchorsText(sentiment).explain(texts), AnchorsText(sentiment).explain(texts)
    assert together.as_dicts()[0]["precision"] == again.as_dicts()[0]["precision"]
    assert AnchorsText(sentiment).explain(texts[:1]).anchors == together.anchors[:1]


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ([], "at least one text"),
        ("a single text", "at least one text"),
        (["fine", 3], "text 1 is 3"),
        (["fine", "?!"], "text 1 has no words"),
        ([None], "text 0 is None"),
    ],
)
def test_what_is_no_text_is_refused(texts: Any, says: str) -> None:
    with pytest.raises(InvalidRows, match=says):
        AnchorsText(sentiment).explain(texts)


def test_faults_are_named() -> None:
    with pytest.raises(InvalidOption, match="replaced is 1"):
        AnchorsText(sentiment, replaced=1)
    with pytest.raises(InvalidOption, match="is 'bad' and not 'good'"):
        AnchorsText(sentiment).explain(["a film"], target="good")
    with pytest.raises(InvalidOption, match=r"beyond \[0, 1\]"):
        AnchorsText(lambda texts: np.arange(len(texts)) * 1.5).explain(["a film"])
    with pytest.raises(PredictorError):
        AnchorsText(lambda _: np.ones(3)).explain(["a film"])


def test_a_deadline_leaves_the_best_rule_so_far() -> None:
    slow = SlowPredictor(0.4, 0.0, ends=1.0)

    def model(texts: list[str]) -> Any:
        slow(np.zeros((len(texts), 1)))
        return np.array([text.count("x") > 7 for text in texts]).astype(int)

    found = AnchorsText(model, deadline_s=1.0, clock=slow.clock).explain(["x " * 14])
    assert found.deadline_reached
    assert 0 < found.precision_low[0] < found.precision[0] < 1
    dead = SlowPredictor(0.4, 0.0, ends=0.1)
    with pytest.raises(PredictorTimeout):
        AnchorsText(lambda texts: dead(np.zeros((len(texts), 1))), deadline_s=0.1, clock=dead.clock).explain(["x"])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("rock'n'roll, l’homme - 10/10", ["rock'n'roll", "l’homme", "10", "10"]),
        ("我不喜欢, 映画だ", list("我不喜欢映画だ")),
        ("फिल्म अच्छी", ["फिल्म", "अच्छी"]),
        ("great 😀!", ["great", "😀"]),
        ("...", []),
    ],
)
def test_words_of_any_language(text: str, found: list[str]) -> None:
    assert [text[start:end] for start, end in words(text)] == found
