"""An explanation in one sentence, as the console shows it beside the payload."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MOST_SHOWN = 6
"""Features, conditions or changes that a sentence names."""

ROUNDING = 1e-9
"""Contributions that are so small beside the largest one are none."""


def told(entry: Mapping[str, Any]) -> str:
    """Return by which method what was said."""
    return f"{method_of(entry)}: {sentence(entry)}".rstrip(": ")


def method_of(entry: Mapping[str, Any]) -> str:
    """Return the method of an explanation, which may be another sender's and name none."""
    return str(entry.get("method", "explanation"))


def sentence(entry: Mapping[str, Any]) -> str:
    """Return what a native explanation says; empty where it is of a kind that no sentence was made for."""
    match entry:
        case {"features": [*features], "values": [*values]} if len(features) == len(values):
            return _weights(list(zip(map(str, features), values, strict=True)))
        case {"anchor": [*conditions]}:
            return _rule(list(map(str, conditions)), entry)
        case {"counterfactual": [], "changed": _}:
            return "no row decided otherwise was found"
        case {"counterfactual": [*_], "changed": [*changed]}:
            return f"decided otherwise with another {_some(list(map(str, changed)), ' and ')}"
    return ""


def _weights(values: list[tuple[str, Any]]) -> str:
    numbers = [(name, value) for name, value in values if isinstance(value, int | float)]
    least = ROUNDING * max((abs(value) for _, value in numbers), default=0.0)
    largest = sorted((each for each in numbers if abs(each[1]) > least), key=lambda each: -abs(each[1]))
    return _some([f"{name} {value:+.3g}" for name, value in largest], ", ") or "no feature mattered"


def _rule(conditions: list[str], entry: Mapping[str, Any]) -> str:
    rule = f"if {_some(conditions, ' and ')}" if conditions else "always"
    precision = entry.get("precision")
    return f"{rule} (precision {precision:.2f})" if isinstance(precision, int | float) else rule


def _some(texts: list[str], between: str) -> str:
    left = len(texts) - MOST_SHOWN
    return between.join(texts[:MOST_SHOWN]) + (f"{between}{left} more" if left > 0 else "")
