"""Words of a text that decide a prediction, highlighted where they stand."""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple
from unicodedata import east_asian_width

from inferwatch.pictures.panel import DOWN, Panel, plain, title

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from matplotlib.axes import Axes

_COLUMNS = 91
_MOST_LINES = 30
_CHUNK = re.compile(rf"\s+|\S{{1,{_COLUMNS // 2}}}")


class _Piece(NamedTuple):
    line: int
    column: int
    text: str
    marked: bool


def is_marked_text(panel: Panel) -> bool:
    """Return whether words of a text are named by where they stand, and the text is known."""
    return "positions" in panel.entry and panel.values is not None


def text_inches(panel: Panel) -> float:
    """Return how high the text is drawn."""
    return 0.45 + 0.22 * _shown_lines(panel)


def _shown_lines(panel: Panel) -> int:
    return min(max(piece.line for piece in _pieces(panel)), _MOST_LINES) + 1


def draw_text(axes: Axes, panel: Panel) -> None:
    """Draw the text with the words of the rule highlighted, and how well the rule holds."""
    axes.set_xlim(0, _COLUMNS)
    axes.set_ylim(_shown_lines(panel), 0)
    axes.axis("off")
    for line, column, text, marked in _pieces(panel):
        if line >= _MOST_LINES:
            axes.text(0, line + 0.5, "the text goes on", style="italic", va="center")
            break
        box = {"facecolor": DOWN, "edgecolor": "none", "pad": 1.5} if marked else None
        color = "white" if marked else "black"
        axes.text(column, line + 0.5, plain(text), family="monospace", va="center", color=color, bbox=box)
    kept = "while these words stand" if panel.entry["positions"] else "whatever stands there"
    target, precision, coverage = panel.entry.get("target"), panel.number("precision"), panel.number("coverage")
    says = f"{target!r} {kept}, precision {precision:.3g}, coverage {coverage:.3g}"
    title(axes, f"{panel.method}: {says}")


def _pieces(panel: Panel) -> Iterator[_Piece]:
    """Yield the text in pieces, each on one line and all of it highlighted or not."""
    text = str((panel.values or [""])[0])
    marked = {place for start, end in panel.entry["positions"] for place in range(start, end)}
    for line, places in enumerate(_lines(text)):
        column = 0
        for is_marked, run in groupby(places, key=marked.__contains__):
            said = "".join(" " if text[place].isspace() else text[place] for place in run)
            bare = said.lstrip()
            yield _Piece(line, column + len(said) - len(bare), bare.rstrip(), is_marked)
            column += _width(said)


def _lines(text: str) -> list[list[int]]:
    """Return the places of the characters in each line, broken between words where that is possible."""
    lines: list[list[int]] = [[]]
    room = _COLUMNS
    for chunk in _CHUNK.finditer(text):
        is_space = chunk[0].isspace()
        width = 1 if is_space else _width(chunk[0])
        if width > room:
            lines.append([])
            room = _COLUMNS
        if not (is_space and room == _COLUMNS):
            places = range(chunk.start(), chunk.end())
            lines[-1] += places[:1] if is_space else places
            room -= width
    return lines


def _width(text: Iterable[str]) -> int:
    """Return how many columns a text takes: ideographs take two."""
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)
