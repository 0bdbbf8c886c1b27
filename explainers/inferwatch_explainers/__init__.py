"""Explainers: why a model predicted what it predicted."""

from inferwatch_explainers.background import background_rows
from inferwatch_explainers.exact_shapley import ExactShapley
from inferwatch_explainers.kernel_shap import KernelShap
from inferwatch_explainers.permutation_shap import PermutationShap

__all__ = ["ExactShapley", "KernelShap", "PermutationShap", "background_rows"]
