"""The JSON of structured and batched events: large arrays in it stay text, so that no number becomes an object."""

from __future__ import annotations

from typing import Any

import orjson

from inferwatch.wire.numbers import lift


def parsed(body: bytes) -> Any:  # noqa: ANN401 - any JSON
    """Return the JSON value of a body, in which a large array of numbers is an `orjson.Fragment`, as it was written.

    Raises `orjson.JSONDecodeError` for what is no JSON.
    """
    lifted = lift(body)
    arrays = {} if lifted is None else {mark: bytes(text) for mark, text in lifted.spelt.items()}
    if lifted is None or any(b"N" in text or b"I" in text for text in arrays.values()):  # of NaN and Infinity
        return orjson.loads(body)
    try:
        value = orjson.loads(lifted.text)
    except orjson.JSONDecodeError:
        return orjson.loads(body)  # what is wrong is told of the whole text
    return lifted.put_back(value, {mark: orjson.Fragment(text) for mark, text in arrays.items()})
