from __future__ import annotations

from math import comb

import numpy as np
import pytest

from inferwatch_explainers.coalitions import design, pairs_of_size


@pytest.mark.parametrize("d", [2, 3, 4, 7, 8])
def test_all_pairs_are_all_coalitions_once(d: int) -> None:
    whole = design(d, 2**d, 0)
    both = np.concatenate([whole.masks, ~whole.masks])
    codes = both @ (2 ** np.arange(d))
    assert sorted(codes) == list(range(1, 2**d - 1))
    assert len(whole) == whole.total == sum(pairs_of_size(d, size) for size in range(1, d // 2 + 1))


@pytest.mark.parametrize(("d", "pairs"), [(9, 60), (12, 500), (16, 1040), (40, 300), (200, 400)])
def test_no_coalition_and_no_complement_comes_twice(d: int, pairs: int) -> None:
    sample = design(d, pairs, 3)
    assert len(sample) == pairs
    both = np.concatenate([sample.masks, ~sample.masks])
    assert len(np.unique(both, axis=0)) == 2 * pairs
    np.testing.assert_array_equal(sample.masks.sum(axis=1), sample.sizes)
    assert sample.sizes.max() <= d / 2


def test_every_beginning_has_size_one_and_of_the_others_equal_shares_until_they_run_out() -> None:
    sample = design(12, 300, 0)
    assert set(sample.sizes[:12].tolist()) == {1}
    for count in (17, 30, 72, 150, 300):
        drawn = np.bincount(sample.sizes[:count], minlength=7)[2:]
        room = np.array([pairs_of_size(12, size) for size in range(2, 7)])
        open_sizes = drawn < room
        assert drawn[open_sizes].max() - drawn[open_sizes].min() <= 1
        assert (drawn[~open_sizes] <= drawn[open_sizes].min() + 1).all()
        assert sample.covers(count)
    assert not sample.covers(16)


def test_weights_of_all_pairs_are_the_shapley_kernel() -> None:
    d = 7
    whole = design(d, 2**d, 0)
    weights, unseen = whole.weights(len(whole))
    kernel = np.array([(d - 1) / (comb(d, size) * size * (d - size)) for size in whole.sizes])
    np.testing.assert_allclose(weights / weights[0], kernel / kernel[0])
    assert not unseen.any()


def test_subsets_of_a_size_are_equally_likely() -> None:
    """Each of C(6, 2) = 15 pairs comes first with probability 1/15; chi-square stays below its 99.9 % point, 36.1."""
    firsts = []
    for seed in range(1500):
        sample = design(6, 7, seed)
        firsts.append(int(sample.masks[sample.sizes == 2][0] @ (2 ** np.arange(6))))
    counts = np.unique(firsts, return_counts=True)[1]
    assert len(counts) == 15
    assert ((counts - 100.0) ** 2 / 100.0).sum() < 36.1


def test_designs_are_prepared_once_and_cannot_be_changed() -> None:
    assert design(10, 100, 5) is design(10, 100, 5)
    with pytest.raises(ValueError, match="read-only"):
        design(10, 100, 5).masks[0, 0] = True
