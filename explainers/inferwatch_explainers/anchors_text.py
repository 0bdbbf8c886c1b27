"""Anchors of texts: words that alone make a model predict the same, whatever stands in place of the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inferwatch.errors import InvalidOption
from inferwatch.explanation import Anchors, Span, Target
from inferwatch_explainers.anchor_search import Effort, Sample, anchors
from inferwatch_explainers.arguments import check_options
from inferwatch_explainers.conditions import Rule
from inferwatch_explainers.masked_text import MaskedText, PredictTexts, checked_texts

DEFAULT_SAMPLES = 10_000
"""Perturbed texts an explained text, at most."""

_A_PARENT = 400


class AnchorsText:
    """Explains predicted classes of texts by words, each at its place: while they stand, the prediction does.

    `predict` takes a list of texts and answers labels, probabilities (r, k), or one number in [0, 1], the probability
    of the second of two classes. A perturbed text keeps the words of the rule; every other word is replaced with the
    probability `replaced` in (0, 1), by the text `mask`, or where that is None, left out together with the space behind
    it. No language model takes part. How rules are found and tested is told in `anchor_search`: as words are replaced
    independently of each other, one sample serves all rules that grow from the same one.

    `coverage` is the share of perturbed texts in which the words still stand, (1 - replaced) to the power of their
    number. `samples` bounds the perturbed texts an explained text; with a deadline the best rule so far is the answer.

    >>> explainer = AnchorsText(lambda texts: np.array([int("great" in text) for text in texts]))
    >>> found = explainer.explain(["A great film, truly"])
    >>> found.anchors, found.positions
    ((('great',),), (((2, 7),),))
    """

    method = "anchors_text"

    def __init__(
        self,
        predict: PredictTexts,
        *,
        mask: str | None = "UNK",
        replaced: float = 0.5,
        samples: int | None = None,
        deadline_s: float | None = None,
        seed: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_options(samples, deadline_s)
        if not 0 < replaced < 1:
            raise InvalidOption(f"replaced is {replaced}; a probability between 0 and 1 is needed")
        self._predict = predict
        self._mask, self._replaced = mask, replaced
        self._effort = Effort(DEFAULT_SAMPLES if samples is None else samples, deadline_s, clock)
        self._seed = seed

    def explain(self, texts: Sequence[str], /, *, target: Target = None) -> Anchors:
        """Return a rule for each text: `anchors` are its words in their order, `positions` where they stand.

        Raises `InvalidRows` for no texts, or one without words, `InvalidOption` for a predictor that answers no classes
        or a `target` that is not the predicted class, `PredictorError` for a predictor that fails, and
        `PredictorTimeout` when it was too slow for the first round.
        """
        spaces = [self._space(place, text) for place, text in enumerate(checked_texts(texts))]
        return anchors(spaces, self._predicted, self._effort, method=self.method, features=("text",), target=target)

    def _space(self, place: int, text: str) -> _WordSpace:
        masked = MaskedText(text, self._mask, place)
        return _WordSpace(masked, self._replaced, np.random.default_rng([self._seed, place]))

    def _predicted(self, texts: NDArray[Any]) -> NDArray[Any]:
        return self._predict(texts.tolist())


class _WordSpace:
    """Words of one text, each a condition; what is perturbed is the text itself."""

    def __init__(self, text: MaskedText, replaced: float, generator: np.random.Generator) -> None:
        self._text = text
        self._replaced = replaced
        self._generator = generator
        self.conditions = len(text.spans)

    def explained(self) -> NDArray[Any]:
        return np.array([self._text.text], dtype=object)

    def keeping(self, rule: Rule, count: int) -> NDArray[Any]:
        """Return texts in which the words of the rule stand."""
        return self._text.keeping(self._masks(rule, count))

    def samples(self, candidates: Mapping[Rule, Rule], most: int) -> list[Sample]:
        """Return texts for each rule that candidates grew from: those in which the further word stands judge it."""
        grown: dict[Rule, list[Rule]] = {}
        for candidate, parent in candidates.items():
            grown.setdefault(parent, []).append(candidate)
        count = min(_A_PARENT, most // len(grown))
        samples = []
        for parent, rules in grown.items():
            masks = self._masks(parent, count)
            judged = {rule: np.flatnonzero(masks[:, next(iter(rule - parent))]) for rule in rules}
            samples.append(Sample(self._text.keeping(masks), judged))
        return samples if count else []

    def coverage(self, rule: Rule) -> float:
        """Return the share of perturbed texts in which the words of the rule stand."""
        return float((1.0 - self._replaced) ** len(rule))

    def written(self, rule: Rule) -> tuple[str, ...]:
        return tuple(self._text.words[place] for place in sorted(rule))

    def positions(self, rule: Rule) -> tuple[Span, ...]:
        return tuple(self._text.spans[place] for place in sorted(rule))

    def _masks(self, rule: Rule, count: int) -> NDArray[np.bool_]:
        """Return which words stand (count, words)."""
        masks = self._generator.random((count, self.conditions)) >= self._replaced
        masks[:, sorted(rule)] = True
        return masks
