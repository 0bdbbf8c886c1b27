"""Explanations of decisions: rules with how well they hold, changes beside what they change; and plain summaries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferwatch.pictures.contributions import is_attribution
from inferwatch.pictures.panel import DOWN, LINE_CHARACTERS, PLAIN, UP, Panel, plain, shortened, title, written

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_LINES = 15


def is_rule(panel: Panel) -> bool:
    """Return whether conditions make the prediction."""
    return "anchor" in panel.entry


def rule_inches(panel: Panel) -> float:
    """Return how high a rule is drawn."""
    return 1.2 + 0.2 * (len(_rule(panel)) // LINE_CHARACTERS + 1)


def draw_rule(axes: Axes, panel: Panel) -> None:
    """Draw the conditions, and how well they hold: the precision with its lower bound, and the coverage."""
    precision, low, coverage = (panel.number(name) for name in ("precision", "precision_low", "coverage"))
    labels = [f"coverage {coverage:.3g}", f"precision {precision:.3g}"]
    axes.barh(labels, [coverage, precision], color=[PLAIN, DOWN])
    axes.errorbar(precision, 1, xerr=[[max(precision - low, 0.0)], [0.0]], color=UP, capsize=4)
    axes.set_xlim(0, 1)
    title(axes, _rule(panel))


def _rule(panel: Panel) -> str:
    target = panel.entry.get("target")
    return f"{panel.method}: {target!r} if {' and '.join(panel.entry['anchor']) or 'anything'}"


def is_counterfactual(panel: Panel) -> bool:
    """Return whether a row decided otherwise was looked for."""
    return "counterfactual" in panel.entry and "changed" in panel.entry


def change_inches(panel: Panel) -> float:
    """Return how high changes are drawn."""
    return _inches(_changes(panel))


def draw_changes(axes: Axes, panel: Panel) -> None:
    """Write what the nearest row decided otherwise changes, from what to what."""
    _write(axes, _changes(panel))
    near = f"decided as {panel.entry.get('target')!r}, {panel.number('distance'):.3g} away"
    title(axes, f"{panel.method}: {near if panel.entry['counterfactual'] else 'none found'}")


def _changes(panel: Panel) -> list[str]:
    if not panel.entry["counterfactual"]:
        return ["no row of another decision was found"]
    nearest = panel.entry["counterfactual"][0]
    places = {name: place for place, name in enumerate(panel.entry["features"])}
    changed = [places[name] for name in panel.entry["changed"]]
    return _few([f"{panel.label(place)} \N{RIGHTWARDS ARROW} {written(nearest[place])}" for place in changed])


def is_summary(panel: Panel) -> bool:
    """Return whether an explanation is of no other kind."""
    return not (is_attribution(panel) or is_rule(panel) or is_counterfactual(panel))


def summary_inches(panel: Panel) -> float:
    """Return how high a summary is drawn."""
    return _inches(_said(panel))


def draw_summary(axes: Axes, panel: Panel) -> None:
    """Write what was said, but for nested lists of numbers, which are nothing to read."""
    _write(axes, _said(panel))
    title(axes, panel.method)


def _said(panel: Panel) -> list[str]:
    said = {name: value for name, value in panel.entry.items() if name != "method" and not _is_tensor(value)}
    return _few([shortened(f"{name}: {value}", LINE_CHARACTERS) for name, value in said.items()])


def _is_tensor(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], list)


def _few(lines: list[str]) -> list[str]:
    if len(lines) <= _MOST_LINES:
        return lines
    return [*lines[: _MOST_LINES - 1], f"and {len(lines) - _MOST_LINES + 1} more"]


def _inches(lines: list[str]) -> float:
    return 0.5 + 0.2 * len(lines)


def _write(axes: Axes, lines: list[str]) -> None:
    axes.axis("off")
    axes.text(0.02, 0.95, plain("\n".join(lines)), va="top", transform=axes.transAxes)
