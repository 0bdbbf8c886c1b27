"""JSON paths that name values in bodies: `$` and steps, in RFC 9535's words.

.name  ['name']          a member           [*]  .*      every member or element
[3]                      an element         [?@.name == 'ssn']   the elements (V2 tensors) whose member is that text
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

ALLOWED_STEPS = "$ with steps .name ['name'] [*] [3] [?@.name == 'text']"

_STEP = re.compile(
    r"""\.(?P<name>[^.\[\]*'"\s]+) | \[\s*(?P<quoted>'[^']*'|"[^"]*")\s*\] | (?P<all>\.\*|\[\s*\*\s*\])
    | \[\s*(?P<index>-?\d+)\s*\]
    | \[\s*\?\(?\s*@\.(?P<key>\w+)\s*==\s*(?P<value>'[^']*'|"[^"]*")\s*\)?\s*\]""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class _Step:
    """Finds the places in a container that a step of a path names; `name` is a text that must occur in the body."""

    places: Callable[[Any], Sequence[Any]]
    name: str = ""


class JsonPath:
    """A path, ready to be followed. Raises `ValueError` for a text that is none."""

    def __init__(self, text: str) -> None:
        steps: list[_Step] = []
        position = 1
        while text.startswith("$") and (match := _STEP.match(text, position)):
            steps.append(_step(match))
            position = match.end()
        if not steps or position < len(text):
            raise ValueError(f"{text!r} is no JSON path; allowed is {ALLOWED_STEPS}")
        self._steps = steps
        self.names = [step.name.encode() for step in steps if step.name]
        """What must occur in a body that has such a value, as JSON spells it without `\\u`."""

    def starts_in(self, body: Any) -> bool:  # noqa: ANN401 - any JSON
        """Say whether the body has what the first step names."""
        return bool(self._steps[0].places(body))

    def values(self, body: Any) -> Iterator[Any]:  # noqa: ANN401 - any JSON
        """Yield every value that the path leads to."""
        return (holder[place] for holder, place in self._places(body))

    def replace(self, body: Any, change: Callable[[Any], Any]) -> bool:  # noqa: ANN401 - any JSON
        """Put what `change` makes of it in the place of every value; say whether there was any."""
        found = False
        for holder, place in self._places(body):
            holder[place], found = change(holder[place]), True
        return found

    def _places(self, body: Any) -> Iterator[tuple[Any, Any]]:  # noqa: ANN401 - any JSON
        *steps, last = self._steps
        holders = [body]
        for step in steps:
            holders = [value[place] for value in holders for place in step.places(value)]
        return ((holder, place) for holder in holders for place in last.places(holder))


def _step(match: re.Match[str]) -> _Step:
    if match["all"]:
        return _Step(_every)
    if match["index"]:
        return _Step(partial(_element, int(match["index"])))
    if match["key"]:
        key, text = match["key"], match["value"][1:-1]
        return _Step(lambda value: [place for place in _every(value) if _member(value[place], key) == text], key)
    name = match["name"] or match["quoted"][1:-1]
    return _Step(lambda value: [name] if isinstance(value, dict) and name in value else [], _spelt(name))


def _spelt(name: str) -> str:
    """Return the name where JSON can only spell it like this, or by escapes of `u`; else nothing."""
    return name if name.isalnum() and name.isascii() else ""


def _every(value: Any) -> Sequence[Any]:  # noqa: ANN401 - any JSON
    if isinstance(value, dict):
        return list(value)
    return range(len(value)) if isinstance(value, list) else ()


def _element(index: int, value: Any) -> Sequence[int]:  # noqa: ANN401 - any JSON
    return [index] if isinstance(value, list) and -len(value) <= index < len(value) else []


def _member(value: Any, key: str) -> Any:  # noqa: ANN401 - any JSON
    return value.get(key) if isinstance(value, dict) else None
