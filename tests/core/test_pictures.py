"""Explanations drawn from native entries: what each plot says, and what fits what."""

from __future__ import annotations

import html
import re
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest

from inferwatch.errors import InvalidOption, InvalidRows, MissingExtra
from inferwatch.explanation import Summary
from inferwatch.pictures import PLOTS, Picture
from inferwatch.pictures.panel import DOWN, UP

WEIGHTS: dict[str, Any] = {
    "method": "kernel_shap",
    "features": ["age", "$wage$^{", "<hours>"],
    "values": [0.2, -0.1, 0.05],
    "std_error": [0.01, None, 0.0],
    "base_value": 0.3,
    "prediction": 0.45,
    "target": "rich",
}
IMAGE = WEIGHTS | {"features": [f"[{place}]" for place in range(6)], "values": [1.0, 0, 0, 0, 0, -2.0], "shape": [2, 3]}
IMAGE |= {"prediction": -0.7, "std_error": [0.0] * 6}
RULE: dict[str, Any] = {
    "method": "anchors_tabular",
    "features": ["age"],
    "anchor": ["age > 30"],
    "target": 1,
    "precision": 0.97,
}
RULE |= {"precision_low": 0.95, "coverage": 0.25}
WORDS = RULE | {"method": "anchors_text", "anchor": ["not", "good"], "positions": [[4, 7], [8, 12]]}
WEIGHED = WEIGHTS | {"method": "text_shap", "features": ["not", "good", "good"], "values": [-0.25, 0.5, 0.25]}
WEIGHED |= {"positions": [[2, 5], [6, 10], [13, 17]]}
CHANGES: dict[str, Any] = {"method": "counterfactual", "features": ["age", "work"], "counterfactual": [[41.0, "State"]]}
CHANGES |= {"changed": ["work"], "distance": 1.0, "target": 0}
SUMMARY: dict[str, Any] = {"method": "alibi.TrustScore", "score": 1.25, "prototypes": [[1, 2]]}


def texts(picture: Picture) -> str:
    """Return what an SVG says, line by line as it is drawn."""
    drawn = picture.draw("svg").decode()
    return html.unescape("\n".join(re.findall(r"<text[^>]*>(.*?)</text>", drawn, re.DOTALL)))


@pytest.mark.parametrize(
    ("plot", "entry", "row", "says"),
    [
        ("waterfall", WEIGHTS, [39, "5", 40.5], ["age = 39", "$wage$^{ = 5", "<hours> = 40.5", "average 0.3", "+0.2"]),
        ("force", WEIGHTS, [39, "5", 40.5], ["age = 39: +0.2", "$wage$^{ = 5: -0.1", "predicted 0.45"]),
        ("bars", WEIGHTS, None, ["age", "-0.1", "kernel_shap for 'rich': predicted 0.45, on average 0.3"]),
        ("heatmap", IMAGE, np.ones(6), ["contribution to the prediction"]),
        ("text", WORDS, ["Is: not good, 終"], ["Is:", "not", "good", ", 終", "1 while these words stand"]),
        ("text", WEIGHED, ["A not good, $good"], ["not", "good", "speaks for it, up to +0.5", "down to -0.25"]),
        ("waterfall", WEIGHED, ["A not good, $good"], ["not", "-0.25", "all words masked 0.3"]),
        ("rule", RULE, None, ["anchors_tabular: 1 if age > 30", "precision 0.97", "coverage 0.25"]),
        ("changes", CHANGES, [41.0, "Private"], ["work = Private \N{RIGHTWARDS ARROW} State", "decided as 0, 1 away"]),
        ("summary", SUMMARY, None, ["score: 1.25", "alibi.TrustScore"]),
    ],
)
def test_each_plot_says_what_it_shows(plot: str, entry: dict[str, Any], row: Any, says: list[str]) -> None:
    picture = Picture([entry], None if row is None else [row], plot=plot)
    assert picture.draw("png").startswith(b"\x89PNG")
    written = texts(picture)
    assert [text for text in says if text not in written] == []


@pytest.mark.parametrize(
    ("entry", "row", "fitting"),
    [
        (WEIGHTS, None, ["waterfall", "force", "bars"]),
        (WEIGHTS | {"base_value": None}, None, ["bars"]),
        (IMAGE, None, ["heatmap", "waterfall", "force", "bars"]),
        (WORDS, ["not good"], ["text", "rule"]),
        (WORDS, None, ["rule"]),
        (WEIGHED, ["A not good, $good"], ["text", "waterfall", "force", "bars"]),
        (CHANGES, None, ["changes"]),
        (SUMMARY, None, ["summary"]),
        ({"values": [1], "features": []}, None, ["summary"]),
    ],
)
def test_a_plot_that_does_not_fit_names_those_that_would(entry: dict[str, Any], row: Any, fitting: list[str]) -> None:
    rows = None if row is None else [row]
    for plot in PLOTS:
        if plot in fitting:
            Picture([entry], rows, plot=plot)
        else:
            with pytest.raises(InvalidOption, match=f"{', '.join(fitting)} would"):
                Picture([entry], rows, plot=plot)
    with pytest.raises(InvalidOption, match=r"plot is 'pie'; known are heatmap, .*summary"):
        Picture([entry], rows, plot="pie")


def test_rounding_is_no_contribution() -> None:
    dust = WEIGHTS | {"values": [0.25, -1e-17, 1e-16]}
    assert "e-1" not in texts(Picture([dust], plot="waterfall")) + texts(Picture([dust], plot="force"))
    assert Picture([dust]).description == "kernel_shap: age +0.25"


def test_words_are_the_paler_the_less_they_contribute() -> None:
    def boxes(weights: list[float]) -> list[str]:
        drawn = Picture([WEIGHED | {"values": weights}], ["A not good, $good"]).draw("svg").decode()
        return re.findall(r'style="fill: (#[0-9a-f]{6})', drawn)

    strong, half, weak = boxes([-0.25, 0.5, 0.25]), boxes([-0.5, 0.5, 0.0]), boxes([0.0, 0.5, 0.0])
    assert {UP, "#e09c95", "#92b8d1"} <= set(strong)
    assert {UP, DOWN} <= set(half)
    assert not {DOWN, "#e09c95", "#92b8d1"} & set(weak)


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("ab (12) cd", ["ab (", "12", ") cd"]),
        ("אב big deal גד", ["גד", "big", "deal", "אב"]),
        ("אב (12) גד", ["גד", "(", "12", ")", "אב"]),
        ("say אב גד again", ["say", "גד", "אב", "again"]),
    ],
)
def test_words_stand_in_the_order_in_which_they_are_read(text: str, drawn: list[str]) -> None:
    words = [match.span() for match in re.finditer(r"[^\W]+", text) if match[0] not in ("ab", "cd", "say", "again")]
    svg = Picture([WORDS | {"positions": words}], [text]).draw("svg").decode()
    found = re.findall(r'<text style="[^"]*monospace[^"]*" (?:x="([\d.]+)"[^>]*)>(.*?)</text>', svg)
    assert [html.unescape(word) for _, word in sorted(found, key=lambda each: float(each[0]))] == drawn


def test_small_contributions_are_drawn_together_and_what_they_leave_open_too() -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(size=40)
    many = WEIGHTS | {"features": [f"f{place}" for place in range(40)], "values": values.tolist(), "std_error": None}
    exact = many | {"prediction": 0.3 + values.sum()}
    rest = np.sort(np.abs(values))[:25]
    together = values[np.isin(np.abs(values), rest)].sum()
    written = texts(Picture([exact]))
    assert "25 other features" in written
    assert f"{together:+.3g}" in written
    assert "not accounted for" not in written
    assert "not accounted for" in texts(Picture([exact | {"prediction": 9.0}]))


def test_a_long_text_and_a_long_rule_keep_to_the_width() -> None:
    text = "word " * 800 + "終" * 100
    written = texts(Picture([WORDS | {"positions": [[0, 4]]}], [text]))
    assert max(map(len, written.splitlines())) <= 91
    assert "the text goes on" in written
    rule = RULE | {"anchor": [f"feature number {number} <= 0.7977" for number in range(9)]}
    assert max(map(len, texts(Picture([rule])).splitlines())) <= 90


def test_ten_rows_are_drawn_and_the_alternative_text_says_so() -> None:
    picture = Picture([WEIGHTS] * 12, pd.DataFrame([[39, "5", 40.5]] * 12))
    assert "the first 10 of 12 rows" in texts(picture)
    assert picture.description.splitlines()[-1] == "the first 10 of 12 rows"
    with pytest.raises(InvalidRows, match="3 rows are given with 1 explanations"):
        Picture([WEIGHTS], [[1, 2, 3]] * 3)


def test_a_notebook_shows_the_picture_with_its_alternative_text(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = WEIGHTS | {"features": ["age", "$wage$^{", '"><script>']}
    shown = Picture([entry])._repr_html_()
    assert shown.startswith("<img ")
    assert "<script>" not in shown
    assert html.unescape(re.findall('alt="(.*?)"', shown)[0]).startswith("kernel_shap: age +0.2, $wage$^{ -0.1")
    summary = Summary("alibi.TrustScore", ({"score": 1.25},), 0, 0, 0.1)
    assert "<img " in summary._repr_html_()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "inferwatch[plots]" in Picture([entry])._repr_html_()
    with pytest.raises(MissingExtra):
        Picture([entry]).draw("png")
