"""The explainers that the service knows, by method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from inferwatch.errors import InvalidOption
from inferwatch.protocols import Explainer, Predict
from inferwatch.rows import Matrix, Schema
from inferwatch_explainers.exact_shapley import ExactShapley
from inferwatch_explainers.kernel_shap import KernelShap
from inferwatch_explainers.permutation_shap import PermutationShap


class ExplainerFactory(Protocol):
    """Makes an explainer of a predict function."""

    def __call__(
        self, predict: Predict, background: Matrix, *, schema: Schema, samples: int | None, deadline_s: float | None
    ) -> Explainer:
        """Return the explainer. Raises `InvalidOption` where the options or the width are not for it."""
        ...


EXPLAINERS: Mapping[str, ExplainerFactory] = {
    "exact_shapley": ExactShapley,
    "kernel_shap": KernelShap,
    "permutation_shap": PermutationShap,
}
"""One line an explainer; the contract tests run over these."""


def explainer_factory(method: str) -> ExplainerFactory:
    """Return what makes explainers of this method. Raises `InvalidOption` naming the known ones."""
    try:
        return EXPLAINERS[method]
    except KeyError:
        raise InvalidOption(f"method {method[:64]!r} is unknown; known are {', '.join(EXPLAINERS)}") from None
