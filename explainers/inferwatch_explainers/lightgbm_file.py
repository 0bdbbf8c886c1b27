"""LightGBM's models from the text that `save_model` writes, without LightGBM.

What the lines mean: LightGBM's `tree.cpp`, `Tree::ToString`, and `gbdt_model_text.cpp`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from inferwatch.errors import InvalidOption
from inferwatch.rows import Matrix
from inferwatch_explainers.leaves import Tree
from inferwatch_explainers.tree_model import EXPONENTIAL, IDENTITY, Link, TreeModel, sigmoid, softmax, tree_model

_PLAIN = ("regression", "regression_l1", "huber", "fair", "quantile", "mape", "lambdarank", "rank_xendcg", "custom")
_EXPONENTIAL = ("poisson", "gamma", "tweedie")
_SUPPORTED = (*_PLAIN, *_EXPONENTIAL, "cross_entropy", "binary", "multiclass", "multiclassova")
_ZERO_AS_MISSING = 1
"""The kind of missing value in bits 2 and 3 of a split's `decision_type`."""

_Lines = Mapping[str, str]


def read_lightgbm(text: str) -> TreeModel:
    """Return the model of a file's text. Raises `InvalidOption` for what is unsupported, `ValueError` or `KeyError` for
    what is no such file.
    """
    head, *parts = text.split("end of trees")[0].split("\nTree=")
    of = _lines(head)
    count = int(of["num_tree_per_iteration"])
    if not parts:
        raise ValueError("it holds no trees")
    share = count / len(parts) if "average_output" in of else 1.0
    trees = [_tree(_lines(part), share * np.eye(count)[number % count]) for number, part in enumerate(parts)]
    width = int(of["max_feature_idx"]) + 1
    link = _link(of.get("objective", "custom"))
    return tree_model(trees, np.zeros(count), link, single=False, width=width, names=_names(of))


def _lines(text: str) -> _Lines:
    parts = (line.partition("=") for line in text.splitlines())
    return {name: value for name, _, value in parts}


def _names(of: _Lines) -> tuple[str, ...]:
    """Return the features' names; none where they are LightGBM's own."""
    names = tuple(of["feature_names"].split())
    return () if all(name == f"Column_{place}" for place, name in enumerate(names)) else names


def _link(objective: str) -> Link:
    name, *options = objective.split()
    if name not in _SUPPORTED or "sqrt" in options:
        raise InvalidOption(f"LightGBM's objective {objective!r} is not supported; known are {', '.join(_SUPPORTED)}")
    scale = next((float(option.split(":")[1]) for option in options if option.startswith("sigmoid:")), 1.0)
    if name in ("binary", "multiclassova"):
        return Link(lambda margins: sigmoid(scale * margins), classes=True)
    if name == "multiclass":
        return Link(softmax, classes=True)
    if name == "cross_entropy":
        return Link(sigmoid)
    return EXPONENTIAL if name in _EXPONENTIAL else IDENTITY


def _tree(of: _Lines, weight: Matrix) -> Tree:
    """Return a tree: its splits, then its leaves, which LightGBM numbers -1, -2, ... apart from them."""
    if of.get("num_cat", "0") != "0":
        raise InvalidOption("numeric splits are supported; this LightGBM model splits by categories")
    if of.get("is_linear", "0") != "0":
        raise InvalidOption("leaves that are constants are supported; those of this LightGBM model are linear")
    leaf_value = _numbers(of["leaf_value"])
    splits = int(of["num_leaves"]) - 1
    if ((_integers(of.get("decision_type", "")) >> 2 & 3) == _ZERO_AS_MISSING).any():
        raise InvalidOption("zeros that are numbers are supported; to this LightGBM model they are missing values")
    left, right = (_children(_integers(of.get(name, "")), splits) for name in ("left_child", "right_child"))
    leaves = np.full(splits + 1, -1)
    padding = np.zeros(splits + 1)
    cover = [_numbers(of.get(name, "")) for name in ("internal_count", "leaf_count")] if splits else [np.ones(1)]
    return Tree(
        np.concatenate([left, leaves]),
        np.concatenate([right, leaves]),
        np.concatenate([_integers(of.get("split_feature", "")), leaves]),
        np.concatenate([_numbers(of.get("threshold", "")), padding]),
        np.concatenate([np.zeros(splits), leaf_value])[:, None] * weight,
        np.concatenate(cover),
    )


def _children(numbers: NDArray[np.int64], splits: int) -> NDArray[np.int64]:
    return np.where(numbers < 0, splits - 1 - numbers, numbers)


def _numbers(text: str) -> Matrix:
    return np.array(text.split(), dtype=np.float64)


def _integers(text: str) -> NDArray[np.int64]:
    return np.array(text.split(), dtype=np.int64)
