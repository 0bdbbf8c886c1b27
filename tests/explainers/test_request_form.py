from __future__ import annotations

from typing import Any, get_args

import numpy as np
import orjson
import pytest

from inferwatch.events import Role
from inferwatch.rows import Feature, Schema
from inferwatch.wire.decode import decode
from inferwatch_explainers.request_form import Protocol, RequestForm

SCHEMA = Schema(
    (
        Feature("age", "numeric"),
        Feature("work", "categorical", ("Private", "State", "Other")),
        Feature("code", "categorical", ("1", "2", "16")),
        Feature("member", "categorical", ("false", "true")),
    )
)
ROWS = np.array([[39.0, 0.0, 2.0, 1.0], [50.5, 1.0, 0.0, 0.0]])


def form_of(document: dict[str, Any]) -> RequestForm:
    rows = decode(orjson.dumps(document), Role.REQUEST).rows
    assert rows is not None
    return RequestForm.of(document, rows, SCHEMA)


def written(document: dict[str, Any], values: np.ndarray[Any, Any] = ROWS, schema: Schema = SCHEMA) -> Any:
    rows = decode(orjson.dumps(document), Role.REQUEST).rows
    assert rows is not None
    return orjson.loads(RequestForm.of(document, rows, schema).write(values, schema))


def test_lists_come_back_as_lists_with_cells_of_the_same_type() -> None:
    body = written({"instances": [[39, "Private", 16, True]]})
    assert body == {"instances": [[39.0, "Private", 16, True], [50.5, "State", 1, False]]}
    assert [type(cell) for cell in body["instances"][1]] == [float, str, int, bool]


def test_codes_given_as_texts_stay_texts() -> None:
    assert written({"instances": [[39, "Private", "16", "true"]]})["instances"][1] == [50.5, "State", "1", "false"]


def test_whole_numbers_stay_whole_where_all_are() -> None:
    body = written({"instances": [[39, "Private", 16, True]]}, ROWS[:1])
    assert type(body["instances"][0][0]) is int


def test_objects_come_back_as_objects_in_their_own_order() -> None:
    body = written({"instances": [{"member": True, "code": 16, "age": 39.0, "work": "Private"}]})
    assert body["instances"][1] == {"member": False, "code": 1, "age": 50.5, "work": "State"}
    assert list(body["instances"][1]) == ["member", "code", "age", "work"]


def test_the_other_member_of_v1_is_kept() -> None:
    assert "inputs" in written({"inputs": [[39, "Private", 16, True]]})


def test_bare_values_come_back_bare() -> None:
    schema = Schema((Feature("age", "numeric"),))
    assert written({"instances": [3.5, 4.5]}, np.array([[1.5], [2.5]]), schema) == {"instances": [1.5, 2.5]}


def test_one_tensor_comes_back_as_one_tensor() -> None:
    schema = Schema((Feature("a", "numeric"), Feature("b", "numeric")))
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": {"content_type": "np"}}
    body = written({"inputs": [{**tensor, "data": [1.0, 2.0]}]}, np.array([[1.5, 2.0], [3.0, 4.0], [5.0, 6.0]]), schema)
    assert body == {"inputs": [{**tensor, "shape": [3, 2], "data": [1.5, 2.0, 3.0, 4.0, 5.0, 6.0]}]}


def test_a_tensor_a_feature_comes_back_so_matched_by_name() -> None:
    document = {
        "inputs": [
            {"name": "work", "shape": [1], "datatype": "BYTES", "data": ["Private"]},
            {"name": "age", "shape": [1, 1], "datatype": "INT64", "data": [39]},
            {"name": "member", "shape": [1], "datatype": "BOOL", "data": [True]},
            {"name": "code", "shape": [1], "datatype": "INT64", "data": [16]},
        ]
    }
    tensors = written(document)["inputs"]
    assert [tensor["name"] for tensor in tensors] == ["work", "age", "member", "code"]
    assert [tensor["shape"] for tensor in tensors] == [[2], [2, 1], [2], [2]]
    assert [tensor["data"] for tensor in tensors] == [["Private", "State"], [39.0, 50.5], [True, False], [16, 1]]
    # 50.5 is no INT64, and must not be rounded into one.
    assert [tensor["datatype"] for tensor in tensors] == ["BYTES", "FP64", "BOOL", "INT64"]
    whole = written(document, ROWS[:1])["inputs"][1]
    assert (whole["datatype"], whole["data"]) == ("INT64", [39])


def test_what_is_written_reads_back_the_same() -> None:
    for document in (
        {"instances": [[39, "Private", 16, True]]},
        {"instances": [{"member": True, "code": 16, "age": 39.0, "work": "Private"}]},
    ):
        for protocol in get_args(Protocol):
            form = form_of(document).speaking(protocol, SCHEMA)
            rows = decode(form.write(ROWS, SCHEMA), Role.REQUEST).rows
            assert rows is not None
            np.testing.assert_array_equal(SCHEMA.encode(rows).values, ROWS)


def test_numbers_speak_v2_as_one_tensor_and_others_as_one_a_feature() -> None:
    schema = Schema((Feature("a", "numeric"), Feature("b", "numeric")))
    body = orjson.loads(RequestForm.plain(schema, "v2").write(np.array([[1.5, 2.0]]), schema))
    assert body == {"inputs": [{"name": "input-0", "shape": [1, 2], "datatype": "FP64", "data": [1.5, 2.0]}]}
    body = orjson.loads(RequestForm.plain(SCHEMA, "v2").write(ROWS, SCHEMA))
    assert [tensor["name"] for tensor in body["inputs"]] == ["age", "work", "code", "member"]
    assert [tensor["datatype"] for tensor in body["inputs"]] == ["FP64", "BYTES", "BYTES", "BYTES"]


@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_speaking_its_own_protocol_changes_nothing(protocol: str) -> None:
    form = RequestForm.plain(SCHEMA, protocol)  # type: ignore[arg-type]  # one of the two
    assert form.speaking(form.protocol, SCHEMA) is form
