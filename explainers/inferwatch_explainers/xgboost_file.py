"""XGBoost's models from the JSON that `save_model` writes, without XGBoost.

What the members mean: the schema in XGBoost's documentation, "Introduction to Model IO".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from inferwatch.errors import InvalidOption
from inferwatch.rows import Matrix
from inferwatch_explainers.leaves import Tree
from inferwatch_explainers.tree_model import EXPONENTIAL, IDENTITY, Link, Links, TreeModel, sigmoid, softmax, tree_model

_PLAIN = ("squarederror", "squaredlogerror", "pseudohubererror", "absoluteerror", "quantileerror")
_LINKS: Links = {
    **{f"reg:{name}": IDENTITY for name in _PLAIN},
    **{f"rank:{name}": IDENTITY for name in ("pairwise", "ndcg", "map")},
    **dict.fromkeys(("count:poisson", "reg:gamma", "reg:tweedie"), EXPONENTIAL),
    "reg:logistic": Link(sigmoid),
    "binary:logistic": Link(sigmoid, classes=True),
    "binary:logitraw": IDENTITY,
    "multi:softmax": Link(softmax, classes=True),
    "multi:softprob": Link(softmax, classes=True),
}


def read_xgboost(data: bytes) -> TreeModel:
    """Return the model of a file's bytes. Raises `InvalidOption` for what is unsupported, `ValueError`, `KeyError` or
    `TypeError` for what is no such file.
    """
    learner = orjson.loads(data)["learner"]
    booster, weights = _booster(learner["gradient_booster"])
    objective = learner["objective"]["name"]
    if objective not in _LINKS:
        raise InvalidOption(f"XGBoost's objective {objective} is not supported; known are {', '.join(_LINKS)}")
    of = learner["learner_model_param"]
    count = max(1, int(of["num_class"]), int(of.get("num_target", 1)))
    trees = [
        _tree(tree, weight * np.eye(count)[output])
        for tree, output, weight in zip(
            booster["trees"], booster["tree_info"], weights(len(booster["trees"])), strict=True
        )
    ]
    base = np.broadcast_to(_base(of["base_score"], objective), count).copy()
    names = learner.get("feature_names") or ()
    return tree_model(trees, base, _LINKS[objective], single=True, width=int(of["num_feature"]), names=names)


def _booster(booster: Mapping[str, Any]) -> tuple[Mapping[str, Any], Callable[[int], list[float]]]:
    """Return the trees of a booster, and the weights that so many of them have."""
    if booster["name"] == "gbtree":
        return booster["model"], lambda count: [1.0] * count
    if booster["name"] == "dart":
        return booster["gbtree"]["model"], lambda _: list(booster["weight_drop"])
    raise InvalidOption(f"XGBoost's booster {booster['name']} has no trees")


def _tree(tree: Mapping[str, Any], weight: Matrix) -> Tree:
    if any(tree.get("split_type", ())):
        raise InvalidOption("numeric splits are supported; this XGBoost model splits by categories")
    if int(tree["tree_param"].get("size_leaf_vector", 1)) > 1:
        raise InvalidOption("trees of one output are supported; those of this XGBoost model have several")
    left, right, feature = (
        np.array(tree[name], dtype=np.int64) for name in ("left_children", "right_children", "split_indices")
    )
    conditions = np.array(tree["split_conditions"], dtype=np.float32)
    cover = np.array(tree["sum_hessian"], dtype=np.float64)
    return Tree(left, right, feature, _below(conditions), conditions.astype(np.float64)[:, None] * weight, cover)


def _below(thresholds: NDArray[np.float32]) -> Matrix:
    """Return the numbers up to which x < threshold holds: XGBoost goes left below it, of numbers in float32."""
    return np.nextafter(thresholds, np.float32(-np.inf)).astype(np.float64)


def _base(text: str, objective: str) -> Matrix:
    """Return the margins that trees are added to, of the score that the file states on the scale of outputs."""
    scores = np.atleast_1d(np.array(orjson.loads(text), dtype=np.float64))
    if objective in ("binary:logistic", "reg:logistic"):
        return np.array([math.log(score / (1.0 - score)) for score in scores])
    return np.log(scores) if _LINKS[objective] is EXPONENTIAL else scores
