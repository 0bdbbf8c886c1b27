"""The explainers that the service knows, by method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from inferwatch.errors import InvalidOption
from inferwatch.explanation import Attribution, Explanation, Target
from inferwatch.protocols import Explainer, Predict
from inferwatch.rows import Matrix, Schema
from inferwatch_explainers.adapters.setting import Option, Share, checked_options
from inferwatch_explainers.adapters.table import ADAPTERS
from inferwatch_explainers.anchors_tabular import AnchorsTabular
from inferwatch_explainers.anchors_text import AnchorsText
from inferwatch_explainers.counterfactual import Counterfactual
from inferwatch_explainers.exact_shapley import ExactShapley
from inferwatch_explainers.kernel_shap import KernelShap
from inferwatch_explainers.limits import Direction, Range
from inferwatch_explainers.linear import Linear
from inferwatch_explainers.permutation_shap import PermutationShap
from inferwatch_explainers.text_shap import TextShap
from inferwatch_explainers.tree_shap import TreeShap


class Attributor(Protocol):
    """An explainer whose explanations are attributions."""

    def explain(self, rows: Matrix, /, *, target: Target = None) -> Attribution:
        """Return the attribution of each row (n, d)."""
        ...


class ExplainerFactory(Protocol):
    """Makes an explainer of a predict function."""

    def __call__(
        self, predict: Predict, background: Matrix, *, schema: Schema, samples: int | None, deadline_s: float | None
    ) -> Attributor:
        """Return the explainer. Raises `InvalidOption` where the options or the width are not for it."""
        ...


class DecisionExplainerFactory(Protocol):
    """Makes an explainer of decisions, out of rows (m, d) of the reference."""

    def __call__(
        self, predict: Predict, reference: Matrix, *, schema: Schema, samples: int | None, deadline_s: float | None
    ) -> Explainer:
        """Return the explainer. Raises `InvalidOption` where the options are not for it."""
        ...


class ModelExplainerFactory(Protocol):
    """Makes an explainer of a model at hand, whose insides it looks into."""

    def __call__(self, estimator: Any, background: Matrix, *, schema: Schema) -> Explainer:  # noqa: ANN401 - any model
        """Return the explainer. Raises `InvalidOption` where the model is not for it."""
        ...


class TextExplainer(Protocol):
    """An explainer of texts."""

    def explain(self, texts: Sequence[str], /, *, target: Target = None) -> Explanation:
        """Return the explanation of each text."""
        ...


EXPLAINERS: Mapping[str, ExplainerFactory] = {
    "exact_shapley": ExactShapley,
    "kernel_shap": KernelShap,
    "permutation_shap": PermutationShap,
}
"""One line an explainer of any predictor; the contract tests run over these."""

DECISION_EXPLAINERS: Mapping[str, DecisionExplainerFactory] = {
    "anchors_tabular": AnchorsTabular,
    "counterfactual": Counterfactual,
}
"""One line an explainer of decisions, which is given the reference's rows as they are."""

MODEL_EXPLAINERS: Mapping[str, ModelExplainerFactory] = {"linear": Linear, "tree_shap": TreeShap}
"""One line an explainer that needs the model itself, as an artefact."""

TEXT_EXPLAINERS: Mapping[str, Callable[..., TextExplainer]] = {"anchors_text": AnchorsText, "text_shap": TextShap}
"""One line an explainer of texts: made of a function of texts, `samples`, `deadline_s` and the method's own options."""

_MASK: Mapping[str, Option] = {"mask": (str | None, "UNK")}
_OPTIONS: Mapping[str, Mapping[str, Option]] = {
    "anchors_text": {**_MASK, "replaced": (Share, 0.5)},
    "text_shap": _MASK,
    "counterfactual": {"ranges": (dict[str, Range], {}), "directions": (dict[str, Direction], {})},
}

METHODS = (*EXPLAINERS, *DECISION_EXPLAINERS, *TEXT_EXPLAINERS, *MODEL_EXPLAINERS, *ADAPTERS)


def needs_model(method: str) -> bool:
    """Return whether a method needs the model at hand, as an artefact."""
    return method in MODEL_EXPLAINERS or (method in ADAPTERS and ADAPTERS[method].needs in ("torch", "trees"))


def looks_into_model(method: str) -> bool:
    """Return whether a method takes rows as the numbers that a model at hand takes, since it looks into that model."""
    return method in MODEL_EXPLAINERS or (method in ADAPTERS and ADAPTERS[method].needs == "trees")


def explains_texts(method: str) -> bool:
    """Return whether a method explains texts, one an instance, in place of rows of the reference's features."""
    return method in TEXT_EXPLAINERS or (method in ADAPTERS and ADAPTERS[method].needs == "texts")


def options_of(method: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that a method takes, by its own names, with defaults.

    Raises `InvalidOption` for one that is unknown, missing or wrong, and for any where the method takes none.
    """
    options = ADAPTERS[method].options if method in ADAPTERS else _OPTIONS.get(method)
    if options is None and given:
        takers = ", ".join(_OPTIONS)
        raise InvalidOption(f"options are for algorithms of other libraries and for {takers}, not for {method}")
    return checked_options(method, options or {}, given)


def check_method(method: str) -> None:
    """Raise `InvalidOption` for a method that does not exist, naming those that do."""
    if method not in METHODS:
        raise InvalidOption(f"method {method[:64]!r} is unknown; known are {', '.join(METHODS)}")
