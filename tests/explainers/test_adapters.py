"""Adapters to other libraries, as far as that goes without them: their table, their options, and the child process."""

from __future__ import annotations

import io
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from inferwatch.errors import InvalidOption, MissingExtra, PredictorTimeout
from inferwatch.explanation import Summary
from inferwatch.rows import Feature, Schema
from inferwatch_explainers.adapters.child_process import ChildProcess
from inferwatch_explainers.adapters.setting import Setting
from inferwatch_explainers.adapters.table import ADAPTERS
from inferwatch_explainers.legacy.frames import read_message, write_message
from inferwatch_explainers.registry import METHODS, check_method
from inferwatch_explainers.reply_shapes import check_shape, reply
from tests.explainers.explaining import INSTANCES, score, starting

SCHEMA = Schema((Feature("age", "numeric"), Feature("work", "categorical", ("a", "b"))))
ROWS = np.array([[1.0, 0.0], [2.0, 1.0]])
NEEDED: dict[str, dict[str, Any]] = {
    "captum.LayerGradCam": {"layer": "0"},
    "aif360": {"protected": "work", "privileged": ["a"]},
}


def setting(method: str, **given: Any) -> Setting:
    options = ADAPTERS[method].checked(method, NEEDED.get(method, {}))
    return Setting(lambda rows: rows[:, 0], ROWS, ROWS, SCHEMA, options, **given)


def test_methods_go_by_the_libraries_own_names() -> None:
    assert set(ADAPTERS) <= set(METHODS)
    assert {method.split(".")[0] for method in ADAPTERS} == {"captum", "shap", "art", "aif360", "alibi", "aix360"}
    check_method("captum.IntegratedGradients")
    with pytest.raises(InvalidOption, match="unknown"):
        check_method("captum.integrated_gradients")


@pytest.mark.parametrize("method", ADAPTERS)
def test_options_have_defaults_and_unknown_ones_are_named(method: str) -> None:
    needed = NEEDED.get(method, {})
    assert set(ADAPTERS[method].checked(method, needed)) == set(ADAPTERS[method].options)
    with pytest.raises(InvalidOption, match=f"{method} has no option 'colour'"):
        ADAPTERS[method].checked(method, {**needed, "colour": 1})


@pytest.mark.parametrize(
    ("method", "options", "sentence"),
    [
        ("captum.IntegratedGradients", {"n_steps": 0}, "n_steps of captum.IntegratedGradients is 0; input should be"),
        ("captum.LayerGradCam", {}, "captum.LayerGradCam needs the option 'layer'"),
        ("art.SquareAttack", {"eps": "wide"}, "eps of art.SquareAttack is 'wide'"),
    ],
)
def test_a_wrong_option_is_one_sentence(method: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidOption, match=sentence):
        ADAPTERS[method].checked(method, options)


@pytest.mark.skipif(find_spec("captum") is not None, reason="here the libraries are installed")
@pytest.mark.parametrize("method", ["captum.Occlusion", "shap.Permutation", "art.HopSkipJump", "aif360"])
def test_a_library_that_is_not_there_is_named_with_its_extra(method: str) -> None:
    with pytest.raises(MissingExtra, match=rf"inferwatch\[{method.split('.')[0]}\]"):
        ADAPTERS[method].make(setting(method))


def test_old_libraries_need_an_environment_of_their_own() -> None:
    with pytest.raises(InvalidOption, match=r"explain\.legacy_python"):
        ADAPTERS["alibi.ALE"].make(setting("alibi.ALE"))


@pytest.mark.parametrize("method", ["alibi.AnchorImage", "art.SquareAttack"])
def test_what_is_for_images_asks_for_their_shape(method: str) -> None:
    with pytest.raises(InvalidOption, match="input_shape"):
        ADAPTERS[method].make(setting(method, legacy=ChildProcess(Path(sys.executable))))


def test_a_child_without_the_library_says_so() -> None:
    child = ChildProcess(Path(sys.executable))
    try:
        for _ in range(2):
            with pytest.raises(InvalidOption, match=r"alibi\.ALE cannot explain this: ModuleNotFoundError.*alibi"):
                ADAPTERS["alibi.ALE"].make(setting("alibi.ALE", legacy=child)).explain(ROWS)
    finally:
        child.close()


def test_an_interpreter_that_does_not_run_is_named() -> None:
    child = ChildProcess(Path("/nowhere/python"))
    with pytest.raises(InvalidOption, match="/nowhere/python does not run"):
        ADAPTERS["alibi.ALE"].make(setting("alibi.ALE", legacy=child)).explain(ROWS)


def test_a_child_that_ends_tells_its_last_words(tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho something is missing >&2\nexit 3\n", encoding="utf-8")
    program.chmod(0o755)
    child = ChildProcess(program)
    with pytest.raises(InvalidOption, match=r"the process that runs alibi\.ALE ended"):
        ADAPTERS["alibi.ALE"].make(setting("alibi.ALE", legacy=child)).explain(ROWS)


def test_a_child_that_hangs_is_ended_in_time(tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nexec sleep 60\n", encoding="utf-8")
    program.chmod(0o755)
    child = ChildProcess(program)
    with pytest.raises(PredictorTimeout, match="in time"):
        ADAPTERS["alibi.ALE"].make(setting("alibi.ALE", legacy=child, deadline_s=0.2)).explain(ROWS)
    child.close()


plain = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text()
numbers = arrays.arrays(
    dtype=st.sampled_from([np.float64, np.int64, np.bool_, np.float32]),
    shape=arrays.array_shapes(min_dims=0, max_side=4),
)
contents = st.recursive(
    plain | numbers, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


@given(contents)
def test_what_is_written_is_read(content: Any) -> None:
    stream = io.BytesIO()
    write_message(stream, content)
    write_message(stream, "next")
    stream.seek(0)
    assert same(read_message(stream), content)
    assert read_message(stream) == "next"
    assert read_message(stream) is None


def same(one: Any, other: Any) -> bool:
    if isinstance(other, np.ndarray):
        return (
            one.dtype == other.dtype
            and one.shape == other.shape
            and bool(np.array_equal(one, other, equal_nan=other.dtype.kind == "f"))
        )
    if isinstance(other, dict):
        return set(one) == set(other) and all(same(one[key], other[key]) for key in other)
    if isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def test_a_broken_message_is_refused_and_nothing_but_numbers_travels() -> None:
    with pytest.raises(ValueError, match="ends before its end"):
        read_message(io.BytesIO(b"\0\0\0\x09{}"))
    with pytest.raises(ValueError, match="is no message"):
        read_message(io.BytesIO(b"\xff\xff\xff\xff"))
    with pytest.raises(ValueError, match="cannot be sent"):
        write_message(io.BytesIO(), np.array(["text"], dtype=object))


def test_the_service_refuses_in_one_sentence() -> None:
    with starting() as start:
        service = start(score)
        for parameters, sentence in (
            ({"method": "alibi.ALE"}, "explain.legacy_python"),
            ({"method": "captum.IntegratedGradients"}, "captum" if find_spec("captum") is None else "PyTorch"),
            ({"method": "alibi.ALE", "options": {"colour": 1}}, "has no option 'colour'"),
            ({"method": "alibi.ALE", "options": [1]}, "it is to be an object"),
            ({"method": "kernel_shap", "options": {"n": 1}}, "other libraries"),
            ({"method": "kernel_shap", "reply": "art"}, "reply art is for art"),
        ):
            status, answer = service.explain(INSTANCES[:1], **parameters)
            assert (status, sentence in answer["error"]) == (400, True), answer


SUMMARY = Summary(
    "art.HopSkipJump",
    (
        {
            "adversarial_example": [1.0, 2.0],
            "adversarial_prediction": 1,
            "prediction": 0,
            "l2_error": 0.5,
            "success": True,
        },
    ),
    3,
    40,
    0.1,
)


def test_shapes_of_kserves_own_explainers() -> None:
    attack = reply("art", SUMMARY, ROWS[:1], SCHEMA, "m")
    assert attack == {
        "explanations": {
            "adversarial_example": [1.0, 2.0],
            "L2 error": 0.5,
            "adversarial_prediction": 1,
            "prediction": 0,
        }
    }
    metrics = Summary("aif360", ({"predictions": [1], "metrics": {"base_rate": 1.0}},), 1, 1, 0.1)
    assert reply("aif", metrics, ROWS[:1], SCHEMA, "m") == {"predictions": [1], "metrics": {"base_rate": 1.0}}
    with pytest.raises(InvalidOption, match="reply aif is for aif360"):
        check_shape("aif", "art.HopSkipJump")


def test_a_summary_has_a_picture_and_says_what_it_cost() -> None:
    [entry] = SUMMARY.as_dicts()
    assert (entry["predictor_calls"], entry["predictor_rows"], entry["success"]) == (3, 40, True)
    assert SUMMARY.picture().draw("png")[:4] == b"\x89PNG"
