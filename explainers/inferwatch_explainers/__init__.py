"""Explainers: why a model predicted what it predicted."""

from inferwatch_explainers.anchors_tabular import AnchorsTabular
from inferwatch_explainers.anchors_text import AnchorsText
from inferwatch_explainers.background import background_rows
from inferwatch_explainers.counterfactual import Counterfactual
from inferwatch_explainers.exact_shapley import ExactShapley
from inferwatch_explainers.kernel_shap import KernelShap
from inferwatch_explainers.linear import Linear
from inferwatch_explainers.permutation_importance import PermutationImportance
from inferwatch_explainers.permutation_shap import PermutationShap
from inferwatch_explainers.text_shap import TextShap
from inferwatch_explainers.tree_shap import TreeShap

__all__ = [
    "AnchorsTabular",
    "AnchorsText",
    "Counterfactual",
    "ExactShapley",
    "KernelShap",
    "Linear",
    "PermutationImportance",
    "PermutationShap",
    "TextShap",
    "TreeShap",
    "background_rows",
]
