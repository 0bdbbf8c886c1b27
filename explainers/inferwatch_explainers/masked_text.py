"""A text and its words, some of which can be replaced or left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inferwatch.errors import InvalidRows
from inferwatch_explainers.words import words

PredictTexts = Callable[[list[str]], NDArray[Any]]
"""Texts (r) -> outputs (r,) or (r, k)."""


class MaskedText:
    """A text of which any words can be masked: by the text `mask`, or left out with the space behind them at None.

    `spans` say where its words stand. Raises `InvalidRows` for a text without words, naming its `place` in a request.

    >>> text = MaskedText("A good film!", mask="UNK")
    >>> text.keeping(np.array([[True, False, True], [False, True, False]])).tolist()
    ['A UNK film!', 'UNK good UNK!']
    """

    def __init__(self, text: str, mask: str | None, place: int = 0) -> None:
        self.spans = words(text)
        if not self.spans:
            raise InvalidRows(f"text {place} has no words: {text[:64]!r}")
        self.text = text
        ends = [start for start, _ in self.spans[1:]] + [len(text)]
        gaps = [text[end:following] for (_, end), following in zip(self.spans, ends, strict=True)]
        self._kept = np.array(self.words, dtype=object) + np.array(gaps, dtype=object)
        instead = [gap.lstrip() for gap in gaps] if mask is None else [mask + gap for gap in gaps]
        self._instead = np.array(instead, dtype=object)

    @property
    def words(self) -> list[str]:
        """The words, as they are written."""
        return [self.text[start:end] for start, end in self.spans]

    def keeping(self, stands: NDArray[np.bool_]) -> NDArray[Any]:
        """Return for each row (r, words) the text in which only these words stand."""
        lead = self.text[: self.spans[0][0]]
        parts = np.where(stands, self._kept, self._instead).tolist()
        return np.array([lead + "".join(each) for each in parts], dtype=object)


def checked_texts(texts: object) -> list[str]:
    """Return the texts. Raises `InvalidRows` where there are none, or one is not a text."""
    listed = list(texts) if isinstance(texts, Sequence | np.ndarray) and not isinstance(texts, str | bytes) else []
    if not listed:
        raise InvalidRows(f"texts to explain are a list of at least one text, not {texts!r:.64}")
    for place, text in enumerate(listed):
        if not isinstance(text, str):
            raise InvalidRows(f"text {place} is {text!r:.64}; a text is needed")
    return listed
