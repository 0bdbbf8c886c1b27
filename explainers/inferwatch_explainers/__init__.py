"""Explainers: why a model predicted what it predicted."""

from inferwatch_explainers.background import background_rows
from inferwatch_explainers.exact_shapley import ExactShapley
from inferwatch_explainers.kernel_shap import KernelShap

__all__ = ["ExactShapley", "KernelShap", "background_rows"]
