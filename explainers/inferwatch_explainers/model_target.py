"""A scikit-learn model at hand: what it answers, and which of its outputs is explained."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from inferwatch.errors import InvalidOption, MissingExtra
from inferwatch.explanation import Attribution, Target
from inferwatch.rows import Matrix


def chosen_outputs(outputs: Matrix, target: Target) -> tuple[NDArray[np.int64], tuple[Target, ...]]:
    """Return for each row of outputs (n, k) the index that is explained, and the target to state.

    That is the largest output unless `target` is the index of another; a model with one output takes and states none.
    Raises `InvalidOption` for a target that the model lacks.
    """
    count, most = outputs.shape
    if target is None:
        chosen = np.asarray(outputs.argmax(axis=1))
    elif isinstance(target, bool) or not isinstance(target, int) or not 0 <= target < most:
        raise InvalidOption(f"target is {target!r}; the model has {most} outputs, 0 to {most - 1}")
    else:
        chosen = np.full(count, target)
    return chosen, tuple(chosen.tolist()) if most > 1 else (None,) * count


def attributed(
    method: str,
    features: tuple[str, ...],
    values: Matrix,
    base: Matrix,
    prediction: Matrix,
    targets: tuple[Target, ...],
    *,
    exact: bool = True,
    elapsed_s: float,
) -> Attribution:
    """Return the attribution of predictions (n,) by values (n, d) from base values (n,), for which nobody was asked.

    Standard errors are 0 where it is exact, and not known elsewhere.
    """
    return Attribution(
        method=method,
        features=features,
        values=values,
        base_value=base,
        prediction=prediction,
        target=targets,
        gap=prediction - base - values.sum(axis=1),
        std_error=np.zeros_like(values) if exact else np.full_like(values, np.nan),
        exact=exact,
        predictor_calls=0,
        predictor_rows=0,
        elapsed_s=elapsed_s,
    )


def model_table(estimator: Any, inputs: Matrix) -> Any:  # noqa: ANN401 - scikit-learn has no types
    """Return the inputs as the model was fitted on them: a table of its names where it knows some, else as they are."""
    names = getattr(estimator, "feature_names_in_", None)
    if names is None:
        return inputs
    try:
        import pandas as pd
    except ImportError as fault:
        raise MissingExtra("a model that was fitted on a table", "pandas") from fault
    return pd.DataFrame(inputs, columns=list(names))


def check_outputs(estimator: Any, inputs: Matrix, outputs: Matrix, method: str) -> None:  # noqa: ANN401
    """Raise `InvalidOption` where outputs (r, k) that a method derived from a model's insides are none it answers."""
    table = model_table(estimator, inputs)
    for name in ("decision_function", "predict_proba", "predict"):
        if hasattr(estimator, name):
            answered = np.asarray(getattr(estimator, name)(table))
            answered = answered[:, None] if answered.ndim == 1 else answered
            if answered.shape == outputs.shape and answered.dtype.kind in "fiu" and np.allclose(answered, outputs):
                return
    kind = type(estimator).__name__
    raise InvalidOption(f"{method} cannot explain this {kind}: what it answers does not follow from its parts alone")
