"""Shapley values of the words of a text: how much each one contributes to the prediction."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from inferwatch.errors import InvalidRows
from inferwatch.explanation import Attribution, Target, WordAttributions
from inferwatch.rows import Matrix
from inferwatch_explainers.arguments import check_options
from inferwatch_explainers.kernel_shap import KernelShap
from inferwatch_explainers.masked_text import MaskedText, PredictTexts, checked_texts

MOST_WORDS: Final = 1_000
"""The words of a text that is explained; of more, the coalitions would not fit a request."""


class TextShap:
    """Explains predictions about texts by what each word contributes, each at its place.

    `predict` takes a list of texts and answers as any predictor does: numbers, labels, or several outputs a text. The
    words are the players of `KernelShap`: one that is absent is replaced by the text `mask`, or where that is None,
    left out together with the space behind it. So `base_value` is what is predicted of the text with all words masked.
    `samples` bounds the coalitions a text; with a deadline (seconds, for all texts together), what came back by then is
    the answer.

    >>> explainer = TextShap(lambda texts: np.array([2.0 * ("great" in text) - ("dull" in text) for text in texts]))
    >>> [entry] = explainer.explain(["A great, if dull film"]).as_dicts()
    >>> [(word, round(value, 6)) for word, value in zip(entry["features"], entry["values"]) if abs(value) > 1e-9]
    [('great', 2.0), ('dull', -1.0)]
    """

    method = "text_shap"

    def __init__(
        self,
        predict: PredictTexts,
        *,
        mask: str | None = "UNK",
        samples: int | None = None,
        deadline_s: float | None = None,
        seed: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_options(samples, deadline_s)
        self._predict = predict
        self._mask = mask
        self._samples, self._deadline_s = samples, deadline_s
        self._seed = seed
        self._clock = clock

    def explain(self, texts: Sequence[str], /, *, target: Target = None) -> WordAttributions:
        """Return the attribution of each text, for its own label or largest output unless `target` names one.

        Raises `InvalidRows` for no texts, one without words or with more than 1,000, `InvalidOption` for a target that
        the predictor lacks, `PredictorError` for a predictor that fails, and `PredictorTimeout` when it was too slow
        for even a coarse answer.
        """
        started = self._clock()
        masked = [self._masked(place, text) for place, text in enumerate(checked_texts(texts))]
        found: list[Attribution] = []
        for place, text in enumerate(masked):
            left = None if self._deadline_s is None else self._deadline_s - (self._clock() - started)
            share = None if left is None else max(left / (len(masked) - place), 1e-3)
            found.append(self._attribution(text, target, share))
        return WordAttributions(
            method=self.method,
            attributions=tuple(found),
            positions=tuple(tuple(text.spans) for text in masked),
            predictor_calls=sum(each.predictor_calls for each in found),
            predictor_rows=sum(each.predictor_rows for each in found),
            elapsed_s=self._clock() - started,
            deadline_reached=any(each.deadline_reached for each in found),
        )

    def _masked(self, place: int, text: str) -> MaskedText:
        masked = MaskedText(text, self._mask, place)
        if len(masked.spans) > MOST_WORDS:
            raise InvalidRows(f"text {place} has {len(masked.spans)} words; at most {MOST_WORDS} are explained")
        return masked

    def _attribution(self, text: MaskedText, target: Target, deadline_s: float | None) -> Attribution:
        def predict(stands: Matrix) -> NDArray[Any]:
            distinct, places = np.unique(text.keeping(stands > 0), return_inverse=True)
            return np.asarray(self._predict(distinct.tolist()))[places]

        absent, present = np.zeros((1, len(text.spans))), np.ones((1, len(text.spans)))
        limits: dict[str, Any] = {"samples": self._samples, "deadline_s": deadline_s}
        explainer = KernelShap(predict, absent, **limits, seed=self._seed, clock=self._clock)
        return replace(explainer.explain(present, target=target), method=self.method, features=tuple(text.words))
