"""Which of many inputs are alike, so that each is asked once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""2^64 divided by the golden ratio, for multiplicative hashing (Knuth, "The Art of Computer Programming" 3, 6.4)."""


def distinct(inputs: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return each of the rows (r, d) or texts (r,) once, in the order they come in, and where each one stands there."""
    if inputs.ndim == 1:
        each, places = np.unique(inputs, return_inverse=True)
        return each, places
    first = first_occurrences(_keys(inputs))
    other = (inputs[first] != inputs).any(axis=1)  # of the same key, which next to never happens
    first[other] = np.flatnonzero(other)
    new = first == np.arange(len(first))
    return inputs[new], (np.cumsum(new) - 1)[first]


def first_occurrences(keys: Keys) -> NDArray[np.int64]:
    """Return for each key (r,) the index of the first one that equals it, by hashing: linear in r, nothing is sorted.

    Every index is written into the slot of its key, earlier ones last. Those that read an equal key back are done; the
    rest, whose slot went to another key, take another hash.
    """
    bits = max(8, int(2 * len(keys)).bit_length())
    table = np.empty(1 << bits, dtype=np.int64)
    first = np.empty(len(keys), dtype=np.int64)
    left, hashed = np.arange(len(keys)), keys
    while len(left):
        slots = (hashed >> np.uint64(64 - bits)).astype(np.int64)
        table[slots[::-1]] = left[::-1]
        found = table[slots]
        same = keys[found] == keys[left]
        first[left[same]] = found[same]
        left = left[~same]
        hashed = hashed[~same] * _GOLDEN
    return first


def _keys(rows: NDArray[np.float64]) -> Keys:
    """Return a number for each row (r, d) of which every bit of its cells has a say, column by column."""
    keys = np.zeros(len(rows), dtype=np.uint64)
    for column in rows.T:
        keys ^= np.ascontiguousarray(column, dtype=np.float64).view(np.uint64)
        keys *= _GOLDEN
        keys ^= keys >> np.uint64(32)
    return keys * _GOLDEN
