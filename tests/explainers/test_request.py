from __future__ import annotations

import gzip
from typing import Any

import numpy as np
import orjson
import pytest

from inferwatch.errors import InvalidOption, InvalidRows
from inferwatch.rows import Feature, Schema
from inferwatch_explainers.request import Options, read_request

SCHEMA = Schema((Feature("age", "numeric"), Feature("work", "categorical", ("Private", "State"))))
GOOD = [[39, "Private"], [50.5, "State"]]


def body(instances: Any = GOOD, **parameters: Any) -> bytes:
    return orjson.dumps({"instances": instances, **({"parameters": parameters} if parameters else {})})


def test_v1_v2_and_gzip_read_the_same() -> None:
    v2 = {
        "inputs": [
            {"name": "age", "shape": [2], "datatype": "FP64", "data": [39, 50.5]},
            {"name": "work", "shape": [2], "datatype": "BYTES", "data": ["Private", "State"]},
        ]
    }
    for data in (body(), orjson.dumps(v2), gzip.compress(body())):
        asked = read_request(data, SCHEMA)
        np.testing.assert_array_equal(asked.values, [[39.0, 0.0], [50.5, 1.0]])
        assert asked.options == Options()


def test_binary_tensors_are_read_and_their_sizes_forgotten() -> None:
    tail = np.array([39, 50.5]).tobytes() + b"\7\0\0\0Private\5\0\0\0State"
    inputs = [
        {"name": "age", "shape": [2], "datatype": "FP64", "parameters": {"binary_data_size": 16}},
        {
            "name": "work",
            "shape": [2],
            "datatype": "BYTES",
            "parameters": {"binary_data_size": 20, "content_type": "str"},
        },
    ]
    head = orjson.dumps({"inputs": inputs, "parameters": {"binary_data_output": True, "samples": 8}})
    asked = read_request(head + tail, SCHEMA)
    np.testing.assert_array_equal(asked.values, [[39.0, 0.0], [50.5, 1.0]])
    assert asked.options.samples == 8
    written = orjson.loads(asked.form.write(asked.values, SCHEMA))
    assert [tensor.get("parameters") for tensor in written["inputs"]] == [None, {"content_type": "str"}]
    assert "parameters" not in written


def test_options_are_read_and_the_header_wins() -> None:
    asked = read_request(body(method="kernel_shap", target="yes", deadline_s=2, samples=64, reply="native"), SCHEMA)
    assert asked.options == Options("kernel_shap", "yes", 2.0, 64)
    assert read_request(body(deadline_s=2), SCHEMA, "0.25").options.deadline_s == 0.25


def test_members_that_clients_of_other_servers_send_are_passed_over() -> None:
    others = {"id": "7", "outputs": [1, 0], "signature_name": "serving_default", "model_version": None}
    assert read_request(orjson.dumps({"instances": GOOD, **others}), SCHEMA).options == Options()


def test_other_parameters_of_v2_travel_on() -> None:
    document = {
        "inputs": [
            {"name": "age", "shape": [1], "datatype": "FP64", "data": [39]},
            {"name": "work", "shape": [1], "datatype": "BYTES", "data": ["Private"]},
        ],
        "parameters": {"content_type": "pd", "samples": 8},
    }
    asked = read_request(orjson.dumps(document), SCHEMA)
    assert asked.options.samples == 8
    written = orjson.loads(asked.form.write(asked.values, SCHEMA))
    assert written["parameters"] == {"content_type": "pd"}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"not json", "no V1 or V2 request"),
        (b"[1, 2]", "no V1 or V2 request"),
        (b'{"messages": [{"role": "user", "content": "Hello"}]}', "it is one of openai_chat"),
        (b'{"rows": [[1]]}', "no V1 or V2 request"),
        (b'{"instances": []}', "no instances"),
        (b'{"instances": [[NaN, "Private"]]}', "NaN"),
        (b'{"instances": [[1e400, "Private"]]}', "JSON|finite"),
        (body([[39]]), "1 columns without names, the reference has 2: age, work"),
        (body([[39, "Private", 1]]), "3 columns"),
        (body([[39, "Private"], [39]]), "columns"),
        (body([[None, "Private"]]), "age of instance 0 is missing"),
        (body([[39, "Private"], [40, None]]), "work of instance 1 is missing"),
        (body([["39", "Private"]]), "age of instance 0 is '39'; a finite number is needed"),
        (body([[39, "Private"], ["x", "Private"]]), "age of instance 1 is 'x'"),
        (body([[[1, 2], "Private"]]), "age of instance 0"),
        (body([[39, "Navy"]]), "work of instance 0 is 'Navy', a category .* it has Private, State"),
        (body([[39, ["Private"]]]), "work of instance 0"),
        (body([{"age": 39}]), "lacks work"),
        (body([{"age": 39, "work": "State", "x": 1}]), "has the unknown x"),
        (body([{"a": 39, "b": "State", "c": 1}]), "none of which the reference has"),
        (orjson.dumps({"instances": GOOD, "parameters": [1]}), "parameters is"),
        (orjson.dumps({"instances": GOOD, "params": {}}), "stand in parameters, and not in 'params'"),
        (
            orjson.dumps({"instances": GOOD, "samples": 8}),
            "'samples' stands beside the instances",
        ),
    ],
)
def test_wrong_rows_get_one_sentence(data: bytes, says: str) -> None:
    with pytest.raises((InvalidRows, InvalidOption), match=says) as fault:
        read_request(data, SCHEMA)
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"method": 3}, "method is 3"),
        ({"target": 0.5}, "target is 0.5"),
        ({"target": [1]}, r"target is \[1\]"),
        ({"deadline_s": 0}, "deadline is 0"),
        ({"deadline_s": -1}, "deadline is -1"),
        ({"deadline_s": "1"}, "deadline is '1'"),
        ({"deadline_s": True}, "deadline is True"),
        ({"deadline_s": 601}, "at most 600"),
        ({"samples": 1}, "from 2"),
        ({"samples": 2.5}, "samples is 2.5"),
        ({"samples": True}, "samples is True"),
        ({"samples": 10**9}, "samples is"),
        ({"reply": "postcard"}, "known are native"),
        ({"smaples": 3}, "'smaples' is unknown; known are method"),
    ],
)
def test_wrong_options_say_what_is_allowed(parameters: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidOption, match=says):
        read_request(body(**parameters), SCHEMA)


@pytest.mark.parametrize("deadline", ["", "soon", "0", "-2", "inf", "nan"])
def test_a_wrong_deadline_header_is_refused(deadline: str) -> None:
    with pytest.raises(InvalidOption, match="deadline"):
        read_request(body(), SCHEMA, deadline)
