"""Writes tests/explainers/tree_files.json: small models as XGBoost and LightGBM save them, and what both say of rows.

Runs in an environment of its own, since the project needs neither: `pip install xgboost-cpu lightgbm scikit-learn`.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import xgboost as xgb

ROWS = np.random.default_rng(0).normal(size=(120, 5)).round(2)
SUM = ROWS @ [2.0, -1.0, 0.5, 0.0, 1.0] + ROWS[:, 0] * ROWS[:, 1]
LABELS = {
    "number": SUM,
    "two": (SUM > 0).astype(int),
    "three": np.digitize(SUM, [-1, 1]),
    "count": np.random.default_rng(1).poisson(np.exp(SUM / 4)),
    "share": 1 / (1 + np.exp(-SUM)),
}
ASKED = ROWS[:6]

CODED = np.column_stack([ROWS[:, :4], np.arange(len(ROWS)) % 3])
"""Rows whose last feature is a category, which decides."""

XGBOOST: dict[str, tuple[str, dict[str, Any]]] = {
    "squarederror": ("number", {"objective": "reg:squarederror"}),
    "absoluteerror": ("number", {"objective": "reg:absoluteerror"}),
    "logistic": ("two", {"objective": "binary:logistic"}),
    "logitraw": ("two", {"objective": "binary:logitraw"}),
    "share": ("share", {"objective": "reg:logistic"}),
    "softprob": ("three", {"objective": "multi:softprob", "num_class": 3}),
    "softmax": ("three", {"objective": "multi:softmax", "num_class": 3}),
    "poisson": ("count", {"objective": "count:poisson"}),
    "gamma": ("share", {"objective": "reg:gamma"}),
    "dart": ("two", {"objective": "binary:logistic", "booster": "dart", "rate_drop": 0.9, "seed": 3}),
    "forest": ("number", {"objective": "reg:squarederror", "num_parallel_tree": 3, "subsample": 0.7}),
    "one-leaf": ("number", {"objective": "reg:squarederror", "min_child_weight": 1000}),
}
LIGHTGBM: dict[str, tuple[str, dict[str, Any]]] = {
    "regression": ("number", {"objective": "regression"}),
    "binary": ("two", {"objective": "binary", "sigmoid": 0.7}),
    "multiclass": ("three", {"objective": "multiclass", "num_class": 3}),
    "multiclassova": ("three", {"objective": "multiclassova", "num_class": 3}),
    "poisson": ("count", {"objective": "poisson"}),
    "cross_entropy": ("share", {"objective": "cross_entropy"}),
    "forest": ("number", {"objective": "regression", "boosting": "rf", "bagging_fraction": 0.6, "bagging_freq": 1}),
    "dart": ("number", {"objective": "regression", "boosting": "dart", "drop_rate": 0.9, "drop_seed": 1}),
    "one-leaf": ("number", {"objective": "regression", "min_data_in_leaf": 100}),
}


def xgboost(label: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return a model's file and what XGBoost says of the rows asked."""
    booster = xgb.train({"max_depth": 3, "eta": 0.5, **given}, xgb.DMatrix(ROWS, LABELS[label]), 3)
    asked = xgb.DMatrix(ASKED)
    return {
        "file": saved(booster),
        "margins": booster.predict(asked, output_margin=True).tolist(),
        "outputs": booster.predict(asked).tolist(),
        "contributions": booster.predict(asked, pred_contribs=True).tolist(),
    }


def lightgbm(label: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return a model's file and what LightGBM says of the rows asked."""
    booster = lgb.train(BOOSTED | given, lgb.Dataset(ROWS, LABELS[label]), 3)
    return {
        "file": saved(booster),
        "margins": booster.predict(ASKED, raw_score=True).tolist(),
        "outputs": booster.predict(ASKED).tolist(),
        "contributions": booster.predict(ASKED, pred_contrib=True).tolist(),
    }


BOOSTED = {"num_leaves": 6, "min_data_in_leaf": 5, "learning_rate": 0.5, "verbose": -1, "seed": 1}


def unsupported() -> dict[str, str]:
    """Return files of models that are refused, by what is said of them."""
    plain = xgb.DMatrix(ROWS, SUM)
    coded = xgb.DMatrix(CODED, CODED[:, 4] % 2, feature_types=["q"] * 4 + ["c"], enable_categorical=True)
    categories = lgb.Dataset(CODED, CODED[:, 4] % 2, categorical_feature=[4])
    return {
        "booster gblinear has no trees": saved(xgb.train({"booster": "gblinear"}, plain, 3)),
        "objective binary:hinge is not supported": saved(
            xgb.train({"objective": "binary:hinge", "max_depth": 1}, xgb.DMatrix(ROWS, LABELS["two"]), 1)
        ),
        "this XGBoost model splits by categories": saved(xgb.train({"max_cat_to_onehot": 1}, coded, 1)),
        "those of this XGBoost model have several": saved(
            xgb.train(
                {"multi_strategy": "multi_output_tree", "max_depth": 1},
                xgb.DMatrix(ROWS, np.column_stack([SUM, -SUM])),
                1,
            )
        ),
        "this LightGBM model splits by categories": saved(lgb.train(BOOSTED, categories, 1)),
        "to this LightGBM model they are missing": saved(
            lgb.train(BOOSTED | {"zero_as_missing": True}, lgb.Dataset(ROWS, SUM), 1)
        ),
        "those of this LightGBM model are linear": saved(
            lgb.train(BOOSTED | {"linear_tree": True}, lgb.Dataset(ROWS, SUM), 2)
        ),
        "objective 'regression sqrt' is not supported": saved(
            lgb.train(BOOSTED | {"reg_sqrt": True}, lgb.Dataset(ROWS, SUM), 1)
        ),
    }


def saved(booster: Any) -> str:
    """Return the text of the file that a library writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("model.json" if isinstance(booster, xgb.Booster) else "model.txt")
        booster.save_model(path)
        return path.read_text(encoding="utf-8")


def main() -> None:
    found = {
        "rows": ASKED.tolist(),
        "xgboost": {name: xgboost(*case) for name, case in XGBOOST.items()},
        "lightgbm": {name: lightgbm(*case) for name, case in LIGHTGBM.items()},
        "unsupported": unsupported(),
    }
    path = Path(__file__).parents[1] / "tests/explainers/tree_files.json"
    path.write_text(json.dumps(found, indent=0) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
