"""What one panel of a picture is about, and how names and numbers are written in it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from inferwatch.explained import method_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

UP, DOWN, PLAIN = "#c0392b", "#2471a3", "#7f8c8d"
"""The colours of what speaks for a prediction, of what speaks against it, and of everything else."""

LINE_CHARACTERS = 90
_NAME_CHARACTERS = 40
_VALUE_CHARACTERS = 32


@dataclass(frozen=True, slots=True)
class Panel:
    """An explanation of one row, as the native reply has it; `values` are that row's, where they are known."""

    entry: Mapping[str, Any]
    values: Sequence[Any] | None = None

    @property
    def method(self) -> str:
        """The method that explained it."""
        return method_of(self.entry)

    def number(self, name: str) -> float:
        """Return a number of the explanation; NaN where it has none of that name."""
        value = self.entry.get(name)
        return float(value) if isinstance(value, int | float) else math.nan

    def label(self, place: int) -> str:
        """Return a feature's name, with its value where that is known; a word is its own."""
        name = shortened(str(self.entry["features"][place]), _NAME_CHARACTERS)
        return name if self.values is None or "positions" in self.entry else f"{name} = {written(self.values[place])}"

    @property
    def base(self) -> str:
        """What the contributions begin at, in words."""
        return "all words masked" if "positions" in self.entry else "on average"

    def headline(self) -> str:
        """Return by which method what was predicted, and where the contributions begin."""
        target, base = self.entry.get("target"), self.number("base_value")
        about = "" if target is None else f" for {target!r}"
        beside = "" if math.isnan(base) else f", {self.base} {base:.4g}"
        return f"{self.method}{about}: predicted {self.number('prediction'):.4g}{beside}"


def written(value: object) -> str:
    """Return a value as it is to be read: numbers with four digits, long texts cut."""
    return f"{value:.4g}" if isinstance(value, float) else shortened(str(value), _VALUE_CHARACTERS)


def shortened(text: str, characters: int) -> str:
    """Return the text on one line, its middle left out where it is longer than that: names often differ at the end."""
    line = " ".join(text.split())
    kept = characters - 1
    return (
        line if len(line) <= characters else f"{line[: kept - kept // 2]}\N{HORIZONTAL ELLIPSIS}{line[-(kept // 2) :]}"
    )


def title(axes: Axes, text: str) -> None:
    """Write a title, in lines that fit the picture."""
    axes.set_title(plain("\n".join(wrap(text, LINE_CHARACTERS))), fontsize=10)


def plain(text: str) -> str:
    """Return the text as it is to be read: between dollar signs matplotlib sees formulas."""
    return text.replace("$", r"\$")
