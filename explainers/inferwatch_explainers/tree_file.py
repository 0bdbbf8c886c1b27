"""Which library wrote a file of trees, and the model in it."""

from __future__ import annotations

from pathlib import Path

from inferwatch.errors import InvalidOption
from inferwatch_explainers.lightgbm_file import read_lightgbm
from inferwatch_explainers.tree_model import TreeModel
from inferwatch_explainers.xgboost_file import read_xgboost

SUFFIXES = (".json", ".txt", ".bst")
"""XGBoost's JSON, LightGBM's text, and the name that KServe's servers give to either."""


def read_trees(path: Path) -> TreeModel:
    """Return the model of a file, told by its content. Raises `InvalidOption` for another file or kind of model.

    Reading it runs no code of the file.
    """
    data = path.read_bytes()
    try:
        if data.startswith(b"{") and not data.startswith(b"{L"):
            return read_xgboost(data)
        if data.startswith(b"tree\n"):
            return read_lightgbm(data.decode())
    except InvalidOption as fault:
        raise InvalidOption(f"{path}: {fault}") from fault
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as fault:
        raise InvalidOption(f"{path} cannot be read: {type(fault).__name__}: {fault}") from fault
    raise InvalidOption(
        f"{path} is neither XGBoost's JSON nor LightGBM's text; XGBoost's binary form has to be saved as model.json"
    )
