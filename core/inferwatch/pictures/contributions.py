"""Attributions by feature: as a waterfall, as forces on one axis, and as bars."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from inferwatch.explained import ROUNDING
from inferwatch.pictures.panel import DOWN, PLAIN, UP, Panel, plain, shortened, title

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

MOST_FEATURES = 15
"""Features that are drawn one by one, the largest; the others together are one more."""

_MOST_FORCES = 6
_FORCE_CHARACTERS = 32
_RESIDUAL = 1e-3


class Contribution(NamedTuple):
    """What a feature contributed, with the standard error of that; 0 where it has none."""

    label: str
    value: float
    error: float
    color: str


def contributions(panel: Panel, most: int = MOST_FEATURES) -> list[Contribution]:
    """Return what each feature contributed, largest first; what is beyond `most` together comes last."""
    values = np.array(panel.entry["values"], dtype=np.float64)
    values[np.abs(values) <= ROUNDING * np.abs(values).max()] = 0.0
    errors = np.array(panel.entry.get("std_error") or np.zeros(len(values)), dtype=np.float64)
    order = np.argsort(-np.abs(values), kind="stable")
    if len(order) == most + 1:
        most += 1  # one other feature takes no more room by its name
    found = [
        Contribution(panel.label(place), values[place], float(np.nan_to_num(errors[place])), _color(values[place]))
        for place in order[:most].tolist()
    ]
    if len(order) > most:
        together = float(values[order[most:]].sum())
        found.append(Contribution(f"{len(order) - most} other features", together, 0.0, _color(together)))
    return found


def is_attribution(panel: Panel) -> bool:
    """Return whether each feature has a value."""
    return len(panel.entry.get("values", ())) == len(panel.entry.get("features", ())) > 0


def has_base(panel: Panel) -> bool:
    """Return whether the contributions lead from one number to another."""
    return is_attribution(panel) and math.isfinite(panel.number("base_value")) and math.isfinite(_end(panel))


def bar_inches(panel: Panel) -> float:
    """Return how high bars and waterfalls are drawn."""
    return 1.3 + 0.28 * min(len(panel.entry["values"]), MOST_FEATURES + 1)


def draw_bars(axes: Axes, panel: Panel) -> None:
    """Draw one bar a feature from zero, largest on top."""
    steps = contributions(panel)[::-1]
    _bars(axes, steps, np.zeros(len(steps)))
    axes.axvline(0, color=PLAIN, linewidth=0.8)
    axes.set_xlabel("contribution to the prediction")
    title(axes, panel.headline())


def draw_waterfall(axes: Axes, panel: Panel) -> None:
    """Draw how the contributions lead from the average, at the bottom, to the prediction, at the top."""
    steps = _to_the_prediction(panel, contributions(panel))[::-1]
    base = panel.number("base_value")
    ends = base + np.cumsum([step.value for step in steps])
    starts = np.concatenate([[base], ends[:-1]])
    _bars(axes, steps, starts)
    for place, end in enumerate(ends[:-1]):
        axes.plot([end, end], [place - 0.4, place + 1.4], color=PLAIN, linewidth=0.8)
    _mark_ends(axes, panel)
    axes.set_ylim(-1.4, len(steps) + 0.4)
    title(axes, panel.headline())


def force_inches(panel: Panel) -> float:
    """Return how high forces are drawn."""
    return 1.6 + 0.25 * max(map(len, _sides(panel)))


def draw_force(axes: Axes, panel: Panel) -> None:
    """Draw what pushes the prediction up from the left, and what pushes it down from the right, largest innermost."""
    end = _end(panel)
    for side, sign in zip(_sides(panel), (-1, 1), strict=True):
        inner = end
        for place, push in enumerate(side):
            outer = inner + sign * abs(push.value)
            axes.barh(0, outer - inner, left=inner, color=push.color, edgecolor="white", height=0.9)
            middle, depth = (inner + outer) / 2, len(side) - place
            axes.plot([middle, middle], [0.45, depth + 0.3], color=push.color, linewidth=0.8)
            axes.text(
                middle,
                depth + 0.3,
                plain(f" {shortened(push.label, _FORCE_CHARACTERS)}: {push.value:+.3g} "),
                ha="right" if sign < 0 else "left",
                va="center",
                fontsize=8,
                color=push.color,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},  # over the lines that mark the ends
            )
            inner = outer
    _mark_ends(axes, panel)
    axes.set_ylim(max(map(len, _sides(panel))) + 1.8, -1.4)
    axes.use_sticky_edges = False
    axes.margins(x=0.25)
    axes.set_yticks([])
    axes.spines[["left", "right"]].set_visible(False)  # long names reach over them
    title(axes, panel.headline())


def _sides(panel: Panel) -> tuple[list[Contribution], list[Contribution]]:
    """Return what pushes up and what pushes down, largest first, the small ones of each side together."""
    steps = _to_the_prediction(panel, contributions(panel, len(panel.entry["values"])))
    up = [step for step in steps if step.value > 0]
    down = [step for step in steps if step.value < 0]
    return _few(up), _few(down)


def _few(side: list[Contribution]) -> list[Contribution]:
    if len(side) <= _MOST_FORCES:
        return side
    rest = side[_MOST_FORCES - 1 :]
    label = f"{len(rest)} other features"
    return [*side[: _MOST_FORCES - 1], Contribution(label, sum(step.value for step in rest), 0.0, rest[0].color)]


def _to_the_prediction(panel: Panel, found: list[Contribution]) -> list[Contribution]:
    """Return the contributions, and what is left between their sum and the prediction where that can be seen."""
    left = _end(panel) - panel.number("base_value") - sum(step.value for step in found)
    if abs(left) <= _RESIDUAL * max(abs(step.value) for step in found):
        return found
    return [*found, Contribution("not accounted for", left, 0.0, PLAIN)]


def _end(panel: Panel) -> float:
    return panel.number("prediction")


def _bars(axes: Axes, steps: Sequence[Contribution], starts: np.ndarray) -> None:
    values, errors = (np.array([step[place] for step in steps]) for place in (1, 2))
    places = np.arange(len(steps))
    axes.barh(
        places,
        values,
        left=starts,
        xerr=errors if errors.any() else None,
        color=[step.color for step in steps],
        ecolor=PLAIN,
    )
    axes.set_yticks(places, [plain(step.label) for step in steps])
    axes.set_ylim(-0.8, len(steps) - 0.2)
    axes.margins(x=0.2)
    axes.use_sticky_edges = False
    for place, step, start in zip(places, steps, starts, strict=True):
        reach = (max(start, start + step.value + step.error), place)
        axes.annotate(f"{step.value:+.3g}", reach, (4, 0), textcoords="offset points", va="center", fontsize=8)


def _mark_ends(axes: Axes, panel: Panel) -> None:
    """Mark the average at the bottom, and the prediction at the top."""
    begin = panel.number("base_value"), panel.base.removeprefix("on ")
    for at, says, height, up in ((*begin, 0, 2), (_end(panel), "predicted", 1, -10)):
        axes.axvline(at, color=PLAIN, linewidth=0.8, linestyle="--", zorder=0)
        axes.annotate(
            f" {says} {at:.4g} ",
            (at, height),
            (0, up),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="right" if 2 * at > sum(axes.get_xlim()) else "left",
        )


def _color(value: float) -> str:
    return UP if value > 0 else DOWN
