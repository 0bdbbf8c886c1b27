"""Replies of a graph's Ensemble node are the replies of its steps, side by side."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from inferwatch.events import Role
from inferwatch.wire.decode import Decoded, decode

TREE = {"predictions": [0, 1]}
FOREST = {"model_name": "forest", "outputs": [{"name": "p", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
FAILED = {"error": "out of time", "cause": "context deadline exceeded"}


def decoded(body: Any, role: Role = Role.RESPONSE) -> Decoded:
    return decode(orjson.dumps(body), role)


@pytest.mark.parametrize("role", list(Role))
def test_the_steps_stand_side_by_side_in_a_reply_and_in_what_the_next_step_is_asked(role: Role) -> None:
    found = decoded({"tree": TREE, "forest": FOREST}, role)
    assert (found.protocol, found.fault) == ("ensemble", None)
    assert found.rows is not None
    assert found.rows.names == ("tree.prediction", "forest.p[0]", "forest.p[1]")
    assert [column.values.tolist() for column in found.rows.columns] == [[0, 1], [1, 3], [2, 4]]


def test_steps_without_a_name_have_their_index() -> None:
    rows = decoded({"0": TREE, "1": TREE}).rows
    assert rows is not None
    assert rows.names == ("0.prediction", "1.prediction")


def test_a_step_that_may_fail_and_did_is_left_out() -> None:
    rows = decoded({"tree": TREE, "forest": FAILED}).rows
    assert rows is not None
    assert (rows.names, rows.count) == (("tree.prediction",), 2)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"tree": TREE, "forest": {"predictions": [1]}}, "different numbers of rows"),
        ({"tree": FAILED, "forest": FAILED}, "no known protocol"),
        ({"tree": TREE, "at": 5}, "no known protocol"),
        ({"tree": TREE, "forest": {"label": 1}}, "no known protocol"),
        ({"error": FAILED}, "the reply is an error"),
        ({}, "no known protocol"),
    ],
)
def test_what_is_none_says_why(body: Any, says: str) -> None:
    found = decoded(body)
    assert found.protocol == "unknown"
    assert says in (found.fault or "")


def test_tensors_stay_tensors() -> None:
    image = {"outputs": [{"name": "mask", "shape": [1, 2, 2], "datatype": "UINT8", "data": [1, 2, 3, 4]}]}
    rows = decoded({"tree": {"predictions": [0]}, "cut": image}).rows
    assert rows is not None
    assert rows.sources[-1] == "cut.mask"
    assert rows.whole().columns[1].values[0].tolist() == [[1, 2], [3, 4]]


def test_a_v1_reply_of_objects_is_no_ensemble() -> None:
    assert decoded({"predictions": {"tree": [1]}}).protocol == "v1"
