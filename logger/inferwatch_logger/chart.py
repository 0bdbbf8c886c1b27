"""Small drawings of findings as coordinates, for the console's inline SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 1140, 190
LEFT, RIGHT, _TOP, _BOTTOM = 36, 1132, 8, 20
_TICKS = (0, 1, 3, 10, 30, 100, 300)


@dataclass(frozen=True, slots=True)
class Mark:
    """One window: where it is drawn, whether it fired, and what is said of it on hovering."""

    x: float
    y: float
    fired: bool
    title: str


@dataclass(frozen=True, slots=True)
class ScoreChart:
    """Scores of windows in the order of time against their threshold; `score` and `threshold` are polyline points."""

    score: str
    threshold: str
    marks: Sequence[Mark]
    ticks: Sequence[tuple[float, str]]
    first: str
    last: str
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = RIGHT


@dataclass(frozen=True, slots=True)
class EffectBar:
    """An effect with its interval as percentages of a bar's width, and where zero is."""

    zero: float
    effect: float
    low: float
    high: float


def score_chart(findings: Sequence[Mapping[str, Any]]) -> ScoreChart | None:
    """Return the chart of findings of one window detector, oldest first; None where there are fewer than two.

    Scores are drawn on log(1 + score): a p-value of 1e-300 must not flatten everything else.
    """
    scored = [finding for finding in findings if finding["score"] is not None and finding["threshold"] is not None]
    if len(scored) < 2:
        return None
    top = max(max(finding["score"], finding["threshold"], 3.0) for finding in scored) * 1.1
    step = (RIGHT - LEFT) / (len(scored) - 1)

    def place(value: float) -> float:
        share = math.log1p(max(value, 0.0)) / math.log1p(top)
        return round(HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM), 1)

    at = [round(LEFT + index * step, 1) for index in range(len(scored))]
    return ScoreChart(
        score=_points(at, [place(finding["score"]) for finding in scored]),
        threshold=_points(at, [place(finding["threshold"]) for finding in scored]),
        marks=[Mark(x, place(f["score"]), f["fired"], _title(f)) for x, f in zip(at, scored, strict=True)],
        ticks=[(place(tick), str(tick)) for tick in _TICKS if tick <= top],
        first=scored[0]["time"],
        last=scored[-1]["time"],
    )


def effect_bars(features: Sequence[Mapping[str, Any]]) -> list[EffectBar | None]:
    """Return a bar for each feature, all to one scale; None where the effect is unknown."""
    bounds: list[float] = [
        bound
        for feature in features
        for bound in (feature["effect"], feature["effect_low"], feature["effect_high"])
        if bound is not None
    ]
    low, high = min([*bounds, 0.0]), max([*bounds, 0.0])
    width = (high - low) or 1.0

    def share(value: float) -> float:
        return round(100 * (value - low) / width, 2)

    def bar(feature: Mapping[str, Any]) -> EffectBar | None:
        effect: float | None = feature["effect"]
        if effect is None:
            return None
        ends = [effect if feature[end] is None else feature[end] for end in ("effect_low", "effect_high")]
        return EffectBar(share(0.0), share(effect), share(ends[0]), share(ends[1]))

    return [bar(feature) for feature in features]


def _points(across: Sequence[float], down: Sequence[float]) -> str:
    return " ".join(f"{x},{y}" for x, y in zip(across, down, strict=True))


def _title(finding: Mapping[str, Any]) -> str:
    return f"{finding['time']}  score {finding['score']:.3g}, threshold {finding['threshold']:.3g}. {finding['why']}"
