"""Model artefacts in a configuration: what `check` says of them, and that `up` explains with them."""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from inferwatch.errors import ConfigError
from inferwatch.origin import Origin
from inferwatch.rows import Feature, Schema
from inferwatch_cli.checks import checked
from inferwatch_cli.up import open_up
from tests.explainers.servers import ModelServer, serving

ROWS = np.random.default_rng(0).normal(size=(80, 2))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pd.DataFrame(ROWS, columns=["a", "b"]).to_csv(tmp_path / "ref.csv", index=False)
    joblib.dump(LinearRegression().fit(ROWS, ROWS @ [2.0, -1.0]), tmp_path / "model.joblib")
    return tmp_path


def config(folder: Path, explainer: str) -> Path:
    path = folder / "inferwatch.yaml"
    path.write_text(f"models: [{{name: m, reference: ref.csv, explainers: [{{{explainer}}}]}}]")
    return path


@pytest.mark.parametrize(
    ("explainer", "fault"),
    [
        ("method: linear, artifact: model.joblib", "models[0].explainers[0].artifact: {}/model.joblib is a pickle"),
        ("method: linear, artifact: gone.pkl", "models[0].explainers[0].artifact: there is no file {}/gone.pkl"),
        ("method: linear, predictor: 'http://m'", "models[0].explainers[0].artifact: linear explains a model at hand"),
        ("method: counterfactual, predictor: 'http://m', immutable: [c]", "models[0].explainers[0].immutable: imm"),
        (
            "method: counterfactual, predictor: 'http://m', options: {ranges: {c: [0, 1]}}",
            "models[0].explainers[0].options: ranges name 'c'",
        ),
        ("method: kernel_shap, predictor: 'http://m', immutable: [a]", "models[0].explainers[0].immutable: is for"),
        (
            "method: anchors_text, artifact: model.joblib",
            "models[0].explainers[0].artifact: anchors_text asks",
        ),
        (
            "method: anchors_text, predictor: 'http://m', options: {mask: 3}",
            "models[0].explainers[0].options: mask of anchors_text is 3",
        ),
        (
            "method: kernel_shap, predictor: 'http://m', options: {mask: x}",
            "models[0].explainers[0].options: options are for algorithms of other libraries and for anchors_text",
        ),
        ("method: kernel_shap", "models[0].explainers[0]: an explainer needs a `predictor`, an `artifact`, or both"),
    ],
)
def test_check_names_the_setting(folder: Path, explainer: str, fault: str) -> None:
    with pytest.raises(ConfigError) as faults:
        checked(config(folder, explainer))
    [said] = faults.value.faults
    assert str(said).startswith(fault.format(folder))


def test_check_says_what_grpc_needs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = config(folder, "method: kernel_shap, predictor: 'http://m:8081', protocol: grpc")
    assert checked(path).models
    monkeypatch.setitem(sys.modules, "grpc.aio", None)
    with pytest.raises(ConfigError, match=r"explainers\[0\].protocol: .*inferwatch\[grpc-predictor\]"):
        checked(path)


def test_an_explainer_of_rows_needs_the_columns_that_the_model_takes(folder: Path) -> None:
    texts = pd.DataFrame({"a": ROWS[:, 0], "note": [f"Note {number}" for number in range(len(ROWS))]})
    texts.to_csv(folder / "ref.csv", index=False)
    told = "models[0].explainers[0]: kernel_shap needs the model's own columns, and 'note' holds texts or arrays; "
    with pytest.raises(ConfigError) as refused:
        checked(config(folder, "method: kernel_shap, predictor: 'http://m'"))
    assert [str(fault).startswith(told) for fault in refused.value.faults] == [True]
    for method in ("anchors_text", "alibi.AnchorText"):
        checked(config(folder, f"method: {method}, predictor: 'http://m'"))


def test_up_explains_with_the_artefact(folder: Path) -> None:
    path = config(folder, "method: linear, artifact: model.joblib, trust_pickle: true")
    with open_up(checked(path), folder / "data") as up, serving(up.application) as url:
        body = json.dumps({"instances": [[1.0, 1.0]]}).encode()
        with urllib.request.urlopen(f"{url}/v1/models/m:explain", body) as reply:
            [entry] = json.load(reply)["explanations"]
    np.testing.assert_allclose(entry["values"], [2 * (1 - ROWS[:, 0].mean()), -(1 - ROWS[:, 1].mean())])


def test_up_signs_its_marks_where_there_is_a_key(folder: Path) -> None:
    (folder / "key").write_text("secret\n")
    server = ModelServer(Schema((Feature("a", "numeric"), Feature("b", "numeric"))), lambda rows: rows[:, 0])
    with serving(server.application()) as predictor:
        path = config(folder, f"method: exact_shapley, predictor: '{predictor}'")
        path.write_text(path.read_text() + "\nauth: {origin_key_file: key}\n")
        with open_up(checked(path), folder / "data") as up, serving(up.application) as url:
            body = json.dumps({"instances": [[1.0, 1.0]]}).encode()
            with urllib.request.urlopen(f"{url}/v1/models/m:explain", body) as reply:
                assert reply.status == 200
    assert Origin(b"secret").is_ours(server.calls[0].headers["ce-id"])
    path.write_text(path.read_text().replace("origin_key_file: key", "origin_key_file: gone"))
    with pytest.raises(ConfigError, match=r"auth.origin_key_file: .*gone: No such file"):
        checked(path)
