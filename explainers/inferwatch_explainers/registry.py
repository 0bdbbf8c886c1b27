"""The explainers that the service knows, by method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from inferwatch.errors import InvalidOption
from inferwatch.protocols import Explainer, Predict
from inferwatch.rows import Matrix, Schema
from inferwatch_explainers.exact_shapley import ExactShapley
from inferwatch_explainers.kernel_shap import KernelShap
from inferwatch_explainers.linear import Linear
from inferwatch_explainers.permutation_shap import PermutationShap
from inferwatch_explainers.tree_shap import TreeShap


class ExplainerFactory(Protocol):
    """Makes an explainer of a predict function."""

    def __call__(
        self, predict: Predict, background: Matrix, *, schema: Schema, samples: int | None, deadline_s: float | None
    ) -> Explainer:
        """Return the explainer. Raises `InvalidOption` where the options or the width are not for it."""
        ...


class ModelExplainerFactory(Protocol):
    """Makes an explainer of a model at hand, whose insides it looks into."""

    def __call__(self, estimator: Any, background: Matrix, *, schema: Schema) -> Explainer:  # noqa: ANN401 - any model
        """Return the explainer. Raises `InvalidOption` where the model is not for it."""
        ...


EXPLAINERS: Mapping[str, ExplainerFactory] = {
    "exact_shapley": ExactShapley,
    "kernel_shap": KernelShap,
    "permutation_shap": PermutationShap,
}
"""One line an explainer of any predictor; the contract tests run over these."""

MODEL_EXPLAINERS: Mapping[str, ModelExplainerFactory] = {"linear": Linear, "tree_shap": TreeShap}
"""One line an explainer that needs the model itself, as an artefact."""

METHODS = (*EXPLAINERS, *MODEL_EXPLAINERS)


def explainer_factory(method: str) -> ExplainerFactory:
    """Return what makes explainers of this method. Raises `InvalidOption` naming the known ones."""
    check_method(method)
    if method in MODEL_EXPLAINERS:
        raise InvalidOption(f"{method} explains a model at hand; none is configured as its `artifact`")
    return EXPLAINERS[method]


def check_method(method: str) -> None:
    """Raise `InvalidOption` for a method that does not exist, naming those that do."""
    if method not in METHODS:
        raise InvalidOption(f"method {method[:64]!r} is unknown; known are {', '.join(METHODS)}")
