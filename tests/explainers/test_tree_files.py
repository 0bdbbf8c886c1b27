"""Files of XGBoost and LightGBM, against what the libraries say of the same rows (`scripts/tree_files.py`)."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inferwatch.errors import InvalidOption
from inferwatch.rows import Feature, Schema
from inferwatch_explainers import ExactShapley, TreeShap
from inferwatch_explainers.artifact import Artifact

SAID = Path(__file__).with_name("tree_files.json")
SCHEMA = Schema(tuple(Feature(name, "numeric") for name in "abcde"))


@cache
def said() -> dict[str, Any]:
    return json.loads(SAID.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


CASES = [(library, name) for library in ("xgboost", "lightgbm") for name in said()[library]]
ROWS = np.array(said()["rows"])


def written(folder: Path, text: str) -> Path:
    path = folder / ("model.json" if text.startswith("{") else "model.txt")
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(("library", "name"), CASES)
def test_models_answer_and_are_explained_as_by_their_library(tmp_path: Path, library: str, name: str) -> None:
    case = said()[library][name]
    share = 1 / 3 if (library, name) == ("lightgbm", "forest") else 1.0  # of it LightGBM tells sums, and answers means
    artifact = Artifact(written(tmp_path, case["file"]), SCHEMA)
    outputs, margins = np.array(case["outputs"]), share * np.array(case["margins"])
    np.testing.assert_allclose(artifact.answering(ROWS, outputs)(ROWS), outputs, rtol=2e-6)
    np.testing.assert_allclose(artifact.ask("decision_function", ROWS), margins, rtol=2e-6, atol=1e-6)
    explainer = TreeShap(artifact.estimator, ROWS, perturbation="path_dependent")
    contributions = share * np.array(case["contributions"])
    for output, parts in enumerate(_by_output(contributions, library, margins)):
        found = explainer.explain(ROWS, target=output if margins.ndim == 2 else None)
        np.testing.assert_allclose(found.values, parts[:, :-1], atol=3e-6)
        np.testing.assert_allclose(found.base_value, parts[:, -1], atol=3e-6)
    found = TreeShap(artifact.estimator, ROWS[:3]).explain(ROWS[3:])
    exact = ExactShapley(lambda rows: artifact.ask("decision_function", rows), ROWS[:3]).explain(ROWS[3:])
    np.testing.assert_allclose(found.values, exact.values, atol=1e-9)


def _by_output(contributions: Any, library: str, margins: Any) -> Any:
    """Return contributions (n, d + 1) of each output, the base value last."""
    if margins.ndim == 1:
        return contributions[None]
    if library == "xgboost":
        return contributions.transpose(1, 0, 2)
    return contributions.reshape(len(ROWS), margins.shape[1], -1).transpose(1, 0, 2)


@pytest.mark.parametrize("sentence", said()["unsupported"])
def test_what_is_unsupported_is_refused_by_name(tmp_path: Path, sentence: str) -> None:
    with pytest.raises(InvalidOption, match=sentence):
        Artifact(written(tmp_path, said()["unsupported"][sentence]), SCHEMA)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.json", b"{}"),
        ("model.json", b'{"learner": []}'),
        ("model.json", b"\xff"),
        ("model.txt", b""),
        ("model.txt", b"tree\nnum_tree_per_iteration=x"),
        ("model.txt", b"tree\nnum_tree_per_iteration=1\nmax_feature_idx=1\nfeature_names=a b\n"),
        ("model.bst", b"{L\x00"),
    ],
)
def test_what_is_no_such_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidOption, match=rf"{name} (cannot be read|is neither)"):
        Artifact(tmp_path / name, SCHEMA)


def test_features_in_another_order_are_refused(tmp_path: Path) -> None:
    text = said()["lightgbm"]["regression"]["file"].replace(
        "feature_names=Column_0 Column_1 Column_2 Column_3 Column_4", "feature_names=b a c d e"
    )
    with pytest.raises(InvalidOption, match=r"b, a, c, d, e.*a, b, c, d, e"):
        Artifact(written(tmp_path, text), SCHEMA)
    kept = text.replace("feature_names=b a", "feature_names=a b")
    assert Artifact(written(tmp_path, kept), SCHEMA).estimator.names == tuple("abcde")


def test_kserves_name_of_either_file_is_known_by_its_content(tmp_path: Path) -> None:
    for library, name in (("xgboost", "logistic"), ("lightgbm", "binary")):
        path = tmp_path / "model.bst"
        path.write_text(said()[library][name]["file"], encoding="utf-8")
        assert Artifact(path, SCHEMA).outputs(ROWS).shape == (6, 2)
