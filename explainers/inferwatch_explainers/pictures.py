"""Explanations as pictures: bars by feature, rules with how well they hold, changes beside what they change."""

from __future__ import annotations

import io
from textwrap import wrap
from typing import TYPE_CHECKING, Literal

import numpy as np

from inferwatch.errors import MissingExtra
from inferwatch.explanation import Anchors, Attribution, Explanation, Summary
from inferwatch.rows import Matrix, Schema

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Format = Literal["png", "svg"]

MOST_ROWS = 10
"""Explained rows that one picture shows; those beyond are left out, and the picture says so."""

_MOST_FEATURES = 15
_IMAGE_LINES = 12
_TITLE_CHARACTERS = 90
_UP, _DOWN, _PLAIN = "#c0392b", "#2471a3", "#7f8c8d"


def picture(explanation: Explanation, rows: Matrix, schema: Schema, format_: Format) -> bytes:
    """Return a picture of the explanation of rows (n, d), one panel a row. Raises `MissingExtra` without matplotlib.

    Attributions: a bar a feature, largest first, with its standard error where there is one. Anchors: the rule, its
    precision with the lower bound, and its coverage. Counterfactuals: what the nearest one changes, from what to what.
    Inputs that are images: what speaks for the prediction in red over the image, what against it in blue. Summaries:
    what they say, one panel an entry.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as fault:
        raise MissingExtra("a picture", "plots") from fault
    panels_due = len(explanation.entries) if isinstance(explanation, Summary) else len(rows)
    shown = min(panels_due, MOST_ROWS)
    lines = [_lines(explanation, row) for row in range(shown)]
    figure = Figure(figsize=(8, sum(lines) * 0.32 + shown * 1.1 + 0.4), layout="constrained")
    panels = figure.subplots(shown, 1, squeeze=False, height_ratios=[count + 2 for count in lines])[:, 0]
    values = schema.decode(rows)
    for row, axes in enumerate(panels):
        _draw(axes, explanation, row, values[min(row, len(values) - 1)])
    if shown < panels_due:
        figure.suptitle(f"the first {shown} of {panels_due} rows")
    with io.BytesIO() as file:
        figure.savefig(file, format=format_, dpi=110, metadata={"Date": None} if format_ == "svg" else None)
        return file.getvalue()


def _lines(explanation: Explanation, row: int) -> int:
    if isinstance(explanation, Attribution):
        return _IMAGE_LINES if len(explanation.shape) > 1 else min(len(explanation.features), _MOST_FEATURES)
    if isinstance(explanation, Summary):
        return max(2, len(_said(explanation, row)))
    if isinstance(explanation, Anchors):
        return 2 + len(_rule_lines(explanation, row))
    return max(2, len(explanation.changed[row]))


def _draw(axes: Axes, explanation: Explanation, row: int, values: list[object]) -> None:
    if isinstance(explanation, Summary):
        _text(axes, _said(explanation, row))
        axes.set_title(explanation.method)
    elif isinstance(explanation, Attribution) and len(explanation.shape) > 1:
        _heat(axes, explanation, row, values)
    elif isinstance(explanation, Attribution):
        _bars(axes, explanation, row, values)
    elif isinstance(explanation, Anchors):
        _rule(axes, explanation, row)
    else:
        _text(axes, _changes(explanation, row, values))
        target = explanation.target[row]
        axes.set_title(f"{explanation.method}: decided as {target!r}" if explanation.changed[row] else "none found")


def _said(explanation: Summary, row: int) -> list[str]:
    entry = explanation.entries[row]
    return [_plain(f"{name}: {str(value)[:90]}") for name, value in entry.items() if not _is_tensor(value)][
        :_MOST_FEATURES
    ]


def _is_tensor(value: object) -> bool:
    """Return whether a value is a nested list of numbers, which is nothing to read."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], list)


def _heat(axes: Axes, explanation: Attribution, row: int, values: list[object]) -> None:
    """Draw contributions over the image they are about, both summed over what comes before height and width."""
    height, width = explanation.shape[-2:]
    heat = explanation.values[row].reshape(-1, height, width).sum(axis=0)
    image = np.array(values, dtype=np.float64).reshape(-1, height, width).mean(axis=0)
    most = float(np.abs(heat).max()) or 1.0
    axes.imshow(image, cmap="gray", interpolation="nearest")
    shown = axes.imshow(heat, cmap="RdBu_r", vmin=-most, vmax=most, alpha=0.6, interpolation="nearest")
    axes.figure.colorbar(shown, ax=axes, label="contribution to the prediction")
    axes.set_axis_off()
    _title(axes, explanation, row)


def _changes(explanation: Explanation, row: int, values: list[object]) -> list[str]:
    if isinstance(explanation, (Attribution, Anchors, Summary)) or not explanation.counterfactuals[row]:
        return ["no row of another decision was found"]
    nearest = dict(zip(explanation.features, explanation.counterfactuals[row][0], strict=True))
    before = dict(zip(explanation.features, values, strict=True))
    return [f"{_plain(name)}: {_short(before[name])}  to  {_short(nearest[name])}" for name in explanation.changed[row]]


def _bars(axes: Axes, explanation: Attribution, row: int, values: list[object]) -> None:
    contributions, errors = explanation.values[row], np.nan_to_num(explanation.std_error[row])
    order = np.argsort(-np.abs(contributions), kind="stable")[:_MOST_FEATURES][::-1]
    axes.barh(
        [f"{_plain(explanation.features[place])} = {_short(values[place])}" for place in order],
        contributions[order],
        xerr=errors[order] if errors.any() else None,
        color=[_UP if contributions[place] > 0 else _DOWN for place in order],
        ecolor=_PLAIN,
    )
    axes.axvline(0, color=_PLAIN, linewidth=0.8)
    _title(axes, explanation, row)
    axes.set_xlabel("contribution to the prediction")
    if len(contributions) > _MOST_FEATURES:
        axes.set_xlabel(f"contribution; {len(contributions) - _MOST_FEATURES} smaller ones are not shown")


def _title(axes: Axes, explanation: Attribution, row: int) -> None:
    target = explanation.target[row]
    about = "" if target is None else f" for {_plain(repr(target))}:"
    prediction, base = explanation.prediction[row], explanation.base_value[row]
    beside = "" if np.isnan(base) else f", on average {base:.4g}"
    axes.set_title(f"{explanation.method}{about} predicted {prediction:.4g}{beside}", fontsize=10)


def _rule(axes: Axes, explanation: Anchors, row: int) -> None:
    precision, low, coverage = (
        float(figures[row]) for figures in (explanation.precision, explanation.precision_low, explanation.coverage)
    )
    axes.barh(["coverage", "precision"], [coverage, precision], color=[_PLAIN, _DOWN])
    axes.errorbar(precision, 1, xerr=[[precision - low], [0.0]], color=_UP, capsize=4)
    axes.set_xlim(0, 1)
    axes.set_title("\n".join(_rule_lines(explanation, row)), fontsize=10)


def _rule_lines(explanation: Anchors, row: int) -> list[str]:
    """Return what holds, in lines that fit the picture."""
    rule = " and ".join(explanation.anchors[row]) or "always"
    return [_plain(line) for line in wrap(f"{explanation.method}: {rule}", _TITLE_CHARACTERS)]


def _text(axes: Axes, lines: list[str]) -> None:
    axes.axis("off")
    axes.text(0.02, 0.95, "\n".join(lines), va="top", transform=axes.transAxes)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else _plain(str(value)[:32])


def _plain(text: str) -> str:
    """Return the text as it is to be read: between dollar signs matplotlib sees formulas."""
    return text.replace("$", r"\$")
