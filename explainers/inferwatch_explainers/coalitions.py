"""Coalitions: which sets of features a Shapley explainer asks about, and in which order.

A coalition S is asked together with its complement. The part of a game that is even under complement has no say in its
Shapley values, so a pair removes it from the error for nothing. Pairs are strata by the size s = 1 ... d/2 of the
smaller side. The leverage of a coalition in the regression that defines Shapley values is 1 / C(d, s) (Musco & Witter,
"Provably Accurate Shapley Value Estimation via Leverage Score Sampling", ICLR 2025), so every size deserves the same
number of pairs: the few pairs of small sizes are soon all there, and the rest are sampled without replacement. Only the
d pairs of size 1 go first, all of them: they say most about the values while little is known (at 64 coalitions of 12
features, an eighth less error than in turn with the others).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from inferwatch.rows import Matrix

Masks = NDArray[np.bool_]
"""Coalitions (c, d): True where the feature has the explained row's value, False where the background's."""


@dataclass(frozen=True, slots=True)
class Design:
    """Pairs of coalitions in an order of which every beginning past size 1 is a stratified sample without replacement.

    `masks` (p, d) holds the smaller side of each pair; the other side is its complement. `sizes` (p,) counts its
    features. `total` is the number of pairs that exist; all of them are here when p equals it.
    """

    masks: Masks
    sizes: NDArray[np.int64]
    total: int

    def __len__(self) -> int:
        return len(self.masks)

    def covers(self, count: int) -> bool:
        """Return whether the first `count` pairs hold every size."""
        return bool(len(np.unique(self.sizes[:count])) == self.masks.shape[1] // 2)

    def weights(self, count: int) -> tuple[Matrix, Matrix]:
        """Return, for the first `count` pairs, their weights in the regression and the fraction of their size not seen.

        The weight is the Shapley kernel of the size (Lundberg & Lee, NeurIPS 2017, theorem 2) spread over the pairs of
        that size which were drawn; common factors are left out.
        """
        d = self.masks.shape[1]
        drawn = np.bincount(self.sizes[:count], minlength=d // 2 + 1)
        exist = np.array([1.0, *(float(min(pairs_of_size(d, size), 2**64)) for size in range(1, d // 2 + 1))])
        sizes = np.arange(1, d // 2 + 1)
        kernel = np.where(2 * sizes == d, 0.5, 1.0) / (sizes * (d - sizes))
        of_size = np.concatenate([[0.0], kernel / np.maximum(drawn[1:], 1)])
        unseen = 1.0 - drawn / exist
        return of_size[self.sizes[:count]], unseen[self.sizes[:count]]


def pairs_of_size(d: int, size: int) -> int:
    """Return how many pairs have `size` features of `d` on the smaller side; both sides may be d/2."""
    return comb(d, size) // 2 if 2 * size == d else comb(d, size)


@lru_cache(maxsize=32)
def design(d: int, pairs: int, seed: int) -> Design:
    """Return at most `pairs` pairs of coalitions of `d` features, drawn with the seed, prepared once and then kept."""
    generator = np.random.default_rng(seed)
    exist = [pairs_of_size(d, size) for size in range(1, d // 2 + 1)]
    total = (2**d - 2) // 2
    turns = [np.arange(min(count, pairs)) for count in exist]
    turns[:1] = [turn - len(turn) for turn in turns[:1]]
    order = np.argsort(np.concatenate([np.empty(0), *turns]), kind="stable")[:pairs]
    sizes = np.repeat(np.arange(1, d // 2 + 1), np.array([len(turn) for turn in turns], dtype=np.int64))[order]
    masks = np.zeros((len(sizes), d), dtype=bool)
    for size, count in zip(*np.unique(sizes, return_counts=True), strict=True):
        masks[sizes == size] = _subsets(d, int(size), int(count), generator)
    for array in (masks, sizes):
        array.setflags(write=False)
    return Design(masks, sizes, total)


def _subsets(d: int, size: int, count: int, generator: np.random.Generator) -> Masks:
    """Return `count` different subsets in random order; of two that are each other's complement, one at most."""
    if 2 * size == d:
        rest = _subsets_of(d - 1, size - 1, count, generator)
        return np.concatenate([np.ones((len(rest), 1), dtype=bool), rest], axis=1)
    return _subsets_of(d, size, count, generator)


def _subsets_of(d: int, size: int, count: int, generator: np.random.Generator) -> Masks:
    if comb(d, size) <= 4 * count:
        return generator.permutation(_members(d, np.array(list(combinations(range(d), size)), dtype=np.int64)))[:count]
    drawn = np.empty((0, d), dtype=bool)
    while len(drawn) < count:
        members = generator.random((2 * (count - len(drawn)), d)).argpartition(size - 1, axis=1)[:, :size]
        drawn = np.concatenate([drawn, _members(d, members)])
        first = np.unique(np.packbits(drawn, axis=1), axis=0, return_index=True)[1]
        drawn = drawn[np.sort(first)]
    return drawn[:count]


def _members(d: int, members: NDArray[np.int64]) -> Masks:
    masks = np.zeros((len(members), d), dtype=bool)
    np.put_along_axis(masks, members, values=True, axis=1)
    return masks
