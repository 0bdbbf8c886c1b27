"""One picture of one or several explanations."""

from __future__ import annotations

import io
import warnings
from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from threading import Lock
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike

from inferwatch.errors import InvalidRows, MissingExtra
from inferwatch.explained import told
from inferwatch.pictures.panel import Panel
from inferwatch.pictures.plots import plot_of

Format = Literal["png", "svg"]

MOST_ROWS: Final = 10
"""Explanations that one picture shows; those beyond are left out, and the picture says so."""

_DRAWING = Lock()
_MORE_SCRIPTS: Final = ("Noto Sans CJK JP", "WenQuanYi Zen Hei", "Arial Unicode MS", "Noto Emoji")
"""Fonts for what matplotlib's own lacks, each used where it is installed; in an SVG it is the reader's that count."""


class Picture:
    """A picture of explanations, one panel an explanation, ten at most.

    `entries` are explanations as the native reply has them, `rows` (n, d) the values that were explained, where they
    are known: beside feature names, behind heat maps, and for texts. `plot` is one of `PLOTS`; without, each
    explanation has its own. A notebook shows the picture where it is the value of a cell.

    Raises `InvalidOption` for a plot that does not exist or does not fit, `InvalidRows` for another number of rows.
    """

    def __init__(
        self, entries: Sequence[Mapping[str, Any]], rows: ArrayLike | None = None, *, plot: str | None = None
    ) -> None:
        values = [None] * len(entries) if rows is None else _values(rows, len(entries))
        self._panels = [Panel(entry, row) for entry, row in zip(entries, values, strict=True)]
        self._plots = [plot_of(panel, plot) for panel in self._panels]

    @property
    def description(self) -> str:
        """What the picture shows, in words, for those who do not see it."""
        said = [told(panel.entry) for panel in self._panels[:MOST_ROWS]]
        return "\n".join(said) + self._left_out("\n")

    def draw(self, format_: Format) -> bytes:
        """Return the picture as a file. Raises `MissingExtra` without matplotlib."""
        try:
            from matplotlib import rc_context
            from matplotlib.font_manager import fontManager
        except ImportError as fault:
            raise MissingExtra("a picture", "plots") from fault
        known = {font.name for font in fontManager.ttflist}
        family = ["sans-serif", *(name for name in _MORE_SCRIPTS if name in known)]
        # matplotlib's settings are the process's, and its fonts are for one thread at a time
        with (
            _DRAWING,
            rc_context({"font.family": family, "svg.fonttype": "none"}),
            warnings.catch_warnings(),
        ):
            warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
            return self._drawn(format_)

    def _drawn(self, format_: Format) -> bytes:
        from matplotlib.figure import Figure

        panels, plots = self._panels[:MOST_ROWS], self._plots[:MOST_ROWS]
        inches = [plot.inches(panel) for plot, panel in zip(plots, panels, strict=True)]
        figure = Figure(figsize=(8, sum(inches) + 0.1), layout="constrained")
        places = figure.subplots(len(inches), 1, squeeze=False, height_ratios=inches)[:, 0]
        for axes, plot, panel in zip(places, plots, panels, strict=True):
            plot.draw(axes, panel)
        if left_out := self._left_out():
            figure.suptitle(left_out)
        told = {"Title": self.description} | ({"Date": None} if format_ == "svg" else {})
        with io.BytesIO() as file:
            figure.savefig(file, format=format_, dpi=110, facecolor="white", metadata=told)
            return file.getvalue()

    def _left_out(self, before: str = "") -> str:
        count = len(self._panels)
        return f"{before}the first {MOST_ROWS} of {count} rows" if count > MOST_ROWS else ""

    def _repr_html_(self) -> str:
        described = escape(self.description)
        try:
            drawn = b64encode(self.draw("svg")).decode("ascii")
        except MissingExtra as fault:
            return f"<pre>{described}</pre><p>{escape(str(fault))}</p>"
        return f'<img alt="{described}" style="max-width:100%" src="data:image/svg+xml;base64,{drawn}">'


def _values(rows: ArrayLike, count: int) -> list[list[Any]]:
    """Return each row as a list: of a DataFrame, an array, lists of values, or texts."""
    listed = np.asarray(rows, dtype=object).tolist()
    if len(listed) != count:
        raise InvalidRows(f"{len(listed)} rows are given with {count} explanations")
    return [row if isinstance(row, list) else [row] for row in listed]
