"""The plots there are, and which of them fit an explanation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from inferwatch.errors import InvalidOption
from inferwatch.pictures import contributions, decisions, image, words
from inferwatch.pictures.panel import Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Plot(NamedTuple):
    """A way to draw an explanation: whether it fits, how high it is, and how it is drawn."""

    fits: Callable[[Panel], bool]
    inches: Callable[[Panel], float]
    draw: Callable[[Axes, Panel], None]


PLOTS: Final[Mapping[str, Plot]] = {
    "heatmap": Plot(image.is_image, image.image_inches, image.draw_heatmap),
    "text": Plot(words.is_marked_text, words.text_inches, words.draw_text),
    "waterfall": Plot(contributions.has_base, contributions.bar_inches, contributions.draw_waterfall),
    "force": Plot(contributions.has_base, contributions.force_inches, contributions.draw_force),
    "bars": Plot(contributions.is_attribution, contributions.bar_inches, contributions.draw_bars),
    "rule": Plot(decisions.is_rule, decisions.rule_inches, decisions.draw_rule),
    "changes": Plot(decisions.is_counterfactual, decisions.change_inches, decisions.draw_changes),
    "summary": Plot(decisions.is_summary, decisions.summary_inches, decisions.draw_summary),
}
"""One line a plot; the first that fits an explanation is its own."""


def check_plot(name: object) -> str:
    """Return the name of a plot. Raises `InvalidOption` for one that does not exist, naming those that do."""
    if not isinstance(name, str) or name not in PLOTS:
        raise InvalidOption(f"plot is {repr(name)[:64]}; known are {', '.join(PLOTS)}")
    return name


def plot_of(panel: Panel, wanted: str | None) -> Plot:
    """Return how an explanation is drawn. Raises `InvalidOption` where the wanted plot does not fit it."""
    fitting = [name for name, plot in PLOTS.items() if plot.fits(panel)]
    if wanted is None or check_plot(wanted) in fitting:
        return PLOTS[wanted or fitting[0]]
    raise InvalidOption(f"plot {wanted} does not fit what {panel.method} says of this row; {', '.join(fitting)} would")
