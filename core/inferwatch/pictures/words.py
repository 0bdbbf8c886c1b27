"""Words of a text, highlighted where they stand: those of a rule, or each by what it contributes."""

from __future__ import annotations

import re
from itertools import accumulate, groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Literal, NamedTuple
from unicodedata import bidirectional, east_asian_width

from inferwatch.pictures.contributions import is_attribution
from inferwatch.pictures.panel import DOWN, UP, Panel, plain, title

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from matplotlib.axes import Axes

_COLUMNS = 91
_MOST_LINES = 30
_LEAST_SHARE = 0.02
_LIGHT = 140
_CHUNK = re.compile(rf"\s+|\S{{1,{_COLUMNS // 2}}}")


_TURNED = str.maketrans("()[]{}<>", ")(][}{><")
_Direction = Literal["L", "R"]


class _Piece(NamedTuple):
    line: int
    column: int
    text: str
    color: str | None


def is_marked_text(panel: Panel) -> bool:
    """Return whether words of a text are named by where they stand, and the text is known."""
    return "positions" in panel.entry and panel.values is not None


def text_inches(panel: Panel) -> float:
    """Return how high the text is drawn."""
    return 0.75 + 0.22 * _shown_lines(panel)


def _shown_lines(panel: Panel) -> int:
    return min(max(piece.line for piece in _pieces(panel)), _MOST_LINES) + 1


def draw_text(axes: Axes, panel: Panel) -> None:
    """Draw the text with its words highlighted, what the colours mean, and what was predicted or how the rule holds."""
    from matplotlib import rcParams
    from matplotlib.patches import Patch

    fonts = ["monospace", *rcParams["font.family"]]  # for scripts that the first one lacks
    axes.set_xlim(0, _COLUMNS)
    axes.set_ylim(_shown_lines(panel), 0)
    axes.axis("off")
    for line, column, text, color in _pieces(panel):
        if line >= _MOST_LINES:
            axes.text(0, line + 0.5, "the text goes on", style="italic", va="center")
            break
        box = None if color is None else {"facecolor": color, "edgecolor": "none", "pad": 1.5}
        ink = "black" if color is None or _is_light(color) else "white"
        axes.text(column, line + 0.5, plain(text), family=fonts, va="center", color=ink, bbox=box)
    patches = [Patch(color=color, label=plain(says)) for says, color in _legend(panel).items()]
    if patches:
        axes.legend(
            handles=patches, loc="upper left", bbox_to_anchor=(0, 0), ncols=len(patches), fontsize=8, frameon=False
        )
    title(axes, panel.headline() if is_attribution(panel) else _rule(panel))


def _rule(panel: Panel) -> str:
    kept = "while these words stand" if panel.entry["positions"] else "whatever stands there"
    target, precision, coverage = panel.entry.get("target"), panel.number("precision"), panel.number("coverage")
    says = f"{target!r} {kept}, precision {precision:.3g}, coverage {coverage:.3g}"
    return f"{panel.method}: {says}"


def _legend(panel: Panel) -> dict[str, str]:
    """Return what the colours mean."""
    if not is_attribution(panel):
        return {"words of the rule": DOWN} if panel.entry["positions"] else {}
    largest, smallest = max(panel.entry["values"]), min(panel.entry["values"])
    up = {f"speaks for it, up to {largest:+.3g}": UP} if largest > 0 else {}
    return up | ({f"speaks against it, down to {smallest:+.3g}": DOWN} if smallest < 0 else {})


def _colors(panel: Panel) -> list[str | None]:
    """Return the colour of each word that has a position: the paler, the less it contributes."""
    if not is_attribution(panel):
        return [DOWN] * len(panel.entry["positions"])
    largest = max(map(abs, panel.entry["values"])) or 1.0
    return [_shade(value / largest) for value in panel.entry["values"]]


def _shade(share: float) -> str | None:
    if abs(share) < _LEAST_SHARE:
        return None
    full = UP if share > 0 else DOWN
    parts = (int(full[place : place + 2], 16) for place in (1, 3, 5))
    return "#" + "".join(f"{round(255 - abs(share) * (255 - part)):02x}" for part in parts)


def _is_light(color: str) -> bool:
    red, green, blue = (int(color[place : place + 2], 16) for place in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue > _LIGHT


def _pieces(panel: Panel) -> Iterator[_Piece]:
    """Yield the text in pieces, each on one line and all of it in one colour, or in none."""
    text = str((panel.values or [""])[0])
    spans = zip(panel.entry["positions"], _colors(panel), strict=True)
    colors = {place: color for (start, end), color in spans for place in range(start, end)}
    for line, places in enumerate(_lines(text)):
        column, pieces = 0, []
        for color, run in groupby(places, key=colors.get):
            said = "".join(" " if text[place].isspace() else text[place] for place in run)
            bare = said.lstrip()
            pieces.append(_Piece(line, column + len(said) - len(bare), bare.rstrip(), color))
            column += _width(said)
        yield from _as_read(pieces, _direction(text) or "L")


def _as_read(pieces: list[_Piece], base: _Direction) -> Iterator[_Piece]:
    """Yield the pieces of a line where they are read: some from the right, as the whole line or among others."""
    directions = accumulate((_direction(piece.text) for piece in pieces), lambda last, own: own or last, initial=base)
    for direction, run in groupby(zip(pieces, list(directions)[1:], strict=True), key=itemgetter(1)):
        alike = [piece for piece, _ in run]
        ends = alike[0].column + alike[-1].column + _width(alike[-1].text)
        for piece in alike:
            width = _width(piece.text)
            column = piece.column if direction == base else ends - piece.column - width
            turned = direction == "R" and _direction(piece.text) is None
            yield _Piece(
                piece.line,
                column if base == "L" else _COLUMNS - column - width,
                piece.text.translate(_TURNED) if turned else piece.text,
                piece.color,
            )


def _direction(text: str) -> _Direction | None:
    """Return from where a text is read, left or right, by its first letter; None without one."""
    letters = (kind for kind in map(bidirectional, text) if kind in ("L", "R", "AL"))
    first = next(letters, None)
    return None if first is None else "L" if first == "L" else "R"


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
