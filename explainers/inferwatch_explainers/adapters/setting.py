"""What an adapter is given, and how its options are checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, ValidationError, create_model

from inferwatch.errors import InvalidOption
from inferwatch.explanation import Target
from inferwatch.protocols import Explainer, Predict
from inferwatch.rows import Matrix, Schema
from inferwatch_explainers.adapters.child_process import ChildProcess
from inferwatch_explainers.masked_text import PredictTexts
from inferwatch_explainers.readout import Readout

Count = Annotated[int, Field(ge=1, le=1_000_000)]
Share = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


@dataclass(frozen=True, slots=True)
class Setting:
    """A model, what is known of its inputs, and how it is to be explained.

    `predict` asks the model about rows (r, d); `estimator` is the model itself where it is at hand. `background` (m, d)
    stands for "not known", `reference` (n, d) are all complete rows of the reference. Rows of `input_shape` come
    flattened, d numbers each; it is (d,) for tables. `options` are checked, with their defaults filled in. `examples`
    is a table that a method is taught with, `legacy` the process that runs old libraries. A method of texts has the
    explained ones as the categories of its only feature, and asks about others by `predict_texts`.
    """

    predict: Predict
    background: Matrix
    reference: Matrix
    schema: Schema
    options: Mapping[str, Any] = field(default_factory=dict)
    estimator: Any = None
    input_shape: tuple[int, ...] = ()
    deadline_s: float | None = None
    examples: Path | None = None
    legacy: ChildProcess | None = None
    predict_texts: PredictTexts | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return self.input_shape or (len(self.schema.names),)

    def readout(self, outputs: NDArray[Any], target: Target) -> Readout:
        """Return the readout of explained rows with these outputs; of labels, `target` is to be one of the background.

        Raises `InvalidOption` as `Readout.of` does.
        """
        of_labels = outputs.ndim == 1 and outputs.dtype.kind != "f" and target is not None
        return Readout.of(outputs, target, np.asarray(self.predict(self.background)) if of_labels else None)


Option = tuple[Any, Any]
"""A type as pydantic takes it, and the default; `...` where one has to be given."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """One algorithm of another library: what it needs, the options that it takes, and how it is made.

    `needs`: `predictor` asks about rows, `texts` about texts, wherever the model is; `torch` and `trees` look into a
    model at hand.
    """

    make: Callable[[Setting], Explainer]
    options: Mapping[str, Option]
    needs: Literal["predictor", "texts", "torch", "trees"] = "predictor"

    def checked(self, method: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options with defaults. Raises `InvalidOption` for one that is unknown, missing or wrong."""
        return checked_options(method, self.options, given)


def checked_options(method: str, options: Mapping[str, Option], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is given of a method's options, with defaults. Raises `InvalidOption` as `Adapter.checked` does."""
    fields: dict[str, Any] = dict(options)
    model = create_model(method, __config__=ConfigDict(extra="forbid", strict=False), **fields)
    try:
        return dict(model(**given))
    except ValidationError as fault:
        raise InvalidOption("; ".join(_sentence(method, options, error) for error in fault.errors())) from None


def _sentence(method: str, options: Mapping[str, Option], error: Any) -> str:  # noqa: ANN401 - pydantic's own record
    name = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = f"known are {', '.join(options)}" if options else "it takes none"
        return f"{method} has no option {name!r}; {known}"
    if error["type"] == "missing":
        return f"{method} needs the option {name!r}"
    return f"{name} of {method} is {error['input']!r}; {error['msg'][:1].lower()}{error['msg'][1:]}"
