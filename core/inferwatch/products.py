"""Matrix products in which no row hangs on the rows beside it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BLOCK = 16


def product(rows: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rows (n, d) times a matrix (d, k), each row the same to the bit whatever others come at once.

    BLAS takes another kernel for another number of rows, whose sums round otherwise; so they come in blocks of 16.
    """
    count, width = rows.shape
    blocks = -(-count // _BLOCK)
    if count % _BLOCK:
        rows = np.concatenate([rows, np.zeros((blocks * _BLOCK - count, width))])
    found = rows.reshape(blocks, _BLOCK, width) @ matrix
    return np.asarray(found.reshape(blocks * _BLOCK, matrix.shape[1])[:count])
