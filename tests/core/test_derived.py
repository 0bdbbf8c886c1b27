"""Texts and images as numbers that detectors can judge."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from inferwatch.cells import objects
from inferwatch.derived import ARRAY, DERIVED, TEXT, derivable, derived, projections
from inferwatch.errors import InvalidReference
from inferwatch.events import Role
from inferwatch.payload_log.views import column_names
from inferwatch.reference import Reference
from inferwatch.rows import Column, Feature, Rows, Schema
from inferwatch.wire.decode import decode

LIST = [[1.0, 2.0], [3.0, 6.0]]
NAN = math.nan
SQUARE = {
    "size": 4,
    "mean": 3,
    "sd": math.sqrt(3.5),
    "shape[0]": 2,
    "shape[1]": 2,
    "length": math.sqrt(50),
    "projection_0": 1,
    "projection_1": 2,
    "projection_2": 3,
    "projection_3": 6,
}
FULL = {"length": 255 * math.sqrt(2), "projection_0": 255, "projection_1": 255}
PLAIN = {"distinct_words": 1, "digits": 0, "uppercase": 0, "punctuation": 0}
SHARES = {"digits": 0.2, "uppercase": 0.25, "punctuation": 0.1}


def of(cell: Any) -> dict[str, float]:
    """Everything that can be derived of a cell, but what it has none of."""
    cells = np.empty(1, dtype=object)
    cells[0] = cell
    found = {what: float(derived(cells, what)[0]) for what in DERIVED}
    return {what: value for what, value in found.items() if value == value}


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("Grüß Gott", {"characters": 9, "bytes": 11, "words": 2, **PLAIN, "uppercase": 0.25}),
        ("你好吗", {"characters": 3, "bytes": 9, "words": 1, **PLAIN}),
        ("No 7, no ٣", {"characters": 10, "bytes": 11, "words": 4, "distinct_words": 0.75, **SHARES}),
        (" ", {"characters": 1, "bytes": 1, "words": 0, "digits": 0, "punctuation": 0}),
        ("", {"characters": 0, "bytes": 0, "words": 0}),
        ("\ud800", {"characters": 1, "bytes": 1, "words": 1, "distinct_words": 1, "digits": 0, "punctuation": 1}),
        (b"\xff\x00", {"bytes": 2}),
        (LIST, SQUARE),
        (np.array(LIST, np.float16), SQUARE),
        (np.array([[255, 255]], np.uint8), {"size": 2, "mean": 255, "sd": 0, "shape[0]": 1, "shape[1]": 2, **FULL}),
        ([1e200], {"size": 1, "mean": 1e200, "sd": 0, "shape[0]": 1, "length": math.inf, "projection_0": 1e200}),
        ([1, [2]], {}),
        (["a"], {}),
        ([], {}),
        ({"a": 1}, {}),
        (5, {}),
        (None, {}),
    ],
)
def test_what_is_derived_of_a_cell(cell: Any, expected: dict[str, float]) -> None:
    assert of(cell) == pytest.approx(expected)


def test_numbers_have_nothing_to_derive() -> None:
    assert np.isnan(derived(np.array([1.5, 2.5]), "mean")).all()
    assert np.isnan(derived(np.array([1, 2]), "characters")).all()


def test_a_feature_is_derived_only_where_it_is_no_column() -> None:
    assert derivable(("a.words", "a.size", "b.words", "a.other", "a"), ("a", "a.size")) == [("a.words", 0, "words")]
    assert derivable(("x.y.mean",), ("x.y",)) == [("x.y.mean", 0, "mean")]


def encoded(features: list[str], body: bytes, role: Role = Role.REQUEST) -> list[list[float]]:
    rows = decode(body, role).rows
    assert rows is not None
    values: list[list[float]] = (
        Schema(tuple(Feature(name, "numeric") for name in features)).encode(rows).values.tolist()
    )
    return values


def test_prompts_and_completions() -> None:
    chat = b'{"model": "m", "messages": [{"role": "user", "content": "Hi there"}]}'
    assert encoded(["prompt.characters", "messages", "prompt.words"], chat) == [[8, 1, 2]]
    reply = b'data: {"choices": [{"delta": {"content": "Hi"}}]}\n\ndata: [DONE]\n\n'
    assert encoded(["completion.characters"], reply, Role.RESPONSE) == [[2]]


def test_texts_without_a_name() -> None:
    assert encoded(["instances[0].characters"], b'{"instances": ["a", "bcd"]}') == [[1], [3]]


def test_images_in_every_encoding() -> None:
    image = np.arange(2 * 4800, dtype=np.uint8).reshape(2, 40, 40, 3)
    head = b'{"inputs": [{"name": "image", "shape": [2, 40, 40, 3], "datatype": "UINT8", '
    binary = head + b'"parameters": {"binary_data_size": 9600}}]}' + image.tobytes()
    text = head + b'"data": ' + str(image.ravel().tolist()).encode() + b"}]}"
    nested = b'{"instances": ' + str([{"image": item} for item in image.tolist()]).replace("'", '"').encode() + b"}"
    expected = [[4800, item.mean(), item.std()] for item in image.astype(float)]
    for body in (binary, text, nested):
        np.testing.assert_allclose(encoded(["image.size", "image.mean", "image.sd"], body), expected)


def test_a_reference_names_what_is_derived() -> None:
    texts = Rows((Column("prompt", np.array(["a", "bc", "def"], dtype=object)),), 3)
    reference = Reference.build(texts, features=[Feature("prompt.characters", "numeric")], created_ns=0)
    assert reference.schema.names == ("prompt.characters",)
    assert reference.rows.tolist() == [[1], [2], [3]]
    with pytest.raises(InvalidReference, match=r"prompt\.colour"):
        Reference.build(texts, features=[Feature("prompt.colour", "numeric")], created_ns=0)


def texts(count: int, different: int) -> Column:
    return Column("prompt", np.array([f"Order {number % different}!" for number in range(count)], dtype=object))


@pytest.mark.parametrize(("count", "different", "text"), [(100, 51, True), (100, 50, False), (40, 40, False)])
def test_texts_that_hardly_repeat_are_no_categories(count: int, different: int, text: bool) -> None:
    numbers = Column("n", np.arange(float(count)))
    built = Reference.build(Rows((numbers, texts(count, different)), count), created_ns=0)
    expected = ("n", *(f"prompt.{what}" for what in TEXT)) if text else ("n", "prompt")
    assert built.schema.names == expected
    declared = (Feature("prompt", "categorical"),)
    built = Reference.build(Rows((numbers, texts(count, different)), count), features=declared, created_ns=0)
    assert [feature.kind for feature in built.schema.features] == ["categorical"]


def test_arrays_are_judged_by_their_size_length_and_projections() -> None:
    vectors = np.random.default_rng(0).normal(size=(40, 24))
    cells = objects([*vectors[:38].tolist(), vectors[38].astype(np.float32), None])
    built = Reference.build(Rows((Column("n", np.arange(40.0)), Column("vector", cells)), 40), created_ns=0)

    assert built.schema.names == ("n", *(f"vector.{what}" for what in ARRAY))
    assert built.rows[:38, 1].tolist() == [24.0] * 38
    assert built.rows[:38, 2:] == pytest.approx(
        np.column_stack([np.linalg.norm(vectors[:38], axis=1), projections(vectors[:38])])
    )
    assert np.isnan(built.rows[39, 1:]).all()
    image = np.random.default_rng(1).normal(size=(90, 100))  # more numbers than there are directions for
    assert of(image)["projection_3"] == pytest.approx(projections(image.reshape(1, -1))[0, 3])
    named = Rows((Column("vector", objects([vectors[0].tolist()])), Column("n", np.array([7.0]))), 1)
    assert built.schema.encode(named).values[0, 1:].tolist() == built.rows[0, 1:].tolist()


@pytest.mark.parametrize(
    ("cells", "names"),
    [
        ([[1, 2], [3]], ("x.size", "x.length", "x.projection_0", "x.projection_1")),
        ([[1, 2], ["a"]], ("x",)),
        ([[], []], ("x",)),
        ([None, None], ("x",)),
    ],
)
def test_only_numbers_make_arrays(cells: list[Any], names: tuple[str, ...]) -> None:
    assert Reference.build(Rows((Column("x", objects(cells)),), 2), created_ns=0).schema.names == names


@pytest.mark.parametrize("names", [("n", "prompt"), ("0", "1")])
def test_columns_of_text_are_matched_by_name_or_by_order(names: tuple[str, str]) -> None:
    built = Reference.build(Rows((Column("n", np.arange(60.0)), texts(60, 60)), 60), created_ns=0)
    columns = (Column(names[0], np.array([7.0])), Column(names[1], np.array(["A b 5"], dtype=object)))
    rows = Rows(columns, 1, named=names[0] == "n")
    assert built.schema.encode(rows).values.tolist() == [[7, 5, 5, 3, 1, 0.2, 0.5, 0]]
    assert column_names(rows, built.schema.names) == ("n", "prompt")
