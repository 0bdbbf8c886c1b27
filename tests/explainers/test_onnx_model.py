"""Models as ONNX and skops files answer as the model they were made of, and bad files are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import skops.io
from onnx import TensorProto, helper, numpy_helper
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from inferwatch.errors import InvalidOption, MissingExtra, PredictorError
from inferwatch.rows import Feature, Schema
from inferwatch_explainers import KernelShap, Linear
from inferwatch_explainers.artifact import Artifact

SCHEMA = Schema(tuple(Feature(name, "numeric") for name in "abc"))
ROWS = np.random.default_rng(0).normal(size=(20, 3))
WEIGHTS = np.array([[1.0, 0.5], [-2.0, 1.0], [0.0, 3.0]])


def tensor(name: str, kind: int, *shape: int | str) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def saved(folder: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: Any = WEIGHTS) -> Path:
    weighed = numpy_helper.from_array(np.asarray(weights, np.float32), "weights")
    graph = helper.make_graph(nodes, "model", inputs, outputs, [weighed])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), folder / "model.onnx")
    return folder / "model.onnx"


def linear(folder: Path, weights: Any = WEIGHTS) -> Path:
    width, outputs = np.shape(weights)
    return saved(
        folder,
        [helper.make_node("MatMul", ["rows", "weights"], ["said"])],
        [tensor("rows", TensorProto.FLOAT, "n", width)],
        [tensor("said", TensorProto.FLOAT, "n", outputs)],
        weights,
    )


def classifier(folder: Path) -> Path:
    """Labels, and scores by label, as classifiers of scikit-learn are converted."""
    score = helper.make_node(
        "LinearClassifier",
        ["rows"],
        ["label", "scores"],
        domain="ai.onnx.ml",
        coefficients=WEIGHTS.T.ravel().tolist(),
        intercepts=[0.0, 0.0],
        classlabels_ints=[4, 7],
        multi_class=1,
        post_transform="SOFTMAX",
    )
    by_label = helper.make_node("ZipMap", ["scores"], ["probabilities"], domain="ai.onnx.ml", classlabels_int64s=[4, 7])
    scored = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    outputs = [tensor("label", TensorProto.INT64, "n")]
    outputs.append(helper.make_value_info("probabilities", helper.make_sequence_type_proto(scored)))
    return saved(folder, [score, by_label], [tensor("rows", TensorProto.FLOAT, "n", 3)], outputs)


@pytest.mark.parametrize("outputs", [1, 2])
def test_scores_are_explained_as_they_are(tmp_path: Path, outputs: int) -> None:
    artifact = Artifact(linear(tmp_path, WEIGHTS[:, :outputs]), SCHEMA)
    said = artifact.outputs(ROWS)
    np.testing.assert_allclose(said, (ROWS @ WEIGHTS[:, :outputs]).squeeze(), atol=1e-6)
    attribution = KernelShap(artifact.outputs, ROWS, schema=SCHEMA).explain(ROWS[:2], target=0)
    np.testing.assert_allclose(attribution.values, WEIGHTS[:, 0] * (ROWS[:2] - ROWS.mean(axis=0)), atol=1e-5)


def test_a_classifier_answers_scores_or_labels_as_the_server_does(tmp_path: Path) -> None:
    artifact = Artifact(classifier(tmp_path), SCHEMA)
    scores = np.exp(ROWS @ WEIGHTS) / np.exp(ROWS @ WEIGHTS).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(artifact.outputs(ROWS), scores, atol=1e-6)
    labels = np.array([4, 7])[scores.argmax(axis=1)]
    for answered in (scores, scores[:, 1], labels):
        np.testing.assert_allclose(artifact.answering(ROWS[:5], answered[:5])(ROWS), answered, atol=1e-6)
    with pytest.raises(PredictorError, match="another model"):
        artifact.answering(ROWS, 1 - scores)


def test_one_input_a_feature_is_filled_by_name(tmp_path: Path) -> None:
    names = ["c", "a", "b"]
    nodes = [helper.make_node("Concat", ["a", "b", "c"], ["rows"], axis=1)]
    nodes.append(helper.make_node("MatMul", ["rows", "weights"], ["said"]))
    inputs = [tensor(name, TensorProto.FLOAT, "n", 1) for name in names]
    path = saved(tmp_path, nodes, inputs, [tensor("said", TensorProto.FLOAT, "n", 2)])
    np.testing.assert_allclose(Artifact(path, SCHEMA).outputs(ROWS), ROWS @ WEIGHTS, atol=1e-6)


def test_inputs_have_the_shape_that_is_configured(tmp_path: Path) -> None:
    nodes = [helper.make_node("ReduceSum", ["image"], ["sums"], keepdims=0)]
    nodes[0].input.append("axes")
    axes = helper.make_node("Constant", [], ["axes"], value=numpy_helper.from_array(np.array([1, 2])))
    outputs = [tensor("sums", TensorProto.FLOAT, "n")]
    path = saved(tmp_path, [axes, *nodes], [tensor("image", TensorProto.FLOAT, "n", 1, 3)], outputs)
    np.testing.assert_allclose(Artifact(path, SCHEMA, input_shape=(1, 3)).outputs(ROWS), ROWS.sum(axis=1), atol=1e-6)
    with pytest.raises(InvalidOption, match=r"input_shape \[2, 2\] does not hold the 3 features"):
        Artifact(path, SCHEMA, input_shape=(2, 2))
    with pytest.raises(InvalidOption, match=r"takes other inputs than rows of 3 features: .*rank"):
        Artifact(path, SCHEMA)


def test_what_does_not_fit_is_named_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match=r"takes other inputs than rows of 3 features: [^\n]*$"):
        Artifact(linear(tmp_path, np.eye(4)), SCHEMA)
    with pytest.raises(InvalidOption, match="linear"):
        Linear(Artifact(linear(tmp_path), SCHEMA).estimator, ROWS, schema=SCHEMA)
    texts = [tensor("rows", TensorProto.STRING, "n", 3)]
    echo = [helper.make_node("Identity", ["rows"], ["said"])]
    path = saved(tmp_path, echo, texts, [tensor("said", TensorProto.STRING, "n", 3)])
    with pytest.raises(InvalidOption, match=r"takes tensor\(string\) as rows; an artefact's inputs are numbers"):
        Artifact(path, SCHEMA)
    path.write_bytes(b"garbage")
    with pytest.raises(InvalidOption, match=r"model\.onnx cannot be read: [^\n]*$"):
        Artifact(path, SCHEMA)


@pytest.mark.parametrize(("suffix", "library"), [(".onnx", "onnxruntime"), (".skops", "skops")])
def test_a_library_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, library: str
) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"anything")
    monkeypatch.setitem(__import__("sys").modules, library, None)
    with pytest.raises(MissingExtra, match=rf"pip install 'inferwatch\[{suffix[1:]}\]'"):
        Artifact(path, SCHEMA)


def test_a_skops_file_is_read_without_trust_unless_it_holds_code(tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    skops.io.dump(LinearRegression().fit(ROWS, ROWS @ WEIGHTS[:, 0]), path)
    np.testing.assert_allclose(Artifact(path, SCHEMA).outputs(ROWS), ROWS @ WEIGHTS[:, 0])
    own = make_pipeline(FunctionTransformer(tensor), LinearRegression())
    skops.io.dump(own, path)
    with pytest.raises(InvalidOption, match=r"to be harmless \(.*test_onnx_model.tensor\); .*`trust_pickle"):
        Artifact(path, SCHEMA)
    assert Artifact(path, SCHEMA, trust_pickle=True).estimator.steps[0][1].func is tensor
    path.write_bytes(b"garbage")
    with pytest.raises(InvalidOption, match=r"model\.skops cannot be read"):
        Artifact(path, SCHEMA)
