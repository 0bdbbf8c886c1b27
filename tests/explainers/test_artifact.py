from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor
from sklearn.linear_model import LinearRegression

from inferwatch.errors import InvalidOption, PredictorError
from inferwatch.rows import Feature, Schema
from inferwatch_explainers import ExactShapley, background_rows
from inferwatch_explainers.artifact import Artifact
from inferwatch_explainers.served import ExplainedModel, ExplainerSpec
from inferwatch_explainers.service import explain_router
from tests.explainers.explaining import Sample, Service
from tests.explainers.servers import ModelServer, serving

SCHEMA = Schema((Feature("age", "numeric"), Feature("code", "categorical", ("1", "2", "16")), Feature("n", "numeric")))
GENERATOR = np.random.default_rng(0)
ENCODED = np.stack([GENERATOR.normal(size=60), GENERATOR.integers(0, 3, 60), GENERATOR.normal(size=60)], axis=1)
NUMBERS = np.stack([ENCODED[:, 0], np.array([1.0, 2.0, 16.0])[ENCODED[:, 1].astype(int)], ENCODED[:, 2]], axis=1)
ANSWERS = NUMBERS[:, 0] + NUMBERS[:, 1] * (NUMBERS[:, 2] > 0)
INSTANCES = [[0.5, 16, 1.0], [0.25, 1, -1.0]]


def saved(estimator: Any, folder: Path) -> Path:
    path = folder / "model.joblib"
    joblib.dump(estimator, path)
    return path


@pytest.fixture
def boosted() -> GradientBoostingRegressor:
    return GradientBoostingRegressor(n_estimators=10, random_state=0).fit(NUMBERS, ANSWERS)


def test_a_pickle_is_read_only_where_it_is_trusted(tmp_path: Path, boosted: Any) -> None:
    path = saved(boosted, tmp_path)
    with pytest.raises(InvalidOption, match="`trust_pickle: true`"):
        Artifact(path, SCHEMA)
    np.testing.assert_array_equal(
        Artifact(path, SCHEMA, trust_pickle=True).outputs(ENCODED[:3]), boosted.predict(NUMBERS[:3])
    )


def test_a_model_fitted_on_a_table_gets_one(tmp_path: Path) -> None:
    model = LinearRegression().fit(pd.DataFrame(NUMBERS, columns=list("abc")), ANSWERS)
    artifact = Artifact(saved(model, tmp_path), SCHEMA, trust_pickle=True)
    assert artifact.outputs(ENCODED).shape == (60,)


@pytest.mark.parametrize("content", [b"", b"garbage", b"cos\nsystem\n("], ids=["empty", "garbage", "cut"])
def test_a_broken_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(content)
    with pytest.raises(InvalidOption, match=r"model.pkl cannot be read"):
        Artifact(path, SCHEMA, trust_pickle=True)


def test_what_is_no_model_or_another_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="dict, which is no model"):
        Artifact(saved({}, tmp_path), SCHEMA, trust_pickle=True)
    with pytest.raises(InvalidOption, match="takes 2 features, the reference has 3"):
        Artifact(saved(LinearRegression().fit(NUMBERS[:, :2], ANSWERS), tmp_path), SCHEMA, trust_pickle=True)
    texts = Schema((*SCHEMA.features[:2], Feature("work", "categorical", ("Private",))))
    with pytest.raises(InvalidOption, match="work has categories that are no numbers"):
        Artifact(saved(LinearRegression().fit(NUMBERS, ANSWERS), tmp_path), texts, trust_pickle=True)
    with pytest.raises(InvalidOption, match="no file"):
        Artifact(tmp_path / "gone.pkl", SCHEMA, trust_pickle=True)
    with pytest.raises(InvalidOption, match="known endings"):
        Artifact(tmp_path / "model.exe", SCHEMA, trust_pickle=True)


def test_whatever_output_the_server_answers_is_found(tmp_path: Path) -> None:
    model = GradientBoostingClassifier(n_estimators=3).fit(NUMBERS, ANSWERS > 1)
    artifact = Artifact(saved(model, tmp_path), SCHEMA, trust_pickle=True)
    for answered in (
        model.predict_proba(NUMBERS),
        model.predict_proba(NUMBERS)[:, 1],
        model.decision_function(NUMBERS),
        model.predict(NUMBERS),
    ):
        predict = artifact.answering(ENCODED[:9], answered[:9])
        np.testing.assert_allclose(predict(ENCODED), answered)
    with pytest.raises(PredictorError, match="another model"):
        artifact.answering(ENCODED, 1 - model.predict_proba(NUMBERS)[:, 1])


def explained(artifact: Artifact, method: str, url: str | None) -> Service:
    spec = ExplainerSpec(method, url, deadline_s=20.0, artifact=artifact)
    registry = CollectorRegistry()
    app = FastAPI()
    model = ExplainedModel("default", "m", Sample(ENCODED, SCHEMA), [spec])
    app.include_router(explain_router([model], registry=registry))
    return Service(app, ModelServer(SCHEMA, len), registry)  # type: ignore[arg-type]  # the address comes once served


@pytest.mark.parametrize(("method", "server"), [("tree_shap", True), ("tree_shap", False), ("kernel_shap", True)])
def test_a_model_at_hand_is_explained_without_asking_a_server(
    tmp_path: Path, boosted: Any, method: str, server: bool
) -> None:
    artifact = Artifact(saved(boosted, tmp_path), SCHEMA, trust_pickle=True)
    behind = ModelServer(SCHEMA, lambda rows: boosted.predict(artifact.inputs(rows)))
    with serving(behind.application()) as predictor:
        service = explained(artifact, method, predictor if server else None)
        with serving(service.url) as url:
            service.url = url
            status, reply = service.explain(INSTANCES)
    assert status == 200, reply
    encoded = np.array([[0.5, 2.0, 1.0], [0.25, 0.0, -1.0]])
    exact = ExactShapley(artifact.outputs, background_rows(Sample(ENCODED, SCHEMA))).explain(encoded)
    for entry, values in zip(reply["explanations"], exact.values, strict=True):
        np.testing.assert_allclose(entry["values"], values, atol=1e-9)
        assert entry["method"] == method
        assert entry["predictor_calls"] == len(behind.calls) == int(server)


def test_outputs_near_zero_may_be_off_by_what_float32_rounds(tmp_path: Path) -> None:
    model = LinearRegression().fit(NUMBERS, np.stack([ANSWERS, ANSWERS * 1e-5], axis=1))
    artifact = Artifact(saved(model, tmp_path), SCHEMA, trust_pickle=True)
    answered = model.predict(NUMBERS)[:9]
    near = 1e-6 * np.abs(answered).max()
    artifact.answering(ENCODED[:9], answered + near)
    with pytest.raises(PredictorError, match="another model"):
        artifact.answering(ENCODED[:9], answered + 100 * near)


def test_an_artefact_that_answers_otherwise_than_the_server_is_502(tmp_path: Path, boosted: Any) -> None:
    artifact = Artifact(saved(boosted, tmp_path), SCHEMA, trust_pickle=True)
    behind = ModelServer(SCHEMA, lambda rows: boosted.predict(artifact.inputs(rows)) + 0.1)
    with serving(behind.application()) as predictor:
        service = explained(artifact, "tree_shap", predictor)
        with serving(service.url) as url:
            service.url = url
            status, reply = service.explain(INSTANCES)
    assert status == 502
    assert "another model" in reply["error"]


def test_a_method_that_needs_an_artefact_is_400_without_one() -> None:
    spec = ExplainerSpec("kernel_shap", "http://127.0.0.1:1")
    app = FastAPI()
    registry = CollectorRegistry()
    app.include_router(
        explain_router([ExplainedModel("default", "m", Sample(ENCODED, SCHEMA), [spec])], registry=registry)
    )
    with serving(app) as url:
        status, reply = Service(url, ModelServer(SCHEMA, len), registry).explain(INSTANCES, method="tree_shap")
    assert status == 400
    assert "artifact" in reply["error"]
