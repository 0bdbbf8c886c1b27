"""Exact Shapley values: every coalition of the features is asked."""

from __future__ import annotations

from inferwatch.errors import InvalidOption
from inferwatch_explainers.kernel_shap import KernelShap

MOST_FEATURES = 16
"""Beyond, the 2^d coalitions are more than a predictor should be asked: 65,536 at 16, times the background."""


class ExactShapley(KernelShap):
    """Explains predictions by their interventional Shapley values, from all 2^d coalitions.

    `predict` takes rows (r, d) and returns (r,) or (r, k); `background` (m, d) is what absent features are filled from.
    Where `samples` or the deadline leave no room for all coalitions, the answer is Kernel SHAP's, and says so by
    `exact` false and its standard errors. Raises `InvalidOption` above 16 features. Cost: 2^d m rows an explained row.

    >>> import numpy as np
    >>> game = ExactShapley(lambda rows: rows[:, 0] * rows[:, 1] + rows[:, 2], np.zeros((1, 3)))
    >>> game.explain(np.array([[2.0, 3.0, 5.0]])).values.round(9).tolist()
    [[3.0, 3.0, 5.0]]
    """

    method = "exact_shapley"

    def _most_coalitions(self, width: int, samples: int | None) -> int:
        if width > MOST_FEATURES:
            raise InvalidOption(
                f"exact_shapley asks all 2^d coalitions and takes at most {MOST_FEATURES} features, not {width};"
                " kernel_shap takes any number"
            )
        return 2**width if samples is None else samples
