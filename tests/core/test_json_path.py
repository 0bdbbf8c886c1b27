"""Paths lead to the same values in a text as in what is parsed of it, and no other byte changes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatch.json_path import MAX_DEPTH, JsonPath

NAMES = ("a", "ß", 'say "a"', "\\", "")
KEYS = st.sampled_from(NAMES)
CELLS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), KEYS)
VALUES = st.recursive(
    CELLS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)
STEPS = st.one_of(
    st.sampled_from([name for name in NAMES if '"' not in name]).map(lambda name: (f"['{name}']", name)),
    st.integers(-4, 3).map(lambda index: (f"[{index}]", index)),
    st.just(("[*]", None)),
    st.just(("[?@.a == 'a']", {"a": "a"})),
)


def places(value: Any, step: Any) -> Iterator[Any]:
    """Where a parsed list or object has what a step names: a name, an index, all, or those with a member."""
    listed = isinstance(value, list)
    for place in range(len(value)) if listed else list(value) if isinstance(value, dict) else ():
        if (
            step is None
            or (isinstance(step, str) and not listed and place == step)
            or (isinstance(step, int) and listed and place == step % len(value) and -len(value) <= step < len(value))
            or (isinstance(step, dict) and isinstance(value[place], dict) and step.items() <= value[place].items())
        ):
            yield place


def replaced(value: Any, steps: list[Any], found: list[Any]) -> Any:
    if not steps:
        found.append(value)
        return "gone"
    for place in places(value, steps[0]):
        value[place] = replaced(value[place], steps[1:], found)
    return value


@given(VALUES, st.lists(STEPS, min_size=1, max_size=4), st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_a_path_leads_where_it_leads_in_the_parsed_body(
    body: Any, steps: list[tuple[str, Any]], is_ascii: bool, indent: Any
) -> None:
    text = json.dumps(body, ensure_ascii=is_ascii, indent=indent).encode("utf-8", "replace")
    path = JsonPath("$" + "".join(step for step, _ in steps))
    found: list[Any] = []
    expected = replaced(json.loads(text), [step for _, step in steps], found)
    assert repr([json.loads(value) for value in path.values(text)]) == repr(found)
    assert repr(json.loads(path.changed(text, lambda _: b'"gone"'))) == repr(expected)
    assert path.changed(text, lambda value: value) == text
    assert path.may_lead_into(text) or not found


@pytest.mark.parametrize(
    ("path", "text", "kept"),
    [
        ("$.a", b'{"a":1,"\\u0061":2,"b":{"a":3},"a" : 4}', b'{"a":X,"\\u0061":X,"b":{"a":3},"a" : X}'),
        ("$.*.a", b'[{"a":1,"a":"\\"a\\":"},\t["a"]]', b'[{"a":X,"a":X},\t["a"]]'),
        ("$.a", b'{"b":"\\\\","a":1,"c":"\\\\\\",\\"a\\":1"}', b'{"b":"\\\\","a":X,"c":"\\\\\\",\\"a\\":1"}'),
        (
            "$[?@.a == 'x'].b",
            b'[{"a":"y","a":"x","b":1},{"a":"y","b":2}]',
            b'[{"a":"y","a":"x","b":X},{"a":"y","b":2}]',
        ),
        ("$[-1][1]", b" [ [0], [ -1.5e3 , NaN\n, null ]] ", b" [ [0], [ -1.5e3 , X\n, null ]] "),
    ],
)
def test_every_occurrence_counts_however_it_is_spelt(path: str, text: bytes, kept: bytes) -> None:
    assert JsonPath(path).changed(text, lambda _: b"X") == kept


def test_a_text_that_is_nested_too_deeply_is_refused_wherever_that_is() -> None:
    fits = b'{"x":%s1%s,"a":1}' % (b"[" * (MAX_DEPTH + 1), b"]" * (MAX_DEPTH + 1))
    assert JsonPath("$.a").changed(fits, lambda _: b"2") == fits[:-2] + b"2}"
    for deep in (
        fits.replace(b"[1]", b"[[1]]"),
        b'{"a":1,' + fits.replace(b"[1]", b"[{}]")[1:],
        b"[%b[]]" % (b"[" * 99),
    ):
        for path in ("$.a", "$.*", "$.b", "$.x.a") if deep[:1] == b"{" else ("$[0]",):
            with pytest.raises(ValueError, match="nested deeper than 32"):
                JsonPath(path).changed(deep, lambda _: b"2")


@pytest.mark.parametrize(
    "unit", [b'{"a":{"b":1},"b":"a"},', b'"\\\\\\"","a","\\u0061",', b"[[[]]],[{}],", b" \n1 ,", b'{"a":[1,2]} ,']
)
def test_the_cost_is_linear_in_the_text(unit: bytes) -> None:
    def cost(times: int) -> float:
        text, begin = b"[%b0]" % (unit * times), time.process_time()
        for path in ("$.a.b", "$[*].a", "$[-1]", "$[?@.a == 'x'].b"):
            JsonPath(path).changed(text, lambda _: b"null")
        return time.process_time() - begin

    assert min(cost(4000) for _ in range(2)) < 40 * max(cost(500), 1e-3)
